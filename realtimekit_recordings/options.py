"""The options that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from .api import Api
from .stack import Stack, session

with_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
with_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def with_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Add options that say which stack; the command gets the `Stack` as its first argument."""

    @_with_place
    @functools.wraps(command)
    def found(stack_name: str, region: str | None, profile: str | None, **arguments: Any) -> None:
        command(Stack.find(stack_name, region=region, profile=profile), **arguments)

    return found


def with_api(command: Callable[..., None]) -> Callable[..., None]:
    """Add options that say which API; the command gets the `Api` as its first argument."""

    @_with_place
    @click.option(
        "--api-url",
        envvar="REALTIMEKIT_RECORDINGS_API_URL",
        show_envvar=True,
        help="The API itself, instead of the stack's: a custom domain, the local stack. A "
        "--stack-name outweighs the environment variable.",
    )
    @functools.wraps(command)
    def found(
        stack_name: str,
        region: str | None,
        profile: str | None,
        api_url: str | None,
        **arguments: Any,
    ) -> None:
        if api_url and not _is_stack_named_instead():
            api = Api(api_url, session(region=region, profile=profile))
        else:
            api = Api.of(Stack.find(stack_name, region=region, profile=profile))
        command(api, **arguments)

    return found


def _is_stack_named_instead() -> bool:
    """Whether a stack is named, and the API's URL only in the environment."""
    context = click.get_current_context()
    given = ParameterSource.COMMANDLINE
    if context.get_parameter_source("stack_name") is not given:
        return False
    if context.get_parameter_source("api_url") is given:
        raise click.UsageError("Give --stack-name or --api-url, not both.")
    return True


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
