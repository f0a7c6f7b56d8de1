"""`list`, `show`, `links`, `sync`, `erase` and `health`: the catalogue's commands."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import click

from .api import Api, ApiError
from .options import (
    meeting_option,
    with_api,
    with_id,
    with_json,
    with_json_lines,
    with_label,
    with_limit,
    with_yes,
)
from .output import (
    confirm,
    member_text,
    print_csv,
    print_json,
    print_json_line,
    print_rows,
    printable,
)

STATUSES = ("INVOKED", "RECORDING", "PAUSED", "UPLOADING", "UPLOADED", "ERRORED")
COLUMNS = ("Recording", "Invoked", "Status", "Archived", "Seconds", "Size", "Meeting")
CSV_COLUMNS = (
    "recording_id",
    "invoked_at",
    "started_at",
    "stopped_at",
    "status",
    "archived",
    "duration_seconds",
    "file_size",
    "meeting_id",
    "session_id",
    "meeting_title",
    "labels",
    "hold",
)
LESSER_COLUMNS = ("Seconds", "Size", "Archived", "Invoked", "Status")


@click.command("list")
@with_api
@meeting_option("Only recordings of this meeting.")
@click.option("--session-id", type=click.UUID, help="Only recordings of this session.")
@click.option(
    "--title",
    metavar="TEXT",
    help="Only recordings whose meeting's title contains this text, in upper or lower case. The "
    "command reads all recordings that match the other options.",
)
@click.option("--status", type=click.Choice(STATUSES), help="Only recordings with this status.")
@click.option(
    "--archived",
    type=click.Choice(["yes", "partly", "no"]),
    help="Only recordings of which all, some or no files are archived.",
)
@with_label("Only recordings with this label.")
@click.option(
    "--from",
    "from_",
    metavar="TIME",
    help="Start of the window: a date (UTC), or a time with its offset.",
)
@click.option("--to", metavar="TIME", help="End of the window, exclusive.")
@click.option(
    "--order",
    type=click.Choice(["newest", "oldest"]),
    help="Print the newest or the oldest recordings first. The default is newest.",
)
@with_limit
@click.option("--all", "everything", is_flag=True, help="Print all items, and ignore --limit.")
@with_json_lines
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header, for spreadsheets.")
def list_recordings(
    api: Api,
    title: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
    as_csv: bool,
    **filters: object,
) -> None:
    """List recordings by the time they were invoked.

    The table has a line for each recording, with the time in UTC. On a narrow terminal some columns
    are left out. The last column marks a recording on hold with (held), and ends with its labels.
    In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    if as_json and as_csv:
        raise click.UsageError("Give --json or --csv, not both.")
    query = {name.rstrip("_"): str(value) for name, value in filters.items() if value is not None}
    max_items = None if everything else limit
    recordings: Iterable[dict[str, Any]]
    recordings = api.recordings(query, max_items if title is None else None)
    if title is not None:
        matches = (recording for recording in recordings if _has_title(recording, title))
        recordings = itertools.islice(matches, max_items)
    if as_json:
        for recording in recordings:
            print_json_line(recording)
        return
    if as_csv:
        print_csv(CSV_COLUMNS)
        for recording in recordings:
            print_csv(_csv_cells(recording))
        return
    rows = [_cells(recording) for recording in recordings]
    print_rows(COLUMNS, rows, LESSER_COLUMNS) if rows else click.echo("No recordings.")


def _has_title(recording: Mapping[str, Any], title: str) -> bool:
    return title.casefold() in str(recording.get("meeting_title", "")).casefold()


def _cells(recording: Mapping[str, Any]) -> list[str]:
    names = ("status", "archived", "duration_seconds")
    return [
        str(recording["recording_id"]),
        str(recording["invoked_at"])[:16].replace("T", " "),
        *(str(recording.get(name, "")) for name in names),
        _size(recording.get("file_size")),
        _described(recording),
    ]


def _described(recording: Mapping[str, Any]) -> str:
    """Return a recording's title, with a mark before it for a hold, and labels after it."""
    labels = [f"{name}={text}" for name, text in sorted(recording.get("labels", {}).items())]
    parts = [
        "(held)" if "hold" in recording else "",
        str(recording.get("meeting_title", "")),
        f"[{', '.join(labels)}]" if labels else "",
    ]
    return " ".join(filter(None, parts))


def _csv_cells(recording: Mapping[str, Any]) -> list[object]:
    labels = recording.get("labels")
    texts = {
        "labels": json.dumps(labels, ensure_ascii=False) if labels else "",
        "hold": recording.get("hold", {}).get("reason", ""),
    }
    return [texts.get(name, recording.get(name, "")) for name in CSV_COLUMNS]


