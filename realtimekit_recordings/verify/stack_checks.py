"""Checks of the stack itself: its status, its outputs, and changes that were made by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, cannot_tell, ok, wrong
from .headings import UNDO, VERIFY

FAILED_DEPLOYMENT = "A first deployment that failed"

# The outputs that the command line and the runbook's commands read. A test compares both with
# template.yaml, which knows their values.
_OUTPUTS = """
AlarmTopicArn ApiId ApiTokenSecretArn ApiUrl EventBusName EventRuleDeadLetterQueueUrl
FollowUpFunctionName FollowUpLogGroupName IngestDeadLetterQueueArn IngestDeadLetterQueueUrl
IngestQueueArn IngestQueueUrl IngestRecordingFunctionName IngestRecordingLogGroupName
IngestRecordingRoleArn PublishChangesFunctionName PublishChangesLogGroupName
PublishDeadLetterQueueUrl ReceiveWebhookFunctionName ReceiveWebhookLogGroupName
RecordingsTableName ServeCatalogueFunctionName ServeCatalogueLogGroupName
ServeCatalogueRoleArn SweepRecordingsFunctionName SweepRecordingsLogGroupName
SweepRecordingsRoleArn Version WebhookUrl WorkTableName
"""
_ARCHIVE_OUTPUTS = """
ArchiveBucketName ArchiveDeadLetterQueueArn ArchiveDeadLetterQueueUrl ArchiveQueueUrl
ArchiveRecordingFunctionName ArchiveRecordingLogGroupName ArchiveRecordingRoleArn
UrgentArchiveQueueUrl
"""
OUTPUTS = frozenset(_OUTPUTS.split())
ARCHIVE_OUTPUTS = frozenset(_ARCHIVE_OUTPUTS.split())

# Seconds. CloudFormation compares a stack of this size in one to two minutes (estimated).
MAX_DRIFT_SECONDS = 300
DRIFT_INTERVAL_SECONDS = 2


def check_stack(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether the last deployment succeeded, and whether the stack has all outputs."""
    yield from attempt("status", _status, deployment)
    yield from attempt("outputs", _outputs, deployment)


def _status(check: str, deployment: Deployment) -> Iterator[Finding]:
    status = deployment.stack.status
    if status.endswith("_IN_PROGRESS"):
        yield cannot_tell(check, f"{status}: a deployment is under way. Verify again when it ends.")
    elif status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        yield ok(check, status)
    else:
        yield wrong(
            check,
            f"{status}: the last deployment failed, so the stack is not what the template says.",
            action="Remove the cause that the stack's events name, and deploy again.",
            heading=FAILED_DEPLOYMENT,
        )


def _outputs(check: str, deployment: Deployment) -> Iterator[Finding]:
    expected = OUTPUTS | (ARCHIVE_OUTPUTS if deployment.is_archiving else frozenset())
    missing = sorted(expected - deployment.stack.outputs.keys())
    if missing:
        yield wrong(
            check,
            f"Missing: {', '.join(missing)}. The stack is of another version than this command.",
            action="Deploy the stack from this version of the project.",
            heading=VERIFY,
        )
    else:
        yield ok(check, f"all {len(expected)} are there")


def check_drift(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether resources were changed after the deployment; CloudFormation compares them."""
    yield from attempt("drift", _drift, deployment)


def _drift(check: str, deployment: Deployment) -> Iterator[Finding]:
    detection = _detect_drift(deployment)
    if detection["DetectionStatus"] == "DETECTION_IN_PROGRESS":
        yield cannot_tell(check, f"CloudFormation took over {MAX_DRIFT_SECONDS} s to compare.")
    elif detection.get("StackDriftStatus") == "IN_SYNC":
        yield ok(check, "none that CloudFormation sees")
    elif detection.get("StackDriftStatus") == "DRIFTED":
        yield wrong(
            check,
            f"Changed after the deployment: {', '.join(_drifted(deployment))}.",
            action="If the change is not wanted, undo it.",
            heading=UNDO,
        )
    else:
        yield cannot_tell(check, detection.get("DetectionStatusReason", "No reason was given."))


def _detect_drift(deployment: Deployment) -> dict[str, Any]:
    """Start CloudFormation's comparison; return its state at the end, or at `MAX_DRIFT_SECONDS`."""
    cloudformation = deployment.client("cloudformation")
    identifier = cloudformation.detect_stack_drift(StackName=deployment.stack.name)[
        "StackDriftDetectionId"
    ]
    deadline = time.monotonic() + MAX_DRIFT_SECONDS
    while True:
        state: dict[str, Any] = cloudformation.describe_stack_drift_detection_status(
            StackDriftDetectionId=identifier
        )
        if state["DetectionStatus"] != "DETECTION_IN_PROGRESS" or time.monotonic() > deadline:
            return state
        time.sleep(DRIFT_INTERVAL_SECONDS)


def _drifted(deployment: Deployment) -> Iterator[str]:
    """Yield the changed resources, each with the paths of its changed properties."""
    # CloudFormation has no paginator for this operation; a page has up to 100 resources.
    answer = deployment.client("cloudformation").describe_stack_resource_drifts(
        StackName=deployment.stack.name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"]
    )
    for drift in answer["StackResourceDrifts"]:
        paths = [difference["PropertyPath"] for difference in drift.get("PropertyDifferences", ())]
        state = ", ".join(paths) or drift["StackResourceDriftStatus"].lower()
        yield f"{drift['LogicalResourceId']} ({state})"
