"""`backfill`, `reconcile` and `sweeps`: comparisons with RealtimeKit's list of recordings."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
from click.core import ParameterSource

from .api import Api, ApiError
from .options import with_api, with_json, with_json_lines, with_limit
from .output import print_json, print_json_line, print_rows
from .sweep_report import Report, doubts, lines, percent, repairs, state
from .sweep_watch import watch
from .timestamps import minute

# RealtimeKit keeps files for seven days; the eighth covers the time around their deletion.
RECONCILED_DAYS = 8
COLUMNS = ("Sweep", "Requested", "By", "Done", "From", "To", "Seen", "Missing", "State")
LESSER_COLUMNS = ("To", "From", "By", "Seen", "Missing", "Requested", "Done")
PLACE_OPTIONS = ("stack_name", "region", "profile", "api_url")

with_interval = click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=5,
    help="Fetch the sweep's report after each interval of so many seconds.",
)
with_sweep_id = click.argument("sweep_id", type=click.UUID)
with_to = click.option(
    "--to", metavar="TIME", help="End of the window, exclusive. The default is now."
)


@click.command()
@with_api
@click.option(
    "--from",
    "from_",
    metavar="TIME",
    required=True,
    help="Start of the window: a date (UTC), or a time with its offset.",
)
@with_to
@click.option("--dry-run", is_flag=True, help="Only report differences; repair nothing.")
@click.option("--detach", is_flag=True, help="Print the sweep's id, and do not wait for its end.")
@with_interval
@with_json
@click.pass_context
def backfill(
    context: click.Context,
    api: Api,
    from_: str,
    to: str | None,
    dry_run: bool,
    detach: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Catalogue and archive RealtimeKit's recordings of a window of time.

    The command starts a sweep, which compares RealtimeKit's list of the recordings invoked in the
    window with the table and the bucket, and repairs each difference. It shows the progress on
    stderr, and prints the report. The sweep goes on if the command is stopped, and may be repeated.
    Exit code 1 if it failed, was cancelled, or saw fewer recordings than RealtimeKit's list counts.
    """
    sweep = start(api, from_, to, dry_run=dry_run)
    if detach:
        print_json(sweep) if as_json else click.echo(sweep["sweep_id"])
        click.echo(follow_up_hint(sweep), err=True)
        return
    ended = _watch(api, sweep, interval)
    _print_report(ended, as_json=as_json)
    context.exit(1 if _is_doubtful(ended) else 0)


