"""Checks of the functions' roles, by IAM's policy simulator: each may do what its function does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, ok, wrong
from .functions import HEADINGS, names
from .headings import UNDO_CHANGE

_LOGS = "logs:CreateLogStream logs:PutLogEvents"
_RECEIVE = "sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes"
_COMMON = (
    ("secretsmanager:GetSecretValue", "ApiTokenSecret"),
    ("dynamodb:GetItem dynamodb:UpdateItem", "RecordingsTable"),
    (
        "dynamodb:GetItem dynamodb:UpdateItem dynamodb:DeleteItem dynamodb:BatchWriteItem",
        "WorkTable",
    ),
)
_ERASE = (
    ("s3:DeleteObject s3:DeleteObjectVersion s3:AbortMultipartUpload", "ArchiveBucket/*"),
    ("s3:ListBucketVersions s3:ListBucketMultipartUploads", "ArchiveBucket"),
)
# Without RetentionDays, `sweep_recordings` has no such right.
_RETENTION = (*_ERASE, ("events:PutEvents", "EventBus"))

NEEDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "receive_webhook": (
        (_LOGS, "ReceiveWebhookLogGroup"),
        ("sqs:SendMessage", "IngestQueue"),
    ),
    "ingest_recording": (
        (_LOGS, "IngestRecordingLogGroup"),
        (_RECEIVE, "IngestQueue"),
        *_COMMON,
        ("dynamodb:Query", "RecordingsTable/index/by_session"),
        ("dynamodb:BatchGetItem", "RecordingsTable"),
    ),
    "follow_up": (
        (_LOGS, "FollowUpLogGroup"),
        ("dynamodb:Query", "WorkTable/index/due"),
        ("dynamodb:UpdateItem dynamodb:DeleteItem", "WorkTable"),
        ("sqs:SendMessage", "IngestQueue"),
        ("sqs:SendMessage", "ArchiveQueue"),
        ("sqs:SendMessage", "UrgentArchiveQueue"),
    ),
    "publish_changes": (
        (_LOGS, "PublishChangesLogGroup"),
        (
            "dynamodb:DescribeStream dynamodb:GetRecords dynamodb:GetShardIterator",
            "RecordingsTable/stream",
        ),
        ("dynamodb:ListStreams", "RecordingsTable/stream/*"),
        ("events:PutEvents", "EventBus"),
        ("sqs:SendMessage", "PublishDeadLetterQueue"),
        ("dynamodb:UpdateItem", "WorkTable"),
        ("sqs:SendMessage", "ArchiveQueue"),
        ("sqs:SendMessage", "UrgentArchiveQueue"),
    ),
    "archive_recording": (
        (_LOGS, "ArchiveRecordingLogGroup"),
        (_RECEIVE, "ArchiveQueue"),
        (_RECEIVE, "UrgentArchiveQueue"),
        *_COMMON,
        (
            "s3:PutObject s3:AbortMultipartUpload s3:ListMultipartUploadParts",
            "ArchiveBucket/RealtimeKitAppId/*",
        ),
        ("s3:GetObject", "ArchiveBucket/*"),
        *_ERASE,
        ("s3:GetBucketObjectLockConfiguration", "ArchiveBucket"),
    ),
    "serve_catalogue": (
        (_LOGS, "ServeCatalogueLogGroup"),
        *_COMMON,
        ("dynamodb:Query", "RecordingsTable/index/by_time"),
        ("dynamodb:Query", "RecordingsTable/index/by_meeting"),
        ("dynamodb:Query", "RecordingsTable/index/by_session"),
        ("dynamodb:Query", "RecordingsTable/index/by_label"),
        ("dynamodb:BatchGetItem", "RecordingsTable"),
        ("dynamodb:Query", "WorkTable/index/due"),
        ("sqs:GetQueueAttributes", "IngestQueue"),
        ("sqs:GetQueueAttributes", "IngestDeadLetterQueue"),
        ("sqs:GetQueueAttributes", "EventRuleDeadLetterQueue"),
        ("sqs:GetQueueAttributes", "PublishDeadLetterQueue"),
        ("sqs:GetQueueAttributes", "ArchiveQueue"),
        ("sqs:GetQueueAttributes", "UrgentArchiveQueue"),
        ("sqs:GetQueueAttributes", "ArchiveDeadLetterQueue"),
        ("s3:GetObject", "ArchiveBucket/*"),
        *_ERASE,
        ("s3:ListBucket", "ArchiveBucket"),
    ),
    "sweep_recordings": (
        (_LOGS, "SweepRecordingsLogGroup"),
        *_COMMON,
        ("dynamodb:BatchGetItem", "RecordingsTable"),
        ("dynamodb:Query", "RecordingsTable/index/by_time"),
        ("dynamodb:Query", "WorkTable/index/due"),
        ("s3:GetObject", "ArchiveBucket/*"),
        *_RETENTION,
    ),
}
"""The actions that each function needs, with the resource, by the template's logical ids.

