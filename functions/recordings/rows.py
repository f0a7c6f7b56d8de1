"""Questions about a row of the catalogue, and how a row and an answer of RealtimeKit merge.

Nothing here reads or writes: a row is a map of attributes, as `stored.read` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from recordings.dynamodb import Item, UnwritableError
from recordings.model import (
    Artifact,
    Recording,
    RecordingStatus,
    is_final,
    kind_of,
    rank,
    timestamp,
)

MAX_HISTORY_ENTRIES = 50
# A row may have 400 KB, and a presigned URL has up to 2. A row keeps none of them if there are more
# than this in total: they are fetched anew for a download.
MAX_URLS_BYTES = 128 * 1024
RETENTION = timedelta(days=7)
"""How long RealtimeKit keeps a file (RealtimeKit docs, data retention)."""
# A time before Dyte, RealtimeKit's predecessor, was never set: `0001-01-01`, 1970.
_FIRST_TIME = "2015"
_LAST = "9999-12-31T23:59:59.999Z"
_SAID = (
    "session_id",
    "meeting_id",
    "meeting_title",
    "organization_id",
    "duration_seconds",
    "file_name",
    "file_size",
    "start_reason",
    "stop_reason",
    "storage",
)
_SAID_TIMES = ("invoked_at", "started_at", "stopped_at")


def public(row: Item) -> Item:
    """The row without the service's own attributes and without its artifacts' URLs."""
    shown = {name: value for name, value in row.items() if name != "status_rank"}
    artifacts = row.get("artifacts", {}).items()
    return {**shown, "artifacts": {name: _without_url(artifact) for name, artifact in artifacts}}


def changes(row: Item, recording: Recording, fetched_at: datetime, app_id: str) -> Item:
    """Return the attributes that an answer of RealtimeKit changed in a row, `{}` if none.

    The row is `{}` for a new recording. A value of `None` takes the attribute away.
    """
    fresh = _is_fresh(row, recording, fetched_at)
    said = _attributes(recording)
    changed = {
        name: value
        for name, value in said.items()
        if name not in row or (fresh and row[name] != value)
    }
    if fresh and row.get("status") != recording.status:
        changed |= _status_changes(row, recording.status, fetched_at)
    artifacts = _merged_artifacts(row.get("artifacts", {}), recording.artifacts, fresh)
    if artifacts != row.get("artifacts", {}):
        changed["artifacts"] = artifacts
    if changed.get("status", row.get("status")) == RecordingStatus.UPLOADED:
        share = archived(artifacts)
        changed |= {"archived": share} if share != row.get("archived") else {}
    first_seen_at = row.get("first_seen_at") or timestamp(fetched_at)
    started_at = changed.get("started_at") or row.get("started_at")
    changed |= _indexed_time(row, said.get("invoked_at"), started_at, first_seen_at)
    if not changed:
        return {}
    if fresh:
        changed["fetched_at"] = timestamp(fetched_at)
    known = {"app_id": app_id, "first_seen_at": first_seen_at}
    return changed | {name: value for name, value in known.items() if name not in row}


def news(row: Item, merged: Item) -> set[str]:
    """The attributes in which a merged row says something else than the row it was merged with.

    A URL that was signed anew is no news: there is a current one for whoever asks. A file that was
    noted as expired and has a later expiry now is news: it can be archived after all.
    """
    changed = {name for name, value in merged.items() if row.get(name) != value}
    is_the_same = _lasting(merged.get("artifacts", {})) == _lasting(row.get("artifacts", {}))
    if is_the_same and unsettled(merged).keys() == unsettled(row).keys():
        changed.discard("artifacts")
    return changed - {"version", "fetched_at", "status_rank", "status_history"}


def is_erased(row: Mapping[str, Any]) -> bool:
    """Whether it is a tombstone, or about to be one."""
    return "erased_at" in row or "erasing_since" in row


def unsettled(row: Item) -> dict[str, Item]:
    """Return the artifacts, by name, that must still be archived, or looked for.

    An uploaded recording without any has a placeholder. A file that was noted as elsewhere, as
    expired, or as never offered, is unsettled again if RealtimeKit offers it after all.
    """
    if row.get("status") != RecordingStatus.UPLOADED or is_erased(row):
        return {}
    artifacts: dict[str, Item] = row.get("artifacts") or placeholder(row)
    return {name: artifact for name, artifact in artifacts.items() if not _is_settled(artifact)}


def to_archive(row: Item) -> set[tuple[str, bool]]:
    """Return each unsettled artifact's name, and whether RealtimeKit offers the file.

    Whatever is in a row's set and was not in that of the row before is new work for the archive.
    """
    return {(name, is_offered(artifact)) for name, artifact in unsettled(row).items()}


def placeholder(row: Item) -> dict[str, Item]:
    """Return the artifact, by its name, that stands for the files of a recording without any."""
    kind = kind_of(row.get("file_name"))
    size = {"file_size": row["file_size"]} if row.get("file_size") else {}
    return {kind: {"kind": kind, **size}}


def is_placeholder(name: str, artifact: Mapping[str, Any]) -> bool:
    """Return True if RealtimeKit has neither offered the file nor said its name or size.

    Then most likely nothing was recorded. A TRACK recording without files has a template for a
    name (RealtimeKit docs, track recording), and size 0.
    """
    is_named = "file_name" in artifact and "{{" not in artifact["file_name"]
    is_known = is_named or artifact.get("file_size") or is_offered(artifact)
    return name == artifact["kind"] and not is_known


def is_offered(artifact: Mapping[str, Any]) -> bool:
    """Return True if RealtimeKit has given a URL; of very many files the row keeps none."""
    return "url" in artifact or "url_expires_at" in artifact


def _is_settled(artifact: Item) -> bool:
    archive: Item = artifact.get("archive", {})
    match archive.get("state"):
        case "archived":
            return True
        case "external" | "none":
            return "url" not in artifact
        case "expired":
            return bool(artifact.get("url_expires_at", "") <= archive["expired_at"])
        case _:
            return False


def deadline(row: Item) -> str | None:
    """Return when the first of its unsettled files is gone; `None` where there is none to lose."""
    waiting = unsettled(row).items()
    is_at_stake = any(not is_placeholder(name, artifact) for name, artifact in waiting)
    return expiry(row) if is_at_stake else None


def said_expiry(artifact: Mapping[str, Any]) -> str | None:
    """Return when RealtimeKit says that a file is gone; `None` if it does not, or nonsense."""
    said = artifact.get("url_expires_at", "")
    return said if said >= _FIRST_TIME else None


def expiry(row: Item) -> str:
    """When the first of its unsettled files is gone; where RealtimeKit does not say, 7 days on."""
    said = map(said_expiry, unsettled(row).values())
    known = [time for time in said if time]
    if known:
        return min(known)
    times = ("stopped_at", "started_at", "invoked_at", "first_seen_at")
    latest = next((row[name] for name in times if name in row), _LAST)
    try:
        return timestamp(datetime.fromisoformat(latest) + RETENTION)
    except OverflowError:
        # A year that is a mistake is not known, and what is not known is not over.
        return _LAST


def archived(artifacts: Mapping[str, Item]) -> str:
    """Of how much the owner has a copy in the archive: "yes" is all, "partly", or "no"."""
    states = [artifact.get("archive", {}).get("state") for artifact in artifacts.values()]
    if states and all(state == "archived" for state in states):
        return "yes"
    return "partly" if "archived" in states else "no"


def _is_fresh(row: Item, recording: Recording, fetched_at: datetime) -> bool:
    """Whether this view outdates the row's: further along, or as far and fetched no earlier.

    As statuses only move forward, a status that is behind gives a stale answer away, whenever it
    was fetched. A stale view still fills gaps.
    """
    if not row:
        return True
    known_rank = row.get("status_rank", 0)
    new_rank = known_rank if rank(recording.status) is None else rank(recording.status)
    if new_rank != known_rank:
        return bool(new_rank > known_rank)
    if rank(recording.status) is None and is_final(row.get("status")):
        return False
    return bool(timestamp(fetched_at) >= row.get("fetched_at", ""))


def _status_changes(row: Item, status: str, fetched_at: datetime) -> Item:
    entry = {"status": status, "at": timestamp(fetched_at)}
    history = [*row.get("status_history", ()), entry]
    changes: Item = {"status": status, "status_history": history[-MAX_HISTORY_ENTRIES:]}
    # An unknown status says nothing about how far the recording is: the known rank stays.
    if (new_rank := rank(status)) is not None:
        changes["status_rank"] = new_rank
    return changes


def next_version(row: Item) -> int:
    version = row.get("version", 0)
    if not isinstance(version, int):
        raise UnwritableError("the row's version is no number")
    return version + 1


def _indexed_time(
    row: Item, invoked_at: str | None, started_at: str | None, first_seen_at: str
) -> Item:
    """Return the changes that keep the row in the indexes, which are sorted by `invoked_at`.

    Where RealtimeKit's own cannot be read, the start counts, or else when the row was made;
    `invoked_at_from` says which. The real one replaces them, however late it is said.
    """
    if invoked_at:
        is_guessed = "invoked_at_from" in row
        return {"invoked_at": invoked_at, "invoked_at_from": None} if is_guessed else {}
    if "invoked_at" in row and "invoked_at_from" not in row:
        return {}
    source = "started_at" if started_at else "first_seen_at"
    guess = {"invoked_at": started_at or first_seen_at, "invoked_at_from": source}
    return guess if any(row.get(name) != value for name, value in guess.items()) else {}


def _attributes(recording: Recording) -> Item:
    said = {name: getattr(recording, name) for name in _SAID}
    times = {name: getattr(recording, name) for name in _SAID_TIMES}
    said |= {name: time and timestamp(time) for name, time in times.items()}
    return {name: value for name, value in said.items() if value is not None}


def _merged_artifacts(
    stored: Mapping[str, Item], said: tuple[Artifact, ...], fresh: bool
) -> Mapping[str, Item]:
    """Merge what an answer says of files into those stored.

    A file that it does not name stays: it is still there, or was, and may be archived. A
    placeholder goes as soon as there is a file that it may have stood for.
    """
    merged = dict(stored)
    has_files = any(not is_placeholder(name, item) for name, item in stored.items())
    for artifact in said:
        known, item = merged.get(artifact.name), _artifact_item(artifact)
        if has_files and known is None and artifact.url is None and artifact.name == artifact.kind:
            # Once its URLs have expired, RealtimeKit's answer looks like a file in the owner's
            # storage. Only here the order of views matters: a row that begins so late keeps it.
            continue
        if known is None or (fresh and not _is_known(known, item)):
            merged[artifact.name] = {**(known or {}), **item}
    files = {name: item for name, item in merged.items() if not is_placeholder(name, item)}
    merged = files or merged
    if sum(len(item.get("url", "")) for item in merged.values()) <= MAX_URLS_BYTES:
        return merged
    return {name: _without_url(item) for name, item in merged.items()}


def _without_url(item: Item) -> Item:
    return {key: value for key, value in item.items() if key != "url"}


def _is_known(known: Item, item: Item) -> bool:
    """A URL signed anew with the same expiry is no news: the stored one is as good."""
    signed_anew = "url_expires_at" in item and "url" in known
    news = {name: value for name, value in item.items() if not (signed_anew and name == "url")}
    return news.items() <= known.items()


def _lasting(artifacts: Mapping[str, Item]) -> dict[str, Item]:
    """Of what RealtimeKit says otherwise each time, only that it is there."""
    return {
        name: {key: key.startswith("url") or value for key, value in item.items()}
        for name, item in artifacts.items()
    }


def _artifact_item(artifact: Artifact) -> Item:
    expiry = artifact.url_expires_at
    item = {
        "kind": artifact.kind,
        "file_name": artifact.file_name,
        "file_size": artifact.file_size,
        "participant_id": artifact.participant_id,
        "url": artifact.url,
        # Without a URL it is that of the recording's other files.
        "url_expires_at": timestamp(expiry) if expiry and artifact.url else None,
    }
    return {name: value for name, value in item.items() if value is not None}
