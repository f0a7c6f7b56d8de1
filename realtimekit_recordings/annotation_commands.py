"""`label`, `hold` and `release`: the owner's labels and hold of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click

from .api import Api
from .options import with_api, with_id
from .output import printable


def label_pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=TEXT arguments as names and texts. Raises `UsageError`."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{printable(text)!r} is not NAME=TEXT.")
        if name in pairs:
            raise click.UsageError(f"The label {printable(name)!r} is given twice.")
        pairs[name] = value
    return pairs


@click.command()
@with_api
@with_id
@click.argument("labels", nargs=-1, required=True, metavar="NAME=TEXT...")
def label(api: Api, recording_id: UUID, labels: tuple[str, ...]) -> None:
    """Set labels of a recording, and remove those given as NAME= without a text.

    Other labels stay as they are. At the end, all labels of the recording are printed. A name
    has up to 64 of the characters a-z, 0-9, _, . and -; a text has up to 256 characters. A
    recording has up to 20 labels.
    """
    patch = {name: text or None for name, text in label_pairs(labels).items()}
    row = api.annotate(str(recording_id), {"labels": patch})
    for name, text in sorted(row.get("labels", {}).items()):
        click.echo(printable(f"{name}={text}"))


@click.command()
@with_api
@with_id
@click.option("--reason", required=True, help="The reason, such as the name of a case.")
def hold(api: Api, recording_id: UUID, reason: str) -> None:
    """Hold a recording, so that it cannot be erased until it is released.

    Holding it again with another reason changes the reason, and not the time of the hold.
    """
    _print_hold(api.annotate(str(recording_id), {"hold": {"reason": reason}}))


@click.command()
@with_api
@with_id
def release(api: Api, recording_id: UUID) -> None:
    """Release a recording from its hold, so that it can be erased."""
    _print_hold(api.annotate(str(recording_id), {"hold": None}))


def _print_hold(row: Mapping[str, Any]) -> None:
    hold = row.get("hold")
    since = f" since {hold['since']}" if hold and "since" in hold else ""
    state = f"on hold{since}: {hold['reason']}" if hold else "not on hold."
    click.echo(printable(f"{row['recording_id']}: {state}"))


ANNOTATION_COMMANDS = (label, hold, release)
