"""The text files of a session: what each kind must be, and the content type to store.

RealtimeKit also gives the URL of a file that is empty (realtimekit-ui, issue 164), which is no
failure. So an empty file and a file that is no text are different errors.

    MediaError
    ├── EmptyTextError  the file has no content: RealtimeKit may fill it later, or never
    └── NotTextError    the file is an error document, is broken, or is no text
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from recordings.media import MediaError
from recordings.media_types import is_markup, media_type

# 64 MiB: a day's meeting is some 4 MiB of JSON, and the file is held in a function's 512 MB.
MAX_BYTES = 64 * 1024 * 1024

_JSON = "application/json"
_CONTENT_TYPES = {
    "transcript": _JSON,
    "captions": "text/vtt; charset=utf-8",
    "summary": "text/markdown; charset=utf-8",
    "chat": "text/csv; charset=utf-8",
}

# 4 MiB: 12,000 sentences, as many as one person speaks in a day. Parsed JSON takes 8 times its
# bytes, and 33 times if it is made of tiny values (measured), which 64 MiB could not.
_MAX_PARSED_BYTES = 4 * 1024 * 1024
_DECODED_BYTES = 262_144
_PROBED_BYTES = 4096

_CLOSING = {b"[": b"]", b"{": b"}"}
_BOM = codecs.BOM_UTF8
_NOTHING = re.compile(rb"(\xef\xbb\xbf)?+\s*+(\[\s*+\]|\{\s*+\}|\"\"|null)?+\s*+")
# The columns of a chat are documented (Dyte, "Export chat dump"). A single row without their names
# may be a message.
_CHAT_HEADER = re.compile(rb"[^\r\n]*payload_?type[^\r\n]*\s*", re.IGNORECASE)
_FIRST_COMMA = re.compile(rb"[^\r\n,]*,")


class EmptyTextError(MediaError):
    """Raised for a file without content."""

    cause = "empty"


class NotTextError(MediaError):
    """Raised for a file that is not a session's text of its kind."""

    cause = "not_text"


def require_text(kind: str, data: bytes) -> str:
    """Return the content type to store a session's file with.

    `kind` is one of `model.SESSION_FILES`. Raises `EmptyTextError` or `NotTextError`. The text's
    meaning is not judged: it is stored as it is, even if its times run backwards.
    """
    if _NOTHING.fullmatch(data):
        raise EmptyTextError("the file has no content")
    _require_utf8(data)
    begin = data[:_PROBED_BYTES].removeprefix(_BOM).lstrip()
    if is_markup(begin):
        raise NotTextError("the file is a page of HTML or XML")
    if kind == "transcript" or (kind == "chat" and begin[:1] in _CLOSING):
        _require_json(data, _CLOSING.get(begin[:1]))
        return _JSON
    if begin.startswith(b"{") and _is_error_document(data):
        raise NotTextError("the file is an API's error document")
    if kind == "captions":
        _require_captions(data)
    elif kind == "chat":
        _require_chat(data, begin)
    return _CONTENT_TYPES[kind]


def _require_utf8(data: bytes) -> None:
    # A NUL so early is UTF-16, UTF-32, or no text. Later ones may be a participant's, in the chat.
    is_utf8 = b"\0" not in data[:4]
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # In pieces, because decoded text may take four times its bytes.
        for start in range(0, len(data), _DECODED_BYTES):
            stop = start + _DECODED_BYTES
            decoder.decode(data[start:stop], final=stop >= len(data))
    except UnicodeDecodeError:
        is_utf8 = False
    if not is_utf8:
        shown = media_type(data[:512]) or "text in another encoding, or no text"
        raise NotTextError(f"the file is not UTF-8 but {shown}")


def _require_json(data: bytes, closing: bytes | None) -> None:
    """Raise `NotTextError` unless a file is an array or an object that ends with this bracket.

    A large file is not parsed, for lack of memory; only its beginning and its end are checked.
    """
    if closing is None:
        raise NotTextError("the file is not JSON: it begins with neither [ nor {")
    if len(data) > _MAX_PARSED_BYTES:
        if not data[-_PROBED_BYTES:].rstrip().endswith(closing):
            raise NotTextError(f"the file is not JSON: it does not end with {closing.decode()}")
        return
    try:
        document = _parse(data)
    except ValueError as error:
        raise NotTextError(f"the file is not JSON: {error}") from None
    if _says_error(document):
        raise NotTextError("the file is an API's error document")


def _is_error_document(data: bytes) -> bool:
    try:
        return len(data) <= _MAX_PARSED_BYTES and _says_error(_parse(data))
    except ValueError:
        return False


def _parse(data: bytes) -> Any:
    """Return a JSON document, with True for each number. Raises `ValueError`."""
    try:
        # Numbers stay unread, because Python refuses those of more than 4,300 digits.
        return json.loads(data.decode("utf-8-sig"), parse_int=bool, parse_float=bool)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _says_error(document: Any) -> bool:
    """Return True if a document is an error of RealtimeKit's, Cloudflare's, or a gateway's."""
    return isinstance(document, dict) and (
        document.get("success") is False
        or not document.keys().isdisjoint(("error", "errors"))
        or document.keys() == {"message"}
    )


def _require_captions(data: bytes) -> None:
    if media_type(data[:512]) != "text/vtt":
        raise NotTextError("the captions do not begin with WEBVTT")
    # Only a cue's times contain an arrow (WebVTT, 4.1).
    if b"-->" not in data:
        raise EmptyTextError("the captions have no cue")


def _require_chat(data: bytes, begin: bytes) -> None:
    if not _FIRST_COMMA.match(begin):
        raise NotTextError("the chat is neither JSON nor CSV: its first line has no comma")
    if len(data) <= _PROBED_BYTES and _CHAT_HEADER.fullmatch(begin):
        raise EmptyTextError("the chat has no message")
