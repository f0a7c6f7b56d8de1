"""The options that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from .api import Api
from .stack import Stack, session

with_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


def with_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which stack; the command gets the `Stack` as its first argument."""

    @_with_place
    @functools.wraps(command)
    def found(stack_name: str, region: str | None, profile: str | None, **arguments: Any) -> None:
        command(Stack.find(stack_name, region=region, profile=profile), **arguments)

    return found


def with_api(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which stack's API; the command gets the `Api` as its first argument."""

    @_with_place
    @click.option(
        "--api-url",
        envvar="REALTIMEKIT_RECORDINGS_API_URL",
        show_envvar=True,
        help="The API itself, if not that of the stack: a custom domain, the local stack.",
    )
    @functools.wraps(command)
    def found(
        stack_name: str,
        region: str | None,
        profile: str | None,
        api_url: str | None,
        **arguments: Any,
    ) -> None:
        if api_url:
            api = Api(api_url, session(region=region, profile=profile))
        else:
            stack = Stack.find(stack_name, region=region, profile=profile)
            api = Api(stack.output("ApiUrl"), stack.session)
        command(api, **arguments)

    return found


def _with_place(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--profile", help="A profile of your AWS configuration."),
        click.option(
            "--region",
            # boto3 does not read the first one, which the AWS command line prefers.
            envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
            help="The stack's AWS region; by default, your AWS configuration's.",
        ),
        click.option("--stack-name", default="realtimekit-recordings", help="The deployed stack."),
    ):
        command = option(command)
    return command
