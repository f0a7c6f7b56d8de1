"""Pure questions about a row of the catalogue, and how a row and an answer of RealtimeKit merge.

A row is a map of attributes as `stored.read` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict, assert_never, cast

from recordings.annotation import Hold
from recordings.dynamodb import Item, UnwritableError
from recordings.model import (
    SESSION_FILES,
    Artifact,
    ErasureReason,
    Recording,
    RecordingStatus,
    is_final,
    kind_of,
    parse_timestamp,
    rank,
    timestamp,
    uuid,
)

MAX_HISTORY_ENTRIES = 50
# A row may have 400 KB (DynamoDB quotas), and a presigned URL has up to 2 KB. A row with more URLs
# than this keeps no URL, and each download fetches its URL anew.
MAX_URLS_BYTES = 128 * 1024
RETENTION = timedelta(days=7)
"""How long RealtimeKit keeps a file (RealtimeKit docs, data retention)."""
# A session's files are made after its end: a transcript in minutes, a summary from the transcript.
# They are looked for after an hour, and a last time a day later. Both delays are ours; RealtimeKit
# documents none.
FIRST_LOOK = timedelta(hours=1)
LAST_LOOK = timedelta(hours=25)
# A recording stops by itself after `max_seconds`, a day at most (RealtimeKit docs, recording).
_MAX_DURATION = timedelta(days=1)
# RealtimeKit's predecessor Dyte began in 2015: an earlier time, as `0001-01-01`, was never set.
_FIRST_TIME = "2015"
_LAST_YEAR = 9999
_LAST = "9999-12-31T23:59:59.999Z"
_ATTRIBUTES = (
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
_TIMES = ("session_started_at", "invoked_at", "started_at", "stopped_at")
_INTERNAL = ("status_rank", "labelled", "erasure_reason")


class Archived(TypedDict):
    """The state of a file that the archive holds."""

    state: Literal["archived"]
    bucket: str
    key: str
    size: int
    checksum_crc32: NotRequired[str]
    archived_at: NotRequired[str]


class External(TypedDict):
    """The state of a file that RealtimeKit put into the owner's own storage, and nowhere else."""

    state: Literal["external"]
    location: NotRequired[Mapping[str, Any]]
    noted_at: NotRequired[str]


class Expired(TypedDict):
    """The state of a file that RealtimeKit deleted before it was copied."""

    state: Literal["expired"]
    expired_at: str


class Absent(TypedDict):
    """The state of a file that never existed, or of a session's text without words."""

    state: Literal["none"]
    noted_at: NotRequired[str]


ArchiveState = Archived | External | Expired | Absent
"""The last state of a file, as an artifact's `archive`; an unsettled artifact has none."""

StateName = Literal["archived", "external", "expired", "none"]


class ArtifactItem(TypedDict):
    """One file of a recording, as its row describes it."""

    kind: str
    file_name: NotRequired[str]
    file_size: NotRequired[int]
    participant_id: NotRequired[str]
    url: NotRequired[str]
    url_expires_at: NotRequired[str]
    archive: NotRequired[ArchiveState]


class StatusChange(TypedDict):
    """An entry of a row's history."""

    status: str
    at: str


class Row(TypedDict, total=False):
    """A recording's row as `stored.read` returns it; times are timestamps, sizes bytes.

    A tombstone has `recording_id`, `version` and `erased_at`, and `{}` stands for a missing row.
    Without an `erasure_reason`, the erasure was requested through the API. `labelled` is the app's
    id in rows with labels: the key of the index that has only them.
    """

    recording_id: str
    app_id: str
    version: int
    status: str
    status_rank: int
    status_history: list[StatusChange]
    session_id: str
    session_started_at: str
    meeting_id: str
    meeting_title: str
    organization_id: str
    invoked_at: str
    invoked_at_from: str
    started_at: str
    stopped_at: str
    duration_seconds: int | Decimal
    file_name: str
    file_size: int
    start_reason: Mapping[str, Any]
    stop_reason: Mapping[str, Any]
    storage: Mapping[str, Any]
    artifacts: Mapping[str, ArtifactItem]
    archived: Literal["yes", "partly", "no"]
    first_seen_at: str
    fetched_at: str
    labels: Mapping[str, str]
    labelled: str
    hold: Hold
    erasing_since: str
    erasure_reason: ErasureReason
    erased_at: str


