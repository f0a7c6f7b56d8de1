"""The output of commands: tables, JSON, failures, and the question before a deletion."""

from __future__ import annotations

import codecs
import csv
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
MIN_LAST_COLUMN_WIDTH = 12

# A terminal obeys control characters, and shows text in another order after bidi controls (Unicode
# UAX #9). The others are line separators, invisible characters, and halves of a surrogate pair.
# The joiners U+200C and U+200D are left, because Persian, Hindi and emoji need them.
OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# Spreadsheets take a cell that begins so for a formula, and some split a cell at a semicolon.
_FORMULA = re.compile(r"(^|;)(\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


class Failure(click.ClickException):
    """Raised when a command cannot do its work; click prints the text as one line on stderr."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


def print_rows(names: Sequence[str], rows: Iterable[Sequence[str]], lesser: Sequence[str]) -> None:
    """Print a table, and cut only its last column to the terminal's width.

    On a narrow terminal, columns are left out in the order of `lesser`.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = {
        name: max(cell_len(text) for text in (name, *(row[index] for row in cells)))
        for index, name in enumerate(names)
    }
    console = _console()
    shown = _fit_columns(widths, lesser, console.width)
    # On a terminal that is narrower still, lines wrap, so that ids stay whole.
    console.width = max(console.width, _total_width(shown))
    table = Table(box=None, padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    for name in shown:
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=shown[name])
    for row in cells:
        table.add_row(*(Text(row[names.index(name)]) for name in shown))
    with console.capture() as captured:
        console.print(table)
    # rich's own print would exit with 1 if stdout is closed.
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _fit_columns(widths: Mapping[str, int], lesser: Sequence[str], width: int) -> dict[str, int]:
    """Return the columns that fit the width, and the width of each."""
    last = list(widths)[-1]
    shown = {**widths, last: min(widths[last], MIN_LAST_COLUMN_WIDTH)}
    for name in lesser:
        if _total_width(shown) <= width:
            break
        del shown[name]
    room = shown[last] + width - _total_width(shown)
    return {**shown, last: max(shown[last], min(widths[last], room))}


def _total_width(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + COLUMN_GAP * (len(widths) - 1)


def _console() -> Console:
    """Return a console of the terminal's width, or of 200 columns without a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def print_csv(cells: Iterable[object]) -> None:
    """Print one line of CSV (RFC 4180, UTF-8); no cell is a formula in a spreadsheet.

    An apostrophe before the first character makes a spreadsheet take the cell for text (OWASP, CSV
    injection).
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(_csv_cell(cell) for cell in cells)
    # Bytes, because a text stream has its own line ends and its own encoding.
    click.echo(line.getvalue().encode(errors="backslashreplace"), nl=False)


def _csv_cell(cell: object) -> str:
    return _FORMULA.sub(r"\1'\2", printable(cell))


def print_json(body: Mapping[str, Any]) -> None:
    """Print an indented JSON document."""
    click.echo(_dump(body, indent=2))


def print_json_line(body: Mapping[str, Any]) -> None:
    """Print a JSON document in one line."""
    click.echo(_dump(body))


def print_json_text(text: str) -> None:
    """Print a JSON document as it was written, but with escapes in its strings."""
    click.echo(_escaped(re.sub("\r\n?", "\n", text.strip())))


def _dump(body: Mapping[str, Any], indent: int | None = None) -> str:
    return _escaped(json.dumps(body, indent=indent, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Escape characters of a JSON document that stdout cannot write, or a terminal may obey."""
    if not _is_utf8(sys.stdout):
        text = re.sub(r"[^\x00-\x7f]", _json_escape, text)
    return OBEYED.sub(lambda match: match[0] if match[0] in "\n\t" else _json_escape(match), text)


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def printable(value: object) -> str:
    """Return a value's text without control characters, because a terminal may obey them."""
    return OBEYED.sub("\N{REPLACEMENT CHARACTER}", str(value))


def member_text(value: object) -> str:
    """Return a JSON value for people; an object's members are listed as "name value"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {member_text(member)}" for name, member in value.items())
    return str(value)


def confirm(question: str) -> None:
    """Ask the operator a question. Raises `Abort` for a no, and `Failure` without a terminal."""
    unanswered = Failure("Cannot ask for confirmation, because stdin is no terminal. Give --yes.")
    if sys.stdin is None:
        raise unanswered
    try:
        is_confirmed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise unanswered from None
    if not is_confirmed:
        raise click.Abort


def make_encodable() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Drop stdout's unwritten rest: at exit, Python would write it again, and exit with 120."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_utf8(stream: Any) -> bool:
    with suppress(LookupError):
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    return False
