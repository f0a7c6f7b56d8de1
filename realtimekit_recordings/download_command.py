"""`download`: the files of one recording, or of many."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import click

from .api import Api
from .downloads import Downloads
from .options import meeting_option, with_api, with_label
from .output import printable


@click.command()
@with_api
@click.argument("recording_ids", metavar="[RECORDING_ID]...", type=click.UUID, nargs=-1)
@click.option(
    "--from",
    "from_",
    metavar="TIME",
    help="Instead of RECORDING_ID: recordings invoked at this date (UTC) or time, or later.",
)
@click.option("--to", metavar="TIME", help="Recordings invoked before this date or time.")
@meeting_option("Recordings of this meeting.")
@with_label("Recordings with this label.")
@click.option(
    "--artifact",
    "names",
    multiple=True,
    help="Only this file of each recording. The option may be repeated.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Create the recordings' folders and the manifest in this folder.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    default=4,
    help="Number of recordings to download at once.",
)
@click.pass_context
def download(
    context: click.Context,
    /,
    api: Api,
    recording_ids: tuple[UUID, ...],
    names: tuple[str, ...],
    output: Path,
    parallel: int,
    **filters: object,
) -> None:
    """Download the files of recordings.

    The command writes each file to OUTPUT/RECORDING_ID/ARTIFACT/FILE_NAME, and prints the path.
    OUTPUT/manifest.jsonl gets a line for each file: its recording, path, size and checksum.

    If a file or a recording fails, the others are still downloaded, and stderr says at the end what
    failed and why. Running the command again continues: whole files are kept. A transcript,
    captions, summary or chat that the session never had is not missing, unless --artifact names it.

    \b
    Exit codes:
      0  All files were downloaded.
      1  A file or a recording does not exist: not yet (not_yet), only in your
         own storage (external), or no longer.
      2  A file could not be downloaded. Run the command again to continue.
    """
    query = {name.rstrip("_"): str(value) for name, value in filters.items() if value is not None}
    if bool(recording_ids) == bool(query):
        raise click.UsageError("Give RECORDING_IDs, or one of --from, --to, --meeting and --label.")
    ids = [str(id_) for id_ in recording_ids] or [
        str(row["recording_id"]) for row in api.recordings({**query, "order": "oldest"}, None)
    ]
    if not ids:
        click.echo("Nothing to do: the catalogue has no such recordings.", err=True)
        return
    downloads = Downloads(api, list(dict.fromkeys(ids)), names, output)
    try:
        downloads.run(parallel)
    finally:
        missing, failed = list(downloads.missing), list(downloads.failed)
        for reason in (*missing, *failed):
            click.echo(printable(reason), err=True)
    context.exit(2 if failed else 1 if missing else 0)
