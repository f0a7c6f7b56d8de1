"""The locks: everything deployed, and everything that deploys it, has its hash."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from doubles import ROOT

LOCKS = [
    ROOT / "requirements.txt",
    ROOT / "local/sam-requirements.txt",
    ROOT / "local/wheel-requirements.txt",
]


def locked(lock: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """Return the hashes of each requirement, by name."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        line, *hashes = re.split(r"\s+--hash=", entry.strip())
        requirement = Requirement(line)
        found[f"{requirement.name} {requirement.specifier}"] = (requirement, hashes)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_everything_has_one_version_and_hashes(lock: Path) -> None:
    entries = locked(lock)

    assert len(entries) > 4
    for requirement, hashes in entries.values():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_the_lock_is_of_what_it_is_made_of(lock: Path) -> None:
    """Else `make lock` was forgotten."""
    source = re.findall(r"^[a-z].*==.*$", lock.with_suffix(".in").read_text(), re.MULTILINE)

    assert source
    assert {re.sub("==", " ==", pin) for pin in source} <= locked(lock).keys()


def test_the_tests_run_what_is_deployed() -> None:
    for requirement, _ in locked(ROOT / "requirements.txt").values():
        if requirement.marker is None or requirement.marker.evaluate():
            assert metadata.version(requirement.name) in requirement.specifier


def test_what_is_deployed_is_for_every_runtime() -> None:
    """Each requirement, and each of its dependencies, works on all runtimes."""
    runtimes = {"python_full_version": "3.12.0"}, {"python_full_version": "3.14.9"}
    for requirement, _ in locked(ROOT / "requirements.txt").values():
        for runtime in runtimes:
            marker = requirement.marker or Marker("python_version > '3'")
            assert marker.evaluate({**runtime, "sys_platform": "linux"}), requirement


def test_botocore_is_the_emulators() -> None:
    pins = [Requirement(one) for one in metadata.requires("ministack") or []]
    [pin] = [one for one in pins if one.name == "botocore" and one.marker is None]
    requirement, _ = next(
        entry for entry in locked(ROOT / "requirements.txt").values() if entry[0].name == "botocore"
    )

    assert str(pin.specifier) == str(requirement.specifier)
