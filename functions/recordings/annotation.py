"""The owner's annotation of a recording: its labels and its hold, and merge patches of them.

A merge patch (RFC 7396) says only what changes, and null removes:

    {"labels": {"order": "4711", "draft": null}, "hold": {"reason": "case 12"}}

The service sets a hold's `since`. No answer of RealtimeKit touches them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from recordings.parameters import BadParameterError

MAX_LABELS = 20
MAX_LABEL_CHARACTERS = 256
MAX_REASON_CHARACTERS = 1000
MAX_PATCH_BYTES = 128 * 1024
"""Largest patch. The longest labels and reason take about 80 KB if JSON escapes each character."""

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")
# Control characters, lone surrogates, and separators of lines and paragraphs.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_FIELDS = ("labels", "hold")


class Hold(TypedDict):
    """The owner's hold, which forbids an erasure; a hold set by hand may lack `since`."""

    reason: str
    since: NotRequired[str]


class _Annotated(TypedDict, total=False):
    """The owner's part of a recording's row; an attribute without a value is absent."""

    labels: Mapping[str, str]
    hold: Hold


class DuplicateKeyError(ValueError):
    """Raised for a JSON object in which `key` comes twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """The changes that an owner requests: labels to set or remove, and a hold to set or release.

    A label's `None` removes it, and `clears_labels` removes all that the row has. If `names_hold`,
    `hold` is the reason, `""` for the reason that the row has, or `None` to release the hold.
    """

    labels: Mapping[str, str | None]
    clears_labels: bool = False
    hold: str | None = ""
    names_hold: bool = False

    @property
    def sets_hold(self) -> bool:
        """True if the recording is on hold after the patch."""
        return self.names_hold and self.hold is not None


def parse(body: str) -> Patch:
    """Return the patch in a request's body. Raises `BadParameterError`, which names the field."""
    fields = _read_object(body)
    for name in fields:
        if name not in _FIELDS:
            raise BadParameterError(
                _shown(name) or "body", "cannot be changed; the fields are: hold, labels"
            )
    labels = fields.get("labels", {})
    names_hold = "hold" in fields
    return Patch(
        labels={} if labels is None else _parse_labels(labels),
        clears_labels="labels" in fields and labels is None,
        hold=_parse_hold(fields["hold"]) if names_hold else "",
        names_hold=names_hold,
    )


def _read_object(body: str) -> dict[str, Any]:
    try:
        fields = json.loads(body, object_pairs_hook=_unique)
    except DuplicateKeyError as error:
        raise BadParameterError(
            _shown(error.key) or "body", "comes twice in the same object"
        ) from None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        example = '{"labels": {"order": "4711"}}'
        raise BadParameterError("body", f"is not a JSON object such as {example}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as an object. Raises `DuplicateKeyError`."""
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise DuplicateKeyError(key)
        members[key] = value
    return members


def _shown(name: str) -> str:
    """Return a field's name for an error: bounded, and printable."""
    return "".join(letter if is_printable(letter) else "?" for letter in name[:64])


def _parse_labels(value: object) -> dict[str, str | None]:
    if not isinstance(value, dict):
        raise BadParameterError("labels", "is neither an object of names and texts nor null")
    return {name: _parse_label(name, text) for name, text in value.items()}


def _parse_label(name: str, text: object) -> str | None:
    field = f"labels.{_shown(name)}"
    if not is_label_name(name):
        raise BadParameterError(
            field, "has an invalid name: use 1 to 64 of the characters a-z, 0-9, _, . and -"
        )
    if text is None:
        return None
    if not is_label_text(text):
        raise BadParameterError(
            field,
            f"is not a text of 1 to {MAX_LABEL_CHARACTERS} characters without control characters;"
            " null removes the label",
        )
    return str(text)


def _parse_hold(value: object) -> str | None:
    """Return the hold's reason, `""` to keep the present one, or None to release the hold."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadParameterError("hold", 'is neither {"reason": "…"} nor null')
    for name in value:
        if name != "reason":
            field = f"hold.{_shown(name)}"
            raise BadParameterError(field, "cannot be changed; the only field is hold.reason")
    reason = value.get("reason", "")
    if "reason" in value and not is_reason(reason):
        raise BadParameterError(
            "hold.reason",
            f"is not a text of 1 to {MAX_REASON_CHARACTERS} characters without control characters;"
            " to release the hold, set hold to null",
        )
    return str(reason)


def changes(row: _Annotated, patch: Patch, at: str) -> dict[str, Any]:
    """Return a row's changed annotations, with None for removed ones; `{}` if none changes.

    Raises `BadParameterError` if the patched row would have too many labels, or a hold without a
    reason. `at` is the time at which a new hold begins.
    """
    known = row.get("labels", {})
    labels = {} if patch.clears_labels else {**known}
    for name, text in patch.labels.items():
        labels.pop(name, None) if text is None else labels.update({name: text})
    if len(labels) > MAX_LABELS:
        raise BadParameterError(
            "labels", f"would be {len(labels)}, but at most {MAX_LABELS} are allowed: remove some"
        )
    changed: dict[str, Any] = {"labels": labels or None} if labels != known else {}
    hold = _patched_hold(row.get("hold"), patch, at)
    return changed | ({"hold": hold} if hold != row.get("hold") else {})


def _patched_hold(hold: Hold | None, patch: Patch, at: str) -> Hold | None:
    """Return the hold after a patch; a hold whose reason changes keeps its `since`."""
    if not patch.names_hold:
        return hold
    if patch.hold is None:
        return None
    if hold is None and not patch.hold:
        raise BadParameterError("hold.reason", "is missing: a new hold needs a reason")
    if hold is None:
        return {"reason": patch.hold, "since": at}
    return {**hold, "reason": patch.hold or hold["reason"]}


def is_label_name(name: object) -> bool:
    """Return True for a valid name of a label."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_label_text(value: object) -> bool:
    """Return True for a valid text of a label."""
    return _is_text(value, MAX_LABEL_CHARACTERS)


def is_reason(value: object) -> bool:
    """Return True for a valid reason of a hold."""
    return _is_text(value, MAX_REASON_CHARACTERS)


def _is_text(value: object, max_characters: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= max_characters and is_printable(value)


def is_printable(text: str) -> bool:
    """Return True if a text has no control character, lone surrogate or line separator."""
    return all(unicodedata.category(letter) not in _UNPRINTABLE for letter in text)
