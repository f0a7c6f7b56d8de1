"""What a deployed stack says of itself: parameters, outputs, and the API token in its secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

# An operator is waiting; how often to try again is for the AWS configuration to say.
TIMEOUTS = Config(connect_timeout=5, read_timeout=20)


class StackError(Exception):
    """Raised when a stack cannot tell what a command needs; says what to do, and nothing secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One deployed stack, as CloudFormation described it."""

    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    session: boto3.Session

    @classmethod
    def find(cls, name: str, *, region: str | None, profile: str | None) -> Self:
        """The stack of that name; region and profile are boto3's own where they are None."""
        found = session(region=region, profile=profile)
        with (
            asking("CloudFormation"),
            closing(found.client("cloudformation", config=TIMEOUTS)) as cloudformation,
        ):
            [described] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return cls(
            name=name,
            status=described["StackStatus"],
            parameters={
                parameter["ParameterKey"]: parameter["ParameterValue"]
                for parameter in described.get("Parameters", ())
            },
            outputs={
                output["OutputKey"]: output["OutputValue"]
                for output in described.get("Outputs", ())
            },
            session=found,
        )

    def parameter(self, key: str) -> str:
        """The value of a parameter. Raises `StackError` where the template has no such one."""
        return self._value(self.parameters, "parameter", key)

    def output(self, key: str) -> str:
        """The value of an output. Raises `StackError` where the template has no such one."""
        return self._value(self.outputs, "output", key)

    def api_token(self) -> str:
        """RealtimeKit's API token, out of the stack's secret."""
        arn = self.output("ApiTokenSecretArn")
        with (
            asking("Secrets Manager"),
            closing(self.session.client("secretsmanager", config=TIMEOUTS)) as secretsmanager,
        ):
            try:
                secret = secretsmanager.get_secret_value(SecretId=arn).get("SecretString", "")
            except secretsmanager.exceptions.ResourceNotFoundException:
                raise StackError(f"There is no API token yet. {_to_put_it(arn)}") from None
        return _token(secret, arn)

    def _value(self, values: Mapping[str, str], kind: str, key: str) -> str:
        if key not in values:
            raise StackError(
                f"The stack {self.name} ({self.status}) has no {kind} {key}. Is it the right one? "
                "Then deploy it again, from this version of the project."
            )
        return values[key]


def session(*, region: str | None, profile: str | None) -> boto3.Session:
    """AWS as the AWS command line would reach it. Raises `StackError`."""
    with asking("The AWS configuration"):
        return boto3.Session(region_name=region, profile_name=profile)


def _token(secret: str, arn: str) -> str:
    try:
        token = json.loads(secret)["api_token"]
    except (KeyError, TypeError, ValueError):
        token = None
    if not isinstance(token, str):
        # Raised outside of the handler: a JSONDecodeError carries the secret's text.
        raise StackError(f'The stack\'s secret is not {{"api_token": "…"}}. {_to_put_it(arn)}')
    return token


def _to_put_it(arn: str) -> str:
    return (
        f"Put it there: aws secretsmanager put-secret-value --secret-id {arn} "
        """--secret-string '{"api_token": "…"}'"""
    )


@contextmanager
def asking(service: str) -> Iterator[None]:
    """Raise `StackError` for whatever keeps AWS from answering.

    botocore itself raises ValueError for an endpoint's URL, and OSError for a credential_process,
    that makes no sense. An answer without what the service promises comes from somebody else.
    """
    try:
        yield
    except (BotoCoreError, ClientError, ValueError, OSError, KeyError) as error:
        raise StackError(
            f"{service} does not tell: {cause(error)}. "
            "Are stack name, region, profile and credentials right?"
        ) from error


def cause(error: Exception) -> str:
    """Return why AWS did not answer, without the page that a proxy sent instead."""
    if isinstance(error, (ResponseParserError, KeyError)):
        return "the answer is not one of AWS; is there a proxy in between?"
    return str(error).rstrip(".")
