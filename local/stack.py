"""The whole stack on this machine: template.yaml, unchanged, deployed to an emulated AWS.

docs/local-stack.md lists what the emulation covers.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import botocore.session
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from realtimekit_simulator import Simulator

from . import template
from .aws import Ministack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

ROOT = Path(__file__).parent.parent
WORK_DIR = ROOT / ".local"
REGION = "eu-central-1"
ACCESS_KEY_ID = SECRET_ACCESS_KEY = "test"  # noqa: S105
STACK_NAME = "realtimekit-recordings"
PACKAGES = "packages"
DEPLOY_SECONDS = 600


SEED = 1
"""Seed with which the simulator's first meeting is the meeting of the files in events/."""

WEBHOOK_EVENTS = (
    "meeting.ended",
    "recording.statusUpdate",
    "meeting.transcript",
    "meeting.summary",
    "meeting.chatSynced",
)
"""Events that the stack needs, as `realtimekit-recordings webhook register` subscribes to them."""


def parameters(simulator: Simulator) -> dict[str, str]:
    """Return the template's parameters for a stack that catalogues the simulator's app."""
    return {
        "CloudflareAccountId": simulator.world.account_id,
        "RealtimeKitAppId": simulator.world.app_id,
        "RealtimeKitApiUrl": simulator.api_url,
        "WebhookKeyUrl": f"{simulator.url}/.well-known/webhooks.json",
        "MediaHosts": simulator.url,
    }


class DeploymentError(Exception):
    """Raised when CloudFormation does not create the stack; the message gives its reasons."""


