"""DynamoDB tables in memory, which count the units that AWS would charge for their use.

They support the operations and expressions that our code uses, and refuse all others. An index
finds its rows by bisection, so that a Query is as fast in a large table as in a small one. (The
emulator reads the whole table for each Query.)
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from threading import Lock
from typing import Any

from . import capacity
from .capacity import Item

# A term of a key condition.
TERM = re.compile(
    r"(?P<name>#\w+) (?P<operator>=|<=|<) (?P<value>:\w+)"
    r"|(?P<between>#\w+) BETWEEN (?P<low>:\w+) AND (?P<high>:\w+)"
)
# A token of a condition of a write.
TOKEN = re.compile(r"[(),]|<=|>=|<|>|=|[#:]?\w+")
SET = re.compile(r"(#\w+) = (?:if_not_exists\((#\w+), (:\w+)\)|(:\w+))")
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: bool(left == right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}
# Sorts after every key.
LAST = "\uffff"


class ConditionFailedError(Exception):
    """Raised when a write's condition does not hold."""


class Index:
    """An index: the keys of its rows by partition, in the order of its sort key."""

    def __init__(self, definition: Mapping[str, Any], table_key: str) -> None:
        self.name: str = definition["IndexName"]
        self.key = [part["AttributeName"] for part in definition["KeySchema"]]
        self._table_key = table_key
        projection = definition["Projection"]
        self._is_whole = projection["ProjectionType"] == "ALL"
        self._names = {*self.key, table_key, *projection.get("NonKeyAttributes", ())}
        self._partitions: dict[str, list[tuple[str, str]]] = {}

    def projected(self, item: Item | None) -> Item | None:
        """Return the projected attributes of a row, or `None` if the row is not in the index."""
        if item is None or not item.keys() >= set(self.key):
            return None
        return {name: item[name] for name in item if self._is_whole or name in self._names}

    def move(self, before: Item | None, after: Item | None) -> None:
        """Move a row from its old place to its new one; `None` stands for a missing row."""
        old, new = self._place(before), self._place(after)
        if old == new:
            return
        if old:
            self._partitions[old[0]].remove(old[1])
        if new:
            insort(self._partitions.setdefault(new[0], []), new[1])

    def find(self, condition: str, value: Callable[[str], Any]) -> list[str]:
        """Return the keys of the rows that meet a key condition, in order.

        `value` returns the value of a placeholder in the condition.
        """
        partition, *sorts = _terms(condition)
        places = self._partitions.get(value(partition["value"]), [])
        if not sorts:
            return [key for _, key in places]
        [sort] = sorts
        if sort["between"]:
            low = bisect_left(places, (value(sort["low"]), ""))
            return [
                key for _, key in places[low : bisect_right(places, (value(sort["high"]), LAST))]
            ]
        end = LAST if sort["operator"] == "<=" else ""
        return [key for _, key in places[: bisect_right(places, (value(sort["value"]), end))]]

    def count_until(self, sort: str) -> int:
        """Return the number of rows, of all partitions, up to a value of the sort key."""
        return sum(bisect_right(places, (sort, LAST)) for places in self._partitions.values())

    def _place(self, item: Item | None) -> tuple[str, tuple[str, str]] | None:
        if self.projected(item) is None or item is None:
            return None
        partition, sort = (item[name]["S"] for name in self.key)
        return partition, (sort, item[self._table_key]["S"])


