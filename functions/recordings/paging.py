"""Where a sweep reads next in RealtimeKit's list of recordings, and when it has read its window.

Everything here is a pure question about a sweep's progress and a page. The list is in the order of
invocation. A sweep searches the page in which its window begins, reads up to the page in which the
window ends, and then counts: the list numbers its items, so a recording that moved shows.

Neither `start_time` nor `end_time` of the list is used, because they are about meetings, and a
meeting may be years older than its recordings (RealtimeKit docs, list recordings).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

from recordings.model import Recording, timestamp
from recordings.realtimekit import ListPage, UnintelligibleError
from recordings.sweeps import Progress, State, Sweep

_MAX_PAGES = 1_000_000
_MAX_PASSES = 2
# The place in the list of an item on a page that does not number its items.
_UNKNOWN = -1
# These counts begin anew with another pass over the window.
_EACH_PASS = (
    "seen",
    "unreadable",
    "erased",
    "catalogued",
    "archived",
    "not_archived",
    "at_risk",
    "expired",
    "gone",
    "unwritable",
)


def next_page(progress: Progress) -> int:
    """Return the number of the page to read next."""
    phase = progress.get("phase")
    match phase:
        case None:
            return 1
        case "searching":
            return progress["high"]
        case "halving":
            return (progress["low"] + progress["high"]) // 2
        case "paging":
            return progress["page"]
        case "counting":
            return progress["first_page"]
        case _:
            assert_never(phase)


def search_step(progress: Progress, number: int, page: ListPage, since: datetime) -> Progress:
    """Return the progress after a page was read in search of the one where the window begins.

    `low` is a page that ends before the window, `high` one that does not. Until such a page is
    known, `high` is a guess: first the last page of the list, then twice as far each time.
    """
    is_far_enough = _reaches(page, since)
    if "phase" not in progress:
        if is_far_enough:
            return _start_paging(1 if page.start == 1 else 0)
        return {"phase": "searching", "low": 1, "high": max(2, -(-page.total // page.size))}
    if is_far_enough:
        low, high = progress["low"], number
    else:
        low, high = number, progress["high"]
    if is_far_enough or progress["phase"] == "halving":
        if high - low <= 1:
            return _start_paging(high)
        return {"phase": "halving", "low": low, "high": high}
    if high > _MAX_PAGES:
        raise UnintelligibleError("the list has no end")
    return {"phase": "searching", "low": low, "high": 2 * high}


def _reaches(page: ListPage, since: datetime) -> bool:
    """Return True unless the page is known to end before the window."""
    last = page.recordings[-1].invoked_at if page.recordings else None
    return last is None or last >= since


def _start_paging(page: int, passes: int = 1) -> Progress:
    return {"phase": "paging", "page": page, "first_page": page, "passes": passes}


def new_recordings(sweep: Sweep, page: ListPage) -> list[Recording]:
    """Return the page's recordings of the window, once each, without those of the page before."""
    known = unpack_ids(sweep.progress.get("page_ids", b""))
    inside = {
        recording.recording_id: recording
        for recording in page.recordings
        if _is_inside(recording, sweep) and recording.recording_id not in known
    }
    return list(inside.values())


def _is_inside(recording: Recording, sweep: Sweep) -> bool:
    """Return True for the window's recordings, and for those without a time of invocation."""
    invoked_at = recording.invoked_at
    return invoked_at is None or sweep.since <= invoked_at < sweep.until


def after_page(sweep: Sweep, number: int, page: ListPage, until: datetime) -> Progress:
    """Return the progress after a page of the window was worked on, up to the time `until`."""
    progress: Progress = {**sweep.progress, "reached": timestamp(until)}
    progress.pop("repairing", None)
    if page.size or number:
        last, known = _last_place(page, sweep.until), progress.get("last", 0)
        progress["last"] = _UNKNOWN if _UNKNOWN in (last, known) else max(last, known)
    if _is_end(sweep, number, page):
        return {**progress, "phase": "counting"}
    return {**progress, "page": number + 1, "page_ids": pack_ids(_ids(page))}


def _is_end(sweep: Sweep, number: int, page: ListPage) -> bool:
    """Return True if the window ends with the page.

    The page is empty, or goes beyond the window, or is the list's last page once again.
    """
    if not page.size:
        return number > 0
    times = (recording.invoked_at for recording in page.recordings)
    if any(time and time >= sweep.until for time in times):
        return True
    return number > 1 and _ids(page) <= unpack_ids(sweep.progress.get("page_ids", b""))


def read_from(sweep: Sweep) -> datetime:
    """Return the time up to which the window was read before this page."""
    reached = sweep.progress.get("reached")
    return datetime.fromisoformat(reached) if reached else sweep.since


def read_until(sweep: Sweep, number: int, page: ListPage) -> datetime:
    """Return the time up to which the window is read with this page."""
    if _is_end(sweep, number, page):
        return sweep.until
    times = [recording.invoked_at for recording in page.recordings if recording.invoked_at]
    return min(max([read_from(sweep), *times]), sweep.until)


def after_count(sweep: Sweep, first: ListPage) -> Sweep:
    """Return the sweep completed, or at the beginning of another pass over its window.

    `first` is the window's first page, read anew. If the list counts more recordings from there to
    the window's end than were seen, some were inserted while pages were read.
    """
    progress = sweep.progress
    before, last = _first_place(first, sweep.since), progress["last"]
    if _UNKNOWN in (before, last):
        return replace(sweep, state=State.COMPLETED)
    is_complete = last - before + 1 <= sweep.counts.seen + sweep.counts.unreadable
    if is_complete or progress["passes"] >= _MAX_PASSES:
        return replace(sweep, state=State.COMPLETED, complete=is_complete)
    # A dry run repairs no row, so another pass finds the same rows missing or behind.
    again = _EACH_PASS + (("missing", "behind") if sweep.dry_run else ())
    return replace(
        sweep,
        counts=replace(sweep.counts, **dict.fromkeys(again, 0)),
        progress=_start_paging(progress["first_page"], progress["passes"] + 1),
    )


def _first_place(page: ListPage, since: datetime) -> int:
    """Return the place in the list of the page's first recording that is not before the window."""
    if not page.size:
        return page.total + 1
    times = (recording.invoked_at for recording in page.recordings)
    before = sum(time is not None and time < since for time in times)
    return page.start + before if page.start else _UNKNOWN


def _last_place(page: ListPage, until: datetime) -> int:
    """Return the place in the list of the page's last recording that is not after the window."""
    if not page.size:
        return page.total
    times = (recording.invoked_at for recording in page.recordings)
    after = sum(time is not None and time >= until for time in times)
    return page.start + page.size - after - 1 if page.start else _UNKNOWN


def _ids(page: ListPage) -> set[str]:
    return {recording.recording_id for recording in page.recordings}


def pack_ids(recording_ids: Collection[str]) -> bytes:
    """Return ids as 16 bytes each: every page's are saved twice, and a write costs by its size."""
    return b"".join(UUID(recording_id).bytes for recording_id in sorted(recording_ids))


def unpack_ids(packed: bytes) -> set[str]:
    """Return the ids that `pack_ids` packed."""
    return {str(UUID(bytes=packed[start : start + 16])) for start in range(0, len(packed), 16)}
