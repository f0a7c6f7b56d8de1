"""What a sweep found, as an operator reads it: what the list, the table and the bucket have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Report = dict[str, Any]

UNFINISHED = ("queued", "running")

_HOLDERS = {
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
}
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
    """The report, whether or not it has ended."""
    kind = "Dry run" if sweep["dry_run"] else "Sweep"
    ended = sweep["state"] not in UNFINISHED
    yield f"{kind} {sweep['sweep_id']}: {sweep['state']}" + ("" if ended else f", {percent(sweep)}")
    yield f"Recordings invoked from {minute(sweep['from'])} to before {minute(sweep['to'])}"
    yield ""
    yield from _counted(sweep, _HOLDERS)
    if sweep["state"] == "completed":
        yield f"complete: {_COMPLETE[sweep.get('complete')]}"
    yield ""
    yield from _counted(sweep, _FINDINGS)
    for kind, ids in sweep["examples"].items():
        yield ""
        yield f"{_named(kind)}, for example:"
        yield from (f"  {recording_id}" for recording_id in ids)


def doubts(sweep: Report) -> Iterator[str]:
    """Why a sweep that has ended may not have seen everything."""
    if sweep["state"] == "failed":
        reason = sweep.get("reason") or sweep.get("cause") or "no reason given"
        yield f"The sweep failed: {reason.rstrip('.')}."
    if sweep["state"] == "cancelled":
        yield "The sweep was cancelled."
    if sweep.get("complete") is False:
        yield "The sweep saw fewer recordings than RealtimeKit's list counts. Ask for it again."
    if unreadable := sweep["counts"]["unreadable"]:
        yield f"Of RealtimeKit's list, {unreadable:,} items could not be read."
    if unwritable := sweep["counts"]["unwritable"]:
        yield f"{unwritable:,} recordings could not be written to the table."


def repairs(sweep: Report, kinds: Iterable[str], backfill: str) -> Iterator[str]:
    """Yield what to do about each kind that a dry run found; `backfill` is the command for some."""
    found = [kind for kind in kinds if sweep["counts"][kind]]
    for repair in dict.fromkeys(_REPAIRS[kind] for kind in found):
        repaired = " and ".join(kind for kind in found if _REPAIRS[kind] == repair)
        yield f"To repair {repaired}: {repair.format(backfill=backfill)}"


def state(sweep: Report) -> str:
    """Return a sweep's state in a few words: whether it is a dry run, and what it waits for."""
    said = f"{sweep['state']}, dry run" if sweep["dry_run"] else str(sweep["state"])
    if "cause" not in sweep:
        return said
    cause = str(sweep["cause"]).replace("_", " ")
    return f"{said}, waits: {cause}" if sweep["state"] in UNFINISHED else f"{said}: {cause}"


def percent(sweep: Report) -> str:
    """How much of the window is behind it."""
    return f"{sweep['fraction']:.0%}"


def minute(timestamp: str) -> str:
    """A timestamp of the API, as people read it."""
    return f"{timestamp[:16].replace('T', ' ')} UTC"


def _counted(sweep: Report, meanings: dict[str, str]) -> Iterator[str]:
    counts = sweep["counts"]
    for name, meaning in meanings.items():
        yield f"{_named(name):<12} {counts[name]:>9,}  {meaning}"


def _named(count: str) -> str:
    return count.replace("_", " ")
