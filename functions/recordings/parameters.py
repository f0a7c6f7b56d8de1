"""Parameters of a request to the API: each is read here, or refused by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recordings.model import uuid

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d))?", re.ASCII
)


class BadParameterError(ValueError):
    """Raised for a parameter that cannot be; `parameter` is its name."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter} {reason}")
        self.parameter = parameter


def single_values(parameters: Mapping[str, Sequence[str]], known: Sequence[str]) -> dict[str, str]:
    """Each parameter's one value. Raises `BadParameterError` for unknown and doubled ones."""
    for name, values in parameters.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise BadParameterError(name[:50], f"is not a parameter here; there are: {listed}")
        if len(values) != 1:
            raise BadParameterError(name, "is given more than once")
    return {name: values[0] for name, values in parameters.items()}


def parse_number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """An integer within its limits. Raises `BadParameterError`."""
    if name not in given:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", given[name]) or not least <= int(given[name]) <= most:
        raise BadParameterError(name, f"is not a whole number from {least} to {most}")
    return int(given[name])


def parse_id(given: Mapping[str, str], name: str) -> str | None:
    if name not in given:
        return None
    if (checked := uuid(given[name])) is None:
        raise BadParameterError(name, "is not a UUID")
    return checked


def parse_choice(given: Mapping[str, str], name: str, known: Sequence[str]) -> str | None:
    if name in given and given[name] not in known:
        raise BadParameterError(name, f"is none of {', '.join(known)}")
    return given.get(name)


def parse_time(given: Mapping[str, Any], name: str) -> datetime:
    """A date, which is its beginning in UTC, or a time with its offset. Raises
    `BadParameterError`."""
    said = given[name]
    try:
        if not (isinstance(said, str) and _TIME.fullmatch(said)):
            raise ValueError
        at = datetime.fromisoformat(said)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if not 1 < at.year < 9999:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadParameterError(
            name,
            "is neither a date nor a time with its offset, such as 2026-06-03 or"
            " 2026-06-03T10:00:00Z",
        ) from None
    return at
