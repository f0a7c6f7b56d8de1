"""One DynamoDB table that takes and returns Python's values."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
"""A row of text, int, `Decimal` (for fractions), bool, bytes, list, dict and set."""

_serialize = TypeSerializer().serialize


class ConditionFailedError(Exception):
    """Raised when a write's condition does not hold; the row is unchanged."""


class UnwritableError(Exception):
    """Raised when DynamoDB refuses a row for its content: too large, or a key of a wrong type.

    The failure is permanent for this row as it is, and other rows may still be written.
    """


class Table:
    """A table by name. In expressions `#name` is the attribute `name`, `:name` a given value.

    DynamoDB's other errors come through as botocore's `ClientError`. Throttling and outages are
    transient, and whatever triggered the function tries again.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def get(self, key: Mapping[str, str]) -> Item | None:
        """Return the row by a consistent read, `None` if it is missing."""
        answer = self._dynamodb.get_item(
            TableName=self._name, Key=_marshal(key), ConsistentRead=True
        )
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def get_many(
        self, keys: Sequence[Mapping[str, str]], attributes: Sequence[str] = ()
    ) -> list[Item]:
        """Return the existing rows of up to 100 keys, unordered, as they are or were a moment ago.

        Only these `attributes` are returned, or all by default.
        """
        options: Any = {"Keys": [_marshal(key) for key in keys]}
        if attributes:
            options["ProjectionExpression"] = ", ".join(f"#{name}" for name in attributes)
            options["ExpressionAttributeNames"] = {f"#{name}": name for name in attributes}
        answer = self._dynamodb.batch_get_item(RequestItems={self._name: options})
        rows = [unmarshal(item) for item in answer["Responses"].get(self._name, [])]
        # Rows that DynamoDB had no capacity for are read one by one, with botocore's retries.
        left = answer.get("UnprocessedKeys", {}).get(self._name, {"Keys": []})["Keys"]
        return rows + [row for key in left if (row := self.get(unmarshal(key))) is not None]

    def update(
        self,
        key: Mapping[str, str],
        expression: str,
        values: Mapping[str, Any],
        condition: str | None = None,
        *,
        remove: Collection[str] = (),
    ) -> Item:
        """Write a row and return its new state; the attributes to `remove` may have any name.

        Raises `ConditionFailedError` and `UnwritableError`.
        """
        conditional: Any = {"ConditionExpression": condition} if condition else {}
        removed = {f"#removed{number}": name for number, name in enumerate(remove)}
        removal = f" REMOVE {', '.join(removed)}" if removed else ""
        with _refusals():
            answer = self._dynamodb.update_item(
                TableName=self._name,
                Key=_marshal(key),
                UpdateExpression=f"{expression}{removal}",
                ExpressionAttributeNames={**_names(f"{expression} {condition or ''}"), **removed},
                ExpressionAttributeValues=_values(values),
                ReturnValues="ALL_NEW",
                **conditional,
            )
        return unmarshal(answer["Attributes"])

    def set_attributes(
        self,
        key: Mapping[str, str],
        attributes: Mapping[str, Any],
        condition: str | None = None,
        operands: Mapping[str, Any] | None = None,
        *,
        remove: Collection[str] = (),
    ) -> Item:
        """Write attributes as `update` does; `operands` are the condition's other values."""
        assignments = ", ".join(f"#{name} = :{name}" for name in attributes)
        values = {**attributes, **(operands or {})}
        return self.update(key, f"SET {assignments}", values, condition, remove=remove)

    def delete(self, key: Mapping[str, str]) -> None:
        """Delete the row, if it exists."""
        self._dynamodb.delete_item(TableName=self._name, Key=_marshal(key))

    def delete_if(self, key: Mapping[str, str], condition: str, values: Mapping[str, Any]) -> None:
        """Delete the row under a condition. Raises `ConditionFailedError`."""
        with _refusals():
            self._dynamodb.delete_item(
                TableName=self._name,
                Key=_marshal(key),
                ConditionExpression=condition,
                ExpressionAttributeNames=_names(condition),
                ExpressionAttributeValues=_values(values),
            )

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Write up to 25 rows over any old ones; rows that DynamoDB throttles are left out."""
        requests: Any = [{"PutRequest": {"Item": _marshal(item)}} for item in items]
        self._dynamodb.batch_write_item(RequestItems={self._name: requests})

    def query(
        self,
        index: str,
        condition: str,
        values: Mapping[str, Any],
        limit: int,
        *,
        after: Mapping[str, str] | None = None,
        where: str = "",
        names: Mapping[str, str] | None = None,
        backwards: bool = False,
    ) -> tuple[list[Item], Item | None]:
        """Read up to `limit` rows of an index under a key condition, in the order of its sort key.

        Return the rows of these for which `where` holds, and the key of the last row read, to go on
        `after` it. The key is `None` at the end of the index. `names` maps a
        name that `where` uses to the attribute's own, for names that an expression cannot contain.
        """
        options: Any = {"FilterExpression": where} if where else {}
        if after:
            options["ExclusiveStartKey"] = _marshal(after)
        answer = self._dynamodb.query(
            TableName=self._name,
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={
                **_names(f"{condition} {where}"),
                **{f"#{name}": real for name, real in (names or {}).items()},
            },
            ExpressionAttributeValues=_values(values),
            Limit=limit,
            ScanIndexForward=not backwards,
            **options,
        )
        last = answer.get("LastEvaluatedKey")
        return [unmarshal(item) for item in answer["Items"]], unmarshal(last) if last else None

    def count(self, index: str, condition: str, values: Mapping[str, Any]) -> int:
        """Return the number of rows of an index under a key condition; all of them are read."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._name,
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=_names(condition),
            ExpressionAttributeValues=_values(values),
            Select="COUNT",
        )
        return sum(page["Count"] for page in pages)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "ConditionalCheckFailedException":
                raise ConditionFailedError from None
            case "ValidationException":
                # The message names attributes without their values, so it may be logged.
                raise UnwritableError(error.response["Error"].get("Message", "")) from None
        raise


def unmarshal(item: Mapping[str, Any]) -> Item:
    """Return a row from DynamoDB's own JSON, as boto3 has it or as a stream has it."""
    return {name: _plain(value) for name, value in item.items()}


def _names(expression: str) -> dict[str, str]:
    return {f"#{name}": name for name in re.findall(r"#(\w+)", expression)}


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return _marshal({f":{name}": value for name, value in values.items()})


def _marshal(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialize(value) for name, value in item.items()}


def _plain(typed: Mapping[str, Any]) -> Any:
    [(kind, value)] = typed.items()
    match kind:
        case "M":
            return unmarshal(value)
        case "L":
            return [_plain(member) for member in value]
        case "SS" | "NS" | "BS":
            return {_plain({kind[0]: member}) for member in value}
        case "N":
            return _number(value)
        case "B":
            # Bytes in a stream's record, which is JSON, are base64 text (Lambda guide, DynamoDB).
            return base64.b64decode(value) if isinstance(value, str) else bytes(value)
        case "NULL":
            return None
    return value


def _number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number
