"""Download links for a recording's files, or reasons for missing links."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never

from recordings import rows
from recordings.archive import Archive
from recordings.dispositions import (
    Disposition,
    content_type,
    download_names,
    file_name,
    response_headers,
)
from recordings.dynamodb import Item
from recordings.model import RecordingStatus, timestamp
from recordings.rows import ArtifactItem, Row

NO_FILE = "no_file"
NOT_YET = "not_yet"
EXPIRED = "expired"
EXTERNAL = "external"
UNREACHABLE = "archive_unreachable"
ASK_BY_NAME = "ask_by_name"

# 4 MB of links leave room for the reasons of 6,000 files without one, and for escaping the JSON, in
# the 6 MB of a Lambda answer (Lambda quotas).
MAX_BYTES = 4_000_000

GONE = frozenset({NO_FILE, EXPIRED})
"""The reasons that are final."""


def download_links(
    row: Row,
    archive: Archive | None,
    seconds: int,
    now: datetime,
    disposition: Disposition,
    only: str | None = None,
) -> tuple[list[Item], list[Item]]:
    """Return links to the files that can be downloaded, and reasons for the others.

    A link to the archive works for so many seconds, and tells the browser to save the file or to
    show it. A file that is not archived yet has RealtimeKit's own link, which works as long as
    RealtimeKit keeps the file, and which cannot be changed. `only` names the one artifact to link
    to. Files that the answer has no room for have the reason `ASK_BY_NAME`.
    """
    links: list[Item] = []
    missing: list[Item] = []
    room = MAX_BYTES
    artifacts = linked_artifacts(row)
    for name, download_name in download_names(row, artifacts):
        if only not in (None, name):
            continue
        artifact = artifacts[name]
        about: Item = {"name": name, "kind": artifact["kind"]}
        if "file_name" in artifact:
            about["file_name"] = artifact["file_name"]
        type_ = content_type(artifact["kind"], file_name(artifact), disposition)
        headers = response_headers(disposition, download_name, type_)
        link = _link(row, artifact, archive, headers, seconds, now) if room > 0 else ASK_BY_NAME
        if isinstance(link, str):
            missing.append({**about, "reason": link})
        else:
            links.append({**about, **({"content_type": type_} if type_ else {}), **link})
            room -= len(json.dumps(links[-1]))
    return links, missing


def linked_artifacts(row: Row) -> dict[str, ArtifactItem]:
    """Return the row's artifacts sorted by name, with a placeholder if it has no own file."""
    return dict(sorted(rows.with_placeholder(row).items()))


def _link(
    row: Row,
    artifact: ArtifactItem,
    archive: Archive | None,
    headers: Mapping[str, str],
    seconds: int,
    now: datetime,
) -> Item | str:
    """Return the link to a file, or the reason for its absence."""
    copy = artifact.get("archive")
    if archive and copy and copy["state"] == "archived" and copy["bucket"] == archive.bucket:
        return {
            "source": "archive",
            "url": archive.link(copy["key"], headers, seconds),
            "expires_at": timestamp(now + timedelta(seconds=seconds)),
            "size": copy["size"],
        }
    return _realtimekit_link(row, artifact, now) or _reason(row, artifact)


def _realtimekit_link(row: Row, artifact: ArtifactItem, now: datetime) -> Item | None:
    """Return RealtimeKit's own link to a file, unless it has expired or is missing."""
    if "url" not in artifact:
        return None
    expires_at = rows.said_expiry(artifact) or rows.expiry(row)
    if expires_at <= timestamp(now):
        return None
    size = {"size": artifact["file_size"]} if artifact.get("file_size") else {}
    return {"source": "realtimekit", "url": artifact["url"], "expires_at": expires_at, **size}


def _reason(row: Row, artifact: ArtifactItem) -> str:
    """Return why a file without a current URL of RealtimeKit's has no link."""
    state = rows.archive_state(artifact)
    match state:
        case "archived":
            return UNREACHABLE
        case "external":
            return EXTERNAL
        case "none":
            return NO_FILE
        case "expired":
            return EXPIRED
        case None:
            pass
        case _:
            assert_never(state)
    if "url" in artifact:
        return EXPIRED
    if rows.is_session_file(artifact):
        return NOT_YET
    return NO_FILE if row.get("status") == RecordingStatus.ERRORED else NOT_YET
