"""Names for files on the operator's machine, which others chose parts of: valid on every system."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# File systems take 255 bytes; ".part.etag" and ".part.lock" are put at the end.
MAX_BYTES = 200

# Windows takes these for devices, whatever their suffix (learn.microsoft.com, "Naming Files,
# Paths, and Namespaces"), and drops dots and spaces at the end.
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]')
# RealtimeKit names a file after its meeting's id and the milliseconds of a time, unless the owner
# chose a prefix (seen in its answers).
_SAYS_NOTHING = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([_-]?\d*)|\d+|", re.IGNORECASE
)


def artifact_folder(name: str) -> str:
    """Return a folder's name, another for each artifact, also where `A` and `a` are one."""
    if re.fullmatch("[a-z]+", name) and not _DEVICES.fullmatch(name):
        return name
    safe = re.sub("[^a-z0-9]+", "-", name.lower())
    return f"{safe[:100]}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def file_name(link: Mapping[str, Any], recording: Mapping[str, Any]) -> str:
    """Return RealtimeKit's name of a file, or the meeting's date and title if it says nothing."""
    given = str(link.get("file_name") or urlsplit(link["url"]).path.rpartition("/")[2])
    stem, suffix = _parted(given)
    title = str(recording.get("meeting_title") or "").strip()
    if title and _SAYS_NOTHING.fullmatch(stem):
        stem = f"{str(recording.get('invoked_at', ''))[:10]} {title}".strip()
    return _safe(stem, suffix)


def _parted(name: str) -> tuple[str, str]:
    """Part a name before its suffix, if that looks like one."""
    found = re.fullmatch(r"(?s)(.*[^.])(\.[A-Za-z0-9]{1,8})", name)
    return (found[1], found[2]) if found else (name, "")


def _safe(stem: str, suffix: str) -> str:
    """Return one name without a way in it, and no longer than file systems allow."""
    stem = _UNSAFE.sub("_", stem).lstrip(". ")
    room = MAX_BYTES - len(suffix)
    stem = stem.encode(errors="replace")[:room].decode(errors="ignore")
    name = f"{stem}{suffix}".rstrip(". ")
    if not stem:
        name = f"recording{suffix}"
    return f"_{name}" if _DEVICES.fullmatch(name) else name