def public(row: Row) -> Item:
    """Return the row without internal attributes, and without its artifacts' URLs."""
    shown = {name: value for name, value in row.items() if name not in _INTERNAL}
    artifacts = row.get("artifacts", {}).items()
    return {**shown, "artifacts": {name: _without_url(artifact) for name, artifact in artifacts}}


def changes(row: Row, recording: Recording, fetched_at: datetime, app_id: str) -> Item:
    """Return the changes that RealtimeKit's answer makes to a row, `{}` if it makes no change.

    The row is `{}` for a new recording. A value of `None` removes the attribute.
    """
    fresh = _is_fresh(row, recording, fetched_at)
    attributes = _attributes(recording)
    changed = {
        name: value
        for name, value in attributes.items()
        if name not in row or (fresh and row.get(name) != value)
    }
    if fresh and row.get("status") != recording.status:
        changed |= _status_changes(row, recording.status, fetched_at)
    status = changed.get("status", row.get("status"))
    artifacts = _merged_artifacts(row.get("artifacts", {}), recording.artifacts, fresh)
    if status == RecordingStatus.ERRORED:
        artifacts = _without_unmade(artifacts, row, recording)
    if artifacts != row.get("artifacts", {}):
        changed["artifacts"] = artifacts
    if status == RecordingStatus.UPLOADED:
        share = archived(artifacts)
        changed |= {"archived": share} if share != row.get("archived") else {}
    first_seen_at = row.get("first_seen_at") or timestamp(fetched_at)
    started_at = changed.get("started_at") or row.get("started_at")
    changed |= _indexed_time(row, attributes.get("invoked_at"), started_at, first_seen_at)
    if not changed:
        return {}
    if fresh:
        changed["fetched_at"] = timestamp(fetched_at)
    known = {"app_id": app_id, "first_seen_at": first_seen_at}
    return changed | {name: value for name, value in known.items() if name not in row}


def news(row: Row, merged: Row) -> set[str]:
    """Return the names of the attributes in which a merged row really differs from the row before.

    A URL that was signed anew is not news, because a download fetches a current one. A later expiry
    of a file noted as expired is news, because the file can be archived after all.
    """
    changed = {name for name, value in merged.items() if row.get(name) != value}
    is_the_same = _lasting(merged.get("artifacts", {})) == _lasting(row.get("artifacts", {}))
    if is_the_same and unsettled(merged).keys() == unsettled(row).keys():
        changed.discard("artifacts")
    return changed - {"version", "fetched_at", "status_rank", "status_history"}


def is_erased(row: Mapping[str, Any]) -> bool:
    """Return True if the row is a tombstone, or its erasure has begun."""
    return "erased_at" in row or "erasing_since" in row


def is_of_known_age(row: Row) -> bool:
    """Return True if RealtimeKit has named a plausible time when the recording was invoked."""
    invoked_at = _time(row.get("invoked_at"))
    is_set = invoked_at is not None and row["invoked_at"] >= _FIRST_TIME
    return is_set and "invoked_at_from" not in row


def is_session_file(artifact: ArtifactItem) -> bool:
    """Return True for a file of the recording's session: a transcript, captions, summary, chat."""
    return artifact["kind"] in SESSION_FILES


def media(artifacts: Mapping[str, ArtifactItem]) -> dict[str, ArtifactItem]:
    """Return the recording's own files, by name, without those of its session."""
    return {name: item for name, item in artifacts.items() if not is_session_file(item)}


def with_placeholder(row: Row) -> dict[str, ArtifactItem]:
    """Return the row's artifacts by name, with a placeholder if the recording has no own file."""
    artifacts = row.get("artifacts", {})
    return {**artifacts, **({} if media(artifacts) else placeholder(row))}


