"""Timestamps as the API, the table and the messages write them."""

from __future__ import annotations

from datetime import datetime


def timestamp(time: datetime) -> str:
    """Return a UTC time with milliseconds, such as `2026-06-03T10:00:00.000Z`."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def minute(text: str) -> str:
    """Return a timestamp to the minute, for people, such as `2026-06-03 10:00 UTC`."""
    return f"{text[:16].replace('T', ' ')} UTC"


def milliseconds(text: str) -> int:
    """Return a timestamp's milliseconds since 1970, or 0 if the text is no timestamp."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