class LocalStack:
    """A deployed stack that exists from `start` to `stop`; also a context manager.

    `parameters` are the template's parameters. The packages are the folders that the template
    names. There are two ways to run it:

    - With template.yaml, the emulator's own executor runs the sources.
    - With the template that `sam build` wrote and a `runtime_python`, AWS's runtime client runs the
      built packages, under IAM. `runtime_python` is an interpreter that has `awslambdaric`.

    `launcher` is passed to `Ministack`. `description` is set by `start`: a dictionary of the
    stack's addresses, names and ARNs, which `make up` writes to .local/stack.json.
    """

    def __init__(
        self,
        parameters: Mapping[str, str],
        api_token: str,
        *,
        template_file: Path = ROOT / "template.yaml",
        runtime_python: Path | None = None,
        port: int = 0,
        launcher: Sequence[str | Path] = (),
    ) -> None:
        self._parameters = parameters
        self._api_token = api_token
        self._template_file = template_file
        self._runtime_python = runtime_python
        self._aws = Ministack(
            WORK_DIR,
            port=port,
            enforce_iam=runtime_python is not None,
            launcher=launcher,
        )
        self.description: dict[str, Any] = {}

    def start(self) -> Self:
        """Deploy the stack, and return when RealtimeKit's token is in its secret.

        Raise `MinistackError` or `DeploymentError` on failure; then no process and no file is left.
        """
        self._aws.start()
        try:
            self._deploy()
            self.description = self._describe()
            self.client("secretsmanager").put_secret_value(
                SecretId=self.description["api_token_secret_arn"],
                SecretString=json.dumps({"api_token": self._api_token}),
            )
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the emulator; leave no process, no open port and no file."""
        self._aws.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def client(self, service: str) -> Any:
        """Return a boto3 client of the emulated AWS, with root's rights."""
        return client(service, self._aws.url)

    def request(
        self, method: str, path: str, *, body: str | None = None, signed: bool = True
    ) -> urllib3.BaseHTTPResponse:
        """Call the API through API Gateway's URL, signed with SigV4 unless `signed` is false."""
        return request(self.description, method, path, body=body, signed=signed)

    def logs(self) -> list[str]:
        """Return the messages of all functions' logs, read to the last page."""
        logs = self.client("logs")
        groups = logs.get_paginator("describe_log_groups").paginate()
        streams = logs.get_paginator("describe_log_streams")
        return [
            message
            for group in groups.search("logGroups[].logGroupName")
            for stream in streams.paginate(logGroupName=group).search("logStreams[].logStreamName")
            for message in _read_messages(logs, group, stream)
        ]

    def package(self, template_file: Path) -> str:
        """Upload a template with the code of its functions; return the upload's URL.

        `sam deploy` uploads too: a template in the request may have at most 51,200 bytes (AWS docs,
        CloudFormation quotas).
        """
        packaged = template.package(template_file, self._upload, self._bootstrap())
        self._upload("template.json", packaged.encode())
        return f"{self._aws.url}/{PACKAGES}/template.json"

    def _deploy(self) -> None:
        self.client("s3").create_bucket(
            Bucket=PACKAGES, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName=STACK_NAME,
            TemplateURL=self.package(self._template_file),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in self._parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        self._wait_until_created()
        self._set_time_to_live()

    def _wait_until_created(self) -> None:
        deadline = time.monotonic() + DEPLOY_SECONDS
        while (status := self._stack()["StackStatus"]) == "CREATE_IN_PROGRESS":
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"CloudFormation did not create the stack within {DEPLOY_SECONDS} s. Stop other"
                    " programs that use the processor, and start again."
                )
            time.sleep(0.05)
        if status != "CREATE_COMPLETE":
            answer = self.client("cloudformation").describe_stack_events(StackName=STACK_NAME)
            reasons = [
                f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
                for event in answer["StackEvents"]
                if "FAILED" in event["ResourceStatus"]
            ]
            raise DeploymentError("; ".join(reasons) or status)

    def _stack(self) -> StackTypeDef:
        stacks = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
        found: StackTypeDef = stacks[0]
        return found

    def _upload(self, name: str, content: bytes) -> str:
        self.client("s3").put_object(Bucket=PACKAGES, Key=name, Body=content)
        return f"s3://{PACKAGES}/{name}"

    def _bootstrap(self) -> str | None:
        if self._runtime_python is None:
            return None
        return (
            "#!/bin/sh\n"
            # Lambda sets this variable; the emulator does not.
            "export AWS_LAMBDA_INITIALIZATION_TYPE=on-demand\n"
            'cd "$LAMBDA_TASK_ROOT" && PYTHONPATH="$LAMBDA_TASK_ROOT" '
            f'exec "{self._runtime_python}" -m awslambdaric "$_HANDLER"\n'
        )

    def _set_time_to_live(self) -> None:
        """Set each table's time to live, which the emulator's CloudFormation ignores."""
        for name, resource in template.load(self._template_file)["Resources"].items():
            specification = resource.get("Properties", {}).get("TimeToLiveSpecification")
            if specification:
                [table] = self._physical_ids(name)
                self.client("dynamodb").update_time_to_live(
                    TableName=table, TimeToLiveSpecification=specification
                )

    def _physical_ids(self, logical_id: str) -> list[str]:
        answer = self.client("cloudformation").describe_stack_resources(
            StackName=STACK_NAME, LogicalResourceId=logical_id
        )
        return [resource["PhysicalResourceId"] for resource in answer["StackResources"]]

    def _describe(self) -> dict[str, Any]:
        """Return the description of the stack; its keys are those of .local/stack.json."""
        outputs = {o["OutputKey"]: o["OutputValue"] for o in self._stack()["Outputs"]}
        resources = self.client("cloudformation").describe_stack_resources(StackName=STACK_NAME)
        by_type: dict[str, dict[str, str]] = {}
        for resource in resources["StackResources"]:
            named = by_type.setdefault(resource["ResourceType"], {})
            named[resource["LogicalResourceId"]] = resource["PhysicalResourceId"]
        api_url = f"{self._aws.url}/restapis/{outputs['ApiId']}/v1/_user_request_"
        events = self.client("events")
        bus = events.describe_event_bus(Name=outputs["EventBusName"])
        return {
            "aws_endpoint_url": self._aws.url,
            "region": REGION,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
            "stack_name": STACK_NAME,
            # On AWS these two are the stack outputs ApiUrl and WebhookUrl; the emulator's differ.
            "api_url": api_url,
            "webhook_url": f"{api_url}/webhooks/realtimekit",
            "api_token_secret_arn": outputs["ApiTokenSecretArn"],
            "event_bus": {"name": bus["Name"], "arn": bus["Arn"]},
            "tables": self._describe_tables(by_type["AWS::DynamoDB::Table"]),
            "queues": self._describe_queues(by_type["AWS::SQS::Queue"]),
            "functions": self._describe_functions(by_type["AWS::Lambda::Function"]),
            "archive_bucket": outputs.get("ArchiveBucketName"),
        }

    def _describe_tables(self, names: Mapping[str, str]) -> dict[str, Any]:
        dynamodb = self.client("dynamodb")
        return {
            logical_id: {
                "name": name,
                "arn": dynamodb.describe_table(TableName=name)["Table"]["TableArn"],
            }
            for logical_id, name in names.items()
        }

    def _describe_queues(self, urls: Mapping[str, str]) -> dict[str, Any]:
        sqs = self.client("sqs")
        arns = {
            logical_id: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            for logical_id, url in urls.items()
        }
        return {
            logical_id: {
                "name": url.rpartition("/")[2],
                "arn": arns[logical_id]["Attributes"]["QueueArn"],
                "url": url,
            }
            for logical_id, url in urls.items()
        }

    def _describe_functions(self, names: Mapping[str, str]) -> dict[str, Any]:
        functions = self.client("lambda")
        return {
            logical_id: {
                "name": name,
                "arn": functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"],
            }
            for logical_id, name in names.items()
        }