def unsettled(row: Row) -> dict[str, ArtifactItem]:
    """Return the artifacts, by name, that must still be archived, or looked for.

    A recording's own files are unsettled once it is uploaded; if it has none, a placeholder is. A
    file of its session is unsettled as soon as RealtimeKit has announced it. A file noted as
    external, expired or never offered is unsettled again if RealtimeKit offers it after all.
    """
    if is_erased(row):
        return {}
    is_uploaded = row.get("status") == RecordingStatus.UPLOADED
    # An owner may have removed the session, whose id names its files and their addresses.
    has_session = uuid(row.get("session_id")) is not None
    return {
        name: artifact
        for name, artifact in with_placeholder(row).items()
        if (has_session if is_session_file(artifact) else is_uploaded) and not _is_settled(artifact)
    }


def to_archive(row: Row) -> set[tuple[str, bool]]:
    """Return each unsettled artifact's name, and whether RealtimeKit offers the file.

    A pair that the row before did not have is new work for the archive.
    """
    return {(name, is_offered(artifact)) for name, artifact in unsettled(row).items()}


def settled(row: Row, states: Mapping[str, ArchiveState]) -> Item:
    """Return the changes that record archive states of artifacts, by name; `{}` for no change."""
    artifacts = {**row.get("artifacts", {})}
    for name, state in states.items():
        # Real files replace a placeholder, and its state goes with it.
        if name in artifacts or name in SESSION_FILES or not media(artifacts):
            artifact: ArtifactItem = {**artifacts.get(name, {"kind": name}), "archive": state}
            artifacts[name] = _without_url(artifact) if _needs_no_url(artifact) else artifact
    if artifacts == row.get("artifacts"):
        return {}
    is_uploaded = row.get("status") == RecordingStatus.UPLOADED
    return {"artifacts": artifacts, **({"archived": archived(artifacts)} if is_uploaded else {})}


def offered(row: Row, files: Sequence[Artifact], started_at: datetime | None = None) -> Item:
    """Return the changes that add files of its session to a row, `{}` if it has them.

    A file noted as never offered is to be archived after all. `started_at` is the session's start.
    """
    artifacts = {**row.get("artifacts", {})}
    for file in files:
        item = _artifact_item(file)
        if lacks(row, file.name):
            # An announcement may have said the expiry, which not every answer does.
            artifacts[file.name] = {**artifacts.get(file.name, item), **item}
        elif archive_state(artifacts[file.name]) == "none":
            artifacts[file.name] = item
    changes: Item = {} if artifacts == row.get("artifacts", {}) else {"artifacts": artifacts}
    if started_at and "session_started_at" not in row:
        changes["session_started_at"] = timestamp(started_at)
    return changes


def absent(row: Row, kinds: Sequence[str], at: datetime) -> Item:
    """Return the changes that note kinds of session files as absent, unless the row has them."""
    known = row.get("artifacts", {})
    state: Absent = {"state": "none", "noted_at": timestamp(at)}
    new: dict[str, ArtifactItem] = {
        kind: {"kind": kind, "archive": state} for kind in kinds if kind not in known
    }
    return {"artifacts": {**known, **new}} if new else {}


def placeholder(row: Row) -> dict[str, ArtifactItem]:
    """Return the artifact, by name, that stands for the files of a recording without artifacts."""
    artifact: ArtifactItem = {"kind": kind_of(row.get("file_name"))}
    if row.get("file_size"):
        artifact["file_size"] = row["file_size"]
    return {artifact["kind"]: artifact}


def is_placeholder(name: str, artifact: ArtifactItem) -> bool:
    """Return True unless RealtimeKit has offered the file, or said its name or size.

    Most likely a placeholder's recording is empty. A TRACK recording without files has a template
    for a name (RealtimeKit docs, track recording), and size 0.
    """
    is_named = "file_name" in artifact and "{{" not in artifact["file_name"]
    is_known = is_named or artifact.get("file_size") or is_offered(artifact)
    return name == artifact["kind"] and not is_known and not is_session_file(artifact)


