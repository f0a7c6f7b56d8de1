"""A deployed stack as the checks see it: its resources, and one client for each AWS service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..stack import TIMEOUTS, Stack, StackError, aws_errors


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stack, and the physical ids of its resources by logical id.

    `resources` has the logical ids of template.yaml ("RecordingsTable") and those that SAM derives
    from them ("FollowUpFunctionRole").
    """

    stack: Stack
    resources: Mapping[str, str]
    _clients: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: Stack) -> Deployment:
        """Return the deployment of a stack. Raises `StackError` if CloudFormation cannot say."""
        deployment = cls(stack, {})
        with aws_errors("CloudFormation request"):
            pages = deployment.client("cloudformation").get_paginator("list_stack_resources")
            resources = {
                resource["LogicalResourceId"]: resource.get("PhysicalResourceId", "")
                for page in pages.paginate(StackName=stack.name)
                for resource in page["StackResourceSummaries"]
            }
        return cls(stack, resources, deployment._clients)

    def client(self, service: str) -> Any:
        """Return the client of an AWS service, which all checks share."""
        if service not in self._clients:
            # boto3's types want one literal name.
            session: Any = self.stack.session
            self._clients[service] = session.client(service, config=TIMEOUTS)
        return self._clients[service]

    def resource(self, logical_id: str) -> str:
        """Return the physical id of a resource. Raises `StackError` if the stack lacks it."""
        if not self.resources.get(logical_id):
            raise StackError(f"The stack has no resource {logical_id}. Deploy the stack again.")
        return self.resources[logical_id]

    def named_outputs(self, ending: str) -> dict[str, str]:
        """Return the outputs whose key has this ending, by the rest of the key."""
        return {
            key.removesuffix(ending): value
            for key, value in self.stack.outputs.items()
            if key.endswith(ending)
        }

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of one of the stack's resources, which its account owns."""
        _, partition, _, region, account, _ = self.stack.output("IngestQueueArn").split(":", 5)
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    @property
    def account_id(self) -> str:
        """The id of the stack's AWS account."""
        return self.stack.output("IngestQueueArn").split(":")[4]

    @property
    def is_archiving(self) -> bool:
        """Whether the stack archives files, and has the bucket and queues for it."""
        return self.stack.parameter("Archiving") == "on"

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator on this machine answers instead of AWS."""
        endpoint = self.client("cloudformation").meta.endpoint_url
        return urlsplit(endpoint).hostname in ("127.0.0.1", "localhost", "::1")
