"""An update of a stack of version 0.1.0 to the present template, which loses nothing.

`template-0.1.0.yaml` is the template of that version, and `data-0.1.0.json` has rows that its
functions wrote, with a due time and a time to live that are far away.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from doubles import HANDLERS, ROOT
from local.stack import STACK_NAME, LocalStack
from local.template import load
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.worklist import Worklist
from upgrade.replacement import broken_promises, losses, refusals

HERE = Path(__file__).parent
OLD_TEMPLATE = HERE / "template-0.1.0.yaml"
DATA = json.loads((HERE / "data-0.1.0.json").read_text())
APP_ID = "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
UPLOADED_ID, LIVE_ID = (row["recording_id"]["S"] for row in DATA["RecordingsTable"])
KEY = f"{APP_ID}/2026/11/26/{UPLOADED_ID}/video/78e51061-7311-48a3-82ce-6f447ed4d57b_1795666629975.mp4"
PARAMETERS = {
    "CloudflareAccountId": "0a6c1b5f2d3e4f708192a3b4c5d6e7f8",
    "RealtimeKitAppId": APP_ID,
    "RealtimeKitApiUrl": "http://127.0.0.1:9/nobody-listens-here",
}
# The functions do nothing, so that only the update can change what is compared.
HANDLER = "def handler(event, context):\n    return {}\n"
# Half a second each, ten minutes in all: nothing here counts on a quick machine.
WAIT = {"Delay": 0.5, "MaxAttempts": 1200}
# SAM makes a deployment of the API for each change of its routes. The emulator makes an API, too, and
# permissions that name it; CloudFormation overwrites the API in place (PutRestApi).
RENEWED = ("AWS::ApiGateway::Deployment", "AWS::ApiGateway::RestApi", "AWS::Lambda::Permission")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def old() -> dict[str, Any]:
    return load(OLD_TEMPLATE)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Yield a stack of version 0.1.0, with data and without RealtimeKit."""
    (tmp_path / "functions").mkdir()
    for name in HANDLERS:
        (tmp_path / f"functions/{name}.py").write_text(HANDLER)
    shutil.copy(OLD_TEMPLATE, tmp_path / "old.yaml")
    shutil.copy(ROOT / "template.yaml", tmp_path / "new.yaml")
    with LocalStack(PARAMETERS, "the token", template_file=tmp_path / "old.yaml") as stack:
        put_data(stack)
        yield stack


def put_data(stack: LocalStack) -> None:
    bucket = stack.description["archive_bucket"]
    stack.client("s3").put_object(Bucket=bucket, Key=KEY, Body=b"video")
    dynamodb = stack.client("dynamodb")
    for table, rows in json.loads(json.dumps(DATA).replace("ARCHIVE_BUCKET", bucket)).items():
        for row in rows:
            dynamodb.put_item(TableName=stack.description["tables"][table]["name"], Item=row)


def resources(stack: LocalStack) -> dict[str, str]:
    """Return the physical ids of all resources that an update leaves in place, by logical id."""
    answer = stack.client("cloudformation").describe_stack_resources(StackName=STACK_NAME)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for resource in answer["StackResources"]
        if resource["ResourceType"] not in RENEWED
    }


def update(stack: LocalStack, template_file: Path) -> list[Mapping[str, Any]]:
    """Update the stack as `sam deploy` does, by a change set, and return the set's changes."""
    cloudformation = stack.client("cloudformation")
    change_set = cloudformation.create_change_set(
        StackName=STACK_NAME,
        ChangeSetName="upgrade",
        TemplateURL=stack.package(template_file),
        Parameters=[{"ParameterKey": key, "UsePreviousValue": True} for key in PARAMETERS],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )["Id"]
    cloudformation.get_waiter("change_set_create_complete").wait(
        ChangeSetName=change_set, WaiterConfig=WAIT
    )
    pages = cloudformation.get_paginator("describe_change_set")
    changes = [
        change["ResourceChange"]
        for page in pages.paginate(ChangeSetName=change_set)
        for change in page["Changes"]
    ]
    cloudformation.execute_change_set(ChangeSetName=change_set)
    cloudformation.get_waiter("stack_update_complete").wait(StackName=STACK_NAME, WaiterConfig=WAIT)
    return changes


