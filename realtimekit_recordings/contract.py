"""The comparison of RealtimeKit's answers with the known forms, which shows no value.

A report has paths of fields, kinds of JSON, and verdicts. A path names a field only if its name is
known, or looks like a name that a programmer chose; file names and people's ids are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .realtimekit_answers import Either, Files, Inside, Named, Shape, Words

HIDDEN = "(name not shown)"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LOCAL = ("http://127.0.0.1", "http://localhost")
# A programmer's name has few digits, as in "ipv4"; an id or a file's name has many, or other marks.
_FIELD_NAME = re.compile(r"(?=.{1,40}$)[A-Za-z][A-Za-z_]*\d{0,2}[A-Za-z_]*")


class Verdict(StrEnum):
    """The verdict on a field, the worst last."""

    KNOWN = "known"
    UNKNOWN = "unknown field"
    MISSING = "missing"
    DIFFERENT = "other form"


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(slots=True)
class Field:
    """The forms in which a field was seen, the worst verdict, and the forms that are known."""

    verdict: Verdict = Verdict.KNOWN
    forms: set[str] = field(default_factory=set)
    known: str = ""


class Comparison:
    """All answers of one kind, compared with their shape; `fields` are by path, in order."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.fields: dict[str, Field] = {}

    def add(self, answer: object) -> None:
        """Compare one more answer."""
        self._compare("", answer, self._shape)

    def _compare(self, path: str, value: object, shape: Shape) -> None:
        shape = _chosen(value, shape)
        if isinstance(shape, Mapping | Files):
            self._compare_object(path, value, shape)
        elif isinstance(shape, Inside):
            self._compare_inside(path, value, shape)
        elif isinstance(shape, list):
            self._compare_items(path, value, shape[0])
        elif isinstance(shape, Named):
            self._compare_named(path, value, shape)
        elif isinstance(shape, str | Words):
            self._compare_scalar(path, value, shape)

    def _compare_object(self, path: str, value: object, shape: Mapping[str, Shape] | Files) -> None:
        if not isinstance(value, Mapping):
            self._note(path, form_of(value), Verdict.DIFFERENT, "object")
            return
        shows_names = not isinstance(shape, Files)
        fields = shape.fields if isinstance(shape, Files) else shape
        known: set[str] = set()
        for key, field_shape in fields.items():
            spellings = key.replace("?", "").split("/")
            known.update(spellings)
            present = [name for name in spellings if name in value]
            for name in present:
                self._compare(_joined(path, name), value[name], field_shape)
            if not present and not key.endswith("?"):
                self._note(_joined(path, spellings[0]), "", Verdict.MISSING)
        for name in (name for name in value if name not in known):
            is_shown = shows_names and _FIELD_NAME.fullmatch(name)
            unknown = _joined(path, name if is_shown else HIDDEN)
            self._note(unknown, form_of(value[name]), Verdict.UNKNOWN)

    def _compare_inside(self, path: str, value: object, shape: Inside) -> None:
        inner = value.get(shape.name) if isinstance(value, Mapping) else None
        if isinstance(inner, Mapping):
            self._compare(path, value, {shape.name: shape.shape})
        else:
            self._compare(path, value, shape.shape)

    def _compare_items(self, path: str, value: object, shape: Shape) -> None:
        if not isinstance(value, list):
            self._note(path, form_of(value), Verdict.DIFFERENT, "array")
        elif not value:
            self._note(path, "empty array")
        else:
            for item in value:
                self._compare(f"{path}[]", item, shape)

    def _compare_named(self, path: str, value: object, shape: Named) -> None:
        items = list(value.values()) if isinstance(value, Mapping) else value
        if not isinstance(items, list):
            self._note(path, form_of(value), Verdict.DIFFERENT, "object")
            return
        for item in items:
            self._compare(f"{path}.*", item, shape.values)

    def _compare_scalar(self, path: str, value: object, shape: str | Words) -> None:
        if isinstance(shape, Words):
            is_known = isinstance(value, str) and value in shape.words
            form = "known word" if is_known else form_of(value, is_text=True)
            self._note(path, form, _verdict(is_known), " ".join(shape.words))
            return
        forms = shape.split(" | ")
        form = form_of(value, is_text="text" in forms)
        self._note(path, form, _verdict(form in forms or shape == "any"), shape)

    def _note(
        self, path: str, form: str, verdict: Verdict = Verdict.KNOWN, known: str = ""
    ) -> None:
        row = self.fields.setdefault(path, Field())
        if form:
            row.forms.add(form)
        if _RANK[verdict] > _RANK[row.verdict]:
            row.verdict, row.known = verdict, known


def form_of(value: object, *, is_text: bool = False) -> str:
    """Return a JSON value's form. With `is_text`, a text has no narrower form than "text"."""
    if not isinstance(value, str):
        kinds = {type(None): "null", bool: "boolean", list: "array", dict: "object"}
        return kinds.get(type(value), "number")
    if is_text:
        return "text"
    return next((form for form, is_form in _TEXT_FORMS if is_form(value)), "text")


def _is_time(value: str) -> bool:
    with suppress(ValueError):
        return bool(datetime.fromisoformat(value.strip()))
    return False


_TEXT_FORMS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("empty text", lambda value: value == ""),
    ("UUID", _UUID.fullmatch),
    ("https URL", lambda value: value.startswith("https://")),
    # The simulator's, on this machine.
    ("local URL", lambda value: value.startswith(_LOCAL)),
    ("number as text", _NUMBER.fullmatch),
    ("time", _is_time),
)


def _chosen(value: object, shape: Shape) -> Shape:
    """Return the shape, of several, that fits the value's kind of JSON, or else the first."""
    if not isinstance(shape, Either):
        return shape
    return next((each for each in shape.shapes if _is_for(value, each)), shape.shapes[0])


def _is_for(value: object, shape: Shape) -> bool:
    if isinstance(value, Mapping):
        return isinstance(shape, Mapping | Files | Named | Inside)
    if isinstance(value, list):
        return isinstance(shape, list)
    return isinstance(shape, str | Words)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _verdict(is_known: bool) -> Verdict:
    return Verdict.KNOWN if is_known else Verdict.DIFFERENT


def faults(fields: Mapping[str, Field]) -> Iterator[str]:
    """Yield the paths of the fields that are unknown, missing or of another form."""
    return (path for path, row in fields.items() if row.verdict is not Verdict.KNOWN)
