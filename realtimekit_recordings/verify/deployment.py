"""A deployed stack as the checks see it: its resources, and one client for each AWS service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..stack import TIMEOUTS, Stack, aws_errors


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

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator on this machine answers instead of AWS."""
        endpoint = self.client("cloudformation").meta.endpoint_url
        return urlsplit(endpoint).hostname in ("127.0.0.1", "localhost", "::1")
