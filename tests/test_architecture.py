"""The map of the code: docs/architecture.md names every module, and imports point down only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from doubles import ROOT

PACKAGE = ROOT / "functions" / "recordings"
ROW = re.compile(r"^\| (?:(\d) \w+)? ?\| ((?:`\w+`(?:, )?)+) \|", re.MULTILINE)


def floors() -> dict[str, int]:
    """Return the floor of each module in the map's table; a row without one is on the row's above."""
    found: dict[str, int] = {}
    floor = 0
    for number, names in ROW.findall((ROOT / "docs" / "architecture.md").read_text()):
        floor = int(number or floor)
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), floor)
    return found


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "recordings":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recordings."):
            found.add(str(node.module).removeprefix("recordings."))
    return found


def test_every_module_is_on_the_map() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}

    assert modules <= floors().keys()


def test_imports_point_down_only() -> None:
    on = floors()
    up = [
        (path.stem, name)
        for path in PACKAGE.glob("*.py")
        for name in imported(path)
        if on.get(name, 0) > on.get(path.stem, 9)
    ]

    assert up == []