@click.command()
@with_api
@click.option(
    "--from",
    "from_",
    metavar="TIME",
    help="Start of the window: a date (UTC), or a time with its offset. The default is 8 days ago.",
)
@with_to
@click.option(
    "--ignore-expired",
    is_flag=True,
    help="Exit with 0 although RealtimeKit deleted files before they were copied. Use it for times "
    "before the stack was deployed, or while archiving is off.",
)
@with_interval
@with_json
@click.pass_context
def reconcile(
    context: click.Context,
    api: Api,
    from_: str | None,
    to: str | None,
    ignore_expired: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Find recordings that are missing in the catalogue or the bucket.

    The command compares RealtimeKit's list with the table and the bucket, and changes nothing. It
    prints the report, and says on stderr how to repair what it found. A file that is still to be
    copied counts as found, because RealtimeKit has it. A recording of the last minutes may be
    missing only until its webhook arrives; run the command again.

    \b
    A recording counts as missing if it is one of these:
      missing  The table does not have it.
      behind   The table knows less of it than RealtimeKit's list.
      gone     The bucket lacks a file that the table says it has.
      expired  RealtimeKit deleted a file before it was copied.

    \b
    Exit codes:
      0  No recording is missing.
      1  At least one recording is missing.
      2  The command could not find out.
    """
    since = from_ or f"{datetime.now(UTC) - timedelta(days=RECONCILED_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    sweep = _watch(api, start(api, since, to, dry_run=True), interval)
    _print_report(sweep, as_json=as_json)
    kinds = ("missing", "behind", "gone", *(() if ignore_expired else ("expired",)))
    window = (f"--from={sweep['from']}", f"--to={sweep['to']}")
    for repair in repairs(sweep, kinds, _command("backfill", *window)):
        click.echo(repair, err=True)
    is_doubtful = _is_doubtful(sweep)
    if any(sweep["counts"][kind] for kind in kinds):
        context.exit(1)
    context.exit(2 if is_doubtful else 0)


@click.group()
def sweeps() -> None:
    """Look at the sweeps of the last month, and cancel them.

    A schedule starts sweeps too; they are listed with those of `backfill` and `reconcile`.
    """


@sweeps.command("list")
@with_api
@with_limit
@with_json_lines
def list_sweeps(api: Api, limit: int, as_json: bool) -> None:
    """List sweeps, the newest first.

    Each line has the sweep's window (From, To), how much of it was read (Done), and how many
    recordings were seen and missing. On a narrow terminal some columns are left out.
    """
    reports = api.sweeps(limit)
    if as_json:
        for report in reports:
            print_json_line(report)
        return
    rows = [_cells(report) for report in reports]
    print_rows(COLUMNS, rows, LESSER_COLUMNS) if rows else click.echo("No sweeps.")


def _cells(sweep: Report) -> list[str]:
    counts = sweep["counts"]
    return [
        sweep["sweep_id"],
        minute(sweep["created_at"]),
        sweep["trigger"],
        percent(sweep),
        minute(sweep["from"]),
        minute(sweep["to"]),
        f"{counts['seen']:,}",
        f"{counts['missing']:,}",
        state(sweep),
    ]


@sweeps.command("show")
@with_api
@with_sweep_id
@click.option(
    "--watch", "is_watched", is_flag=True, help="Wait for the sweep's end, as backfill does."
)
@with_interval
@with_json
@click.pass_context
def show_sweep(
    context: click.Context,
    api: Api,
    sweep_id: UUID,
    is_watched: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Show a sweep's report so far.

    With --watch, the exit codes are those of `backfill`.
    """
    sweep = api.sweep(str(sweep_id))
    if is_watched:
        sweep = _watch(api, sweep, interval)
    _print_report(sweep, as_json=as_json)
    context.exit(1 if is_watched and _is_doubtful(sweep) else 0)


@sweeps.command("cancel")
@with_api
@with_sweep_id
def cancel_sweep(api: Api, sweep_id: UUID) -> None:
    """Cancel a sweep.

    Recordings that it has repaired stay as they are.
    """
    sweep = api.cancel_sweep(str(sweep_id))
    click.echo(f"Cancelled at {percent(sweep)}; {sweep['counts']['repaired']:,} repaired.")


def start(api: Api, since: str, until: str | None, *, dry_run: bool) -> Report:
    """Start a sweep; return its report, or that of an unfinished sweep of the same window."""
    window = {"from": since, **({"to": until} if until else {})}
    try:
        return api.request_sweep(window, dry_run=dry_run)
    except ApiError as error:
        if error.sent:
            click.echo(f"The sweep may have started. See: {_command('sweeps', 'list')}", err=True)
        if not error.instance.startswith("/sweeps/"):
            raise
        click.echo("The sweep has started already.", err=True)
        return api.sweep(error.instance.removeprefix("/sweeps/"))


def _watch(api: Api, sweep: Report, interval: float) -> Report:
    """Wait for a sweep's end; if that is interrupted, print how to follow the sweep."""
    try:
        return watch(api, sweep, interval)
    except (KeyboardInterrupt, ApiError) as error:
        click.echo(follow_up_hint(sweep), err=True)
        if isinstance(error, ApiError):
            raise
        raise click.exceptions.Exit(2) from None


def follow_up_hint(sweep: Report) -> str:
    """Return how to watch a sweep that goes on, and how to cancel it."""
    show = _command("sweeps", "show", sweep["sweep_id"], "--watch")
    cancel = _command("sweeps", "cancel", sweep["sweep_id"])
    return f"The sweep goes on without this command.\nTo watch it: {show}\nTo cancel it: {cancel}"


def _command(*words: str) -> str:
    """Return a command line for the same stack, quoted for a shell."""
    context = click.get_current_context()
    place = [
        f"--{name.replace('_', '-')}={context.params[name]}"
        for name in PLACE_OPTIONS
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return shlex.join(["realtimekit-recordings", *words, *place])


def _print_report(sweep: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(sweep)
    else:
        click.echo("\n".join(lines(sweep)))


def _is_doubtful(sweep: Report) -> bool:
    """Print why a sweep may not have seen everything; return True if it may not."""
    reasons = list(doubts(sweep))
    for reason in reasons:
        click.echo(reason, err=True)
    return bool(reasons)


SWEEP_COMMANDS = (backfill, reconcile, sweeps)
