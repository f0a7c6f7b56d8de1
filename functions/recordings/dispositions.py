"""How a browser takes a file: whether it shows or saves it, as which type, and under which name.

A title is any text that somebody gave a meeting, so a name is made harmless to headers and disks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from recordings.media_types import type_of_suffix

# File systems allow 255 bytes, of which browsers need some: "… (1).mp4.crdownload".
MAX_NAME_BYTES = 200
_MAX_PARTICIPANT_BYTES = 60

_TEXT_TYPES = {
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
# Every browser shows plain text; most save CSV and Markdown.
_SHOWN_TEXT_TYPES = {
    **dict.fromkeys(_TEXT_TYPES, "text/plain; charset=utf-8"),
    "vtt": "text/vtt; charset=utf-8",
}

_SUFFIX = re.compile(r"(.*[^.])\.([A-Za-z0-9]{1,8})", re.DOTALL)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):", re.ASCII)
# Unless the owner chose a prefix, RealtimeKit names a file after its meeting's id and a time in
# milliseconds (seen in its answers). The name of a TRACK recording is a template.
_MEANINGLESS = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([_-]?\d*)|\d*|.*\{\{.*", re.IGNORECASE | re.DOTALL
)
# Control characters, and those that no file on Windows may have in its name (learn.microsoft.com,
# "Naming Files, Paths, and Namespaces"). Bidi controls would show another suffix at the end.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]')
# Some browsers decode a % in the ASCII name (RFC 6266, appendix D).
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z ._()+,@=-]")


class Disposition(StrEnum):
    """Whether a browser saves a file, or plays or shows it."""

    ATTACHMENT = "attachment"
    INLINE = "inline"


def content_type(kind: str, file_name: str, disposition: Disposition) -> str | None:
    """Return a file's content type by its kind and its name's suffix, or None if it is unknown.

    For `INLINE` it is a type that browsers play or show, and that cannot run a script.
    """
    suffix = _split_suffix(file_name)[1].lower()
    media = type_of_suffix(suffix)
    if media and kind in ("audio", "track"):
        media = media.replace("video/", "audio/")
    if disposition is Disposition.ATTACHMENT:
        return media or _TEXT_TYPES.get(suffix)
    is_played = media is not None and media.startswith(("video/", "audio/"))
    return media if is_played else _SHOWN_TEXT_TYPES.get(suffix)


def response_headers(
    disposition: Disposition, download_name: str, shown_type: str | None
) -> dict[str, str]:
    """Return the parameters of S3's GetObject that set the headers of its answer.

    Without a `shown_type` a file is saved even if it is to be shown. It may be HTML, and a script
    in it would run in the bucket's origin.
    """
    if disposition is Disposition.ATTACHMENT:
        return {"ResponseContentDisposition": _header(disposition, download_name)}
    shown = Disposition.INLINE if shown_type else Disposition.ATTACHMENT
    return {
        "ResponseContentDisposition": _header(shown, download_name),
        "ResponseContentType": shown_type or "application/octet-stream",
    }


def download_names(
    row: Mapping[str, Any], artifacts: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Yield the name of each artifact, and the name under which a browser saves its file.

    The latter is `<title> <date> <time> <kind>.<suffix>`, with the UTC time of the invocation. If
    there are several artifacts of a kind, it also has a number and the participant. Without a title
    it is RealtimeKit's own name of the file, or if that is only an id, the date, time and kind.
    """
    totals = Counter(artifact["kind"] for artifact in artifacts.values())
    numbers: Counter[str] = Counter()
    for name, artifact in artifacts.items():
        kind = artifact["kind"]
        numbers[kind] += 1
        words = [kind]
        if totals[kind] > 1:
            participant = _safe(artifact.get("participant_id"), _MAX_PARTICIPANT_BYTES)
            words += [str(numbers[kind]), participant]
        yield name, _download_name(row, artifact, words)


def file_name(artifact: Mapping[str, Any]) -> str:
    """Return RealtimeKit's name of a file, or its name in the bucket if it has none."""
    key: str = artifact.get("archive", {}).get("key", "")
    return artifact.get("file_name") or key.rpartition("/")[2]


def _download_name(row: Mapping[str, Any], artifact: Mapping[str, Any], words: list[str]) -> str:
    stem, suffix = _split_suffix(file_name(artifact))
    suffix = f".{suffix}" if suffix else ""
    title = row.get("meeting_title")
    own_name = _safe(stem, MAX_NAME_BYTES - len(suffix)) if "file_name" in artifact else ""
    if own_name and not _safe(title) and not _MEANINGLESS.fullmatch(stem):
        return own_name + suffix
    time = _TIME.match(str(row.get("invoked_at")))
    words = [f"{time[1]} {time[2]}.{time[3]}" if time else "", *words]
    end = " ".join(filter(None, words)) + suffix
    return f"{_safe(title, MAX_NAME_BYTES - 1 - len(end.encode()))} {end}".lstrip()


def _split_suffix(name: str) -> tuple[str, str]:
    """Return a file name's stem and its suffix, without the dot between them."""
    match = _SUFFIX.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def _safe(text: object, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return text as a part of a file name: one line, not hidden, without path or control."""
    line = _UNSAFE.sub("_", " ".join(str(text or "").split())).lstrip(". ")
    return line.encode(errors="replace")[:max_bytes].decode(errors="ignore").rstrip()


def _header(disposition: Disposition, name: str) -> str:
    """Return a Content-Disposition in ASCII (RFC 6266), whatever the name.

    It has an ASCII name for all browsers, and the real name for those that know UTF-8.
    """
    plain = _NOT_PLAIN.sub("_", name)
    real = f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else ""
    return f'{disposition}; filename="{plain}"{real}'
