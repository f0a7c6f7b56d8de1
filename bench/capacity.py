"""DynamoDB's request units, computed from the sizes of items as AWS documents them.

- A write costs a unit for each KB or part of it, of the larger of the old and the new item.
- In each index, the same write costs the units of the projected attributes. It costs 0 units if
  these stay the same, and the units of the old and the new entry if the index key changes.
- A write whose condition fails costs the units of the existing item.
- A read costs a unit for each 4 KB or part of it, and half of that if eventually consistent.

Source: AWS docs, DynamoDB item sizes and formats; capacity consumed by read and write operations;
global secondary indexes.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

Item = Mapping[str, Mapping[str, Any]]
"""Item in DynamoDB's JSON: `{"recording_id": {"S": "…"}, …}`."""


def size(item: Item) -> int:
    """Return the size of an item in bytes: its attributes' names and values."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def written(before: Item | None, after: Item | None) -> int:
    """Return the units of a write to a table; `None` stands for a missing item."""
    return max(_kilobytes(item) for item in (before or {}, after or {}))


def written_to_index(before: Item | None, after: Item | None, key: Iterable[str]) -> int:
    """Return the units of a write to an index.

    `before` and `after` have the projected attributes only; `None` stands for a missing entry.
    """
    if before == after:
        return 0
    if before and after and any(before[name] != after[name] for name in key):
        return _kilobytes(before) + _kilobytes(after)
    return written(before, after)


def read(items: Iterable[Item], *, consistent: bool = False) -> float:
    """Return the units of reading one item, or of all items of one Query together."""
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
            # Text in requests over the wire, bytes in those of a client.
            return len(b64decode(value) if isinstance(value, str) else value)
        case "N":
            return _number_size(value)
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + _value_size(member) for member in value)
        case "M":
            return 3 + sum(1 + size({name: member}) for name, member in value.items())
        case _:
            raise ValueError(
                f"Cannot size an attribute of type {kind}: add the type to _value_size."
            )


def _number_size(text: str) -> int:
    """Return the size of a number in bytes.

    A number takes a byte for two significant digits, one for a minus sign, and one more.
    """
    digits = text.lstrip("-").replace(".", "").strip("0")
    return -(-len(digits) // 2) + 1 + text.startswith("-")