def test_an_update_from_0_1_0_replaces_nothing_and_keeps_data_and_checks(
    stack: LocalStack, tmp_path: Path
) -> None:
    before = resources(stack)
    secret = stack.description["api_token_secret_arn"]

    changes = update(stack, tmp_path / "new.yaml")

    assert [c["LogicalResourceId"] for c in changes if c.get("Replacement") == "True"] == []
    removed = {c["ResourceType"] for c in changes if c["Action"] == "Remove"}
    assert removed == {"AWS::ApiGateway::Deployment"}
    after = resources(stack)
    assert {name: after.get(name) for name in before} == before
    assert "FollowUpStoppedAlarm" in after.keys() - before.keys()
    token = stack.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    assert json.loads(token) == {"api_token": "the token"}
    dynamodb = stack.client("dynamodb")
    catalogue = Catalogue(Table(dynamodb, after["RecordingsTable"]), APP_ID)
    uploaded, live = catalogue.get(UPLOADED_ID), catalogue.get(LIVE_ID)
    assert uploaded
    assert live
    assert (uploaded["archived"], uploaded["version"]) == ("yes", 3)
    assert (live["status"], live["version"]) == ("INVOKED", 2)
    archive = uploaded["artifacts"]["video"]["archive"]
    assert archive["state"] == "archived"
    stored = stack.client("s3").get_object(Bucket=archive["bucket"], Key=archive["key"])
    assert stored["Body"].read() == b"video"
    worklist = Worklist(
        Table(dynamodb, after["WorkTable"]), lambda: datetime(2127, 1, 1, tzinfo=UTC)
    )
    [check] = worklist.due(10)
    assert (check.key, check.attempts) == (f"recording#{LIVE_ID}", 0)


def test_no_resource_of_0_1_0_is_lost_by_an_update(
    old: dict[str, Any], template: Mapping[str, Any]
) -> None:
    assert list(losses(old, template)) == []


def test_dynamodb_accepts_the_change_of_the_indexes_of_0_1_0(
    old: dict[str, Any], template: Mapping[str, Any]
) -> None:
    assert list(refusals(old, template)) == []


def test_the_answers_and_the_outputs_of_0_1_0_stay_valid(
    old: dict[str, Any], template: Mapping[str, Any]
) -> None:
    assert list(broken_promises(old, template)) == []


def _index(template: dict[str, Any], name: str) -> dict[str, Any]:
    indexes = template["Resources"]["RecordingsTable"]["Properties"]["GlobalSecondaryIndexes"]
    found: dict[str, Any] = next(index for index in indexes if index["IndexName"] == name)
    return found


def _properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    properties: dict[str, Any] = template["Resources"][name]["Properties"]
    return properties


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda new: new["Resources"].pop("IngestQueue"), "IngestQueue is deleted"),
        (
            lambda new: new["Resources"]["AlarmTopic"].update(Type="AWS::SQS::Queue"),
            "AlarmTopic is replaced: its type changes",
        ),
        (
            lambda new: _properties(new, "RecordingsTable")["KeySchema"].pop(),
            "RecordingsTable is replaced: KeySchema changes",
        ),
        (
            lambda new: _properties(new, "RecordingsTable")["AttributeDefinitions"][0].update(
                AttributeType="N"
            ),
            "RecordingsTable is replaced: the type of its attribute recording_id changes",
        ),
        (
            lambda new: _properties(new, "ApiTokenSecret").update(Name="token"),
            "ApiTokenSecret is replaced: Name changes",
        ),
        (
            lambda new: _properties(new, "ArchiveBucket").update(BucketName="recordings"),
            "ArchiveBucket is replaced: BucketName changes",
        ),
        (
            lambda new: _properties(new, "FollowUpFunction")["Events"].pop("EveryMinute"),
            "FollowUpFunctionEveryMinute is deleted",
        ),
        (
            lambda new: _properties(
                {"Resources": _properties(new, "PublishChangesFunction")["Events"]}, "Changes"
            ).update(StartingPosition="LATEST"),
            "PublishChangesFunctionChanges is replaced: StartingPosition changes",
        ),
    ],
    ids=["deleted", "type", "key", "attribute", "secret", "bucket", "event", "stream"],
)
def test_a_change_that_loses_data_is_found(old: dict[str, Any], change: Change, found: str) -> None:
    new = copy.deepcopy(old)
    change(new)

    assert list(losses(old, new)) == [found]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda new: _index(new, "by_meeting").update(
                Projection={"ProjectionType": "KEYS_ONLY"}
            ),
            ["RecordingsTable: Projection of the index by_meeting changes under the same name"],
        ),
        (
            lambda new: _index(new, "by_meeting").update(IndexName="by_room"),
            ["RecordingsTable: more than one index is created or deleted: by_meeting, by_room"],
        ),
        (lambda new: _properties(new, "RecordingsTable")["GlobalSecondaryIndexes"].pop(), []),
    ],
    ids=["projection", "renamed", "one deleted"],
)
def test_a_change_of_an_index_that_is_refused_is_found(
    old: dict[str, Any], change: Change, found: list[str]
) -> None:
    new = copy.deepcopy(old)
    change(new)

    assert list(refusals(old, new)) == found


def test_a_parameter_or_output_that_goes_is_found(old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    del new["Parameters"]["MediaHosts"], new["Outputs"]["ApiUrl"]
    new["Parameters"]["Region"] = {"Type": "String"}

    assert sorted(broken_promises(old, new)) == [
        "Outputs: ApiUrl is gone",
        "Parameters: MediaHosts is gone",
        "Parameters: Region is new, and has no default",
    ]
