"""Terminals, pipes and networks: exit code 1 always means that something is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doubles import Answer, Upstream

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
ROW = {
    "recording_id": RECORDING_ID,
    "invoked_at": "2026-06-03T10:00:00.000Z",
    "status": "UPLOADED",
    "archived": "yes",
    "duration_seconds": 1800,
    "file_size": 149_999_400,
    "meeting_title": "週次 “sync” " + "x" * 100,
}


@pytest.fixture
def api_url(aws: Any, upstream: Upstream) -> str:
    """Serve an API with one recording."""
    upstream.says(Answer({"recordings": [ROW], **ROW}))
    return upstream.url


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a shell, where `rr` is `realtimekit-recordings`."""
    ours = f"{sys.executable} -m realtimekit_recordings"
    return subprocess.run(
        ["/bin/bash", "-c", command.replace("rr ", f"{ours} ")],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


def one_line(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return the error of a failed command, which is its only line on stderr."""
    assert result.returncode == 2, result
    said = result.stderr.decode()
    assert said.startswith("Error: "), said
    assert said.count("\n") == 1, said
    return said.removeprefix("Error: ").rstrip("\n")


@pytest.mark.parametrize("command", ["rr list", "rr list --json", f"rr show {RECORDING_ID}"])
def test_a_full_stdout_is_one_line(api_url: str, command: str) -> None:
    result = shell(f"{command} --api-url {api_url} >/dev/full")

    assert one_line(result) == "Cannot write to stdout: No space left on device."


def test_a_closed_stdout_is_one_line(api_url: str) -> None:
    assert one_line(shell(f"rr list --api-url {api_url} >&-")) == (
        "Cannot write to stdout: it is closed."
    )


def test_a_reader_that_left_is_one_line(api_url: str) -> None:
    # After the wait, the reader has certainly left.
    left = 'exec 3> >(exec true); wait "$!"'
    result = shell(f"{left}; rr list --json --api-url {api_url} >&3")

    assert one_line(result) == "Cannot write to stdout: Broken pipe."


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_what_the_terminal_cannot_show_is_escaped(api_url: str, encoding: str) -> None:
    table = shell(f"rr list --api-url {api_url}", PYTHONIOENCODING=encoding)
    line = shell(f"rr list --json --api-url {api_url}", PYTHONIOENCODING=encoding)

    assert (table.returncode, line.returncode) == (0, 0)
    assert b"\\u9031\\u6b21" in table.stdout
    assert json.loads(line.stdout.decode("ascii")) == ROW


def test_nobody_to_ask_is_one_line_and_erases_nothing(api_url: str, upstream: Upstream) -> None:
    closed = shell(f"rr erase {RECORDING_ID} --api-url {api_url} <&-")
    empty = shell(f"rr erase {RECORDING_ID} --api-url {api_url}")

    for result in (closed, empty):
        assert result.returncode == 2
        assert result.stderr.endswith(b"because stdin is no terminal. Give --yes.\n")
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "The API's URL must begin with https://, but is nonsense"),
        ("http://[", "The API's URL must begin with https://, but is http://["),
        ("http://127.0.0.1:9", "The API at 127.0.0.1:9 does not answer: NewConnectionError."),
        ("http://nowhere.invalid", "The API at nowhere.invalid does not answer: "),
    ],
)
def test_an_address_that_is_none_is_one_line_that_names_it(run: Any, url: str, said: str) -> None:
    result = run("show", RECORDING_ID, "--api-url", url)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {said}")
    assert result.stderr.count("\n") == 1


def test_without_a_region_nothing_is_guessed(run: Any, upstream: Upstream) -> None:
    result = run("show", RECORDING_ID, "--api-url", upstream.url, AWS_DEFAULT_REGION=None)

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: There is no AWS region to sign requests for.")
    assert upstream.requests == []


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1"])
@pytest.mark.parametrize(
    "command", [("health",), ("webhook", "check"), ("dead-letters", "list"), ("archive", "{id}")]
)
def test_an_endpoint_that_is_none_is_one_line(run: Any, url: str, command: tuple[str, ...]) -> None:
    words = [word.format(id=RECORDING_ID) for word in command]

    result = run(*words, AWS_ENDPOINT_URL=url)

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: CloudFormation request failed: ")
    assert result.stderr.count("\n") == 1


PAGE = "<!DOCTYPE html><html><body>Sign in to the network</body></html>"


@pytest.mark.parametrize("status", [200, 403, 407, 502])
def test_a_proxy_that_answers_a_page_is_one_line_without_the_page(
    run: Any, upstream: Upstream, status: int
) -> None:
    upstream.says(Answer(PAGE, status, {"Content-Type": "text/html"}))

    for words in (("show", RECORDING_ID, "--api-url", upstream.url), ("webhook", "check")):
        result = run(*words, AWS_ENDPOINT_URL=upstream.url)

        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "Sign in" not in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("AWS_SHARED_CREDENTIALS_FILE", b"no section\n"),
        ("AWS_SHARED_CREDENTIALS_FILE", b"\xff\xfe\x00"),
        ("AWS_CONFIG_FILE", b"[default\n"),
        ("AWS_CONFIG_FILE", b"[default]\ncredential_process = /nonexistent\n"),
        ("AWS_CONFIG_FILE", b"[default]\ncredential_process = echo nonsense\n"),
        (
            "AWS_CONFIG_FILE",
            b"[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
            b"[sso-session s]\nsso_region = eu-central-1\nsso_start_url = https://x.invalid\n",
        ),
    ],
)
def test_an_aws_configuration_that_gives_no_credentials_is_one_line(
    run: Any, upstream: Upstream, tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": str(tmp_path)}

    for words in (("show", RECORDING_ID, "--api-url", upstream.url), ("webhook", "check")):
        result = run(*words, **none, **{name: str(file)})

        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert upstream.requests == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://x", "http://["])
def test_a_proxy_that_is_none_is_one_line(run: Any, proxy: str) -> None:
    result = run("webhook", "check", ALL_PROXY=proxy, all_proxy=proxy)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_whole_id_is_first_on_a_terminal_of_any_width(
    run: Any, api_url: str, width: int
) -> None:
    result = run("list", "--api-url", api_url, FORCE_COLOR="1", COLUMNS=str(width))

    shown = result.stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["Recording", RECORDING_ID]


def test_a_narrow_terminal_has_fewer_columns_and_a_shorter_title(run: Any, api_url: str) -> None:
    def header(width: str) -> list[str]:
        result = run("list", "--api-url", api_url, FORCE_COLOR="1", COLUMNS=width)
        assert "…" in result.stdout
        names: list[str] = result.stdout.splitlines()[0].split()
        return names

    assert header("80") == ["Recording", "Invoked", "Status", "Meeting"]
    assert header("120") == [
        *("Recording", "Invoked", "Status", "Archived", "Seconds", "Size", "Meeting")
    ]
