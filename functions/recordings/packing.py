"""The artifacts of a large recording as one binary attribute.

A row of DynamoDB holds 400 KB, and a file takes some 600 bytes as a map. Packed, 5,000 archived
files with names of 110 characters take 300 KB. Nearly all of that is random: two UUIDs, a size, a
checksum and two times for each file.

The packed form is JSON compressed by zlib: a list of values for each attribute, because similar
values compress best side by side. A text that repeats the file's name is kept as the parts around
the name. This module uses only the standard library, so that an owner who reads the table can copy
it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Artifacts = dict[str, dict[str, Any]]

_NAMES = "name"


def pack(artifacts: Mapping[str, Mapping[str, Any]]) -> bytes | None:
    """Return the artifacts packed, or None if `unpack` would not give back exactly these.

    Fractions and bytes cannot be packed; this service does not write them into an artifact.
    """
    # One participant's files have similar names: they compress best next to each other.
    names = sorted(artifacts)
    flat = [dict(_flat(artifacts[name], "", _base(name))) for name in names]
    paths = dict.fromkeys(path for values in flat for path in values)
    columns = {path: [values.get(path) for values in flat] for path in paths}
    text = _json({_NAMES: names, **columns})
    # zlib takes a tenth less for short repetitions between random data with this strategy.
    compressor = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    packed = compressor.compress(text) + compressor.flush()
    return packed if unpack(packed) == artifacts else None


def unpack(packed: bytes) -> Artifacts:
    """Return the artifacts by name: the inverse of `pack`. Raises `ValueError` or `zlib.error`."""
    columns: dict[str, list[Any]] = json.loads(zlib.decompress(packed))
    names = columns.pop(_NAMES)
    artifacts: Artifacts = {name: {} for name in names}
    for path, values in columns.items():
        *outer, last = path.split("/")[1:]
        for name, value in zip(names, values, strict=True):
            if value is not None:
                _inner(artifacts[name], outer)[last] = _whole(value, _base(name))
    return artifacts


def size(artifacts: Mapping[str, Any]) -> int:
    """Return the bytes of the artifacts as JSON, which are no fewer than as a map in DynamoDB.

    DynamoDB counts 3 bytes for a map and 1 for each pair in it, and a number's two digits as one
    byte (DynamoDB guide, item sizes); JSON has two quotes, a colon and a comma for each pair.
    """
    return len(_json(artifacts))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode()


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _flat(value: Any, path: str, base: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each member, at any depth, that is not a map."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _flat(member, f"{path}/{name}", base)
    elif isinstance(value, str) and base and base in value:
        yield path, value.split(base)
    elif isinstance(value, list):
        # One more list around it, since a list of two or more is a text in parts.
        yield path, [value]
    else:
        yield path, value


def _inner(artifact: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for name in path:
        artifact = artifact.setdefault(name, {})
    return artifact


def _whole(value: Any, base: str) -> Any:
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else base.join(value)