def is_offered(artifact: ArtifactItem) -> bool:
    """Return True if RealtimeKit has given a URL, even if the row has no room to keep it."""
    return "url" in artifact or "url_expires_at" in artifact


def archive_state(artifact: ArtifactItem) -> StateName | None:
    """Return the name of the artifact's archive state, `None` as long as it has no state."""
    return artifact["archive"]["state"] if "archive" in artifact else None


def _is_settled(artifact: ArtifactItem) -> bool:
    if "archive" not in artifact:
        return False
    archive = artifact["archive"]
    match archive["state"]:
        case "archived":
            return True
        case "external" | "none":
            # A session's empty text has a URL, too.
            return "url" not in artifact or is_session_file(artifact)
        case "expired":
            return artifact.get("url_expires_at", "") <= archive["expired_at"]
        case unknown:
            assert_never(unknown)


def deadline(row: Row) -> str | None:
    """Return when RealtimeKit deletes the first unsettled file; `None` if no file is at stake."""
    waiting = unsettled(row).items()
    is_at_stake = any(not is_placeholder(name, artifact) for name, artifact in waiting)
    return expiry(row) if is_at_stake else None


def said_expiry(artifact: ArtifactItem) -> str | None:
    """Return when RealtimeKit says it deletes a file; `None` for no or a wrong time."""
    expires_at = artifact.get("url_expires_at", "")
    return expires_at if expires_at >= _FIRST_TIME else None


def expiry(row: Row) -> str:
    """Return when the first unsettled file is deleted: 7 days on if RealtimeKit does not say."""
    known = [time for time in map(said_expiry, unsettled(row).values()) if time]
    return min(known) if known else _usual_expiry(row)


def expiry_of(row: Row, artifact: ArtifactItem) -> str:
    """Return when RealtimeKit deletes a file; if it does not say, when it deletes the first alike.

    A recording's own files are alike. Each file of its session stands for itself, because
    RealtimeKit may delete a chat after a day (Dyte docs, chat dump).
    """
    if expires_at := said_expiry(artifact):
        return expires_at
    return _usual_expiry(row) if is_session_file(artifact) else expiry(own(row))


def own(row: Row) -> Row:
    """Return the row without the files of the recording's session."""
    return {**row, "artifacts": media(row["artifacts"])} if "artifacts" in row else row


def _usual_expiry(row: Row) -> str:
    """Return the time 7 days after the latest time that the row has of its recording."""
    latest = row.get("stopped_at") or _begin(row) or row.get("first_seen_at", _LAST)
    try:
        return timestamp(datetime.fromisoformat(latest) + RETENTION)
    except OverflowError:
        # The year is a mistake, and an unknown expiry must not count as over.
        return _LAST


def archived(artifacts: Mapping[str, ArtifactItem]) -> Literal["yes", "partly", "no"]:
    """Return how many of the recording's own files are archived: "yes" for all, "partly", "no"."""
    states = [archive_state(artifact) for artifact in media(artifacts).values()]
    if states and all(state == "archived" for state in states):
        return "yes"
    return "partly" if "archived" in states else "no"


def lacks(row: Row, kind: str) -> bool:
    """Return True if a row has neither a URL nor an archive state of a session's file."""
    artifact = row.get("artifacts", {}).get(kind)
    return artifact is None or ("archive" not in artifact and "url" not in artifact)


def ended_at(row: Row) -> datetime | None:
    """Return when a final recording ended, `None` if it is not final, or no time can be read.

    A recording without a stop time ended at most a day after its beginning. No recording ended
    after its row became final, whatever RealtimeKit says.
    """
    if not is_final(row.get("status")):
        return None
    history = row.get("status_history", [])
    final = next((entry["at"] for entry in history if is_final(entry["status"])), None)
    stopped_at, began_at = _time(row.get("stopped_at")), _time(_begin(row))
    if stopped_at is None and began_at:
        stopped_at = began_at + _MAX_DURATION
    known = filter(None, (stopped_at, _time(final)))
    return min(known, default=_time(row.get("first_seen_at")))


