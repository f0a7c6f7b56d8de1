"""One DynamoDB table with Python's values in and out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
"""A row: text, int, `Decimal` where a number is no integer, bool, bytes, list, dict."""

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class ConditionFailedError(Exception):
    """Raised when a write's condition does not hold; nothing was written."""


class Table:
    """A table by name. In expressions `#name` is the attribute `name`, `:name` a given value.

    DynamoDB's own errors come through as botocore's `ClientError`: throttling and outages are
    transient, and the caller's caller tries again.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def get(self, key: Mapping[str, str]) -> Item | None:
        """The row as it is now (a consistent read); `None` where there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._name, Key=_marshal(key), ConsistentRead=True
        )
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Sequence[Mapping[str, str]]) -> list[Item]:
        """Those of up to 100 rows that there are, in no order, as they are now or were just now."""
        options: Any = {"Keys": [_marshal(key) for key in keys]}
        answer = self._dynamodb.batch_get_item(RequestItems={self._name: options})
        found = [unmarshal(item) for item in answer["Responses"].get(self._name, [])]
        # What DynamoDB had no capacity for is asked for one by one, with botocore's patience.
        left = answer.get("UnprocessedKeys", {}).get(self._name, {"Keys": []})["Keys"]
        return found + [row for key in left if (row := self.get(unmarshal(key))) is not None]

    def update(
        self,
        key: Mapping[str, str],
        expression: str,
        values: Mapping[str, Any],
        condition: str | None = None,
    ) -> Item:
        """Write and return the row's new state. Raises `ConditionFailedError`."""
        conditional: Any = {"ConditionExpression": condition} if condition else {}
        with _conditions():
            answer = self._dynamodb.update_item(
                TableName=self._name,
                Key=_marshal(key),
                UpdateExpression=expression,
                ExpressionAttributeNames=_names(f"{expression} {condition or ''}"),
                ExpressionAttributeValues=_values(values),
                ReturnValues="ALL_NEW",
                **conditional,
            )
        return unmarshal(answer["Attributes"])

    def delete(self, key: Mapping[str, str]) -> None:
        """Also where there is no such row."""
        self._dynamodb.delete_item(TableName=self._name, Key=_marshal(key))

    def delete_if(self, key: Mapping[str, str], condition: str, values: Mapping[str, Any]) -> None:
        """Raises `ConditionFailedError`, and deletes nothing."""
        with _conditions():
            self._dynamodb.delete_item(
                TableName=self._name,
                Key=_marshal(key),
                ConditionExpression=condition,
                ExpressionAttributeNames=_names(condition),
                ExpressionAttributeValues=_values(values),
            )

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Write up to 25 rows over what was there; those that DynamoDB throttles are left out."""
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
        backwards: bool = False,
    ) -> tuple[list[Item], Item | None]:
        """Read up to `limit` rows of an index under a key condition, in the order of its sort key.

        Of those read, the rows for which `where` holds; and the key of the last one read, to go on
        `after` it, or `None` where there are no more.
        """
        options: Any = {"FilterExpression": where} if where else {}
        if after:
            options["ExclusiveStartKey"] = _marshal(after)
        answer = self._dynamodb.query(
            TableName=self._name,
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=_names(f"{condition} {where}"),
            ExpressionAttributeValues=_values(values),
            Limit=limit,
            ScanIndexForward=not backwards,
            **options,
        )
        last = answer.get("LastEvaluatedKey")
        return [unmarshal(item) for item in answer["Items"]], unmarshal(last) if last else None

    def count(self, index: str, condition: str, values: Mapping[str, Any]) -> int:
        """How many rows of an index there are under a key condition; all of them are read."""
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
def _conditions() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise ConditionFailedError from None
        raise


def unmarshal(item: Mapping[str, Any]) -> Item:
    """A row from DynamoDB's own JSON, as a stream has it."""
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def _names(expression: str) -> dict[str, str]:
    return {f"#{name}": name for name in re.findall(r"#(\w+)", expression)}


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return _marshal({f":{name}": value for name, value in values.items()})


def _marshal(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialize(value) for name, value in item.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value
    if isinstance(value, Binary):
        return bytes(value)  # type: ignore[call-overload]
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value
