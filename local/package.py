"""The step after `sam build`: trim each package, compile it, and fix the template's parameters.

botocore ships the models of some 430 services and the endpoints of all, and reads them anew at each
cold start. `trim` keeps the services that the functions' code makes clients of, in every AWS
partition. The `*.dist-info` folders stay, because Amazon Inspector and other scanners read from
them which libraries a deployed function has.

A package holds machine code and bytecode for one runtime and one architecture. So `settle` writes
both into the built template, which cannot be deployed with other values.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import yaml

from . import bytecode, template

TEMPLATE = Path(__file__).parent.parent / "template.yaml"
# The functions never use these: boto3's resources and examples, command lines, and the compiler of
# cffi (`cryptography` needs only cffi's backend).
UNUSED = ("boto3/data", "boto3/examples", "bin", "cffi", "pycparser")


def services(functions: Path) -> set[str]:
    """Return the names of the services that the code in a folder makes clients of.

    Raise `ValueError` if a client's service is not a literal.
    """
    files = [*functions.glob("*.py"), *functions.glob("recordings/*.py")]
    return {name for file in files for name in _clients(ast.parse(file.read_text()))}


def _clients(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="client"), args=[ast.Constant(str(name)), *_]):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name("boto3"), attr="client" | "resource")):
                # Otherwise `trim` could remove that service's data, and the function would fail
                # only in AWS.
                raise ValueError(
                    f"line {node.lineno}: the service of this client is not a literal, so its data"
                    " cannot be kept. Write the service's name: client('sqs')."
                )


def trim(folder: Path) -> None:
    """Remove from a built package all files that the functions never use.

    Changed files are replaced, because the originals are hard links into uv's cache.
    """
    kept = services(folder)
    data = folder / "botocore/data"
    for path in [*(folder / name for name in UNUSED), *data.glob("*/*/examples-1.json*")]:
        _remove(path)
    for path in data.iterdir():
        if path.is_dir():
            _trim_service(path) if path.name in kept else _remove(path)
    file = data / "endpoints.json"
    endpoints = json.loads(file.read_text())
    endpoints["partitions"] = [
        _keep_services(kept, partition) for partition in endpoints["partitions"]
    ]
    file.unlink()
    _write(file, endpoints)


def _trim_service(path: Path) -> None:
    """Keep only the newest version of a service's API, which is the one boto3 uses by default."""
    *older, newest = sorted(version for version in path.iterdir() if version.is_dir())
    for version in older:
        _remove(version)
    model = newest / "service-2.json.gz"
    content = json.loads(gzip.decompress(model.read_bytes()), object_hook=_without_documentation)
    model.unlink()
    # Not compressed: Lambda's zip compresses it anyway, and a second unpacking takes longer than
    # reading the plain file.
    _write(newest / "service-2.json", content)


def _without_documentation(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a model's fields with an empty documentation text.

    Documentation is half of a model. The key stays, because botocore reads it.
    """
    if isinstance(fields.get("documentation"), str):
        fields["documentation"] = ""
    return fields


def _keep_services(kept: Set[str], partition: Any) -> Any:
    entries = partition["services"].items()
    return {**partition, "services": {name: entry for name, entry in entries if name in kept}}


def _write(file: Path, content: Any) -> None:
    """Write JSON to a new file.

    Remove an existing file first: it shares its bytes with uv's cache.
    """
    with file.open("x") as opened:
        json.dump(content, opened, separators=(",", ":"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def check(settings: Mapping[str, str]) -> None:
    """Exit with a message unless the template allows these values and this machine can build them.

    A build takes minutes, and `sam build` itself checks neither condition.
    """
    parameters = template.load(TEMPLATE)["Parameters"]
    for name, value in settings.items():
        allowed = parameters[name]["AllowedValues"]
        if value not in allowed:
            sys.exit(f"{name} cannot be {value}: template.yaml allows {', '.join(allowed)}.")
    bytecode.interpreter(settings["Runtime"])


def settle(file: Path, settings: Mapping[str, str]) -> None:
    """Replace parameters of a built template by the values that it was built for.

    Functions with machine code would not start when deployed with another value. If the parameters
    stayed, `sam deploy --guided` would offer the value it saved for an older build.
    """
    built = template.load(file)
    built["Parameters"] = {
        name: parameter for name, parameter in built["Parameters"].items() if name not in settings
    }
    file.write_text(yaml.safe_dump(_settled(built, settings), sort_keys=False, allow_unicode=True))


def _settled(node: Any, settings: Mapping[str, str]) -> Any:
    match node:
        case {"Ref": name} if name in settings:
            return settings[name]
        case dict():
            return {name: _settled(child, settings) for name, child in node.items()}
        case list():
            return [_settled(child, settings) for child in node]
    return node


def finish(settings: Mapping[str, str], build_dir: Path) -> None:
    """Trim and compile each package in a build folder, then settle the built template."""
    folders = [path for path in build_dir.iterdir() if path.is_dir()]
    for folder in folders:
        trim(folder)
        print(f"Trimmed {folder}: kept {', '.join(sorted(services(folder)))}")
    bytecode.compile_folders(settings["Runtime"], folders)
    settle(build_dir / "template.yaml", settings)
    print(f"Compiled for {settings['Runtime']} on {settings['Architecture']}")


def main() -> None:
    """Check the settings of a build; with a build folder, finish that build."""
    parser = argparse.ArgumentParser(prog="python -m local.package", description=main.__doc__)
    parser.add_argument("runtime", help="Lambda runtime to build for, for example python3.13.")
    parser.add_argument("architecture", help="Processor architecture: arm64 or x86_64.")
    parser.add_argument(
        "build_dir",
        type=Path,
        nargs="?",
        help="Folder that sam build wrote. Without it, only the settings are checked.",
    )
    arguments = parser.parse_args()
    settings = {"Runtime": arguments.runtime, "Architecture": arguments.architecture}
    if arguments.build_dir:
        finish(settings, arguments.build_dir)
    else:
        check(settings)


if __name__ == "__main__":
    main()
