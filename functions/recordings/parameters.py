"""Parameters of a request to the API: each is parsed here, or refused by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recordings.model import uuid

# An unescaped + is a space by the time that API Gateway gives it to us (HTML, form encoding).
_UNESCAPED_PLUS = re.compile(r"\d{4}-\d\d-\d\dT[\d:.,]+ \d\d:?\d\d", re.ASCII)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d))?", re.ASCII
)


class BadParameterError(ValueError):
    """Raised for a parameter whose value cannot be accepted; `parameter` is its name."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter} {reason}")
        self.parameter = parameter


def single_values(parameters: Mapping[str, Sequence[str]], known: Sequence[str]) -> dict[str, str]:
    """Return each parameter's value. Raises `BadParameterError` for an unknown or repeated one."""
    for name, values in parameters.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise BadParameterError(
                name[:50], f"is not a parameter of this request; the parameters are: {listed}"
            )
        if len(values) != 1:
            raise BadParameterError(name, "is given more than once")
    return {name: values[0] for name, values in parameters.items()}


def parse_number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return an integer within its limits. Raises `BadParameterError`."""
    if name not in given:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", given[name]) or not low <= int(given[name]) <= high:
        raise BadParameterError(name, f"is not a whole number from {low} to {high}")
    return int(given[name])


def parse_id(given: Mapping[str, str], name: str) -> str | None:
    """Return a UUID in lower case, `None` if it is not given. Raises `BadParameterError`."""
    if name not in given:
        return None
    if (checked := uuid(given[name])) is None:
        raise BadParameterError(name, "is not a UUID")
    return checked


def parse_choice(given: Mapping[str, str], name: str, known: Sequence[str]) -> str | None:
    """Return one of the known values, `None` if it is not given. Raises `BadParameterError`."""
    if name in given and given[name] not in known:
        raise BadParameterError(name, f"must be one of {', '.join(known)}")
    return given.get(name)


def parse_time(given: Mapping[str, Any], name: str) -> datetime:
    """Return a time given with its offset, or the beginning in UTC of a date.

    Raises `BadParameterError`.
    """
    value = given[name]
    if isinstance(value, str) and _UNESCAPED_PLUS.fullmatch(value):
        raise BadParameterError(name, "has a space before its offset: write the + as %2B in a URL")
    try:
        if not (isinstance(value, str) and _TIME.fullmatch(value)):
            raise ValueError
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if not 1 < time.year < 9999:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadParameterError(
            name,
            "is neither a date nor a time with its offset, such as 2026-06-03 or"
            " 2026-06-03T10:00:00Z",
        ) from None
    return time
