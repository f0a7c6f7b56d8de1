"""Where a recording's files can be downloaded now, and why one cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from recordings import rows
from recordings.archive import Archive
from recordings.dynamodb import Item
from recordings.model import RecordingStatus, timestamp

NO_FILE = "no_file"
NOT_YET = "not_yet"
EXPIRED = "expired"
EXTERNAL = "external"
UNREACHABLE = "archive_unreachable"
ASK_BY_NAME = "ask_by_name"

# An answer of Lambda's holds 6 MB: these, and what is missing of 6,000 files, with room for the
# escapes that JSON in JSON needs.
MAX_BYTES = 4_000_000

GONE = frozenset({NO_FILE, EXPIRED})
"""The reasons that will not pass."""


def download_links(
    row: Item, archive: Archive | None, seconds: int, now: datetime, only: str | None = None
) -> tuple[list[Item], list[Item]]:
    """A link for each file that can be downloaded, and a reason for each that cannot.

    A link to the archive is good for so many seconds; RealtimeKit's own, for a file that is not
    archived yet, for as long as it keeps the file. `only` is the name of the one artifact to link
    to. Of a recording with thousands of files, the links that an answer has no room for are
    missing, and must be asked for one by one.
    """
    found: list[Item] = []
    missing: list[Item] = []
    room = MAX_BYTES
    for name, artifact in linked_artifacts(row).items():
        if only not in (None, name):
            continue
        known: Item = {key: artifact[key] for key in ("kind", "file_name") if key in artifact}
        about: Item = {"name": name, **known}
        link = _link(row, artifact, archive, seconds, now) if room > 0 else ASK_BY_NAME
        if isinstance(link, str):
            missing.append({**about, "reason": link})
        else:
            found.append({**about, **link})
            room -= len(json.dumps(found[-1]))
    return found, missing


def linked_artifacts(row: Item) -> dict[str, Item]:
    """The row's artifacts in the order of their names; a recording without any has one to come."""
    known: dict[str, Item] = row.get("artifacts") or rows.placeholder(row)
    return dict(sorted(known.items()))


def _link(
    row: Item, artifact: Mapping[str, Any], archive: Archive | None, seconds: int, now: datetime
) -> Item | str:
    """The link, or the reason why there is none."""
    copy: Mapping[str, Any] = artifact.get("archive", {})
    is_archived = copy.get("state") == "archived"
    if is_archived and archive and copy["bucket"] == archive.bucket:
        file_name = artifact.get("file_name") or copy["key"].rpartition("/")[2]
        return {
            "source": "archive",
            "url": archive.link(copy["key"], file_name, seconds),
            "expires_at": timestamp(now + timedelta(seconds=seconds)),
            "size": copy["size"],
        }
    if "url" in artifact:
        expires_at = rows.said_expiry(artifact) or rows.expiry(row)
        if expires_at > timestamp(now):
            size = {"size": artifact["file_size"]} if artifact.get("file_size") else {}
            return {
                "source": "realtimekit",
                "url": artifact["url"],
                "expires_at": expires_at,
                **size,
            }
    return _reason(row, artifact)


def _reason(row: Item, artifact: Mapping[str, Any]) -> str:
    """Return why there is no link to a file that RealtimeKit does not offer, or no longer."""
    match artifact.get("archive", {}).get("state"):
        case "archived":
            return UNREACHABLE
        case "external":
            return EXTERNAL
        case "none":
            return NO_FILE
        case "expired":
            return EXPIRED
    if "url" in artifact:
        return EXPIRED
    return NO_FILE if row.get("status") == RecordingStatus.ERRORED else NOT_YET
