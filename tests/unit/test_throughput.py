"""The bench of capacity: its tables judge conditions as DynamoDB does, and its loads lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from bench.dynamodb import ConditionFailedError, Tables
from doubles import ROOT

TEMPLATE = {
    "Resources": {
        "WorkTable": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "KeySchema": [{"AttributeName": "work_id", "KeyType": "HASH"}],
                "GlobalSecondaryIndexes": [],
            },
        }
    }
}
NAMES = {f"#{name}": name for name in ("lease", "given_up_at", "due_at", "work_id")}
VALUES = {":now": {"S": "2026-06-03T10:00:00.000Z"}, ":text": {"S": "S"}, ":seven": {"N": "7"}}
EARLIER, LATER = "2026-06-03T09:00:00.000Z", "2026-06-03T11:00:00.000Z"
FREE = (
    "attribute_not_exists(#given_up_at) AND (attribute_not_exists(#lease)"
    " OR NOT attribute_type(#lease, :text) OR #lease <= :now)"
)


@pytest.mark.parametrize(
    ("item", "condition", "holds"),
    [
        ({}, FREE, True),
        ({"lease": {"S": EARLIER}}, FREE, True),
        ({"lease": {"S": LATER}}, FREE, False),
        ({"lease": {"N": "9"}}, FREE, True),
        ({"lease": {"S": EARLIER}, "given_up_at": {"S": EARLIER}}, FREE, False),
        ({"lease": {"N": "7"}}, "#lease >= :seven AND attribute_exists(#work_id)", True),
        ({"lease": {"N": "6"}}, "#lease >= :seven OR #lease > :seven", False),
        ({}, "#due_at > :now", False),
        ({"due_at": {"S": LATER}}, "attribute_exists(#given_up_at) OR #due_at > :now", True),
    ],
)
def test_a_write_happens_only_if_its_condition_holds(
    item: dict[str, Any], condition: str, holds: bool
) -> None:
    tables = Tables(TEMPLATE)
    tables.tables["WorkTable"].put("a", {"work_id": {"S": "a"}, **item})
    request = {
        "TableName": "WorkTable",
        "Key": {"work_id": {"S": "a"}},
        "ConditionExpression": condition,
        "ExpressionAttributeNames": NAMES,
        "ExpressionAttributeValues": VALUES,
    }

    if holds:
        tables.answer("DeleteItem", request)
    else:
        with pytest.raises(ConditionFailedError):
            tables.answer("DeleteItem", request)
    assert ("a" in tables.tables["WorkTable"].rows) != holds


def test_recordings_of_a_burst_are_catalogued_and_archived_within_the_budget() -> None:
    """A window of 15 s has room for one request, so the burst has to wait."""
    options = ["--burst", "2", "--budget", "21", "--only", "1"]

    run = subprocess.run(
        [sys.executable, "-m", "bench.throughput", *options, "--functions", ROOT / "functions"],
        cwd=ROOT,
        # The bench names all settings of the functions; this suite's would hide one that it lacks.
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr.decode()[-2000:]
    figures = json.loads(run.stdout)
    assert (figures["not catalogued"], figures["not archived"]) == (0, 0)
    assert figures["most requests in 5 minutes"] <= 21
    assert figures["s to archived, median"] > figures["s to catalogued, median"] > 1
