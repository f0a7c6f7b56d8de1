"""The parts of a release, and what must hold before one is made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from doubles import ROOT
from local.release import ReleaseError, bundle, check, checksums, notes, version
from local.template import load

FUNCTION = {
    "Type": "AWS::Serverless::Function",
    "Properties": {"CodeUri": "ReceiveWebhookFunction-Shared"},
}
# The paths are those that `sam build` writes.
BUILT = {
    "Metadata": {
        "AWS::ServerlessRepo::Application": {
            "Name": "realtimekit-recordings",
            "LicenseUrl": "../../LICENSE",
            "ReadmeUrl": "../../README.md",
        }
    },
    "Globals": {
        "Function": {"CodeUri": "functions/", "Runtime": "python3.13", "Architectures": ["arm64"]}
    },
    "Resources": {
        "ReceiveWebhookFunction": FUNCTION,
        "FollowUpFunction": FUNCTION,
        "EventBus": {"Type": "AWS::Events::EventBus"},
    },
}
CHANGELOG = """# Changelog

## [Unreleased]

## [1.1.0] - 2027-01-02

Read [upgrading](docs/upgrading.md).

### Added

- A thing, see [1.0.0].

## [1.0.0] - 2026-11-25

The first.
"""
UNRELEASED = CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Another thing.\n")
NAME = "realtimekit-recordings-1.1.0-python3.13-arm64"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """Return a folder like that of `make build`, with two functions and little code."""
    folder = tmp_path / "build"
    code = folder / "ReceiveWebhookFunction-Shared"
    code.mkdir(parents=True)
    (code / "follow_up.py").write_text("handler = None\n")
    program = code / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    (folder / "template.yaml").write_text(yaml.safe_dump(BUILT, sort_keys=False))
    return folder


def unpacked(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack a release's zip file into a folder, and return its template."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return load(folder / NAME / "template.yaml")


def test_an_unpacked_release_has_all_that_its_template_names(build: Path, tmp_path: Path) -> None:
    file = bundle(build, tmp_path, "1.1.0")

    template = unpacked(file, tmp_path)
    content = tmp_path / NAME
    assert file.name == f"{NAME}.zip"
    assert sorted(path.name for path in content.iterdir()) == [
        "LICENSE",
        "README.md",
        "ReceiveWebhookFunction-Shared",
        "samconfig.toml",
        "template.yaml",
    ]
    folders = {
        resource["Properties"]["CodeUri"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert folders == {"ReceiveWebhookFunction-Shared"}
    published = template["Metadata"]["AWS::ServerlessRepo::Application"]
    assert (published["LicenseUrl"], published["ReadmeUrl"]) == ("LICENSE", "README.md")
    assert (content / "samconfig.toml").read_text() == (ROOT / "samconfig.toml").read_text()


def test_every_user_may_read_the_code_and_programs_stay_programs(
    build: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(bundle(build, tmp_path, "1.1.0")) as archive:
        modes = {Path(entry.filename).name: entry.external_attr >> 16 for entry in archive.filelist}

    assert (modes["follow_up.py"], modes["program"]) == (0o644, 0o755)


def test_two_releases_of_the_same_files_are_equal(build: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = bundle(build, tmp_path, "1.1.0")
    os.utime(build / "ReceiveWebhookFunction-Shared/follow_up.py", (0, 2**31))

    assert bundle(build, tmp_path / "again", "1.1.0").read_bytes() == first.read_bytes()


def test_a_build_whose_runtime_may_be_chosen_still_is_refused(build: Path, tmp_path: Path) -> None:
    template = load(build / "template.yaml")
    template["Globals"]["Function"]["Runtime"] = {"Ref": "Runtime"}
    (build / "template.yaml").write_text(yaml.safe_dump(template))

    with pytest.raises(ReleaseError, match="Build it with: make build"):
        bundle(build, tmp_path, "1.1.0")


def test_a_build_without_code_or_template_is_refused(build: Path, tmp_path: Path) -> None:
    (build / "ReceiveWebhookFunction-Shared").rename(tmp_path / "elsewhere")

    with pytest.raises(ReleaseError, match="the code of ReceiveWebhookFunction, does not exist"):
        bundle(build, tmp_path, "1.1.0")
    with pytest.raises(ReleaseError, match="Build it first: make build"):
        bundle(tmp_path, tmp_path, "1.1.0")


def test_the_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b.whl").write_bytes(b"wheel")
    (tmp_path / "a.zip").write_bytes(b"zip")
    (tmp_path / "NOTES.md").write_text("Not one of them.")

    zipped, wheel = hashlib.sha256(b"zip").hexdigest(), hashlib.sha256(b"wheel").hexdigest()
    assert checksums(tmp_path) == f"{zipped}  a.zip\n{wheel}  b.whl\n"


def test_the_notes_are_the_versions_section_of_the_changelog() -> None:
    assert notes(CHANGELOG, "1.1.0") == (
        "Read [upgrading](docs/upgrading.md).\n\n### Added\n\n- A thing, see [1.0.0]."
    )
    assert notes(CHANGELOG, "1.0.0") == "The first."


def test_the_present_version_has_notes() -> None:
    assert notes((ROOT / "CHANGELOG.md").read_text(), version()) != ""


@pytest.mark.parametrize(
    ("changelog", "number", "tag", "said"),
    [
        (CHANGELOG, "1.2.0", None, "no section for the version 1.2.0 of pyproject.toml. Move"),
        (CHANGELOG, "1.1.0", "v1.0.0", "The tag v1.0.0 is not v1.1.0, the version of"),
        (UNRELEASED, "1.1.0", "v1.1.0", "has entries under Unreleased"),
    ],
    ids=["no section", "another tag", "unreleased"],
)
def test_a_release_that_does_not_hold_together_is_refused(
    changelog: str, number: str, tag: str | None, said: str
) -> None:
    with pytest.raises(ReleaseError, match=said):
        check(changelog, number, tag)


@pytest.mark.parametrize(("changelog", "tag"), [(CHANGELOG, "v1.1.0"), (UNRELEASED, None)])
def test_a_release_may_be_made_and_one_without_a_tag_be_rehearsed(
    changelog: str, tag: str | None
) -> None:
    check(changelog, "1.1.0", tag)


def test_make_stops_with_the_sentence_and_builds_nothing() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "local.release", "check", "--tag", "v0.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 1
    assert checked.stderr.startswith(f"The tag v0.0.0 is not v{version()}, ")


def test_only_the_job_that_releases_may_write_and_only_its_last_step_has_the_token() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())

    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "write"}
    assert job["steps"][0]["with"] == {"persist-credentials": False}
    assert [("env" in step) for step in job["steps"]] == [False, False, False, True]
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}
