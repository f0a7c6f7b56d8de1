"""Copying rows from a restored table into the stack's, without overwriting anything newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# BatchWriteItem takes no conditions, so each row is a PutItem of its own; so many at a time make
# some 2,000 a second where a call takes 15 ms.
WORKERS = 32
PAGE = 1_000
CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=WORKERS,
    # A table that grows is throttled at first; DynamoDB adds capacity within minutes.
    retries={"mode": "standard", "max_attempts": 10},
)

_MISSING = "attribute_not_exists(recording_id)"
_OLDER = f"{_MISSING} OR (attribute_not_exists(erased_at) AND attribute_not_exists(erasing_since)"
_CONDITIONS = {
    # A tombstone stays: what was erased since the backup must not come back.
    "older": f"{_OLDER} AND #version < :version)",
    "all": f"{_OLDER})",
}

Overwritten = Literal["older", "all"]
Row = dict[str, Any]


def copy_rows(
    dynamodb: DynamoDBClient,
    source: str,
    target: str,
    overwritten: Overwritten,
    progress: Callable[[Counter[str]], None],
) -> Counter[str]:
    """Copy all rows; return how many were `written`, and how many `kept` as they are.

    A row that is missing in the target is written. One that is there is overwritten if its version
    is lower (`older`), or always (`all`), but never if it is erased. DynamoDB's errors come
    through; the copy may be run again.
    """
    counts: Counter[str] = Counter()
    rows = _rows(dynamodb, source)
    with ThreadPoolExecutor(WORKERS) as workers:
        while batch := list(islice(rows, PAGE)):
            writes = [workers.submit(_write, dynamodb, target, row, overwritten) for row in batch]
            for write in as_completed(writes):
                counts["written" if write.result() else "kept"] += 1
            progress(counts)
    return counts


def _rows(dynamodb: DynamoDBClient, table: str) -> Iterator[Row]:
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from page["Items"]


def _write(dynamodb: DynamoDBClient, table: str, row: Row, overwritten: Overwritten) -> bool:
    """Write one row; return False if the table has one that stays."""
    request: dict[str, Any] = {"ConditionExpression": _CONDITIONS[overwritten]}
    if overwritten == "older":
        request["ExpressionAttributeNames"] = {"#version": "version"}
        request["ExpressionAttributeValues"] = {":version": row.get("version", {"N": "0"})}
    try:
        dynamodb.put_item(TableName=table, Item=row, **request)
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def key_of(dynamodb: DynamoDBClient, table: str) -> list[str]:
    """Return the attributes of a table's key, or none if there is no such table."""
    try:
        schema = dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return []
    return [one["AttributeName"] for one in schema]
