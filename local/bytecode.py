"""The bytecode of what `sam build` built, which it does not deliver.

A deployed folder is read-only: without .pyc files every cold start compiles everything again, and
takes two to three times as long. They must be of the runtime's own minor version, and of
`unchecked-hash`, since zipping rewrites the time stamps that Python would compare.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

COMPILE = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")


def interpreter(runtime: str) -> str:
    """A Python of that Lambda runtime's version: this one, one on this machine, or one of uv's.

    Exits with a message where there is none.
    """
    for candidate in _candidates(runtime):
        if _is(runtime, candidate):
            return candidate
    uv = Path(sys.executable).with_name("uv")
    version = runtime.removeprefix("python")
    installed = uv.exists() and not _run(str(uv), "python", "install", version).returncode
    if installed:
        found = _run(str(uv), "python", "find", "--managed-python", version).stdout.strip()
        if _is(runtime, found):
            return found
    sys.exit(
        f"{runtime} is needed to compile the package for the runtime {runtime}, and is not on this"
        f" machine. Install it, or build for one that is: make build RUNTIME=python3.x"
    )


def _candidates(runtime: str) -> Iterator[str]:
    yield sys.executable
    yield shutil.which(runtime) or ""
    pyenv = Path.home() / ".pyenv" / "versions"
    yield from map(str, pyenv.glob(f"{runtime.removeprefix('python')}.*/bin/{runtime}"))


def _is(runtime: str, candidate: str) -> bool:
    """Asked of itself: a version manager's shim may be there and not work."""
    question = "import sys; print('python%d.%d' % sys.version_info[:2])"
    return bool(candidate) and _run(candidate, "-c", question).stdout.strip() == runtime


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def compile_folders(runtime: str, folders: Iterable[Path]) -> None:
    """With bytecode for that runtime beside each source. Exits with a message where it cannot."""
    python = interpreter(runtime)
    subprocess.run([python, *COMPILE, *map(str, folders)], check=True)
