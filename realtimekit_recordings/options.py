"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from .api import Api
from .output import printable
from .stack import Stack, session

with_id = click.argument("recording_id", type=click.UUID)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
with_json_lines = click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON for each item, for programs."
)
with_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
with_api_url = click.option(
    "--api-url",
    envvar="REALTIMEKIT_RECORDINGS_API_URL",
    show_envvar=True,
    help="Use the API at this URL, such as a custom domain or the local stack. The environment "
    "variable is ignored if --stack-name is given.",
)
with_limit = click.option(
    "--limit", type=click.IntRange(min=1), default=20, help="Print at most this many items."
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def meeting_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option of a meeting's id, with a command's own help text."""
    names = ("--meeting-id", "--meeting", "meeting_id")
    return click.option(*names, type=click.UUID, help=help_text)


def with_label(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option of a label; the command gets it as the API's filter, `name:text`."""
    return click.option("--label", metavar="NAME=TEXT", callback=_label_filter, help=help_text)


def _label_filter(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is None:
        return None
    name, equals, text = given.partition("=")
    if not (name and equals):
        raise click.UsageError(f"{printable(given)!r} is not NAME=TEXT.")
    return f"{name}:{text}"


def with_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Add options that choose the stack; the command gets the `Stack` as its first argument."""

    @_with_place
    @functools.wraps(command)
    def with_found_stack(
        stack_name: str, region: str | None, profile: str | None, **arguments: Any
    ) -> None:
        command(Stack.find(stack_name, region=region, profile=profile), **arguments)

    return with_found_stack


def with_api(command: Callable[..., None]) -> Callable[..., None]:
    """Add options that choose the API; the command gets the `Api` as its first argument."""

    @_with_place
    @with_api_url
    @functools.wraps(command)
    def with_chosen_api(
        stack_name: str,
        region: str | None,
        profile: str | None,
        api_url: str | None,
        **arguments: Any,
    ) -> None:
        if api_url and not is_stack_named_instead():
            api = Api(api_url, session(region=region, profile=profile))
        else:
            api = Api.of(Stack.find(stack_name, region=region, profile=profile))
        command(api, **arguments)

    return with_chosen_api


def is_stack_named_instead() -> bool:
    """Return True if --stack-name is given, and the API's URL only in the environment."""
    context = click.get_current_context()
    given = ParameterSource.COMMANDLINE
    if context.get_parameter_source("stack_name") is not given:
        return False
    if context.get_parameter_source("api_url") is given:
        raise click.UsageError("Give --stack-name or --api-url, not both.")
    return True


def _with_place(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--profile", help="Use this profile of your AWS configuration."),
        click.option(
            "--region",
            # The AWS command line prefers AWS_REGION, which boto3 does not read.
            envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
            help="Look for the stack in this AWS region, instead of your AWS configuration's.",
        ),
        click.option(
            "--stack-name", default="realtimekit-recordings", help="Use the stack of this name."
        ),
    ):
        command = option(command)
    return command
