"""The parts of a release, which `make release` builds in .local/release.

A release has the wheel of the command line and the simulator, a zip file with the built template
and the functions' code, the checksums of both, and the changelog's section as its notes. The
unpacked zip file is deployed by `sam deploy --guided`, without this repository and without a build.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import yaml

from . import template

ROOT = Path(__file__).parent.parent
NOTES = "NOTES.md"
CHECKSUMS = "SHA256SUMS"
# Files of the zip file besides the build: settings for `sam deploy`, and the files that the
# template's entry for the Serverless Application Repository names.
BESIDES = ("samconfig.toml", "README.md", "LICENSE")
# The earliest time that a zip file can hold. A fixed time makes two builds of the same files equal.
TIME = (1980, 1, 1, 0, 0, 0)


class ReleaseError(Exception):
    """Raised when a release cannot be made; the text says what to do."""


def version(root: Path = ROOT) -> str:
    """Return the project's version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def notes(changelog: str, number: str) -> str:
    """Return the changelog's section of a version. Raises `ReleaseError` if it has none."""
    sections = _sections(changelog)
    if number not in sections:
        raise ReleaseError(
            f"CHANGELOG.md has no section for the version {number} of pyproject.toml. Move the "
            f"entries under Unreleased to a heading: ## [{number}] - YYYY-MM-DD"
        )
    return sections[number]


def check(changelog: str, number: str, tag: str | None) -> None:
    """Raise `ReleaseError` unless the changelog, the version and the tag match.

    Without a tag the release is a rehearsal, which may have unreleased changes.
    """
    notes(changelog, number)
    if tag is None:
        return
    if tag != f"v{number}":
        raise ReleaseError(
            f"The tag {tag} is not v{number}, the version of pyproject.toml. Set the version in "
            "pyproject.toml and template.yaml, or tag another commit."
        )
    if _sections(changelog).get("Unreleased"):
        raise ReleaseError(
            "CHANGELOG.md has entries under Unreleased, which the tagged commit contains. Move "
            f"them to the section of {number}, and tag that commit."
        )


def _sections(changelog: str) -> dict[str, str]:
    """Return the text of each section by its version."""
    _, *parts = re.split(r"^## \[([^\]]+)\].*$", changelog, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def bundle(build_dir: Path, folder: Path, number: str) -> Path:
    """Write the zip file with the template and the code of a finished build; return its path.

    Raises `ReleaseError` if the build is not finished or lacks code.
    """
    file = build_dir / "template.yaml"
    if not file.exists():
        raise ReleaseError(f"{file} does not exist. Build it first: make build")
    built = template.load(file)
    runtime, architecture = _target(built)
    for name, source in _code_folders(built).items():
        if not (build_dir / source).is_dir():
            raise ReleaseError(
                f"{build_dir / source}, the code of {name}, does not exist. Build it: make build"
            )
    name = f"realtimekit-recordings-{number}-{runtime}-{architecture}"
    with tempfile.TemporaryDirectory() as temporary:
        content = Path(temporary) / name
        content.mkdir()
        (content / "template.yaml").write_text(_unpacked(built), encoding="utf-8")
        for source in sorted(set(_code_folders(built).values())):
            shutil.copytree(build_dir / source, content / source)
        for extra in BESIDES:
            shutil.copy(ROOT / extra, content)
        return _zip(content, folder / f"{name}.zip")


def _target(built: dict[str, Any]) -> tuple[str, str]:
    """Return the runtime and the architecture that a template was built for."""
    function = built["Globals"]["Function"]
    runtime, [architecture] = function["Runtime"], function["Architectures"]
    if not (isinstance(runtime, str) and isinstance(architecture, str)):
        raise ReleaseError(
            "The template's Runtime and Architecture are parameters still, so its code may not fit "
            "them. Build it with: make build"
        )
    return runtime, architecture


def _code_folders(built: dict[str, Any]) -> dict[str, str]:
    return {
        name: resource["Properties"]["CodeUri"]
        for name, resource in built["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def _unpacked(built: dict[str, Any]) -> str:
    """Return a built template's text, which names license and readme as files beside it."""
    entry = built["Metadata"]["AWS::ServerlessRepo::Application"]
    entry |= {key: Path(entry[key]).name for key in ("LicenseUrl", "ReadmeUrl")}
    return yaml.safe_dump(built, sort_keys=False, allow_unicode=True)


def _zip(content: Path, file: Path) -> Path:
    """Write a folder to a zip file, the same bytes for the same files."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(content.rglob("*")):
            if path.is_file():
                name = path.relative_to(content.parent).as_posix()
                entry = zipfile.ZipInfo(name, TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                # Lambda runs the code as another user, who must be able to read it.
                entry.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
                archive.writestr(entry, path.read_bytes())
    return file


def checksums(folder: Path) -> str:
    """Return the SHA-256 of the wheel and the zip files in a folder, as `sha256sum` prints them."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".whl", ".zip"))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def finish(build_dir: Path, folder: Path) -> None:
    """Add the zip file, the notes and the checksums to a folder that has the wheel.

    Raises `ReleaseError`.
    """
    number = version()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not list(folder.glob(f"*-{number}-*.whl")):
        raise ReleaseError(f"{folder} has no wheel of version {number}. Build it: make release")
    bundle(build_dir, folder, number)
    (folder / NOTES).write_text(notes(changelog, number) + "\n", encoding="utf-8")
    (folder / CHECKSUMS).write_text(checksums(folder), encoding="utf-8")
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")


def main() -> None:
    """Check whether a release can be made, or finish one in a folder that has the wheel."""
    parser = argparse.ArgumentParser(prog="python -m local.release", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checked = commands.add_parser("check", help="Check changelog, version and tag.")
    checked.add_argument("--tag", help="The tag of the release, such as v0.1.0.")
    finished = commands.add_parser("finish", help="Add the zip file, the notes and the checksums.")
    finished.add_argument("build_dir", type=Path, help="Folder that `make build` wrote.")
    finished.add_argument("folder", type=Path, help="Folder of the release.")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
            check(changelog, version(), arguments.tag or None)
        else:
            finish(arguments.build_dir, arguments.folder)
    except ReleaseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
