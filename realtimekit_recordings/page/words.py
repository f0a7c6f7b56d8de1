"""Words for people: times, lengths, sizes, and what a row says of the archive.

Titles and names come from whoever took part in a meeting, so each text is made one line without
control characters here; the templates escape it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ..output import printable
from ..session_files import SUFFIXES

Row = Mapping[str, Any]

# RealtimeKit deletes the files so long after the recording (RealtimeKit docs, data-retention).
RETENTION = timedelta(days=7)
# The stack calls a file at risk from then on, and raises an alarm.
AT_RISK = timedelta(hours=48)

STATUSES: Mapping[str, tuple[str, str]] = {
    "INVOKED": ("Starting", "live"),
    "RECORDING": ("Recording", "live"),
    "PAUSED": ("Paused", "live"),
    "UPLOADING": ("Uploading", "wait"),
    "UPLOADED": ("Uploaded", "plain"),
    "ERRORED": ("Failed", "bad"),
}
"""A word and a tone for each status of RealtimeKit's."""


class State(NamedTuple):
    """A state in a word, its tone (`ok`, `wait`, `risk`, `bad`, `plain`), and a sentence."""

    word: str
    tone: str
    sentence: str


def text(value: object) -> str:
    """Return a value as one line that is safe to show; `None` is an empty one."""
    return "" if value is None else printable(" ".join(str(value).split()))


def title(row: Row) -> str:
    """Return the meeting's title, or "" if it has none."""
    return text(row.get("meeting_title"))


def labels(row: Row) -> list[tuple[str, str, str]]:
    """Return the owner's labels by name: the name, the text to show, and the list's filter."""
    found = sorted(row.get("labels", {}).items())
    return [(text(name), text(value), f"{name}={value}") for name, value in found]


def hold(row: Row) -> str:
    """Return why and since when a recording is on hold, or "" if it is not."""
    if "hold" not in row:
        return ""
    since = parse(row["hold"].get("since"))
    when = f" since {minute(since)}" if since else ""
    return f"On hold{when}: {text(row['hold'].get('reason'))}"


def parse(timestamp: object) -> datetime | None:
    """Return a timestamp as a time in UTC, or `None` if it is none."""
    try:
        time = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else None
    except ValueError:
        return None
    return time.astimezone(UTC) if time and time.tzinfo else None


def local(time: datetime) -> datetime:
    """Return a time in the time zone of this machine, which is also the browser's."""
    return time.astimezone()


def minute(time: datetime) -> str:
    """Return a local time to the minute, such as `3 Jun 2026, 12:00`."""
    return f"{day(time)}, {local(time):%H:%M}"


def second(time: datetime) -> str:
    """Return a local time to the second, such as `3 Jun 2026, 12:00:04`."""
    return f"{day(time)}, {local(time):%H:%M:%S}"


def day(time: datetime) -> str:
    """Return a local day, such as `3 Jun 2026`."""
    return f"{local(time).day} {local(time):%b %Y}"


def named_day(time: datetime, now: datetime) -> str:
    """Return a local day as a heading: `Today`, `Yesterday`, or `Wednesday, 3 Jun 2026`."""
    days = (local(now).date() - local(time).date()).days
    if days in (0, 1):
        return ("Today", "Yesterday")[days]
    return f"{local(time):%A}, {day(time)}"


def clock(seconds: float | None) -> str:
    """Return a length or a place in a recording, such as `30:00` or `1:02:03`."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(abs(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    sign = "−" if seconds <= -1 else ""
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if hours else f"{sign}{minutes}:{rest:02}"


def span(length: timedelta) -> str:
    """Return a length of time in its largest units, such as `6 days`, `31 h` or `4 min`."""
    seconds = abs(length.total_seconds())
    for unit, size, least in (("days", 86_400, 2), ("h", 3600, 1), ("min", 60, 1)):
        if seconds >= least * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{round(seconds, 1):g} s"


def size(count: object) -> str:
    """Return a number of bytes, such as `12.0 MB`; "" if it is unknown or 0."""
    if not isinstance(count, int) or count <= 0:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def status(row: Row) -> tuple[str, str]:
    """Return a word and a tone for a row's status; one that is unknown is its own word."""
    given = text(row.get("status"))
    return STATUSES.get(given, (given.capitalize(), "plain"))


def archive_state(row: Row, now: datetime) -> State:
    """Return where the recording's files are, by a row of the list, or by a whole one.

    A row of the list does not say why a file is missing, so that is known only of a whole one.
    """
    if row.get("status") == "ERRORED":
        return State("No file", "plain", "RealtimeKit failed to record.")
    if row.get("archived") == "yes":
        return State("Archived", "ok", "All files are in the archive.")
    if row.get("status") != "UPLOADED":
        return State("Not yet", "plain", "RealtimeKit has not finished the recording.")
    return _final_state(row) or _waiting_state(row, now)


def _final_state(row: Row) -> State | None:
    """Return the state of files that will not be archived any more; `None` for others."""
    states = [
        artifact.get("archive", {}).get("state")
        for name, artifact in row.get("artifacts", {}).items()
        if name not in SUFFIXES
    ]
    if not states or None in states:
        return None
    if "expired" in states:
        return State("Lost", "bad", "RealtimeKit deleted a file before it was archived.")
    if "external" in states:
        return State("In your storage", "plain", "RealtimeKit put the files into your storage.")
    return State("No file", "plain", "RealtimeKit never offered a file.")


def _waiting_state(row: Row, now: datetime) -> State:
    word = "Partly" if row.get("archived") == "partly" else "Waiting"
    deadline = _deadline(row)
    if deadline is None:
        return State(word, "wait", "The files are still to be archived.")
    left = deadline - now
    if left <= timedelta():
        return State("Not archived", "bad", "RealtimeKit keeps files for seven days only.")
    sentence = f"RealtimeKit deletes the files in {span(left)}."
    return State("At risk", "risk", sentence) if left < AT_RISK else State(word, "wait", sentence)


def _deadline(row: Row) -> datetime | None:
    """Return when RealtimeKit deletes the first file, as the row says it, or else by its rule."""
    said = [
        time
        for artifact in row.get("artifacts", {}).values()
        if "archive" not in artifact and (time := parse(artifact.get("url_expires_at")))
    ]
    if said:
        return min(said)
    ended = parse(row.get("stopped_at")) or parse(row.get("invoked_at"))
    return ended + RETENTION if ended else None


def kinds(row: Row) -> list[str]:
    """Return what there is of a recording: Video, Audio, 3 tracks, Transcript, Summary, Chat.

    A file that its session never had, or that RealtimeKit deleted, is left out.
    """
    found: dict[str, int] = {}
    for name, artifact in row.get("artifacts", {}).items():
        if artifact.get("archive", {}).get("state") not in ("none", "expired"):
            kind = name if name in SUFFIXES else text(artifact.get("kind"))
            found[kind] = found.get(kind, 0) + 1
    order = ("video", "audio", "track", "transcript", "summary", "chat")
    return [
        f"{found[kind]} tracks" if kind == "track" and found[kind] > 1 else kind.capitalize()
        for kind in order
        if kind in found
    ]
