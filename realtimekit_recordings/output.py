"""What commands print on stdout, for people and for programs."""

from __future__ import annotations

import json
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
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))
