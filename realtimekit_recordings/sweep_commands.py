"""`backfill`, `reconcile` and `sweeps`: RealtimeKit's list against the table and the bucket."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
from click.core import ParameterSource

from .api import Api, ApiError
from .options import with_api, with_json
from .output import print_json, print_json_line, print_rows
from .sweep_report import Report, doubts, lines, minute, percent, repairs, state
from .sweep_watch import watch

# RealtimeKit keeps files for seven days.
RECONCILED_DAYS = 8
COLUMNS = ("Sweep", "Requested", "By", "Done", "From", "To", "Seen", "Missing", "State")
LESSER_COLUMNS = ("To", "From", "By", "Seen", "Missing", "Requested", "Done")
PLACE = ("stack_name", "region", "profile", "api_url")

with_interval = click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=5,
    help="How many seconds to wait before looking again.",
)
with_sweep_id = click.argument("sweep_id", type=click.UUID)


@click.command()
@with_api
@click.option(
    "--from", "from_", metavar="TIME", required=True, help="Since when: 2026-06-03, or …Z."
)
@click.option("--to", metavar="TIME", help="Before then; by default, now.")
@click.option("--dry-run", is_flag=True, help="Only report what would be catalogued.")
@click.option("--detach", is_flag=True, help="Do not wait for its end.")
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
    """Catalogue and archive what RealtimeKit has of recordings invoked in a window of time.

    RealtimeKit's list is held against the table and the bucket, and what is missing is put in
    order. It can be asked for again and again. Stopping the command leaves it running. Exit code 1
    if it failed, was cancelled, or did not see all that RealtimeKit's list counts.
    """
    sweep = _requested(api, from_, to, dry_run=dry_run)
    if detach:
        print_json(sweep) if as_json else click.echo(sweep["sweep_id"])
        click.echo(_hint(sweep), err=True)
        return
    ended = _watched(api, sweep, interval)
    _tell(ended, as_json=as_json)
    context.exit(1 if _is_doubtful(ended) else 0)


@click.command()
@with_api
@click.option("--from", "from_", metavar="TIME", help="By default, 8 days ago.")
@click.option("--to", metavar="TIME", help="Before then; by default, now.")
@click.option(
    "--ignore-expired",
    is_flag=True,
    help="Do not call it missing if RealtimeKit deleted files before they were copied: for times "
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
    """Find out whether anything is missing; change nothing.

    Missing is a recording that the table does not have (missing), or of which it says less than
    RealtimeKit's list (behind); one of which the bucket lacks a file that the table says it has
    (gone); one of which RealtimeKit deleted a file before it was copied (expired). What is still to
    be copied is not missing: RealtimeKit has it. Of what happened in the last minutes the webhook
    may be on its way: then it is no longer missing when you ask again.

    Exit code 0 if nothing is missing, 1 if anything is, 2 if that could not be found out.
    """
    since = from_ or f"{datetime.now(UTC) - timedelta(days=RECONCILED_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    sweep = _watched(api, _requested(api, since, to, dry_run=True), interval)
    _tell(sweep, as_json=as_json)
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
    """Look at sweeps of the last month, those of schedules too, and cancel them."""


@sweeps.command("list")
@with_api
@click.option("--limit", type=click.IntRange(min=1), default=20, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each, for programs.")
def list_sweeps(api: Api, limit: int, as_json: bool) -> None:
    """List sweeps, the newest first."""
    found = api.sweeps(limit)
    if as_json:
        for sweep in found:
            print_json_line(sweep)
        return
    rows = [_cells(sweep) for sweep in found]
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
@click.option("--watch", "is_watched", is_flag=True, help="Wait for its end, as backfill does.")
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
    """Show what a sweep found, so far. With --watch, exit codes are those of backfill."""
    sweep = api.sweep(str(sweep_id))
    if is_watched:
        sweep = _watched(api, sweep, interval)
    _tell(sweep, as_json=as_json)
    context.exit(1 if is_watched and _is_doubtful(sweep) else 0)


@sweeps.command("cancel")
@with_api
@with_sweep_id
def cancel_sweep(api: Api, sweep_id: UUID) -> None:
    """Stop a sweep where it is. What it has repaired stays."""
    sweep = api.cancel_sweep(str(sweep_id))
    click.echo(f"Cancelled at {percent(sweep)}; {sweep['counts']['repaired']:,} repaired.")


def _requested(api: Api, since: str, until: str | None, *, dry_run: bool) -> Report:
    """The sweep that was asked for, or the unfinished one of the same window."""
    window = {"from": since, **({"to": until} if until else {})}
    try:
        return api.request_sweep(window, dry_run=dry_run)
    except ApiError as error:
        if error.sent:
            click.echo(f"It may be under way all the same: {_command('sweeps', 'list')}", err=True)
        if not error.instance.startswith("/sweeps/"):
            raise
        click.echo("It is under way already.", err=True)
        return api.sweep(error.instance.removeprefix("/sweeps/"))


def _watched(api: Api, sweep: Report, interval: float) -> Report:
    """The sweep when it has ended; whoever stops watching is told that it goes on."""
    try:
        return watch(api, sweep, interval)
    except (KeyboardInterrupt, ApiError) as error:
        click.echo(_hint(sweep), err=True)
        if isinstance(error, ApiError):
            raise
        raise click.exceptions.Exit(2) from None


def _hint(sweep: Report) -> str:
    show = _command("sweeps", "show", sweep["sweep_id"], "--watch")
    cancel = _command("sweeps", "cancel", sweep["sweep_id"])
    return f"The sweep goes on without this command.\nTo watch it: {show}\nTo cancel it: {cancel}"


def _command(*words: str) -> str:
    """Another command for the same stack."""
    context = click.get_current_context()
    place = [
        f"--{name.replace('_', '-')}={context.params[name]}"
        for name in PLACE
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return shlex.join(["realtimekit-recordings", *words, *place])


def _tell(sweep: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(sweep)
    else:
        click.echo("\n".join(lines(sweep)))


def _is_doubtful(sweep: Report) -> bool:
    """Whether it may not have seen everything; stderr says why."""
    why = list(doubts(sweep))
    for doubt in why:
        click.echo(doubt, err=True)
    return bool(why)


SWEEP_COMMANDS = (backfill, reconcile, sweeps)
