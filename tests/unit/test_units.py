"""The bench counts the units that AWS bills (AWS docs, DynamoDB item sizes, secondary indexes)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.units import Units
from bench.wire import Answer, Request

KEY = {"work_id": {"S": "check#1"}}


@pytest.fixture
def units(dynamodb: Any) -> Units:
    return Units(dynamodb)


def write(units: Units, **attributes: str) -> dict[str, int]:
    """Update the item of `KEY` through the counter; the units that it took, by index."""
    parameters = {
        "TableName": "WorkTable",
        "Key": KEY,
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
        "ExpressionAttributeNames": {f"#{name}": name for name in attributes},
        "ExpressionAttributeValues": {f":{name}": {"S": v} for name, v in attributes.items()},
    }
    return count(units, "UpdateItem", parameters)


def count(units: Units, operation: str, parameters: Any) -> dict[str, int]:
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    calls = {"UpdateItem": units.dynamodb.update_item, "DeleteItem": units.dynamodb.delete_item}

    def answer(request: Request) -> Answer:
        calls[operation](**request.parameters)
        return Answer(200, {}, b"{}")

    body = json.dumps(parameters).encode()
    units.counted(answer)(Request("POST", "dynamodb", "/", headers, body))
    return dict(units.writes[-1].units)


def test_an_index_costs_nothing_until_an_item_has_its_keys(units: Units) -> None:
    assert write(units, cause="new") == {"table": 1}
    assert write(units, pending="yes", due_at="2026-06-03T10:00:00.000Z") == {"table": 1, "due": 1}


def test_an_index_costs_twice_where_its_key_changes(units: Units) -> None:
    write(units, pending="yes", due_at="2026-06-03T10:00:00.000Z")

    assert write(units, due_at="2026-06-03T10:01:00.000Z") == {"table": 1, "due": 2}


def test_a_write_that_changes_nothing_costs_the_table_alone(units: Units) -> None:
    write(units, pending="yes", due_at="2026-06-03T10:00:00.000Z")

    assert write(units, pending="yes") == {"table": 1}


def test_each_begun_kilobyte_costs_in_table_and_index(units: Units) -> None:
    write(units, pending="yes", due_at="2026-06-03T10:00:00.000Z")

    assert write(units, cause="x" * 1000) == {"table": 2, "due": 2}


def test_a_deletion_costs_what_is_deleted(units: Units) -> None:
    write(units, pending="yes", due_at="2026-06-03T10:00:00.000Z")

    deletion = {"TableName": "WorkTable", "Key": KEY}
    assert count(units, "DeleteItem", deletion) == {"table": 1, "due": 1}
