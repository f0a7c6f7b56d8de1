"""Emulated AWS: the emulator ministack as a child process that listens on loopback only."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import urllib3

LOOPBACK = "127.0.0.1"
START_SECONDS = 300
STOP_SECONDS = 15


class MinistackError(Exception):
    """Raised when the emulator does not start; the message ends with the end of its log."""


class Ministack:
    """An emulated AWS that runs from `start` to `stop`; also a context manager.

    Port 0 takes any free port. The emulator keeps all its files in a folder below `work_dir`, which
    `stop` removes. With `enforce_iam`, each call needs the rights of its caller, and the functions
    run as their roles; the access key `test` is root's. `launcher` is a script with its arguments;
    the path of the emulator's script is appended, and the launcher must run it.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        port: int = 0,
        enforce_iam: bool = False,
        launcher: Sequence[str | Path] = (),
    ) -> None:
        self._work_dir = work_dir
        self._enforce_iam = enforce_iam
        self._launcher = launcher
        self.port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """Endpoint of all services."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Start the emulator and return when it answers.

        Raise `MinistackError` if it does not start; then no process and no file is left.
        """
        _require_free(self.port)
        self._work_dir.mkdir(parents=True, exist_ok=True)
        # The process ID tells emulators apart that run side by side.
        prefix = f"aws-{os.getpid()}-"
        self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._work_dir))
        try:
            self._spawn(self._folder)
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the emulator and all processes it started, and remove its files."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Function runtimes may outlive the emulator; they belong to its process group.
            _kill_group(self._process.pid)
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _spawn(self, folder: Path) -> None:
        """Start the process with a new environment, so that the caller's AWS settings stay out."""
        (folder / "tmp").mkdir()
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "STATE_DIR": str(folder / "state"),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": LOOPBACK,
            # Without this, boto3 in the functions would call the real AWS.
            "AWS_ENDPOINT_URL": self.url,
            "AUTH": "true" if self._enforce_iam else "false",
            "LAMBDA_ACCOUNT_CONCURRENCY": "40",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }
        with (folder / "ministack.log").open("wb") as log:
            self._process = subprocess.Popen(
                # -P keeps the script's folder off the import path.
                [sys.executable, "-P", *self._launcher, Path(__file__).with_name("emulator.py")],
                cwd=folder,
                env=environment,
                # The emulator ends when this pipe is closed, as it is if this process is killed.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own keeps Ctrl-C from the emulator; `stop` ends it in order.
                start_new_session=True,
            )

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise MinistackError(
                    f"The emulator ministack ended while starting. Its log: {self._log_tail()}"
                )
            try:
                answer = urllib3.request("GET", f"{self.url}/_ministack/health", retries=False)
                if answer.status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(0.05)
        raise MinistackError(
            f"The emulator ministack did not answer within {START_SECONDS} s. Its log:"
            f" {self._log_tail()}"
        )

    def _log_tail(self) -> str:
        log = self._folder / "ministack.log" if self._folder else None
        return log.read_text(errors="replace")[-2000:] if log and log.exists() else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    """Raise `MinistackError` if the port is taken.

    Another emulator on that port would answer our health check, and we would deploy to it.
    """
    with socket.socket() as probe:
        # Servers set this option too: a port whose old connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise MinistackError(
                f"The emulator cannot listen on port {port}: {error.strerror}. Choose another port."
            ) from None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