A test compares the table with template.yaml, and the functional tests compare template.yaml with
the calls that the functions make.
"""

EVENT_SOURCE = "realtimekit.recordings"
# The simulator wants an object's or a stream's whole ARN; any name of the pattern does.
_EXAMPLE = "verify"


def check_rights(deployment: Deployment) -> Iterator[Finding]:
    """Yield for each function whether its role may do all that the function does."""
    for module in names(deployment):
        yield from attempt(f"role of {module}", _role, deployment, module)


def _role(check: str, deployment: Deployment, module: str) -> Iterator[Finding]:
    functions = deployment.client("lambda")
    name = names(deployment)[module]
    role = functions.get_function_configuration(FunctionName=name)["Role"]
    needs = list(_needs(deployment, module))
    denied = [
        f"{action} on {resource}"
        for actions, resource in needs
        for action in _denied(deployment, role, actions, _arn(deployment, resource))
    ]
    if denied:
        yield wrong(
            check,
            f"The role may not {', '.join(denied)}.",
            action=f"{UNDO_CHANGE} If the role was not changed, a permissions boundary or a policy "
            "of your organization denies it.",
            heading=HEADINGS[module],
        )
    else:
        rights = sum(len(actions) for actions, _ in needs)
        yield ok(check, f"all {rights} rights that the function needs")


def _needs(deployment: Deployment, module: str) -> Iterator[tuple[list[str], str]]:
    """Yield the actions and resources that a function needs with the stack's parameters."""
    is_retaining = deployment.stack.parameters.get("RetentionDays", "0") != "0"
    for actions, resource in NEEDS[module]:
        is_policy = module == "sweep_recordings" and (actions, resource) in _RETENTION
        if is_policy and not is_retaining:
            continue
        if deployment.is_archiving or "Archive" not in resource:
            yield actions.split(), resource


def _denied(deployment: Deployment, role: str, actions: list[str], arn: str) -> Iterator[str]:
    # One resource in a request, because the answer is about each action on each resource.
    answer = deployment.client("iam").simulate_principal_policy(
        PolicySourceArn=role,
        ActionNames=actions,
        ResourceArns=[arn],
        ContextEntries=list(_context(deployment)),
    )
    for result in answer["EvaluationResults"]:
        if result["EvalDecision"] != "allowed":
            yield result["EvalActionName"]


def _context(deployment: Deployment) -> Iterator[dict[str, Any]]:
    """Yield the values of the keys on which the roles' policies set conditions."""
    owner = deployment.stack.parameters.get("ArchiveBucketOwner") or deployment.account_id
    for key, value in {"aws:ResourceAccount": owner, "events:source": EVENT_SOURCE}.items():
        yield {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}


def _arn(deployment: Deployment, resource: str) -> str:
    """Return the ARN of a resource in the table, with names for its patterns."""
    logical_id, _, rest = resource.partition("/")
    rest = rest.replace("RealtimeKitAppId", deployment.stack.parameter("RealtimeKitAppId"))
    rest = rest.replace("*", _EXAMPLE)
    path = f"/{rest}" if rest else ""
    if logical_id == "ApiTokenSecret":
        return deployment.stack.output("ApiTokenSecretArn")
    if logical_id == "ArchiveBucket":
        partition = deployment.arn("s3", "").split(":")[1]
        return f"arn:{partition}:s3:::{deployment.stack.output('ArchiveBucketName')}{path}"
    physical_id = deployment.resource(logical_id)
    if logical_id.endswith("Table"):
        return _stream(deployment, physical_id, rest) or deployment.arn(
            "dynamodb", f"table/{physical_id}{path}"
        )
    if logical_id.endswith("Queue"):
        return deployment.arn("sqs", physical_id.rpartition("/")[2])
    if logical_id == "EventBus":
        return deployment.arn("events", f"event-bus/{physical_id}")
    return deployment.arn("logs", f"log-group:{physical_id}:log-stream:{_EXAMPLE}")


def _stream(deployment: Deployment, table: str, rest: str) -> str:
    """Return the ARN of the table's stream if `rest` names the stream, or else ""."""
    if rest != "stream":
        return ""
    description = deployment.client("dynamodb").describe_table(TableName=table)["Table"]
    return str(description["LatestStreamArn"])
