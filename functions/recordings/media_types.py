"""Media types and error pages, recognised by a label and a file's first bytes."""

from __future__ import annotations

import re

_MEDIA_TYPES = re.compile(
    r"(video|audio)/[\w.+-]+|application/(mp4|ogg|x-tar|tar|vnd\.apple\.mpegurl)", re.IGNORECASE
)
# Labels that say only "bytes"; "" is a missing label.
_UNKNOWN_TYPES = (
    "application/octet-stream",
    "binary/octet-stream",
    "application/force-download",
    "multipart/form-data",
    "",
)
_BY_SUFFIX = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "tar": "application/x-tar",
}
# Each format's signature at its offset (the formats' specifications). The first box of an ISO media
# file is shorter than 16 MiB unless it holds the data.
_SIGNATURES = (
    (re.compile(rb"\0.{3}(ftyp|styp|moov|free|skip|wide)|.{4}mdat", re.DOTALL), "video/mp4"),
    (re.compile(rb"\x1aE\xdf\xa3.{0,60}matroska", re.DOTALL), "video/x-matroska"),
    (re.compile(rb"\x1aE\xdf\xa3"), "video/webm"),
    (re.compile(rb"RIFF.{4}WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "video/x-msvideo"),
    (re.compile(rb"ID3|\xff[\xfa\xfb\xf2\xf3]"), "audio/mpeg"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "audio/aac"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"OggS"), "application/ogg"),
    (re.compile(rb".{257}ustar", re.DOTALL), "application/x-tar"),
    (re.compile(rb"PK\x03\x04"), "application/zip"),
    (re.compile(rb"\x47.{187}\x47.{187}\x47", re.DOTALL), "video/mp2t"),
    (re.compile(rb"#EXTM3U"), "application/vnd.apple.mpegurl"),
    (re.compile(rb"(\xef\xbb\xbf)?WEBVTT"), "text/vtt"),
    (re.compile(rb"\x1f\x8b\x08"), "application/gzip"),
)
_PAGE_TYPES = re.compile(r"text/|application/(problem\+)?(json|xml|xhtml)|.*\+(json|xml)$")
_MARKUP = re.compile(rb"<(!doctype|!--|\?xml|[a-z][a-z0-9]*[\s/>])", re.IGNORECASE)
_JSON = re.compile(rb"\{\s*\"|\[\s*[{\[\"]")
# Control characters that text does not contain; a compressed or encoded file soon has one.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def media_type(first_bytes: bytes) -> str | None:
    """Return the media type that a file's first 512 bytes show, or None if it is unknown."""
    names = (name for signature, name in _SIGNATURES if signature.match(first_bytes))
    return next(names, None)


def is_error_page(first_bytes: bytes, content_type: str = "") -> bool:
    """Return True if a body is a page of HTML, XML or JSON, or a message, instead of a file.

    `first_bytes` are the first 512 bytes, decoded. The bytes decide, because a page may come with
    status 200 and the file's content type, and a file with a page's. A page is text, or begins as
    only a page does. A tar file is recognised even if its first member is called `{…`.
    """
    if media_type(first_bytes):
        return False
    begin = _without_blanks(first_bytes)
    if _MARKUP.match(begin) or _JSON.match(begin):
        return True
    if _CONTROL.search(first_bytes):
        return False
    return begin[:1] in (b"<", b"{", b"[") or _PAGE_TYPES.match(bare_type(content_type)) is not None


def is_markup(first_bytes: bytes) -> bool:
    """Return True if a body begins as a page of HTML or XML does."""
    return _MARKUP.match(_without_blanks(first_bytes)) is not None


def is_media(first_bytes: bytes, content_type: str = "") -> bool:
    """Return True if the first bytes, or else the label, show that a body is a recording's file."""
    if is_error_page(first_bytes, content_type):
        return False
    label = bare_type(content_type)
    is_label_accepted = label in _UNKNOWN_TYPES or _MEDIA_TYPES.fullmatch(label) is not None
    return is_label_accepted or media_type(first_bytes) is not None


def content_type(label: str, first_bytes: bytes) -> str:
    """Return the bare label if it names a kind of media, else what the first bytes show."""
    shown = media_type(first_bytes)
    if _MEDIA_TYPES.fullmatch(label) and shown != "application/gzip":
        return label
    return shown or _UNKNOWN_TYPES[0]


def stored_type(content_type: str, file_name: str) -> str:
    """Return the content type to store; if it is unknown, the one of the file name's suffix."""
    named = type_of_suffix(file_name.rpartition(".")[2].lower())
    return named if named and content_type in _UNKNOWN_TYPES else content_type


def type_of_suffix(suffix: str) -> str | None:
    """Return the media type of a file name's suffix in lower case, or None if it is unknown."""
    return _BY_SUFFIX.get(suffix)


def bare_type(content_type: str) -> str:
    """Return the type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def _without_blanks(first_bytes: bytes) -> bytes:
    return first_bytes.lstrip(b"\xef\xbb\xbf \t\r\n")
