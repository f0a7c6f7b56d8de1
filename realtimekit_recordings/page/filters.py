"""The list's filters, as people fill them in, and the API's query for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import Self
from urllib.parse import urlencode

NAMES = ("meeting_id", "session_id", "status", "archived", "label", "since", "until")
PAGE_ITEMS = "50"
_DAYS = ("since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters; a field that is not filled in is "". The days are this machine's.

    A label is written `name=text`.
    """

    meeting_id: str = ""
    session_id: str = ""
    status: str = ""
    archived: str = ""
    label: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> Self:
        """Return the filters of an address of the page."""
        return cls(**{name: arguments.get(name, "").strip() for name in NAMES})

    @property
    def given(self) -> dict[str, str]:
        """The filters that are filled in."""
        return {name: value for name, value in asdict(self).items() if value}

    def query(self, cursor: str) -> dict[str, str]:
        """Return the API's query for the page of the list at a cursor, "" for the first page.

        Raises `ValueError` with a text for people.
        """
        query = {name: value for name, value in self.given.items() if name not in _DAYS}
        if self.label:
            query["label"] = _label(self.label)
        if self.since:
            query["from"] = _begin(_day(self.since)).isoformat()
        if self.until:
            query["to"] = _begin(_day(self.until) + timedelta(days=1)).isoformat()
        return {**query, "limit": PAGE_ITEMS, **({"cursor": cursor} if cursor else {})}

    def next_address(self, cursor: str, last_day: str) -> str:
        """Return the page's own address of the rows after a cursor."""
        return f"/rows?{urlencode({**self.given, 'cursor': cursor, 'after_day': last_day})}"


def _label(value: str) -> str:
    name, equals, text = value.partition("=")
    if not (name and equals):
        raise ValueError("A label must be written like customer=42.")
    return f"{name}:{text}"


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("A day must be written like 2026-06-03.") from None


def _begin(day: date) -> datetime:
    """Return the time at which a day begins on this machine."""
    return datetime.combine(day, time()).astimezone()
