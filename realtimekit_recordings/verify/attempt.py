"""Attempts: looks at a deployed stack, where a look that fails is a finding too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Concatenate, ParamSpec

from botocore.exceptions import BotoCoreError, ClientError

from ..stack import StackError, aws_reason
from .finding import Finding, cannot_tell

Parameters = ParamSpec("Parameters")

RIGHTS: Mapping[str, tuple[str, ...]] = {
    "cloudformation": (
        "DescribeStacks",
        "ListStackResources",
        "DetectStackDrift",
        "DetectStackResourceDrift",
        "DescribeStackDriftDetectionStatus",
        "DescribeStackResourceDrifts",
    ),
    "lambda": (
        "GetFunctionConfiguration",
        "GetFunctionConcurrency",
        "GetEventSourceMapping",
        "GetAccountSettings",
        "GetPolicy",
    ),
    "logs": ("DescribeLogGroups", "FilterLogEvents"),
    "cloudwatch": ("DescribeAlarms", "GetMetricData"),
    "iam": ("SimulatePrincipalPolicy",),
    "events": ("DescribeRule", "ListTargetsByRule"),
    "sqs": ("GetQueueAttributes",),
    "sns": ("GetTopicAttributes",),
    "s3": (
        "ListBucket",
        "GetBucketVersioning",
        "GetEncryptionConfiguration",
        "GetBucketPublicAccessBlock",
        "GetBucketPolicy",
        "GetLifecycleConfiguration",
        "GetBucketObjectLockConfiguration",
    ),
    "dynamodb": ("DescribeTable", "DescribeContinuousBackups", "DescribeTimeToLive"),
    "apigateway": ("GET",),
    "execute-api": ("Invoke",),
    "secretsmanager": ("GetSecretValue",),
}
"""The rights that the checks need without --probe, by service; docs/operations.md has them."""

# Rights that are not named like the operation (S3's "Required permissions for API operations").
_RIGHT_OF_OPERATION = {
    "HeadBucket": "ListBucket",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
}
_REFUSALS = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
)


def attempt(
    check: str,
    look: Callable[Concatenate[str, Parameters], Iterable[Finding]],
    *arguments: Parameters.args,
    **options: Parameters.kwargs,
) -> Iterator[Finding]:
    """Yield the findings of `look`, which is called with the check's name and the arguments.

    If AWS refuses or does not answer, or the look fails, yield *cannot tell* with the reason.
    """
    try:
        yield from look(check, *arguments, **options)
    except (StackError, BotoCoreError, ClientError, OSError) as error:
        yield cannot_tell(check, _reason(error))
    except Exception as error:
        # The checks were written without a real account, so AWS may answer in an unexpected form.
        yield cannot_tell(check, f"The check itself failed: {type(error).__name__}.")


def _reason(error: Exception) -> str:
    """Return why a look failed; if AWS refused it, the right that the credentials lack."""
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _REFUSALS:
        return f"The credentials lack the right {_lacking_right(error)}."
    return f"{aws_reason(error)}."


def _lacking_right(error: ClientError) -> str:
    named = re.search(r"perform: ([\w-]+:\w+)", error.response["Error"].get("Message", ""))
    if named:
        return named[1]
    action = _RIGHT_OF_OPERATION.get(error.operation_name, error.operation_name)
    services = [service for service, actions in RIGHTS.items() if action in actions]
    return f"{services[0]}:{action}" if services else action
