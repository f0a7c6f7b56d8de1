"""Finish what `sam build` built: trim it, compile it, and let it be deployed as nothing else.

botocore brings the models of some 430 services, and the endpoints of all of them, which are read
anew at each cold start. What is kept are the services that the functions make clients of, as their
code says, in all of AWS's partitions. The `*.dist-info` folders stay: by them Amazon Inspector and
other scanners know what is in a deployed function.

The packages hold machine code and bytecode of one runtime and one architecture, so the built
template names both, and is not a template that could be deployed with others.
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
# Nothing imports or reads them: resources that we do not use, examples, command lines, and the
# compiler's side of cffi, of which `cryptography` needs only the backend.
UNUSED = ("boto3/data", "boto3/examples", "bin", "cffi", "pycparser")


def services(functions: Path) -> set[str]:
    """The names of the services that the code in that folder makes clients of."""
    files = [*functions.glob("*.py"), *functions.glob("recordings/*.py")]
    return {name for file in files for name in _clients(ast.parse(file.read_text()))}


def _clients(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="client"), args=[ast.Constant(str(name)), *_]):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name("boto3"), attr="client" | "resource")):
                # Its data could be left out of the package, and nothing would tell before AWS.
                raise ValueError(f"line {node.lineno}: a client of a service that is not named")


def trim(folder: Path) -> None:
    """Leave out of a built package what is never used. It is written to, its hard links are not."""
    kept = services(folder)
    data = folder / "botocore/data"
    for path in [*(folder / name for name in UNUSED), *data.glob("*/*/examples-1.json*")]:
        _remove(path)
    for path in data.iterdir():
        if path.is_dir():
            _trim_service(path) if path.name in kept else _remove(path)
    file = data / "endpoints.json"
    endpoints = json.loads(file.read_text())
    endpoints["partitions"] = [_only(kept, partition) for partition in endpoints["partitions"]]
    file.unlink()
    _write(file, endpoints)


def _trim_service(path: Path) -> None:
    """The newest version of its API, which is the one that clients are made of."""
    *older, newest = sorted(version for version in path.iterdir() if version.is_dir())
    for version in older:
        _remove(version)
    model = newest / "service-2.json.gz"
    content = json.loads(gzip.decompress(model.read_bytes()), object_hook=_undocumented)
    model.unlink()
    # Lambda's zip packs it; to unpack it a second time takes longer than to read it.
    _write(newest / "service-2.json", content)


def _undocumented(fields: dict[str, Any]) -> dict[str, Any]:
    """Half of a model is its documentation; where botocore asks for it, it finds an empty one."""
    if isinstance(fields.get("documentation"), str):
        fields["documentation"] = ""
    return fields


def _only(kept: Set[str], partition: Any) -> Any:
    found = partition["services"]
    return {**partition, "services": {name: found[name] for name in found if name in kept}}


def _write(file: Path, content: Any) -> None:
    """A new file: an old one shares its bytes with uv's cache, and is to be removed first."""
    with file.open("x") as opened:
        json.dump(content, opened, separators=(",", ":"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def check(settings: Mapping[str, str]) -> None:
    """Exit with a message unless the template allows these values and this machine can build them.

    A build takes minutes, and `sam build` itself looks at neither.
    """
    parameters = template.load(TEMPLATE)["Parameters"]
    for name, value in settings.items():
        allowed = parameters[name]["AllowedValues"]
        if value not in allowed:
            sys.exit(f"{name} cannot be {value}: template.yaml allows {', '.join(allowed)}.")
    bytecode.interpreter(settings["Runtime"])


def settle(file: Path, settings: Mapping[str, str]) -> None:
    """Write these parameters' values into a built template, in place of the parameters.

    Deployed with another value, functions with machine code would not start. Left as parameters,
    an answer that `sam deploy --guided` saved for an older build would be offered for this one.
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
    """Trim and compile each function's folder below a build folder, and settle its template."""
    folders = [path for path in build_dir.iterdir() if path.is_dir()]
    for folder in folders:
        trim(folder)
        print(f"Trimmed to {', '.join(sorted(services(folder)))}: {folder}")
    bytecode.compile_folders(settings["Runtime"], folders)
    settle(build_dir / "template.yaml", settings)
    print(f"Compiled for {settings['Runtime']} on {settings['Architecture']}")


def main() -> None:
    """Check what is to be built or, with a build folder, finish what was built."""
    parser = argparse.ArgumentParser(prog="python -m local.package", description=main.__doc__)
    parser.add_argument("runtime", help="such as python3.13")
    parser.add_argument("architecture", help="arm64 or x86_64")
    parser.add_argument("build_dir", type=Path, nargs="?", help="what sam build wrote")
    arguments = parser.parse_args()
    settings = {"Runtime": arguments.runtime, "Architecture": arguments.architecture}
    if arguments.build_dir:
        finish(settings, arguments.build_dir)
    else:
        check(settings)


if __name__ == "__main__":
    main()
