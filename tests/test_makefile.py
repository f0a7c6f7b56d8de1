"""The Makefile: what it hands on, and what it does when a machine lacks something."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from doubles import ROOT

MAKE = shutil.which("make") or "make"
SHOW = """#!/bin/sh
printf '%s\\n' "$@" > arguments
"""
OLD = """#!/bin/sh
exit 1
"""
WITHOUT_ENSUREPIP = """#!/bin/sh
case "$2" in *ensurepip*) exit 1;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, and with files in place of its dependencies."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("template.yaml", "samconfig.toml", "requirements.in", "requirements.txt"):
        (tmp_path / name).touch()
    for folder in ("functions", "local", "tests"):
        (tmp_path / folder).mkdir()
    for name in ("package.py", "bytecode.py", "template.py", "requirements.txt"):
        (tmp_path / "local" / name).touch()
    for name in ("sam-requirements.txt", "runtime-requirements.txt"):
        (tmp_path / "local" / name).touch()
    (tmp_path / "tests/requirements.txt").touch()
    return tmp_path


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user does; `make test` is no parent of it."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [MAKE, *arguments],
        cwd=checkout,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({}, ["GET", "/recordings", ""]),
        (
            {"API_PATH": "/recordings?limit=1&order=oldest"},
            ["GET", "/recordings?limit=1&order=oldest", ""],
        ),
        (
            {
                "METHOD": "PATCH",
                "API_PATH": "/recordings/1",
                "BODY": json.dumps({"it's": '"$HOME" $(HOME) `id` & | ; #'}),
            },
            ["PATCH", "/recordings/1", '{"it\'s": "\\"$HOME\\" $(HOME) `id` & | ; #"}'],
        ),
    ],
)
def test_a_request_reaches_the_api_as_it_was_typed(
    checkout: Path, variables: dict[str, str], arguments: list[str]
) -> None:
    script(checkout / ".venv/bin/python", SHOW)
    script(checkout / ".venv-uv/bin/uv", "")
    (checkout / ".venv/.local").touch()

    made = make(checkout, "request", *(f"{name}={value}" for name, value in variables.items()))

    assert made.returncode == 0, made.stderr
    shown = (checkout / "arguments").read_text().split("\n")
    assert shown == ["-m", "local", "request", *arguments, ""]


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        (None, "There is no "),
        (OLD, " is older than Python 3.11. "),
        (WITHOUT_ENSUREPIP, " lacks the modules venv and ensurepip. "),
    ],
)
def test_a_machine_without_a_fit_python_is_told_what_to_install_before_anything_happens(
    checkout: Path, python: str | None, reason: str
) -> None:
    path = checkout / "bin/python3"
    if python:
        script(path, python)

    made = make(checkout, "demo", f"PYTHON={path}")

    assert made.returncode != 0
    assert reason in made.stdout
    assert "apt-get install python3 python3-venv" in made.stdout
    assert "Setting up" not in made.stdout
    assert not (checkout / ".venv").exists()
    assert not (checkout / ".local").exists()


@pytest.mark.parametrize(
    ("selected", "builds"),
    [
        ("", True),
        ("-k erased", True),
        ("tests", True),
        ("tests/unit -k archive", False),
        ("tests/test_template.py", False),
        ("tests/unit tests/e2e", True),
        ("tests/test_package.py::test_x", True),
    ],
)
def test_the_package_is_built_for_the_tests_that_use_it(
    checkout: Path, selected: str, builds: bool
) -> None:
    made = make(checkout, "--dry-run", "test", f"ARGS={selected}")

    assert made.returncode == 0, made.stderr
    assert ("sam build" in made.stdout) is builds


def test_a_package_is_not_built_again_from_the_same_sources(checkout: Path) -> None:
    for ready in (
        ".venv-uv/bin/uv",
        ".venv/.local",
        ".venv/.tests",
        ".venv-sam/.ready",
        ".venv-runtime/.ready",
    ):
        script(checkout / ready, "")
    script(checkout / ".local/build/.ready", "")

    assert "sam build" not in make(checkout, "--dry-run", "package").stdout
    os.utime(checkout / "local/package.py", (2**32, 2**32))
    assert "sam build" in make(checkout, "--dry-run", "package").stdout


def test_a_build_is_checked_first_and_deployed_with_settings_that_git_ignores(
    checkout: Path,
) -> None:
    made = make(
        checkout, "--dry-run", "deploy", "RUNTIME=python3.12", "STACK=other", "CONFIG_ENV=other"
    )

    steps = [
        "local.package python3.12 arm64\n",
        "sam build",
        "local.package python3.12 arm64 .aws-sam/build\n",
        "sam deploy --guided",
    ]
    places = [made.stdout.index(step) for step in steps]
    assert places == sorted(places)
    deploy = made.stdout[places[-1] :]
    assert f"--config-file {checkout}/samconfig.local.toml" in deploy
    assert "--config-env other" in deploy
    assert "--stack-name other" in deploy
    assert "samconfig.local.toml" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_release_is_checked_before_anything_is_built(checkout: Path) -> None:
    made = make(checkout, "--dry-run", "release", "TAG=v0.1.0")

    steps = [
        "local.release check --tag v0.1.0\n",
        "sam build",
        "uv build --quiet --wheel",
        "local.release finish .aws-sam/build .local/release\n",
    ]
    places = [made.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "--require-hashes" in made.stdout[places[2] :]
