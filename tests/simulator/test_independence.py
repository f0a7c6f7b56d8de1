"""Independence of the simulator from the rest of this repository."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "realtimekit_simulator"


def imported(module: Path) -> set[str]:
    """Return the top-level names of a module's absolute imports."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)  # type: ignore[arg-type]
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def third_party() -> set[str]:
    """Return the packages that the simulator imports beyond itself and the standard library."""
    names = set.union(*map(imported, PACKAGE.rglob("*.py")))
    return names - sys.stdlib_module_names


def test_the_package_imports_nothing_of_this_repository(third_party):
    local_folders = {path.stem for path in (*ROOT.glob("*"), *ROOT.glob("functions/*"))}
    assert not third_party & local_folders


def test_the_extra_lists_exactly_the_packages_that_are_imported(third_party):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        re.split(r"[<>=]", entry)[0] for entry in project["optional-dependencies"]["simulator"]
    ]
    assert listed == sorted(third_party)