class Table:
    """A table and its indexes; `rows` has the items by the text of their key."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        [part] = properties["KeySchema"]
        self.key: str = part["AttributeName"]
        definitions = properties["GlobalSecondaryIndexes"]
        self.indexes = {each["IndexName"]: Index(each, self.key) for each in definitions}
        self.rows: dict[str, Item] = {}

    def put(self, key: str, after: Item | None) -> None:
        """Replace the row of a key; `None` removes the row."""
        before = self.rows.pop(key, None)
        if after is not None:
            self.rows[key] = after
        for index in self.indexes.values():
            index.move(before, after)


class Tables:
    """The template's tables with counts of their use.

    `calls` has the calls by operation; `read` and `written` have the units by cause. A cause is a
    table's name, or for the work table the part of the key before the #. For an index, its name
    follows after a colon.
    """

    def __init__(self, template: Mapping[str, Any]) -> None:
        self.tables = {
            name: Table(resource["Properties"])
            for name, resource in template["Resources"].items()
            if resource["Type"] == "AWS::DynamoDB::Table"
        }
        self._lock = Lock()
        # Called with the table's name and the item before and after each write that changed it.
        self.on_write: Callable[[str, Item | None, Item | None], None] = lambda *_: None
        self.forget()

    def forget(self) -> None:
        """Reset all counts to zero; keep the rows."""
        self.calls: Counter[str] = Counter()
        self.read: defaultdict[str, float] = defaultdict(float)
        self.written: defaultdict[str, int] = defaultdict(int)

    def answer(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return DynamoDB's answer to a request, and count its units.

        Raise `ConditionFailedError` if the request's condition does not hold.
        """
        answers = {
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "DeleteItem": self._delete,
            "GetItem": self._get,
            "Query": self._query,
            "UpdateItem": self._update,
        }
        with self._lock:
            self.calls[operation] += 1
            return answers[operation](request)

    def _get(self, request: Mapping[str, Any]) -> dict[str, Any]:
        item = self._read_one(request["TableName"], request["Key"], request)
        return {"Item": item} if item else {}

    def _batch_get(self, request: Mapping[str, Any]) -> dict[str, Any]:
        [(name, options)] = request["RequestItems"].items()
        items = [self._read_one(name, key, options) for key in options["Keys"]]
        return {"Responses": {name: [item for item in items if item]}, "UnprocessedKeys": {}}

    def _read_one(self, name: str, key: Item, options: Mapping[str, Any]) -> Item | None:
        table = self.tables[name]
        item = table.rows.get(key[table.key]["S"])
        units = capacity.read([item or {}], consistent=options.get("ConsistentRead", False))
        self.read[_cause(name, key[table.key]["S"])] += units
        return item

    def _query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        table = self.tables[request["TableName"]]
        index = table.indexes[request["IndexName"]]
        values = request["ExpressionAttributeValues"]
        keys = index.find(request["KeyConditionExpression"], lambda name: values[name]["S"])
        if not request.get("ScanIndexForward", True):
            keys.reverse()
        items = [index.projected(table.rows[key]) or {} for key in keys[: request.get("Limit")]]
        cause = f"{request['TableName']}: {index.name}"
        self.read[cause] += capacity.read(items)
        counted = request.get("Select") == "COUNT"
        return {"Count": len(items)} if counted else {"Count": len(items), "Items": items}

    def _update(self, request: Mapping[str, Any]) -> dict[str, Any]:
        def update_item(before: Item | None) -> Item:
            return {**request["Key"], **_updated(before or {}, request)}

        return {"Attributes": self._write(request, update_item)}

    def _delete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._write(request, lambda _: None)
        return {}

    def _write(
        self, request: Mapping[str, Any], change: Callable[[Item | None], Item | None]
    ) -> Item | None:
        name, table = request["TableName"], self.tables[request["TableName"]]
        key = request["Key"][table.key]["S"]
        cause, before = _cause(name, key), table.rows.get(key)
        if not _meets_condition(before or {}, request):
            self.written[cause] += capacity.written(before, None)
            raise ConditionFailedError
        after = change(before)
        self.written[cause] += capacity.written(before, after)
        for index in table.indexes.values():
            old, new = index.projected(before), index.projected(after)
            self.written[f"{cause}: {index.name}"] += capacity.written_to_index(old, new, index.key)
        self._replace(name, key, before, after)
        return after

    def _batch_write(self, request: Mapping[str, Any]) -> dict[str, Any]:
        [(name, writes)] = request["RequestItems"].items()
        table = self.tables[name]
        for write in writes:
            item = write["PutRequest"]["Item"]
            key = item[table.key]["S"]
            before = table.rows.get(key)
            self.written[_cause(name, key)] += capacity.written(before, item)
            self._replace(name, key, before, item)
        return {"UnprocessedItems": {}}

    def _replace(self, name: str, key: str, before: Item | None, after: Item | None) -> None:
        self.tables[name].put(key, after)
        if before != after:
            self.on_write(name, before, after)


