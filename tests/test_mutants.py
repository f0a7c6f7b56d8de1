"""The mutation tests: each module has existing test files."""

from __future__ import annotations

import pytest

from doubles import ROOT
from mutants import files_of

MODULES = [path.stem for path in (ROOT / "functions").rglob("[a-z]*.py")]


@pytest.mark.parametrize("module", MODULES)
def test_a_modules_mutants_meet_tests(module: str) -> None:
    files = files_of(module)

    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
