"""Error pages that a server sends instead of a file, with HTTP status 200."""

from __future__ import annotations

import re

_PAGE = re.compile(rb"<(!doctype|!--|\?xml|[a-z]+[ >])|\{\s*\"|\[\s*[{\[\"]", re.IGNORECASE)
# These files begin with text: playlists, captions, and a tar with its first member's name.
_TEXT_FILE = re.compile(rb"(\xef\xbb\xbf)?(#EXTM3U|WEBVTT)|.{257}ustar", re.DOTALL)
# A media file has a control character in its first bytes, unlike HTML, XML and JSON.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_PAGE_TYPES = re.compile(r"text/|application/(problem\+)?(json|xml|xhtml)|.*\+(json|xml)$")
# Pages of servers and proxies, and error documents of S3, R2, Google and RealtimeKit.
_ERROR_TEXT = re.compile(
    rb"<(!doctype|html|head|body|\?xml|error)[ >]|\{\s*\"(success\"\s*:\s*false|errors?\"\s*:)",
    re.IGNORECASE,
)


def is_error_page(first_bytes: bytes, content_type: str = "") -> bool:
    """Return True for a page of HTML, XML or JSON, or a text message, instead of a file.

    A page may have a file's content type, and a file a page's, so the first bytes decide. The
    archive has the same rule: `recordings.media_types.is_error_page`, which is not installed here.
    """
    if _TEXT_FILE.match(first_bytes):
        return False
    begin = _begin(first_bytes)
    if _PAGE.match(begin):
        return True
    if _CONTROL.search(first_bytes[:512]):
        return False
    media_type = _media_type(content_type)
    return begin[:1] in (b"<", b"{", b"[") or _PAGE_TYPES.match(media_type) is not None


def is_error_text(first_bytes: bytes, content_type: str = "") -> bool:
    """Return True for a page of HTML or XML, or a JSON error, instead of a session's file.

    A session's file is itself text or JSON, so only what servers are known to send counts.
    """
    if _ERROR_TEXT.match(_begin(first_bytes)):
        return True
    return _media_type(content_type) in ("text/html", "application/xhtml+xml")


def _begin(first_bytes: bytes) -> bytes:
    return first_bytes[:512].lstrip(b"\xef\xbb\xbf \t\r\n")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
