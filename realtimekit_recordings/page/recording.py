"""One recording for the page: its facts, its history as a timeline, and its files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ..session_files import SUFFIXES
from . import words
from .files import REASONS, Linked
from .words import Row, State, text

STORED = {
    "archived": ("Archived", "ok"),
    "external": ("In your storage", "plain"),
    "expired": ("Lost", "bad"),
    "none": ("None", "plain"),
}
"""A word and a tone for each archive state of a file."""


class File(NamedTuple):
    """One file of a recording; `player` is the player's name for it, "" if it is not played."""

    name: str
    label: str
    state: State
    size: str
    checksum: str
    key: str
    is_linked: bool
    content_type: str


# Files are copied one after another; those of one run are one step.
SAME_STEP = timedelta(minutes=1)


class Step(NamedTuple):
    """One point of a recording's history; `after` is the time since the step before."""

    at: datetime
    word: str
    sentence: str
    tone: str
    after: str


def facts(row: Row) -> Iterator[tuple[str, str]]:
    """Yield a recording's facts, each with its name; unknown ones are left out."""
    reasons = {name: row.get(name, {}) for name in ("start_reason", "stop_reason")}
    named = {
        "Recording": row.get("recording_id"),
        "Meeting": row.get("meeting_id"),
        "Session": row.get("session_id"),
        "Started by": _caller(reasons["start_reason"]),
        "Stopped by": _caller(reasons["stop_reason"]),
        "File at RealtimeKit": row.get("file_name"),
        "Own storage": ", ".join(f"{n} {v}" for n, v in row.get("storage", {}).items()),
        "App": row.get("app_id"),
        "Organization": row.get("organization_id"),
        "Version of the row": row.get("version"),
    }
    for name, value in named.items():
        if value not in (None, ""):
            yield name, text(value)


def _caller(reason: Mapping[str, Any]) -> str:
    """Return who or what started or stopped a recording, such as `Ada (API call)`."""
    why = text(reason.get("reason")).replace("_", " ").lower().replace("api", "API")
    caller = reason.get("caller", {})
    who = text(caller.get("name") or caller.get("user_id") or "")
    return f"{who} ({why})" if who and why else who or why


def timeline(row: Row) -> list[Step]:
    """Return a recording's history by time, from its session's start to the archive."""
    steps: list[Step] = []
    for at, word, sentence, tone in sorted(_points(row), key=lambda point: point[0]):
        last = steps[-1] if steps else None
        if last and last.word == word and at - last.at < SAME_STEP:
            steps[-1] = last._replace(sentence=f"{last.sentence}, {sentence.lower()}")
            continue
        after = words.span(at - last.at) if last and at - last.at >= timedelta(seconds=1) else ""
        steps.append(Step(at, word, sentence, tone, after))
    return steps


def _points(row: Row) -> Iterator[tuple[datetime, str, str, str]]:
    history = [(entry.get("at"), entry.get("status")) for entry in row.get("status_history", [])]
    known = {status for _, status in history}
    if "INVOKED" not in known and not row.get("invoked_at_from"):
        history.append((row.get("invoked_at"), "INVOKED"))
    named = [
        (row.get("session_started_at"), "Session started", "", "plain"),
        (row.get("started_at"), "First frame", "The recording begins here.", "plain"),
        (row.get("stopped_at"), "Last frame", "The recording ends here.", "plain"),
        (row.get("first_seen_at"), "Catalogued", "The catalogue has its row.", "plain"),
        *((at, *_status_step(status)) for at, status in history),
    ]
    for name, artifact in row.get("artifacts", {}).items():
        state = artifact.get("archive", {})
        label = label_of(name, artifact)
        named.append((state.get("archived_at"), "Archived", label, "ok"))
        named.append((state.get("expired_at"), "Lost", label, "bad"))
    for at, word, sentence, tone in named:
        if time := words.parse(at):
            yield time, word, sentence, tone


STATUS_STEPS = {
    "INVOKED": ("Invoked", "RealtimeKit was told to record.", "plain"),
    "RECORDING": ("Recording", "", "live"),
    "PAUSED": ("Paused", "", "plain"),
    "UPLOADING": ("Uploading", "RealtimeKit writes the files.", "plain"),
    "UPLOADED": ("Uploaded", "RealtimeKit has the files.", "ok"),
    "ERRORED": ("Failed", "RealtimeKit failed to record.", "bad"),
}
"""A word, a sentence and a tone for each status in a recording's history."""


def _status_step(status: object) -> tuple[str, str, str]:
    return STATUS_STEPS.get(str(status), (text(status), "", "plain"))


def files(row: Row, linked: Linked, now: datetime) -> list[File]:
    """Return a recording's files, its own before those of its session."""
    found = [_file(name, artifact, linked, now) for name, artifact in row["artifacts"].items()]
    order = ("video", "audio", *SUFFIXES)
    return sorted(
        found, key=lambda file: (file.name in SUFFIXES, _place(order, file.name), file.name)
    )


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else 2


def _file(name: str, artifact: Mapping[str, Any], linked: Linked, now: datetime) -> File:
    archive = artifact.get("archive", {})
    link = linked.links.get(name, {})
    location = archive.get("location", {})
    key = f"s3://{archive['bucket']}/{archive['key']}" if "key" in archive else ""
    return File(
        name=name,
        label=label_of(name, artifact),
        state=_file_state(name, artifact, linked, now),
        size=words.size(archive.get("size") or artifact.get("file_size") or link.get("size")),
        checksum=_checksum(archive.get("checksum_crc32")),
        key=text(key or ", ".join(f"{name} {value}" for name, value in location.items())),
        is_linked=bool(link),
        content_type=text(link.get("content_type")),
    )


def label_of(name: str, artifact: Mapping[str, Any]) -> str:
    """Return a file's name for people: `Video`, `Transcript`, or `Track: alice.webm`."""
    kind = text(artifact.get("kind")) or "file"
    if name == kind or name in SUFFIXES:
        return text(name).capitalize()
    who = artifact.get("participant_id") or artifact.get("file_name") or name.rpartition("/")[2]
    return f"{kind.capitalize()}: {text(who)}"


def _file_state(name: str, artifact: Mapping[str, Any], linked: Linked, now: datetime) -> State:
    archive = artifact.get("archive", {})
    if word := STORED.get(archive.get("state", "")):
        at = words.parse(archive.get("archived_at") or archive.get("expired_at"))
        return State(*word, words.second(at) if at else "")
    if name in SUFFIXES and name in linked.missing:
        return State("Not yet", "plain", REASONS.get(linked.missing[name], ""))
    deadline = words.parse(artifact.get("url_expires_at"))
    if deadline is None:
        return State("Waiting", "wait", "RealtimeKit has not offered the file.")
    left = deadline - now
    if left.total_seconds() <= 0:
        return State("Not archived", "bad", "RealtimeKit's time for it is over.")
    tone = "risk" if left < words.AT_RISK else "wait"
    return State("Waiting", tone, f"RealtimeKit deletes it in {words.span(left)}.")


def _checksum(crc32: object) -> str:
    """Return a CRC-32 in hexadecimal, as tools print it, from S3's base64."""
    try:
        return base64.b64decode(str(crc32 or ""), validate=True).hex()
    except binascii.Error:
        return ""
