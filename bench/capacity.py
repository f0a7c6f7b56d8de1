"""DynamoDB's request units, as AWS documents them: of the sizes of items.

A write costs a unit for each KB begun, of the item before or after it, whichever is larger; in each
index likewise of what is projected, nothing where none of that changes, and twice where the index'
key does. A condition that fails costs what the item as it is would. A read costs a unit for each
4 KB begun, half of it if it need not be consistent (AWS docs, DynamoDB item sizes and formats;
capacity consumed by read and write operations; global secondary indexes).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

Item = Mapping[str, Mapping[str, Any]]
"""As DynamoDB's JSON has it: `{"recording_id": {"S": "…"}, …}`."""


def size(item: Item) -> int:
    """In bytes: of names and values."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def written(before: Item | None, after: Item | None) -> int:
    """Units of a write to a table; `None` is no item."""
    return max(_kilobytes(item) for item in (before or {}, after or {}))


def written_to_index(before: Item | None, after: Item | None, key: Iterable[str]) -> int:
    """Units of the same write to an index, of what is projected; `None` is nothing in it."""
    if before == after:
        return 0
    if before and after and any(before[name] != after[name] for name in key):
        return _kilobytes(before) + _kilobytes(after)
    return written(before, after)


def read(items: Iterable[Item], *, consistent: bool = False) -> float:
    """Units of one item, or of the items of one query together."""
    units = max(1, -(-sum(size(item) for item in items) // 4096))
    return units if consistent else units / 2


def _kilobytes(item: Item) -> int:
    return max(1, -(-size(item) // 1024))


def _value_size(typed: Mapping[str, Any]) -> int:
    [(kind, value)] = typed.items()
    match kind:
        case "S":
            return len(value.encode())
        case "B":
            return len(b64decode(value))
        case "N":
            return _number_size(value)
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + _value_size(member) for member in value)
        case "M":
            return 3 + sum(1 + size({name: member}) for name, member in value.items())
        case _:
            raise ValueError(f"no row of ours has a {kind}")


def _number_size(text: str) -> int:
    """A byte for two digits, without the zeros at both ends; one for a sign; and one more."""
    digits = text.lstrip("-").replace(".", "").strip("0")
    return -(-len(digits) // 2) + 1 + text.startswith("-")
