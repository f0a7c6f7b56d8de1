"""A sweep's report, as text: its counts of RealtimeKit's list, the table and the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .timestamps import minute

Report = dict[str, Any]

UNFINISHED = ("queued", "running")

_PLACES = {
    "seen": "in RealtimeKit's list",
    "catalogued": "in the table",
    "archived": "in the bucket, with all their files",
}
_FINDINGS = {
    "missing": "in the list, and not in the table",
    "behind": "in the table, which says less than the list",
    "repaired": "of these, written to the table",
    "not_archived": "RealtimeKit still has files that are not in the bucket",
    "at_risk": "of these, RealtimeKit deletes files in less than 48 hours",
    "expired": "RealtimeKit deleted files before they were copied",
    "gone": "the bucket lacks files that the table says it has",
    "erased": "erased here, and left so",
    "unreadable": "items of the list that are no recordings",
    "unwritable": "DynamoDB refuses their rows",
    "session_files_missing": "their session's transcript, summary or chat was not looked for",
}
# A label has room for twelve characters.
_LABELS = {"session_files_missing": "texts unseen"}
_BACKFILL = "{backfill}"
_REPAIRS = {
    "missing": _BACKFILL,
    "behind": _BACKFILL,
    "gone": "files were deleted from the bucket; see ArtifactsGoneAlarm in docs/operations.md",
    "expired": "these files are lost; --ignore-expired leaves them out",
}
_COMPLETE = {
    True: "as many as the list itself counts",
    False: "the list itself counts more",
    None: "the list does not say how many there are",
}


def lines(sweep: Report) -> Iterator[str]:
    """Yield the lines of a report, also of a sweep that has not ended."""
    kind = "Dry run" if sweep["dry_run"] else "Sweep"
    ended = sweep["state"] not in UNFINISHED
    yield f"{kind} {sweep['sweep_id']}: {sweep['state']}" + ("" if ended else f", {percent(sweep)}")
    yield f"Recordings invoked from {minute(sweep['from'])} to before {minute(sweep['to'])}"
    yield ""
    yield from _count_lines(sweep, _PLACES)
    if sweep["state"] == "completed":
        yield f"complete: {_COMPLETE[sweep.get('complete')]}"
    yield ""
    yield from _count_lines(sweep, _FINDINGS)
    for kind, ids in sweep["examples"].items():
        yield ""
        yield f"{_label(kind)}, for example:"
        yield from (f"  {recording_id}" for recording_id in ids)


def doubts(sweep: Report) -> Iterator[str]:
    """Yield the reasons why a sweep may not have seen, or written, every recording."""
    if sweep["state"] == "failed":
        reason = sweep.get("reason") or sweep.get("cause") or "no reason given"
        yield f"The sweep failed: {reason.rstrip('.')}."
    if sweep["state"] == "cancelled":
        yield "The sweep was cancelled."
    if sweep.get("complete") is False:
        yield "The sweep saw fewer recordings than RealtimeKit's list counts. Start it again."
    if unreadable := sweep["counts"]["unreadable"]:
        yield f"{unreadable:,} items of RealtimeKit's list could not be read."
    if unwritable := sweep["counts"]["unwritable"]:
        yield f"{unwritable:,} recordings could not be written to the table."


def repairs(sweep: Report, kinds: Iterable[str], backfill: str) -> Iterator[str]:
    """Yield how to repair each kind of finding of a dry run; `backfill` is the command for some."""
    findings = [kind for kind in kinds if sweep["counts"][kind]]
    for repair in dict.fromkeys(_REPAIRS[kind] for kind in findings):
        repaired = " and ".join(kind for kind in findings if _REPAIRS[kind] == repair)
        yield f"To repair {repaired}: {repair.format(backfill=backfill)}"


def state(sweep: Report) -> str:
    """Return a sweep's state, with "dry run" if it is one, and the cause of a wait or failure."""
    text = f"{sweep['state']}, dry run" if sweep["dry_run"] else str(sweep["state"])
    if "cause" not in sweep:
        return text
    cause = str(sweep["cause"]).replace("_", " ")
    return f"{text}, waits: {cause}" if sweep["state"] in UNFINISHED else f"{text}: {cause}"


def percent(sweep: Report) -> str:
    """Return the part of the window that the sweep has read, in percent."""
    return f"{sweep['fraction']:.0%}"


def _count_lines(sweep: Report, meanings: dict[str, str]) -> Iterator[str]:
    counts = sweep["counts"]
    for name, meaning in meanings.items():
        yield f"{_label(name):<12} {counts[name]:>9,}  {meaning}"


def _label(count: str) -> str:
    return _LABELS.get(count, count.replace("_", " "))
