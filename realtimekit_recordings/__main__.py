"""The root of all commands, where their failures become one line and an exit code."""

from __future__ import annotations

from typing import Any

import click

from .api import ApiError
from .catalogue_commands import COMMANDS
from .dead_letter_commands import dead_letters_group
from .dead_letters import DeadLetterError
from .download import DownloadError
from .stack import StackError
from .sweep_commands import SWEEP_COMMANDS
from .webhook_commands import webhook
from .webhooks import RealtimeKitError


class Failure(click.ClickException):
    """What a command could not do, said in one line on stderr."""

    exit_code = 2

    def __init__(self, error: Exception) -> None:
        super().__init__(" ".join(str(error).split()))


class Commands(click.Group):
    """Commands of which none ends in a traceback when AWS or RealtimeKit fails it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (StackError, RealtimeKitError, ApiError, DownloadError, DeadLetterError) as error:
            raise Failure(error) from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
def main() -> None:
    """Operate a deployed stack of RealtimeKit recordings.

    The stack is found with the AWS credentials, profile and region that the AWS command line would
    use. Exit codes: 0 done, or all is right; 1 something is not as it should be, or you said no; 2
    it could not be done, and stderr says why.
    """


for command in (*COMMANDS, *SWEEP_COMMANDS, dead_letters_group, webhook):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="realtimekit-recordings")
