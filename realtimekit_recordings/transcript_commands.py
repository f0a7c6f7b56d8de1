"""`transcript`: what was said in the session of a recording."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click

from .api import NO_LINK_STATUSES, Api, ApiError
from .linked_file import FileMissingError, LinkedFile
from .options import with_api, with_id
from .output import Failure, print_json_text, printable
from .session_files import session_file_name
from .transcripts import (
    TranscriptError,
    UnknownShapeError,
    caption_text,
    parse_transcript,
    read_sentences,
    transcript_lines,
)

LINK_SECONDS = 900
# The archive stores no larger text of a session either.
MAX_BYTES = 64 * 2**20

REASONS: Mapping[str, str] = {
    "no_file": "RealtimeKit made none for this session.",
    "not_yet": "not archived yet. The stack looks for a session's files until a day after its end. "
    "Run the command again later, and see whether `webhook check` finds anything wrong.",
    "expired": "RealtimeKit deleted the file before it was archived.",
    "external": "the file is only in your own storage.",
    "archive_unreachable": "the file is in a bucket that this stack cannot access. Check the "
    "stack's parameter ArchiveBucketName.",
}
"""Texts for the API's reasons."""
NOT_IN_ROW = (
    "the stack has not looked for this session's files yet, or its parameter SessionFiles leaves "
    "this one out."
)

_REASON = re.compile(rf"\b(?:{'|'.join(REASONS)})\b")


class _NoFileError(Exception):
    """Raised when there is nothing to print; the text says why."""


@click.command()
@with_api
@with_id
@click.option("--json", "as_json", is_flag=True, help="Print RealtimeKit's JSON, with all details.")
@click.option("--vtt", "as_vtt", is_flag=True, help="Print the captions (WebVTT) instead.")
@click.pass_context
def transcript(
    context: click.Context, api: Api, recording_id: UUID, as_json: bool, as_vtt: bool
) -> None:
    """Print the transcript of a recording's session.

    Each line has the time since the session's start, the speaker, and a sentence. A speaker's name
    is printed once for sentences in a row. All recordings of a session have the same transcript.

    \b
    Exit codes:
      0  The transcript was printed.
      1  There is no transcript: not yet, never, or no longer. stderr says why.
      2  The transcript could not be fetched, or has an unknown shape.
    """
    if as_json and as_vtt:
        raise click.UsageError("Give --json or --vtt, not both.")
    kind = "captions" if as_vtt else "transcript"
    try:
        text = _fetch(api, str(recording_id), kind)
        if as_vtt:
            click.echo(caption_text(text))
        elif as_json:
            parse_transcript(text)
            print_json_text(text)
        else:
            _print_sentences(text)
    except _NoFileError as error:
        click.echo(str(error), err=True)
        context.exit(1)
    except UnknownShapeError as error:
        raise Failure(f"{error} Use --json to print it as it is.") from None
    except TranscriptError as error:
        raise Failure(
            f"{error} Use `download {recording_id} --artifact {kind}` to save it as it is."
        ) from None


def _print_sentences(text: str) -> None:
    """Print a transcript's lines. Raises `_NoFileError` and `TranscriptError`."""
    sentences = read_sentences(parse_transcript(text))
    if not sentences:
        raise _NoFileError("The transcript has no sentences.")
    click.echo("\n".join(transcript_lines(sentences)))


def _fetch(api: Api, recording_id: str, kind: str) -> str:
    """Return the text of a session's file.

    Raises `_NoFileError`, `TranscriptError`, `ApiError` and `DownloadError`.
    """
    link = _link(api, recording_id, kind)
    name = session_file_name(kind, "")
    try:
        body = LinkedFile(link["url"], name, api.connections).read_text(MAX_BYTES)
    except FileMissingError as error:
        raise _NoFileError(str(error)) from None
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TranscriptError(f"{name} is not UTF-8 text.") from None
    if not text.strip():
        raise _NoFileError(
            f"No {kind}: RealtimeKit's file is empty, as for a session in which nobody spoke."
        )
    return text


def _link(api: Api, recording_id: str, kind: str) -> Mapping[str, Any]:
    """Return the link to a session's file. Raises `_NoFileError` and `ApiError`."""
    try:
        answer = api.links(recording_id, LINK_SECONDS, kind)
    except ApiError as error:
        if error.status == 400 and error.parameter == "artifact":
            raise _NoFileError(f"No {kind}: {NOT_IN_ROW}") from None
        if error.status not in NO_LINK_STATUSES:
            raise
        # The detail names the reason, unless the recording was erased.
        detail = str(error)
    else:
        links: list[Mapping[str, Any]] = answer["links"]
        if links:
            return links[0]
        detail = ", ".join(str(file["reason"]) for file in answer["missing"])
    reason = _REASON.search(detail)
    raise _NoFileError(f"No {kind}: {REASONS[reason[0]]}" if reason else printable(detail))