def _cause(table: str, key: str) -> str:
    return key.partition("#")[0] if table == "WorkTable" else table


def _terms(condition: str) -> Iterator[re.Match[str]]:
    if not set(TERM.sub("", condition).split()) <= {"AND"}:
        raise ValueError(f"Cannot evaluate the condition {condition!r}: add its form to TERM.")
    return TERM.finditer(condition)


def _meets_condition(item: Item, request: Mapping[str, Any]) -> bool:
    condition = request.get("ConditionExpression")
    return condition is None or _Condition(condition, item, request).holds()


class _Condition:
    """A condition of a write, evaluated on an item while its tokens are read."""

    def __init__(self, text: str, item: Item, request: Mapping[str, Any]) -> None:
        self._tokens = TOKEN.findall(text)
        self._item = item
        self._names = request.get("ExpressionAttributeNames", {})
        self._values = request.get("ExpressionAttributeValues", {})

    def holds(self) -> bool:
        """Return whether the condition holds. Raise `ValueError` for a form not known here."""
        result = self._any()
        if self._tokens:
            raise ValueError(f"Cannot evaluate the end of a condition: {self._tokens}")
        return result

    def _any(self) -> bool:
        result = self._all()
        while self._skip("OR"):
            result = self._all() or result
        return result

    def _all(self) -> bool:
        result = self._one()
        while self._skip("AND"):
            result = self._one() and result
        return result

    def _one(self) -> bool:
        if self._skip("NOT"):
            return not self._one()
        if self._skip("("):
            result = self._any()
            self._tokens.pop(0)
            return result
        token = self._tokens.pop(0)
        return self._comparison(token) if token.startswith("#") else self._function(token)

    def _function(self, function: str) -> bool:
        _, subject, *_ = self._tokens[:3]
        value = self._item.get(self._names[subject])
        arguments = self._tokens[: self._tokens.index(")") + 1]
        del self._tokens[: len(arguments)]
        match function:
            case "attribute_exists":
                return value is not None
            case "attribute_not_exists":
                return value is None
            case "attribute_type":
                return value is not None and self._values[arguments[3]]["S"] in value
        raise ValueError(f"Cannot evaluate the function {function}: add it to _function.")

    def _comparison(self, name: str) -> bool:
        operator, value = self._tokens.pop(0), self._values[self._tokens.pop(0)]
        known = self._item.get(self._names[name])
        # Values of different types are neither equal nor in an order.
        if known is None or known.keys() != value.keys():
            return False
        return COMPARISONS[operator](_plain(known), _plain(value))

    def _skip(self, token: str) -> bool:
        is_next = self._tokens[:1] == [token]
        if is_next:
            self._tokens.pop(0)
        return is_next


def _updated(before: Item, request: Mapping[str, Any]) -> Item:
    """Return the item after an update expression of SET, REMOVE and ADD clauses.

    As in DynamoDB, all right-hand sides are evaluated on the item before the update.
    """
    names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
    after = dict(before)
    _, *parts = re.split(r"\b(SET|REMOVE|ADD) ", request["UpdateExpression"])
    for clause, text in zip(parts[::2], parts[1::2], strict=True):
        match clause:
            case "SET":
                for name, known, default, value in SET.findall(text):
                    after[names[name]] = (
                        before.get(names.get(known, "")) or values[value or default]
                    )
            case "REMOVE":
                for name in re.findall(r"#\w+", text):
                    after.pop(names[name], None)
            case "ADD":
                for name, value in re.findall(r"(#\w+) (:\w+)", text):
                    known_number = before.get(names[name], {"N": "0"})["N"]
                    total = Decimal(known_number) + Decimal(values[value]["N"])
                    after[names[name]] = {"N": str(total)}
    return after


def _plain(typed: Mapping[str, Any]) -> Any:
    [(kind, value)] = typed.items()
    return Decimal(value) if kind == "N" else value