def _size(size: int | None) -> str:
    return f"{size / 1e6:,.1f} MB" if size else ""


@click.command()
@with_api
@with_id
def show(api: Api, recording_id: UUID) -> None:
    """Show a recording's row of the catalogue, as JSON."""
    print_json(api.recording(str(recording_id)))


@click.command()
@with_api
@with_id
@click.option(
    "--expires-in",
    type=click.IntRange(60, 3600),
    default=900,
    help="Make the archive's links valid for so many seconds.",
)
@click.option("--artifact", help="Only this file of the recording.")
@click.option(
    "--inline", is_flag=True, help="Make browsers play or show the archive's files, not save them."
)
@with_json
def links(
    api: Api,
    recording_id: UUID,
    expires_in: int,
    artifact: str | None,
    inline: bool,
    as_json: bool,
) -> None:
    """Print links to a recording's files.

    Anyone who has a link can download the file until the link expires. A browser saves the
    archive's files under the meeting's title and the date. RealtimeKit's own links, to files that
    are not archived yet, ignore --expires-in and --inline.

    stderr names the files without a link, and why. The reason ask_by_name means that the recording
    has more files than one answer holds: use --artifact, or `download`.
    """
    answer = api.links(str(recording_id), expires_in, artifact, inline=inline)
    if as_json:
        print_json(answer)
        return
    for link in answer["links"]:
        name = printable(link["name"])
        click.echo(f"{name} ({link['source']}, until {link['expires_at']}):\n{link['url']}")
    for missing in answer["missing"]:
        click.echo(f"{printable(missing['name'])}: {missing['reason']}", err=True)


@click.command()
@with_api
@with_id
def sync(api: Api, recording_id: UUID) -> None:
    """Fetch a recording from RealtimeKit now, and show its row as JSON."""
    print_json(api.sync(str(recording_id)))


@click.command()
@with_api
@click.argument("recording_id", type=click.UUID, required=False)
@meeting_option("Erase all recordings of this meeting.")
@with_yes
@click.pass_context
def erase(
    context: click.Context,
    api: Api,
    recording_id: UUID | None,
    meeting_id: UUID | None,
    yes: bool,
) -> None:
    """Erase a recording, with all versions of its files, for good.

    The catalogue keeps only the recording's id and the time of its erasure. With --meeting-id
    instead of RECORDING_ID, the command erases all recordings that the catalogue has of that
    meeting, and first prints their ids on stderr. Exit code 2 if one of them could not be erased;
    it does not stop the others.
    """
    if (recording_id is None) == (meeting_id is None):
        raise click.UsageError("Give either a RECORDING_ID or --meeting-id.")
    ids = [str(recording_id)] if recording_id else _ids_of_meeting(api, str(meeting_id))
    if not ids:
        click.echo("Nothing to do: the catalogue has no recordings of this meeting.")
        return
    subject = ids[0] if recording_id else f"{len(ids)} recordings"
    if not yes:
        confirm(f"Erase {subject} with all files, for good, from {api.place}?")
    refused = [identifier for identifier in ids if not _erase(api, identifier)]
    context.exit(2 if refused else 0)


def _ids_of_meeting(api: Api, meeting_id: str) -> list[str]:
    recordings = api.recordings({"meeting_id": meeting_id}, None)
    ids = [str(recording["recording_id"]) for recording in recordings]
    for identifier in ids:
        click.echo(identifier, err=True)
    return ids


def _erase(api: Api, recording_id: str) -> bool:
    """Erase one recording; print why and return False if the API refuses this one."""
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
        click.echo(f"{recording_id}: will be erased once its files have been archived.")
    return True


@click.command()
@with_api
@with_json
@click.pass_context
def health(context: click.Context, api: Api, as_json: bool) -> None:
    """Check every part that the service depends on.

    The table marks with ! each part that is not ok. Exit code 1 if there is one.
    """
    report = api.health()
    if as_json:
        print_json(report)
    else:
        rows = [_part_cells(name, part) for name, part in report["parts"].items()]
        print_rows(("", "Part", "Status", "Details"), rows, ())
    context.exit(0 if report["status"] == "ok" else 1)


def _part_cells(name: str, part: Mapping[str, Any]) -> list[str]:
    """Return a part's row, marked with ! if the part is not ok."""
    details = [f"{key}: {_detail_text(value)}" for key, value in part.items() if key != "status"]
    mark = "" if part["status"] == "ok" else "!"
    return [mark, name, part["status"], ", ".join(details)]


def _detail_text(value: object) -> str:
    """Return a detail's text; of counts only those above 0, since the terminal cuts the line."""
    if isinstance(value, Mapping):
        value = {name: member for name, member in value.items() if member != 0} or "none"
    return member_text(value)


COMMANDS = (list_recordings, show, links, sync, erase, health)
