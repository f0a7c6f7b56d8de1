"""A deployed stack: its parameters, its outputs, and the API token in its secret."""

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

# Seconds, because an operator waits. The AWS configuration says how often to retry.
TIMEOUTS = Config(connect_timeout=5, read_timeout=20)


class StackError(Exception):
    """Raised when a command cannot read a stack. The text says what to do, and holds no secret."""


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
        """Return the stack of that name; without region or profile, boto3 chooses.

        Raises `StackError`.
        """
        aws = session(region=region, profile=profile)
        with (
            aws_errors("CloudFormation request"),
            closing(aws.client("cloudformation", config=TIMEOUTS)) as cloudformation,
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
            session=aws,
        )

    @property
    def place(self) -> str:
        """The stack's name and region, as questions and reports name them."""
        return f"the stack {self.name} in {self.session.region_name}"

    def parameter(self, key: str) -> str:
        """Return a parameter's value. Raises `StackError` if the stack lacks the parameter."""
        return self._value(self.parameters, "parameter", key)

    def output(self, key: str) -> str:
        """Return an output's value. Raises `StackError` if the stack lacks the output."""
        return self._value(self.outputs, "output", key)

    def api_token(self) -> str:
        """Return RealtimeKit's API token from the stack's secret. Raises `StackError`."""
        arn = self.output("ApiTokenSecretArn")
        with (
            aws_errors("Secrets Manager request"),
            closing(self.session.client("secretsmanager", config=TIMEOUTS)) as secretsmanager,
        ):
            try:
                secret = secretsmanager.get_secret_value(SecretId=arn).get("SecretString", "")
            except secretsmanager.exceptions.ResourceNotFoundException:
                raise StackError(f"The stack's secret is empty. {_advice(arn)}") from None
        return _read_token(secret, arn)

    def _value(self, values: Mapping[str, str], kind: str, key: str) -> str:
        if key not in values:
            raise StackError(
                f"The stack {self.name} ({self.status}) has no {kind} {key}. Check --stack-name, "
                "or deploy the stack again from this version of the project."
            )
        return values[key]


def session(*, region: str | None, profile: str | None) -> boto3.Session:
    """Return a session configured like the AWS command line. Raises `StackError`."""
    with aws_errors("Reading the AWS configuration"):
        return boto3.Session(region_name=region, profile_name=profile)


def _read_token(secret: str, arn: str) -> str:
    try:
        token = json.loads(secret)["api_token"]
    except (KeyError, TypeError, ValueError):
        token = None
    if not isinstance(token, str):
        # Raise it outside of the handler, because a JSONDecodeError carries the secret's text.
        raise StackError(f'The stack\'s secret is not {{"api_token": "…"}}. {_advice(arn)}')
    return token


def _advice(arn: str) -> str:
    return (
        "Put the API token there: aws secretsmanager put-secret-value "
        f"--region {arn.split(':')[3]} --secret-id {arn} "
        """--secret-string '{"api_token": "…"}'"""
    )


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Raise `StackError` for any error of a request to AWS; `action` begins its text.

    botocore raises ValueError for an invalid endpoint URL, and OSError for a credential_process
    that is missing. A KeyError means that a proxy answered instead of AWS.
    """
    try:
        yield
    except (BotoCoreError, ClientError, ValueError, OSError, KeyError) as error:
        raise StackError(
            f"{action} failed: {aws_reason(error)}. "
            "Check the stack's name, the region, the profile and the credentials."
        ) from error


def aws_reason(error: Exception) -> str:
    """Return why a request to AWS failed, without the page that a proxy sent instead."""
    if isinstance(error, (ResponseParserError, KeyError)):
        return "the answer does not come from AWS, but perhaps from a proxy in between"
    return str(error).rstrip(".")
