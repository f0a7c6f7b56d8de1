"""Finish what `sam build` built: leave out what no function uses, and give it its bytecode.

botocore brings the models of some 430 services, and the endpoints of all of them, which are read
anew at each cold start. What is kept are the services that the functions make clients of, as their
code says, in all of AWS's partitions. The `*.dist-info` folders stay: by them Amazon Inspector and
other scanners know what is in a deployed function.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import shutil
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from . import bytecode

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


def main() -> None:
    """Finish each function's folder below a build folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", help="such as python3.13")
    parser.add_argument("build_dir", type=Path, help="what sam build wrote")
    arguments = parser.parse_args()
    folders = [path for path in arguments.build_dir.iterdir() if path.is_dir()]
    for folder in folders:
        trim(folder)
        print(f"Trimmed to {', '.join(sorted(services(folder)))}: {folder}")
    bytecode.compile_folders(arguments.runtime, folders)
    print(f"Compiled with {arguments.runtime}")


if __name__ == "__main__":
    main()
