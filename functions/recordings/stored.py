"""A row as the table stores it, and as the rules of the catalogue see it.

The artifacts of a large recording are stored packed; the rules always see a map. An owner may write
into the table, by hand or from a job. So an attribute of a type that this service does not write is
left out on reading, and no rule meets it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast, get_args

from recordings import packing
from recordings.annotation import Hold, is_label_name, is_label_text, is_reason
from recordings.dynamodb import Item
from recordings.model import MAX_TEXT_BYTES, parse_timestamp, uuid
from recordings.rows import Row, StateName

MAX_MAP_BYTES = 64 * 1024
"""Bytes of artifacts that are stored as a map, which every reader of the table understands."""

_PACKED = "artifacts_packed"
_HELD_BY_HAND = "set in the table by hand"


def read(item: Mapping[str, Any]) -> Row:
    """Return a stored row as the rules see it."""
    row = _typed({name: item[name] for name in item if name != "labels"}, _ROW)
    packed = row.pop(_PACKED, None)
    if packed is not None:
        row["artifacts"] = _unpacked(packed)
    if "artifacts" in row:
        row["artifacts"] = {
            name: _artifact(name, artifact)
            for name, artifact in row["artifacts"].items()
            if isinstance(artifact, Mapping)
        }
    return cast(Row, {**row, **annotation(item)})


def annotation(item: Mapping[str, Any]) -> Item:
    """Return the labels and the hold of a stored row, each only if the row has it."""
    found: Item = {}
    labels = item.get("labels")
    if isinstance(labels, Mapping):
        found["labels"] = {
            name: text
            for name, text in labels.items()
            if is_label_name(name) and is_label_text(text)
        }
    if "hold" in item:
        found["hold"] = _hold(item["hold"])
    return {name: value for name, value in found.items() if value}


def _hold(value: object) -> Hold:
    """Return a stored hold, even a malformed one, because its owner wants no erasure."""
    known = value if isinstance(value, Mapping) else {}
    hold: Hold = {"reason": known["reason"] if is_reason(known.get("reason")) else _HELD_BY_HAND}
    return {**hold, "since": known["since"]} if is_time(known.get("since")) else hold


def attributes(changes: Mapping[str, Any]) -> tuple[Item, list[str]]:
    """Return the attributes to store for a row's changes, and the attributes to remove.

    A change to None removes the attribute.
    """
    values = {name: value for name, value in changes.items() if value is not None}
    removed = [name for name, value in changes.items() if value is None]
    if "artifacts" not in values:
        return values, removed
    packed = None
    if packing.size(values["artifacts"]) > MAX_MAP_BYTES:
        packed = packing.pack(values["artifacts"])
    if packed is None:
        return values, [*removed, _PACKED]
    del values["artifacts"]
    return {**values, _PACKED: packed}, [*removed, "artifacts"]


def is_ours(row: Mapping[str, Any]) -> bool:
    """Return whether this service wrote the row: it has a recording's id and a version."""
    recording_id = row.get("recording_id")
    is_id = recording_id is not None and uuid(recording_id) == recording_id
    return is_id and _is_integer(row.get("version"))


def is_time(value: object) -> bool:
    """Return whether the value is a timestamp as this service writes it."""
    return parse_timestamp(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= MAX_TEXT_BYTES


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or isinstance(value, Decimal)


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_history(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, Mapping) and {"status", "at"} <= entry.keys() for entry in value
    )


def _is_archive_state(value: object) -> bool:
    if not isinstance(value, Mapping) or value.get("state") not in get_args(StateName):
        return False
    needed = _NEEDED.get(value["state"], {})
    return all(is_right(value.get(name)) for name, is_right in needed.items())


_Check = Callable[[object], bool]
_ROW: Mapping[str, _Check] = {
    **dict.fromkeys(("app_id", "status", "archived", "organization_id", "file_name"), _is_text),
    **dict.fromkeys(("session_id", "meeting_id", "meeting_title", "invoked_at_from"), _is_text),
    **dict.fromkeys(("invoked_at", "started_at", "stopped_at"), is_time),
    **dict.fromkeys(("first_seen_at", "fetched_at", "session_started_at"), is_time),
    **dict.fromkeys(("status_rank", "file_size"), _is_integer),
    **dict.fromkeys(("start_reason", "stop_reason", "storage", "artifacts"), _is_map),
    "duration_seconds": _is_number,
    "status_history": _is_history,
    _PACKED: lambda value: isinstance(value, bytes),
}
_ARTIFACT: Mapping[str, _Check] = {
    **dict.fromkeys(("kind", "file_name"), _is_text),
    "url": lambda value: isinstance(value, str),
    "url_expires_at": is_time,
    "file_size": _is_integer,
    "archive": _is_archive_state,
}
# The attributes that the rules read of each state; a state without them is left out.
_NEEDED: Mapping[str, Mapping[str, _Check]] = {
    # A key has at most 1,024 bytes (S3 guide, object keys), as many as `_is_text` allows.
    "archived": {"bucket": _is_text, "key": _is_text, "size": _is_integer},
    "expired": {"expired_at": is_time},
}


def _typed(values: Mapping[str, Any], checks: Mapping[str, _Check]) -> Item:
    return {
        name: value for name, value in values.items() if name not in checks or checks[name](value)
    }


def _artifact(name: str, artifact: Mapping[str, Any]) -> Item:
    return {"kind": name.partition("/")[0], **_typed(artifact, _ARTIFACT)}


def _unpacked(packed: bytes) -> Mapping[str, Any]:
    try:
        return packing.unpack(packed)
    except (ValueError, KeyError, AttributeError, TypeError, zlib.error):
        return {}
