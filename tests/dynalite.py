"""Run pytest with the tables in dynalite, a DynamoDB that shares no code with moto.

    python tests/dynalite.py CLI [PYTEST_ARGUMENT …]

`CLI` is dynalite's cli.js, which Node runs on a free port of this machine until the tests end.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from doubles import end_with_parent

LOOPBACK = "127.0.0.1"
TABLES = ("--createTableMs", "0", "--deleteTableMs", "0")


def main(cli: str, arguments: list[str]) -> int:
    """Return pytest's exit code."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    command = ["node", cli, "--host", LOOPBACK, "--port", str(port), *TABLES]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent
    ) as dynalite:
        try:
            while not _listens(port):
                if dynalite.poll() is not None:
                    return 1
                time.sleep(0.05)
            return pytest.main([*arguments, "--dynamodb-endpoint", f"http://{LOOPBACK}:{port}"])
        finally:
            dynalite.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
