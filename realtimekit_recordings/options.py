"""The options that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from .stack import Stack


def with_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which stack; the command gets the `Stack` as its first argument."""

    @click.option("--stack-name", default="realtimekit-recordings", help="The deployed stack.")
    @click.option(
        "--region",
        # boto3 does not read the first one, which the AWS command line prefers.
        envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
        help="The stack's AWS region; by default, your AWS configuration's.",
    )
    @click.option("--profile", help="A profile of your AWS configuration.")
    @functools.wraps(command)
    def found(stack_name: str, region: str | None, profile: str | None, **arguments: Any) -> None:
        command(Stack.find(stack_name, region=region, profile=profile), **arguments)

    return found
