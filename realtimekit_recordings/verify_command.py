"""`verify`: checks of a deployed stack, with what each finding means and what to do."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict

import click
from rich.console import Console

from .options import with_stack
from .output import print_json_line, printable
from .stack import Stack
from .verify.alarms import check_alarms
from .verify.deployment import Deployment
from .verify.emulation import without_gap
from .verify.finding import Finding, Verdict
from .verify.functions import check_functions
from .verify.messaging import check_messaging
from .verify.probe import probe
from .verify.rights import check_rights
from .verify.service import check_service
from .verify.stack_checks import check_drift, check_stack
from .verify.storage import check_storage

RUNBOOK = "docs/operations.md"
# Wider lines are hard to read.
MAX_WIDTH = 110
# A finding's action may end with a colon and a command.
COMMAND = re.compile(r": (?=(?:aws|make|realtimekit-recordings) )")
VERDICT_WIDTH = len(Verdict.CANNOT_TELL) + 2

Checks = tuple[tuple[str, Callable[[Deployment], Iterator[Finding]]], ...]

# Drift comes last, because CloudFormation takes a minute or two to compare.
CHECKS: Checks = (
    ("Stack", check_stack),
    ("Functions", check_functions),
    ("Rights of the functions", check_rights),
    ("API and RealtimeKit", check_service),
    ("Queues, rules and schedules", check_messaging),
    ("Alarms", check_alarms),
    ("Bucket, tables and logs", check_storage),
    ("Changes made by hand", check_drift),
)
PROBES: Checks = (("Sent through the stack", probe),)


@click.command()
@with_stack
@click.option(
    "--probe",
    "with_probes",
    is_flag=True,
    help="Also send events, a file and a dead letter through the stack, and remove their traces.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one line of JSON for each finding, for programs.",
)
@click.pass_context
def verify(context: click.Context, stack: Stack, *, with_probes: bool, as_json: bool) -> None:
    """Check a deployed stack, and say what is wrong and what to do.

    The checks read what AWS and RealtimeKit say, and change nothing without --probe. Each finding
    is ok, wrong, or cannot tell, with the reason. For a wrong finding, the command prints what to
    do, and the heading of docs/operations.md that helps. "Verify a deployment" there lists the
    rights that the command needs; if one is missing, only the checks that need it cannot tell.

    \b
    Exit codes:
      0  Nothing is wrong, as far as the checks can tell.
      1  Something is wrong.
      2  The command could not work.
    """
    counts: Counter[Verdict] = Counter()
    deployment = Deployment.of(stack)
    for subject, check in CHECKS + (PROBES if with_probes else ()):
        if not as_json:
            click.echo(subject)
        for finding in check(deployment):
            judged = without_gap(finding) if deployment.is_emulated else finding
            counts[judged.verdict] += 1
            _print(subject, judged, as_json=as_json)
        if not as_json:
            click.echo()
    if not as_json:
        click.echo(_summary(counts))
    context.exit(1 if counts[Verdict.WRONG] else 0)


def _print(subject: str, finding: Finding, *, as_json: bool) -> None:
    if as_json:
        print_json_line({"subject": subject, **asdict(finding)})
    else:
        click.echo("\n".join(_lines(finding)))


def _lines(finding: Finding) -> Iterator[str]:
    """Yield a finding's lines: the verdict, the text beside it, and what to do below."""
    mark = "!" if finding.verdict is Verdict.WRONG else " "
    yield from _wrapped(f"{mark} {finding.verdict}", f"{finding.check}: {finding.detail}")
    if finding.verdict is not Verdict.WRONG:
        return
    # A command stays in one line, so that it can be copied.
    advice, *commands = COMMAND.split(finding.action, maxsplit=1)
    yield from _wrapped("", f"Do: {advice}{':' if commands else ''}")
    for command in commands:
        yield f"{' ' * (VERDICT_WIDTH + 2)}  {printable(command)}"
    yield from _wrapped("", f'Read: {RUNBOOK}, "{finding.heading}"')


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        width=min(Console().width, MAX_WIDTH),
        initial_indent=f"{label:<{VERDICT_WIDTH + 2}}",
        subsequent_indent=" " * (VERDICT_WIDTH + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(counts: Counter[Verdict]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict) + "."
