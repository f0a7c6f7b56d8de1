"""`list`, `show`, `links`, `download`, `sync`, `erase`, `health`: the catalogue, for operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from .api import Api, ApiError
from .files import Files
from .options import with_api, with_json, with_yes
from .output import confirm, print_json, print_json_line, print_rows, printable

STATUSES = ("INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED")
COLUMNS = ("Recording", "Invoked", "Status", "Archived", "Seconds", "Size", "Meeting")
LESSER_COLUMNS = ("Seconds", "Size", "Archived", "Invoked", "Status")

# The API has no link to a file, or to none of a recording's.
NO_LINK = (409, 410)

with_id = click.argument("recording_id", type=click.UUID)
with_meeting = click.option(
    "--meeting-id", "--meeting", "meeting_id", type=click.UUID, help="The recordings of a meeting."
)


@click.command("list")
@with_api
@with_meeting
@click.option("--session-id", type=click.UUID, help="Only recordings of this session.")
@click.option(
    "--title",
    metavar="TEXT",
    help="Only recordings whose meeting's title contains this, in any case. The command reads all "
    "recordings that the other options allow.",
)
@click.option("--status", type=click.Choice(STATUSES), help="Only recordings with this status.")
@click.option("--archived", type=click.Choice(["yes", "partly", "no"]), help="How far archived.")
@click.option(
    "--from",
    "from_",
    metavar="TIME",
    help="Start of the window: a date, or a time with its offset.",
)
@click.option("--to", metavar="TIME", help="End of the window, exclusive.")
@click.option("--order", type=click.Choice(["newest", "oldest"]), help="Which come first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@with_json
def list_recordings(
    api: Api,
    title: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
    **filters: object,
) -> None:
    """List recordings by time."""
    given = {name.rstrip("_"): str(value) for name, value in filters.items() if value is not None}
    most = None if everything else limit
    found: Iterable[dict[str, Any]] = api.recordings(given, most if title is None else None)
    if title is not None:
        found = itertools.islice((row for row in found if _is_titled(row, title)), most)
    if as_json:
        for recording in found:
            print_json_line(recording)
        return
    rows = [_cells(recording) for recording in found]
    print_rows(COLUMNS, rows, LESSER_COLUMNS) if rows else click.echo("No recordings.")


def _is_titled(recording: Mapping[str, Any], title: str) -> bool:
    return title.casefold() in str(recording.get("meeting_title", "")).casefold()


def _cells(recording: Mapping[str, Any]) -> list[str]:
    names = ("status", "archived", "duration_seconds")
    return [
        str(recording["recording_id"]),
        str(recording["invoked_at"])[:16].replace("T", " "),
        *(str(recording.get(name, "")) for name in names),
        _size(recording.get("file_size")),
        str(recording.get("meeting_title", "")),
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
@click.option("--artifact", help="Only this file.")
@with_json
def links(
    api: Api, recording_id: UUID, expires_in: int, artifact: str | None, as_json: bool
) -> None:
    """Print where a recording's files can be downloaded. Whoever has a link can use it.

    A recording with very many files has more than one answer holds: those that are left are named
    on stderr (ask_by_name), for --artifact, or for `download`.
    """
    found = api.links(str(recording_id), expires_in, artifact)
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
@click.option("--artifact", "names", multiple=True, help="Only this file; repeatable.")
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
    """Download a recording's files. What broke off is continued where it broke off.

    Each is put at OUTPUT/RECORDING_ID/ARTIFACT/FILE_NAME, and its path is printed. One file's
    trouble does not stop the others; stderr says why a file did not come. Exit code 1 if a file is
    missing: not there yet (not_yet), in a storage of your own (external), or gone. Exit code 2 if
    one could not be downloaded; running the command again continues.
    """
    files = Files(api, str(recording_id), output)
    try:
        files.download(names)
    except ApiError as error:
        if error.status not in NO_LINK:
            raise
        files.missing.append(str(error))
    finally:
        for why in (*files.missing, *files.failed):
            click.echo(printable(why), err=True)
    context.exit(2 if files.failed else 1 if files.missing else 0)


@click.command()
@with_api
@with_id
def sync(api: Api, recording_id: UUID) -> None:
    """Have a recording fetched from RealtimeKit now, and show it."""
    print_json(api.sync(str(recording_id)))


@click.command()
@with_api
@click.argument("recording_id", type=click.UUID, required=False)
@with_meeting
@with_yes
@click.pass_context
def erase(
    context: click.Context,
    api: Api,
    recording_id: UUID | None,
    meeting_id: UUID | None,
    yes: bool,
) -> None:
    """Erase a recording: all versions of its files, and all that the catalogue says of it.

    With --meeting-id instead of a RECORDING_ID, erase all recordings of that meeting that the
    catalogue has now; stderr names them before the question.
    """
    if (recording_id is None) == (meeting_id is None):
        raise click.UsageError("Give either a RECORDING_ID or --meeting-id.")
    ids = [str(recording_id)] if recording_id else _of_meeting(api, str(meeting_id))
    if not ids:
        click.echo("Nothing to do: the catalogue has no recordings of this meeting.")
        return
    what = ids[0] if recording_id else f"{len(ids)} recordings"
    if not yes:
        confirm(f"Erase {what} with all files, for good, from {api.place}?")
    refused = [identifier for identifier in ids if not _erase(api, identifier)]
    context.exit(2 if refused else 0)


def _of_meeting(api: Api, meeting_id: str) -> list[str]:
    found = api.recordings({"meeting_id": meeting_id}, None)
    ids = [str(recording["recording_id"]) for recording in found]
    for identifier in ids:
        click.echo(identifier, err=True)
    return ids


def _erase(api: Api, recording_id: str) -> bool:
    """Erase one recording; return False, having said why, if the API refuses this one."""
    try:
        state = api.erase(recording_id)
    except ApiError as error:
        if error.transient or error.status == 403:
            raise
        click.echo(f"Error: {recording_id}: {printable(str(error))}", err=True)
        return False
    if "erased_at" in state:
        click.echo(f"{recording_id}: erased at {state['erased_at']}.")
    else:
        click.echo(f"{recording_id}: its files are being archived; it is erased after that.")
    return True


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
        rows = [_part_cells(name, part) for name, part in report["parts"].items()]
        print_rows(("", "Part", "Status", "Details"), rows, ())
    context.exit(0 if report["status"] == "ok" else 1)


def _part_cells(name: str, part: Mapping[str, Any]) -> list[str]:
    """Return a part's row, marked where it is not well."""
    details = [f"{key}: {_shown(value)}" for key, value in part.items() if key != "status"]
    mark = "" if part["status"] == "ok" else "!"
    return [mark, name, part["status"], ", ".join(details)]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return str(value)


COMMANDS = (list_recordings, show, links, download, sync, erase, health)
