"""The command `browse`."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3

from doubles import ROOT, end_with_parent

WITHOUT_FLASK = "import sys; sys.modules['flask'] = None; "
RUN = "from realtimekit_recordings.__main__ import main; main(prog_name='realtimekit-recordings')"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with an API that nobody serves, and a browser that notes the address."""
    note = tmp_path / "browser"
    note.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    note.chmod(0o755)
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "BROWSER": f"{note} %s",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "canary-secret-key",
        "AWS_REGION": "eu-central-1",
        "REALTIMEKIT_RECORDINGS_API_URL": "http://127.0.0.1:9",
    }


def start(environment: dict[str, str], *arguments: str, code: str = RUN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, "browse", *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def hear_ctrl_c() -> None:
    """Let the child hear SIGINT, which a shell's background jobs ignore, and end with the tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def read_address(browsing: subprocess.Popen[str]) -> str:
    assert browsing.stdout
    for line in browsing.stdout:
        if match := re.search(r"http://127\.0\.0\.1:\d+/enter\?token=\S+", line):
            return match[0]
    raise AssertionError("no address was printed")


def read_note(path: Path) -> str:
    """Return what the browser wrote to `path`, which it may do later than the page is served."""
    for _ in range(600):
        if path.exists() and (note := path.read_text()):
            return note
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def test_the_page_is_served_until_ctrl_c_and_each_address_is_printed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with start(environment) as browsing:
        address = read_address(browsing)
        status = urllib3.request("GET", address, retries=False).status
        following = read_address(browsing)
        opened = read_note(tmp_path / "opened")
        browsing.send_signal(signal.SIGINT)
        said, complained = browsing.communicate(timeout=60)

    assert status == 200
    assert following != address
    assert opened == f"{address}\n"
    assert (browsing.returncode, complained) == (0, "")
    assert said.endswith("The page is closed.\n")


def test_ctrl_c_closes_the_page_while_the_browser_is_still_starting(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # This browser ends when the command's input is closed, at the end of the test.
    (tmp_path / "browser").write_text("#!/bin/sh\nread forever\n")
    with start(environment) as browsing:
        read_address(browsing)
        browsing.send_signal(signal.SIGINT)
        said, complained = browsing.communicate(timeout=60)

    assert (browsing.returncode, complained) == (0, "")
    assert said.endswith("The page is closed.\n")


def test_a_port_that_is_taken_is_one_line_of_error(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with start(environment, "--no-open", "--port", port) as browsing:
            said, complained = browsing.communicate(timeout=60)

    assert (browsing.returncode, said) == (2, "")
    assert complained == (
        f"Error: Cannot listen on port {port} of 127.0.0.1: Address already in use. "
        "Choose another --port.\n"
    )


def test_without_the_extra_the_command_says_how_to_install_it(environment: dict[str, str]) -> None:
    with start(environment, "--no-open", code=WITHOUT_FLASK + RUN) as browsing:
        _, complained = browsing.communicate(timeout=60)

    assert browsing.returncode == 2
    assert "pip install 'realtimekit-recordings[page]'" in complained