def _begin(row: Row) -> str | None:
    return row.get("started_at") or row.get("invoked_at")


def _time(value: object) -> datetime | None:
    """Return a timestamp as a time; `None` for the year 9999, which leaves no later time.

    An owner may have written a history with other values.
    """
    time = parse_timestamp(value)
    return time if time and time.year < _LAST_YEAR else None


def next_look(row: Row, now: datetime) -> datetime | None:
    """Return when the files of a final recording's session are looked for next.

    Return `None` once the time of the last look has come, or if the row names no time.
    """
    ended = ended_at(row)
    looks = [ended + FIRST_LOOK, ended + LAST_LOOK] if ended else []
    return next((look for look in looks if look > now), None)


def awaits_session_files(row: Row, kinds: Sequence[str], now: datetime) -> bool:
    """Return True if a final recording lacks files of its session, which RealtimeKit may have."""
    ended = ended_at(row)
    is_kept = ended is not None and now < ended + RETENTION and not is_erased(row)
    has_session = uuid(row.get("session_id")) is not None
    return is_kept and has_session and any(lacks(row, kind) for kind in kinds)


def needs_fetch(row: Row, status: str, organization_id: str | None) -> bool:
    """Return True if a known recording must be fetched although a webhook reports its status.

    A report is enough if its status is not final and further along than the row's. A report is
    also enough if the row is further along or as far, because an old or repeated report is no news.
    RECORDING and PAUSED alternate, so a report of the other one may be old. A report that names
    another organisation is of another app. A row that an owner wrote
    may lack what each row has, and a report cannot fill that in.
    """
    known, reported = row.get("status_rank", 0), rank(status)
    is_ours = organization_id in (None, row.get("organization_id", organization_id))
    is_whole = {"status", "first_seen_at"} <= row.keys()
    if is_final(status) or reported is None or not (is_ours and is_whole):
        return True
    return reported == known and status != row.get("status")


def is_further(row: Row, status: str) -> bool:
    """Return True if a status is further along than the row's."""
    return (rank(status) or 0) > row.get("status_rank", 0)


def _is_fresh(row: Row, recording: Recording, fetched_at: datetime) -> bool:
    """Return True if this view outdates the row: further along, or as far and no older.

    Statuses only move forward, so a view with an earlier status is stale, whenever it was fetched.
    A stale view only fills gaps.
    """
    if not row:
        return True
    known_rank = row.get("status_rank", 0)
    new_rank = rank(recording.status)
    if new_rank is None and is_final(row.get("status")):
        return False
    if new_rank is not None and new_rank != known_rank:
        return new_rank > known_rank
    return timestamp(fetched_at) >= row.get("fetched_at", "")


def _status_changes(row: Row, status: str, fetched_at: datetime) -> Item:
    entry: StatusChange = {"status": status, "at": timestamp(fetched_at)}
    history = [*row.get("status_history", ()), entry]
    changes: Item = {"status": status, "status_history": history[-MAX_HISTORY_ENTRIES:]}
    # An unknown status does not say how far the recording is, so the known rank stays.
    if (new_rank := rank(status)) is not None:
        changes["status_rank"] = new_rank
    return changes


def next_version(row: Row) -> int:
    """Return the version of the row's next write. Raises `UnwritableError` if it is no number."""
    version = row.get("version", 0)
    if not isinstance(version, int):
        raise UnwritableError("the row's version is no integer; another writer changed it")
    return version + 1


def _indexed_time(
    row: Row, invoked_at: str | None, started_at: str | None, first_seen_at: str
) -> Item:
    """Return the changes that keep the row in the indexes, which are sorted by `invoked_at`.

    If RealtimeKit's own time cannot be read, the start stands in, or else the row's creation;
    `invoked_at_from` says which. The real time replaces the stand-in, however late it comes.
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
    """Return the row's attributes that the answer says, without its status and its files."""
    attributes = {name: getattr(recording, name) for name in _ATTRIBUTES}
    times = {name: getattr(recording, name) for name in _TIMES}
    attributes |= {name: time and timestamp(time) for name, time in times.items()}
    return {name: value for name, value in attributes.items() if value is not None}