def client(service: str, endpoint_url: str) -> Any:
    """Return a boto3 client of a local stack, with root's rights.

    The caller's AWS settings have no effect on it.
    """
    return session().client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint_url,
        # A proxy in the caller's environment would not reach loopback.
        config=Config(proxies={}),
    )


@functools.cache
def session() -> boto3.Session:
    """Return a boto3 session with root's rights on local stacks, without the AWS configuration.

    The caller's profile may be missing, and boto3 would then refuse to make a client.
    """
    nowhere = (None, None, os.devnull, None)
    variables = {
        "profile": (None, None, None, None),
        "config_file": nowhere,
        "credentials_file": nowhere,
    }
    return boto3.Session(
        botocore_session=botocore.session.Session(variables),
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )


def _read_messages(logs: Any, group: str, stream: str) -> Iterator[str]:
    """Yield all messages of a log stream, page by page.

    A page holds at most 10,000 events. The emulator's FilterLogEvents returns the first page only,
    so this uses GetLogEvents.
    """
    position: dict[str, str] = {}
    while True:
        page = logs.get_log_events(
            logGroupName=group, logStreamName=stream, startFromHead=True, **position
        )
        yield from (event["message"] for event in page["events"])
        # CloudWatch Logs marks the end by returning the token it was given.
        if position.get("nextToken") == page["nextForwardToken"]:
            return
        position = {"nextToken": page["nextForwardToken"]}


def request(
    description: Mapping[str, Any],
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    body: str | None = None,
    signed: bool = True,
) -> urllib3.BaseHTTPResponse:
    """Call the API of a stack through API Gateway's URL, signed with SigV4 unless told otherwise.

    `description` is `LocalStack.description`; `path` begins with / and may have a query.
    """
    url = description["api_url"] + path
    kind = {"Content-Type": "application/json"} if body else {}
    headers = {"Host": urllib3.util.parse_url(url).netloc or "", **kind, **(headers or {})}
    prepared = AWSRequest(method, url, headers=headers, data=body)
    if signed:
        credentials = Credentials(
            description["aws_access_key_id"], description["aws_secret_access_key"]
        )
        SigV4Auth(credentials, "execute-api", description["region"]).add_auth(prepared)
    return urllib3.request(
        method, url, body=body, headers=dict(prepared.headers), retries=False, timeout=120
    )
