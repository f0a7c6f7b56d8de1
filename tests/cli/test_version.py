"""The version that `realtimekit-recordings --version` prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from realtimekit_recordings.__main__ import installed_version


def test_the_version_option_prints_the_program_and_its_version(run: Callable[..., Result]) -> None:
    result = run("--version")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"realtimekit-recordings {installed_version()}\n"


def test_the_version_is_that_of_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "realtimekit_recordings-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.4\nName: realtimekit-recordings\nVersion: 9.8.7\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert installed_version() == "9.8.7"


def test_the_version_of_a_checkout_that_is_not_installed_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert installed_version() == "unknown"
