"""What commands print on stdout, for people and for programs, and the question that some ask."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLUMN_GAP = 2
LEAST_LAST_COLUMN = 12


class Failure(click.ClickException):
    """A command that could not do its work, said in one line on stderr."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


def print_rows(names: Sequence[str], rows: Iterable[Sequence[str]], lesser: Sequence[str]) -> None:
    """Print a table of which only the last column is ever cut.

    Where the terminal is too narrow, columns are left out in the order of `lesser`.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = {
        name: max(cell_len(text) for text in (name, *(row[index] for row in cells)))
        for index, name in enumerate(names)
    }
    console = _console()
    shown = _fitting(widths, lesser, console.width)
    # On a terminal that is narrower still, lines wrap, and no id is cut.
    console.width = max(console.width, _total(shown))
    table = Table(box=None, padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    for name in shown:
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=shown[name])
    for row in cells:
        table.add_row(*(Text(row[names.index(name)]) for name in shown))
    with console.capture() as captured:
        console.print(table)
    # Not rich's own print, which exits with 1 where stdout is closed.
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _fitting(widths: Mapping[str, int], lesser: Sequence[str], width: int) -> dict[str, int]:
    """Return the columns that there is room for, and how wide each is."""
    last = list(widths)[-1]
    shown = {**widths, last: min(widths[last], LEAST_LAST_COLUMN)}
    for name in lesser:
        if _total(shown) <= width:
            break
        del shown[name]
    room = shown[last] + width - _total(shown)
    return {**shown, last: max(shown[last], min(widths[last], room))}


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + COLUMN_GAP * (len(widths) - 1)


def _console() -> Console:
    """Return the terminal, or where there is none, a wide one."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def print_json(body: Mapping[str, Any]) -> None:
    """Print a document, indented."""
    click.echo(_dumped(body, indent=2))


def print_json_line(body: Mapping[str, Any]) -> None:
    """Print one document of many, in one line."""
    click.echo(_dumped(body))


def _dumped(body: Mapping[str, Any], indent: int | None = None) -> str:
    text = json.dumps(body, indent=indent, ensure_ascii=not _is_utf8(sys.stdout))
    # JSON itself leaves these as they are, and some terminals obey them.
    return re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str) -> str:
    """Return a text that others chose, without what a terminal would take for a command."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def confirm(question: str) -> None:
    """Ask a question. Raises `Abort` for a no, and `Failure` where nobody can answer."""
    nobody = Failure("There is no terminal to ask at: give --yes.")
    if sys.stdin is None:
        raise nobody
    try:
        is_wanted = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise nobody from None
    if not is_wanted:
        raise click.Abort


def make_encodable() -> None:
    """Have stdout and stderr escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Forget what stdout did not take: Python would try again at its end, and exit with 120."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_utf8(stream: Any) -> bool:
    with suppress(LookupError):
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    return False
