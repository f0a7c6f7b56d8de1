"""`list`, `show`, `links`, `download`, `sync`, `erase`, `health`: the catalogue, for operators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from .api import Api
from .download import Download, DownloadError
from .options import with_api, with_json
from .output import print_json, print_json_line, print_table, printable

STATUSES = ("INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED")
# Long enough for a large file: what breaks off later is taken up with a new link.
LINK_SECONDS = 3600

with_id = click.argument("recording_id", type=click.UUID)


@click.command("list")
@with_api
@click.option("--meeting-id", type=click.UUID, help="Of this meeting.")
@click.option("--session-id", type=click.UUID, help="Of this session.")
@click.option("--status", type=click.Choice(STATUSES), help="With this status.")
@click.option("--archived", type=click.Choice(["yes", "partly", "no"]), help="So far archived.")
@click.option("--from", "from_", metavar="TIME", help="Invoked then or later: 2026-06-03, or …Z.")
@click.option("--to", metavar="TIME", help="Invoked before then.")
@click.option("--order", type=click.Choice(["newest", "oldest"]), help="Which come first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@with_json
def list_recordings(
    api: Api,
    meeting_id: UUID | None,
    session_id: UUID | None,
    status: str | None,
    archived: str | None,
    from_: str | None,
    to: str | None,
    order: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List recordings by time."""
    filters = {
        "meeting_id": meeting_id,
        "session_id": session_id,
        "status": status,
        "archived": archived,
        "from": from_,
        "to": to,
        "order": order,
    }
    given = {name: str(value) for name, value in filters.items() if value is not None}
    found = api.recordings(given, None if everything else limit)
    if as_json:
        for recording in found:
            print_json_line(recording)
        return
    table = Table(box=None)
    for name in ("Invoked", "Status", "Archived", "Seconds", "Size"):
        table.add_column(name, no_wrap=True)
    table.add_column("Meeting", no_wrap=True, overflow="ellipsis")
    # An id that is cut is none.
    table.add_column("Recording", no_wrap=True, min_width=36)
    for recording in found:
        table.add_row(*_cells(recording))
    print_table(table if table.rows else "No recordings.")


def _cells(recording: Mapping[str, Any]) -> list[str | Text]:
    names = ("status", "archived", "duration_seconds")
    return [
        str(recording["invoked_at"])[:16].replace("T", " "),
        *(str(recording.get(name, "")) for name in names),
        _size(recording.get("file_size")),
        # Others gave it its title: it is no markup of ours, and no command to the terminal.
        Text(printable(str(recording.get("meeting_title", "")))),
        str(recording["recording_id"]),
    ]


def _size(size: int | None) -> str:
    return f"{size / 1e6:,.1f} MB" if size else ""


@click.command()
@with_api
@with_id
def show(api: Api, recording_id: UUID) -> None:
    """Show all that the catalogue knows of a recording, as JSON."""
    print_json(api.recording(str(recording_id)))


@click.command()
@with_api
@with_id
@click.option(
    "--expires-in",
    type=click.IntRange(60, 3600),
    default=900,
    help="For how many seconds the archive's links are good.",
)
@with_json
def links(api: Api, recording_id: UUID, expires_in: int, as_json: bool) -> None:
    """Print where a recording's files can be downloaded. Whoever has a link can use it."""
    found = api.links(str(recording_id), expires_in)
    if as_json:
        print_json(found)
        return
    for link in found["links"]:
        name = printable(link["name"])
        click.echo(f"{name} ({link['source']}, until {link['expires_at']}):\n{link['url']}")
    for missing in found["missing"]:
        click.echo(f"{printable(missing['name'])}: {missing['reason']}", err=True)


@click.command()
@with_api
@with_id
@click.option("--artifact", "names", multiple=True, help="Only this one; repeatable.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder in which the recording has a folder of its own.",
)
@click.pass_context
def download(
    context: click.Context, api: Api, recording_id: UUID, names: tuple[str, ...], output: Path
) -> None:
    """Download a recording's files. What broke off is taken up where it broke off.

    Each is put at OUTPUT/RECORDING_ID/ARTIFACT/FILE_NAME, and its path is printed. Exit code 1 if
    there is no link to one of them: because it is not there yet (not_yet), or in a storage of
    your own (external), or gone. Then stderr says which, and why.
    """
    identifier = str(recording_id)
    found = api.links(identifier, LINK_SECONDS)
    wanted = [link for link in found["links"] if not names or link["name"] in names]
    if unknown := set(names) - {link["name"] for link in wanted}:
        raise DownloadError(f"There is no link to {', '.join(sorted(unknown))}.")
    checksums = {
        name: artifact.get("archive", {}).get("checksum_crc32")
        for name, artifact in api.recording(identifier)["artifacts"].items()
    }
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for link in wanted:
            file = Download(link, checksums.get(link["name"]), output / identifier)
            task = progress.add_task(file.path.name, total=file.size)
            for done in file.chunks():
                progress.update(task, completed=done, total=file.size)
            click.echo(str(file.path))
    # Of those that were named, there is a link to each.
    missing = [] if names else found["missing"]
    for one in missing:
        click.echo(f"{printable(one['name'])}: {one['reason']}", err=True)
    context.exit(1 if missing else 0)


@click.command()
@with_api
@with_id
def sync(api: Api, recording_id: UUID) -> None:
    """Have a recording fetched from RealtimeKit now, and show it."""
    print_json(api.sync(str(recording_id)))


@click.command()
@with_api
@with_id
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(api: Api, recording_id: UUID, yes: bool) -> None:
    """Erase a recording: all versions of its files, and all that the catalogue says of it."""
    if not yes:
        click.confirm(f"Erase {recording_id} and its files, for good?", abort=True)
    state = api.erase(str(recording_id))
    if "erased_at" in state:
        click.echo(f"Erased at {state['erased_at']}.")
    else:
        click.echo("Its files are being archived right now. It is erased when that is over.")


@click.command()
@with_api
@with_json
@click.pass_context
def health(context: click.Context, api: Api, as_json: bool) -> None:
    """Look at all that the service stands on. Exit code 1 if anything is not well."""
    report = api.health()
    if as_json:
        print_json(report)
    else:
        table = Table("Part", "Status", "", box=None)
        for name, part in report["parts"].items():
            more = {key: value for key, value in part.items() if key != "status"}
            table.add_row(name, part["status"], Text(json.dumps(more) if more else ""))
        print_table(table)
    context.exit(0 if report["status"] == "ok" else 1)


COMMANDS = (list_recordings, show, links, download, sync, erase, health)
