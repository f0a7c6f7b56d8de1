"""The root of all commands, where each failure becomes one line on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
from importlib import metadata
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from .annotation_commands import ANNOTATION_COMMANDS
from .api import ApiError
from .browse_command import browse
from .catalogue_commands import COMMANDS
from .contract_command import probe_realtimekit
from .dead_letter_commands import dead_letters_group
from .dead_letter_store import DeadLetterError
from .download_command import download
from .linked_file import DownloadError
from .output import Failure, abandon_stdout, make_encodable
from .realtimekit import RealtimeKitError
from .retention_commands import retention
from .setup_command import setup
from .stack import StackError
from .stack_commands import STACK_COMMANDS
from .sweep_commands import SWEEP_COMMANDS
from .transcript_commands import transcript
from .verify_command import verify
from .webhook_commands import webhook_group

PROGRAM = "realtimekit-recordings"
FAILURES = (
    StackError,
    RealtimeKitError,
    ApiError,
    DownloadError,
    DeadLetterError,
    BotoCoreError,
    ClientError,
)


class Commands(click.Group):
    """Commands that exit with 2 and one line when AWS, RealtimeKit or this machine fails.

    Python exits with 1 after an uncaught exception, but 1 means "something is missing" here.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command and exit. A bug of our own shows its traceback and exits with 2."""
        try:
            return super().main(*arguments, **options)
        except Exception:
            abandon_stdout()
            traceback.print_exc()
            sys.exit(Failure.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the context names. Raises `Failure`."""
        if sys.stdout is None:
            raise Failure("Cannot write to stdout: it is closed.")
        make_encodable()
        try:
            return super().invoke(ctx)
        except FAILURES as error:
            raise Failure(str(error)) from error
        except OSError as error:
            # Commands explain errors of their own files, so this one is stdout's: closed or full.
            abandon_stdout()
            raise Failure(f"Cannot write to stdout: {error.strerror or error}.") from error
        except KeyboardInterrupt:
            raise Failure("The command was stopped.") from None


def installed_version() -> str:
    """Return the installed package's version, or "unknown" in a checkout that is not installed."""
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "unknown"


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
)
@click.version_option(installed_version(), prog_name=PROGRAM, message="%(prog)s %(version)s")
def main() -> None:
    """Operate a deployed stack of RealtimeKit recordings.

    The command finds the stack with the AWS credentials, profile and region that the AWS command
    line would use.

    \b
    Exit codes:
      0  The command is done, or everything is right.
      1  Something is missing or wrong, or you answered no.
      2  The command could not do its work. One line on stderr says why.
    """


for command in (
    *COMMANDS,
    download,
    *ANNOTATION_COMMANDS,
    retention,
    browse,
    transcript,
    verify,
    *STACK_COMMANDS,
    *SWEEP_COMMANDS,
    dead_letters_group,
    webhook_group,
    setup,
    probe_realtimekit,
):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name=PROGRAM)
