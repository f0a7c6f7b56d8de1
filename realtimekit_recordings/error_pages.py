"""Error pages that come instead of a file, with a status that says all is well."""

from __future__ import annotations

import re

_PAGE = re.compile(rb"<(!doctype|!--|\?xml|[a-z]+[ >])|\{\s*\"|\[\s*[{\[\"]", re.IGNORECASE)
# Files that begin with text: playlists, captions, and a tar with its first member's name.
_FILES = re.compile(rb"(\xef\xbb\xbf)?(#EXTM3U|WEBVTT)|.{257}ustar", re.DOTALL)
# HTML, XML and JSON have none of these; a media file has one among its first bytes.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_PAGE_TYPES = re.compile(r"text/|application/(problem\+)?(json|xml|xhtml)|.*\+(json|xml)$")


def is_error_page(first_bytes: bytes, content_type: str = "") -> bool:
    """Return whether a body is a page of HTML, XML or JSON, or a message, instead of a file.

    The archive decides the same way (`recordings.media_types.is_error_page`, which is not installed
    with this): a page may come with the file's own content type, and a file with a page's.
    """
    if _FILES.match(first_bytes):
        return False
    begin = first_bytes[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if _PAGE.match(begin):
        return True
    if _CONTROL.search(first_bytes[:512]):
        return False
    said = content_type.partition(";")[0].strip().lower()
    return begin[:1] in (b"<", b"{", b"[") or _PAGE_TYPES.match(said) is not None
