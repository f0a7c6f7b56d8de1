"""Bytecode for the folders that `sam build` built, which it leaves without bytecode.

A deployed folder is read-only, so without .pyc files every cold start compiles all modules again
and takes two to three times as long. The .pyc files must be of the runtime's own minor version.
Their invalidation mode must be `unchecked-hash`, because zipping changes the time stamps that
Python would otherwise compare.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

COMPILE = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")


def interpreter(runtime: str) -> str:
    """Return the path of a Python whose minor version is that of a Lambda runtime.

    Try this interpreter, then those on this machine, then a Python that uv installs. Exit with a
    message if all of these fail.
    """
    for candidate in _candidates(runtime):
        if _runs_as(runtime, candidate):
            return candidate
    uv = Path(sys.executable).with_name("uv")
    version = runtime.removeprefix("python")
    installed = uv.exists() and not _run(str(uv), "python", "install", version).returncode
    if installed:
        found = _run(str(uv), "python", "find", "--managed-python", version).stdout.strip()
        if _runs_as(runtime, found):
            return found
    sys.exit(
        f"Cannot compile the package for the runtime {runtime}: {runtime} was not found on this"
        f" machine. Install it, or build for an installed version: make build RUNTIME=python3.x"
    )


def _candidates(runtime: str) -> Iterator[str]:
    yield sys.executable
    yield shutil.which(runtime) or ""
    pyenv = Path.home() / ".pyenv" / "versions"
    yield from map(str, pyenv.glob(f"{runtime.removeprefix('python')}.*/bin/{runtime}"))


def _runs_as(runtime: str, candidate: str) -> bool:
    """Return True if the candidate, when run, reports the runtime's version.

    A version manager's shim may exist and yet fail, so the candidate is run.
    """
    source = "import sys; print('python%d.%d' % sys.version_info[:2])"
    return bool(candidate) and _run(candidate, "-c", source).stdout.strip() == runtime


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def compile_folders(runtime: str, folders: Iterable[Path]) -> None:
    """Write bytecode for a Lambda runtime beside each source file in the folders.

    Exit with a message if this machine has no Python of the runtime's version.
    """
    python = interpreter(runtime)
    subprocess.run([python, *COMPILE, *map(str, folders)], check=True)
