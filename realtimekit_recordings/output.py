"""What commands print on stdout, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def print_table(table: Table | str) -> None:
    """As wide as the terminal; where there is none, wide enough."""
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def print_json(body: Mapping[str, Any]) -> None:
    """Indented, for whoever reads it after all."""
    click.echo(_escaped(json.dumps(body, indent=2, ensure_ascii=False)))


def print_json_line(body: Mapping[str, Any]) -> None:
    """One of many."""
    click.echo(_escaped(json.dumps(body, ensure_ascii=False)))


def printable(text: str) -> str:
    """What others named things, without what a terminal would take for a command."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _escaped(text: str) -> str:
    """JSON itself leaves these as they are, and some terminals obey them."""
    return re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