def _merged_artifacts(
    stored: Mapping[str, ArtifactItem], answered: tuple[Artifact, ...], fresh: bool
) -> Mapping[str, ArtifactItem]:
    """Merge an answer's files into the stored ones.

    A file that the answer does not name stays, because it may be archived. A placeholder goes as
    soon as the row has a file that it may have stood for.
    """
    merged = dict(stored)
    has_files = any(not is_placeholder(name, item) for name, item in media(stored).items())
    for artifact in answered:
        known, item = merged.get(artifact.name), _artifact_item(artifact)
        if known and _needs_no_url({**known, **item}):
            item = _without_url(item)
        if has_files and known is None and artifact.url is None and artifact.name == artifact.kind:
            # Once its URLs have expired, RealtimeKit's answer looks like a file in the owner's
            # storage. We know the files already, so skip it. A row made that late keeps it.
            continue
        if known is None or (fresh and not _is_known(known, item)):
            merged[artifact.name] = {**known, **item} if known else item
    files = {name: item for name, item in merged.items() if not is_placeholder(name, item)}
    merged = files if media(files) else merged
    if sum(len(item.get("url", "")) for item in merged.values()) <= MAX_URLS_BYTES:
        return merged
    return {name: _without_url(item) for name, item in merged.items()}


def _without_unmade(
    artifacts: Mapping[str, ArtifactItem], row: Row, recording: Recording
) -> Mapping[str, ArtifactItem]:
    """Return a failed recording's artifacts without own files that it has not made.

    While it uploads tracks, RealtimeKit names some that it never finishes. A file that has an
    archive state, or a URL from an answer that was final, was made.
    """
    made: set[str] = set()
    if is_final(recording.status):
        made |= {artifact.name for artifact in recording.artifacts if artifact.url}
    if is_final(row.get("status")):
        made |= {name for name, item in row.get("artifacts", {}).items() if is_offered(item)}
    return {
        name: artifact
        for name, artifact in artifacts.items()
        if is_session_file(artifact) or "archive" in artifact or name in made
    }


def _needs_no_url(artifact: ArtifactItem) -> bool:
    """Return True for an archived artifact, whose URL is a credential and a third of its bytes.

    Without an expiry, the URL alone says that RealtimeKit has offered the file.
    """
    return archive_state(artifact) == "archived" and "url_expires_at" in artifact


def _without_url(artifact: ArtifactItem) -> ArtifactItem:
    bare = artifact.copy()
    bare.pop("url", None)
    return bare


def _is_known(known: ArtifactItem, item: ArtifactItem) -> bool:
    """Return True if the row says all of the item but a URL signed anew with the same expiry."""
    is_signed_anew = "url_expires_at" in item and "url" in known
    new = {name: value for name, value in item.items() if not (is_signed_anew and name == "url")}
    return new.items() <= known.items()


def _lasting(artifacts: Mapping[str, ArtifactItem]) -> dict[str, dict[str, object]]:
    """Return the artifacts with `True` for each URL and expiry, which differ in each answer."""
    return {
        name: {key: key.startswith("url") or value for key, value in item.items()}
        for name, item in artifacts.items()
    }


def _artifact_item(artifact: Artifact) -> ArtifactItem:
    expiry, is_text = artifact.url_expires_at, artifact.kind in SESSION_FILES
    item = {
        "kind": artifact.kind,
        "file_name": artifact.file_name,
        "file_size": artifact.file_size,
        "participant_id": artifact.participant_id,
        "url": artifact.url,
        # Without a URL this is the expiry of the recording's other files.
        "url_expires_at": timestamp(expiry) if expiry and (artifact.url or is_text) else None,
    }
    known = {name: value for name, value in item.items() if value is not None}
    return cast(ArtifactItem, known)
