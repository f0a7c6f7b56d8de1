"""The units that the functions' requests to DynamoDB cost, counted as they pass the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import capacity
from .capacity import Item
from .wire import Answer, Answerer, Request

WRITES = ("PutItem", "UpdateItem", "DeleteItem")


@dataclass(frozen=True)
class Write:
    """A write to an item, and its units: in the table ("table") and in each index it changed."""

    table: str
    key: str
    attributes: tuple[str, ...]
    units: Mapping[str, int]

    @property
    def total(self) -> int:
        """Sum of the units in the table and its indexes."""
        return sum(self.units.values())


@dataclass
class Units:
    """Counter of the units read and written by the requests that pass through `counted`."""

    dynamodb: Any
    writes: list[Write] = field(default_factory=list)
    read: float = 0

    def counted(self, answerer: Answerer) -> Answerer:
        """Return an answerer that gives the same answers and counts their units."""
        operations: dict[str, Callable[[Request, Answerer], Answer]] = {
            **dict.fromkeys(WRITES, self._write),
            "BatchWriteItem": self._write_batch,
            "GetItem": self._get,
            "BatchGetItem": self._get_batch,
            "Query": self._query,
        }

        def answer(request: Request) -> Answer:
            service, operation = request.target
            if not service.startswith("DynamoDB"):
                return answerer(request)
            return operations[operation](request, answerer)

        return answer

    def _write(self, request: Request, answerer: Answerer) -> Answer:
        parameters = request.parameters
        table = self._table(parameters["TableName"])
        names = [part["AttributeName"] for part in table["KeySchema"]]
        item = parameters.get("Key") or parameters["Item"]
        key = {name: item[name] for name in names}
        before = self._item(parameters["TableName"], key)
        answer = answerer(request)
        self._note(table, key, before, self._item(parameters["TableName"], key))
        return answer

    def _write_batch(self, request: Request, answerer: Answerer) -> Answer:
        for name, requests in request.parameters["RequestItems"].items():
            table = self._table(name)
            for write in requests:
                item = write["PutRequest"]["Item"]
                key = {
                    part["AttributeName"]: item[part["AttributeName"]]
                    for part in table["KeySchema"]
                }
                self._note(table, key, self._item(name, key), item)
        return answerer(request)

    def _get(self, request: Request, answerer: Answerer) -> Answer:
        parameters = request.parameters
        self._read(parameters["TableName"], parameters["Key"], parameters)
        return answerer(request)

    def _get_batch(self, request: Request, answerer: Answerer) -> Answer:
        for name, parameters in request.parameters["RequestItems"].items():
            for key in parameters["Keys"]:
                self._read(name, key, parameters)
        return answerer(request)

    def _read(self, table: str, key: Item, parameters: Mapping[str, Any]) -> None:
        item = self._item(table, key) or {}
        self.read += capacity.read([item], consistent=parameters.get("ConsistentRead", False))

    def _query(self, request: Request, answerer: Answerer) -> Answer:
        answer = answerer(request)
        self.read += capacity.read(json.loads(answer.body).get("Items", []))
        return answer

    def _note(self, table: Any, key: Item, before: Item | None, after: Item | None) -> None:
        units = {"table": capacity.written(before, after)}
        for index in table.get("GlobalSecondaryIndexes", ()):
            if cost := _index_units(table, index, before, after):
                units[index["IndexName"]] = cost
        changed = sorted(
            name
            for name in {*(before or {}), *(after or {})}
            if (before or {}).get(name) != (after or {}).get(name)
        )
        [identity] = (value["S"] for value in key.values())
        self.writes.append(Write(_plain_name(table["TableName"]), identity, tuple(changed), units))

    def _table(self, name: str) -> Any:
        return self.dynamodb.describe_table(TableName=name)["Table"]

    def _item(self, table: str, key: Item) -> Item | None:
        answer = self.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)
        found: Item | None = answer.get("Item")
        return found


def _plain_name(deployed: str) -> str:
    """Return a table's logical ID, the middle part of the name that CloudFormation gives it."""
    return re.sub(r".*-(\w+)-\w+", r"\1", deployed)


def _index_units(table: Any, index: Any, before: Item | None, after: Item | None) -> int:
    old, new = _projected(table, index, before), _projected(table, index, after)
    keys = [part["AttributeName"] for part in index["KeySchema"]]
    return capacity.written_to_index(old, new, keys)


def _projected(table: Any, index: Any, item: Item | None) -> Item | None:
    keys = {part["AttributeName"] for part in (*index["KeySchema"], *table["KeySchema"])}
    if item is None or not keys <= item.keys():
        return None
    projection = index["Projection"]
    if projection["ProjectionType"] == "ALL":
        return item
    names = {*keys, *projection.get("NonKeyAttributes", ())}
    return {name: value for name, value in item.items() if name in names}


def by_index(writes: list[Write]) -> dict[str, int]:
    """Return the sum of the units by table, and by index as "table/index"."""
    sums: dict[str, int] = {}
    for name, units in _parts(writes):
        sums[name] = sums.get(name, 0) + units
    return sums


def _parts(writes: list[Write]) -> Iterator[tuple[str, int]]:
    for write in writes:
        for name, units in write.units.items():
            yield (write.table if name == "table" else f"{write.table}/{name}"), units
