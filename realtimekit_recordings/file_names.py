"""Names of downloaded files, valid on every system whatever RealtimeKit and users call them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .session_files import SUFFIXES, session_file_name

# File systems allow 255 bytes; the suffixes ".part.etag" and ".part.lock" need some of them.
MAX_NAME_BYTES = 200

# On Windows these names are devices, with any suffix, and dots and spaces at the end are dropped
# (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]')
# Unless the owner chose a prefix, RealtimeKit names a file after its meeting's id and a time in
# milliseconds (seen in its answers).
_MEANINGLESS = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([_-]?\d*)|\d+|", re.IGNORECASE
)


def artifact_folder(name: str) -> str:
    """Return an artifact's own folder name, unique even if the file system ignores case."""
    if re.fullmatch("[a-z]+", name) and not _DEVICES.fullmatch(name):
        return name
    safe = re.sub("[^a-z0-9]+", "-", name.lower())
    return f"{safe[:100]}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def file_name(link: Mapping[str, Any], recording: Mapping[str, Any]) -> str:
    """Return RealtimeKit's name of a file, or the meeting's date and title if it is only an id.

    A session's file is named after its kind.
    """
    given = str(link.get("file_name") or urlsplit(link["url"]).path.rpartition("/")[2])
    stem, suffix = _split_suffix(given)
    if link["name"] in SUFFIXES:
        return session_file_name(link["name"], suffix)
    title = str(recording.get("meeting_title") or "").strip()
    if title and _MEANINGLESS.fullmatch(stem):
        stem = f"{str(recording.get('invoked_at', ''))[:10]} {title}".strip()
    return _safe_name(stem, suffix)


def _split_suffix(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(?s)(.*[^.])(\.[A-Za-z0-9]{1,8})", name)
    return (match[1], match[2]) if match else (name, "")


def _safe_name(stem: str, suffix: str) -> str:
    """Return a name without a path, as long as file systems allow."""
    stem = _UNSAFE.sub("_", stem).lstrip(". ")
    max_bytes = MAX_NAME_BYTES - len(suffix)
    stem = stem.encode(errors="replace")[:max_bytes].decode(errors="ignore")
    name = f"{stem}{suffix}".rstrip(". ")
    if not stem:
        name = f"recording{suffix}"
    return f"_{name}" if _DEVICES.fullmatch(name) else name
