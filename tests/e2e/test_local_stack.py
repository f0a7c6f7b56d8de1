"""The local stack's promises to the people who run it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError

from doubles import end_with_parent
from local.__main__ import DESCRIPTION_FILE
from local.aws import Ministack, MinistackError
from local.stack import ROOT, WORK_DIR, LocalStack, client

from .conftest import on_the_shared_deployment, wait_for

# There is one description of a running stack, in a place that is known to all.
one_stack_at_a_time = pytest.mark.xdist_group("stack.json")


# Seconds; for what hangs.
SLOW = 300


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def folders(pid: int) -> set[Path]:
    """Return the folders of the emulators that this process started; others have theirs beside them."""
    return set(WORK_DIR.glob(f"aws-{pid}-*"))


def in_temp() -> set[Path]:
    return {path for path in Path(tempfile.gettempdir()).iterdir() if "ministack" in path.name}


def test_a_stopped_emulator_leaves_no_port_and_no_file(tmp_path: Path) -> None:
    with Ministack(tmp_path) as aws:
        assert listens(aws.port)
        assert list(tmp_path.iterdir())

    assert not listens(aws.port)
    assert list(tmp_path.iterdir()) == []
    assert in_temp() == set()


def test_an_emulator_ends_with_its_parent_even_with_one_that_is_killed(tmp_path: Path) -> None:
    start = (
        "import sys, time; from pathlib import Path; from local.aws import Ministack;"
        " print(Ministack(Path(sys.argv[1])).start().port, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", start, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()

    wait_for(lambda: not listens(port))


def test_an_emulator_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(MinistackError):
            Ministack(tmp_path, port=taken.getsockname()[1]).start()

    assert list(tmp_path.iterdir()) == []


def test_the_port_of_another_emulator_is_refused_and_the_other_left_alone(tmp_path: Path) -> None:
    with Ministack(tmp_path / "first") as first:
        with pytest.raises(MinistackError, match=f"port {first.port}"):
            Ministack(tmp_path / "second", port=first.port).start()

        assert listens(first.port)
    assert not (tmp_path / "second").exists()


def test_a_stack_that_cannot_be_deployed_leaves_nothing() -> None:
    before = folders(os.getpid())
    stack = LocalStack({"CloudflareAccountId": "a"}, "token")

    with pytest.raises(ClientError, match="RealtimeKitAppId"):
        stack.start()

    assert folders(os.getpid()) == before


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SLOW,
    )


@contextlib.contextmanager
def running(
    environment: dict[str, str], stop: signal.Signals, *arguments: str
) -> Iterator[dict[str, Any]]:
    """Yield the description of a running `up`; then stop it, and assert that its folder is empty."""
    assert not DESCRIPTION_FILE.exists(), "stop `make up` first: these tests start one of their own"
    up = subprocess.Popen(
        [sys.executable, "-m", "local", "up", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    )
    try:
        described: dict[str, Any] = wait_for(
            lambda: json.loads(DESCRIPTION_FILE.read_text()) if DESCRIPTION_FILE.exists() else None
        )
        assert len(folders(up.pid)) == 1
        yield described
    finally:
        up.send_signal(stop)
        said, _ = up.communicate(timeout=SLOW)

    assert up.returncode == 0
    assert f"REALTIMEKIT_RECORDINGS_API_URL={described['api_url']}\n" in said
    assert "  The catalogue, to look   http://127.0.0.1:" in said
    assert not listens(int(described["aws_endpoint_url"].rpartition(":")[2]))
    assert not DESCRIPTION_FILE.exists()
    assert folders(up.pid) == set()
    assert in_temp() == set()


@one_stack_at_a_time
def test_up_runs_until_it_is_stopped(environment: dict[str, str]) -> None:
    with running(environment, signal.SIGHUP, "--no-examples") as described:
        assert listens(int(described["aws_endpoint_url"].rpartition(":")[2]))


@one_stack_at_a_time
def test_verify_finds_nothing_wrong_and_cannot_tell_what_the_emulator_lacks(
    environment: dict[str, str],
) -> None:
    gaps = (ROOT / "docs" / "local-stack.md").read_text().partition("## Gaps of the emulator")[2]
    listed = re.findall(r"^\| `([^`]+)` \|", gaps.partition("\n## ")[0], re.MULTILINE)

    with running(environment, signal.SIGTERM, "--no-examples") as described:
        # The schedules fire for the first time after a minute.
        tick(described, "FollowUpFunction", "follow-up.schedule-tick")
        tick(described, "SweepRecordingsFunction", "sweep-recordings.tick")
        verified = subprocess.run(
            [sys.executable, "-m", "realtimekit_recordings", "verify", "--probe", "--json"],
            cwd=ROOT,
            env=environment | variables(described),
            capture_output=True,
            text=True,
            check=False,
            timeout=SLOW,
        )

    found = [json.loads(line) for line in verified.stdout.splitlines()]
    assert [one for one in found if one["verdict"] == "wrong"] == [], verified.stderr
    assert verified.returncode == 0
    assert [one["check"] for one in found if one["verdict"] == "cannot tell"] == listed


def tick(described: Mapping[str, Any], function: str, event: str) -> None:
    """Invoke a function with an event of its schedule."""
    client("lambda", described["aws_endpoint_url"]).invoke(
        FunctionName=described["functions"][function]["name"],
        Payload=(ROOT / "events" / f"{event}.json").read_bytes(),
    )


def variables(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that `make up` prints."""
    return {
        "AWS_ENDPOINT_URL": described["aws_endpoint_url"],
        "AWS_REGION": described["region"],
        "AWS_DEFAULT_REGION": described["region"],
        "AWS_ACCESS_KEY_ID": described["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": described["aws_secret_access_key"],
        "REALTIMEKIT_RECORDINGS_API_URL": described["api_url"],
    }


@one_stack_at_a_time
def test_up_runs_until_ctrl_c_and_the_other_commands_find_it(environment: dict[str, str]) -> None:
    with running(environment, signal.SIGINT, "--parameter", "RetentionDays=30") as described:
        retention = run(environment, "request", "GET", "/retention")
        assert json.loads(retention.stdout)["days"] == 30
        recording_id = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"
        path = f"/recordings/{recording_id}"
        assert run(environment, "request", "GET", path).returncode == 1
        assert run(environment, "put-event", "eventbridge-entry.meeting-ended").returncode == 0
        wait_for(lambda: run(environment, "request", "GET", path).returncode == 0)
        invoked = run(
            environment, "invoke", "ingest_recording", "ingest-recording.recording-status-update"
        )
        assert json.loads(invoked.stdout) == {"batchItemFailures": []}
        order = {"title": "Live", "session_files": {"transcript": {"available_after": 600}}}
        simulator = f"{described['realtimekit_url']}/_simulator"
        made = urllib3.request("POST", f"{simulator}/recordings", json=order)
        [live] = made.json()["recordings"]
        path = f"/recordings/{live['recording_id']}"
        # The files of a session whose recording is not known yet are looked for an hour later.
        wait_for(lambda: run(environment, "request", "GET", path).returncode == 0)
        urllib3.request("POST", f"{simulator}/clock", json={"advance": 600})

        def has_captions() -> bool:
            answer = run(environment, "request", "GET", path)
            row = json.loads(answer.stdout) if answer.returncode == 0 else {}
            return "archive" in row.get("artifacts", {}).get("captions", {})

        wait_for(has_captions)
        second = run(environment, "up")
        assert second.returncode == 1
        assert "already running" in second.stderr
        wrong = run(environment, "up", "--parameter", "RetentionDays")
        assert wrong.returncode == 2
        assert "'RetentionDays' is not NAME=VALUE" in wrong.stderr
        assert run(environment, "invoke", "no_such", "follow-up.schedule-tick").returncode == 1
        assert run(environment, "invoke", "follow_up", "no-such-event").returncode == 1
        wrong = run(environment, "put-event", "follow-up.schedule-tick")
        assert wrong.returncode == 1
        assert "eventbridge-entry.meeting-ended" in wrong.stderr
        assert "Traceback" not in wrong.stderr


@one_stack_at_a_time
def test_without_a_stack_the_commands_say_how_to_start_one(environment: dict[str, str]) -> None:
    answer = run(environment, "request", "GET", "/recordings/x")

    assert answer.returncode == 1
    assert "make up" in answer.stderr


@one_stack_at_a_time
def test_the_description_of_a_stack_that_was_killed_is_not_believed(
    environment: dict[str, str],
) -> None:
    assert not DESCRIPTION_FILE.exists(), "stop `make up` first: this test writes its description"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        DESCRIPTION_FILE.write_text(json.dumps({"aws_endpoint_url": url}))
        try:
            answer = run(environment, "put-event", "eventbridge-entry.meeting-ended")
        finally:
            DESCRIPTION_FILE.unlink()

    assert answer.returncode == 1
    assert "make up" in answer.stderr


@on_the_shared_deployment
def test_all_log_lines_are_seen_and_not_only_a_page_of_them(deployed: Any) -> None:
    logs = deployed.stack.client("logs")
    logs.create_log_group(logGroupName="long")
    logs.create_log_stream(logGroupName="long", logStreamName="s")
    now = int(time.time() * 1000)
    for batch in range(2):
        events = [{"timestamp": now + batch, "message": f"line {batch} {n}"} for n in range(6000)]
        logs.put_log_events(logGroupName="long", logStreamName="s", logEvents=events)

    try:
        seen = [line for line in deployed.stack.logs() if line.startswith("line ")]
    finally:
        logs.delete_log_group(logGroupName="long")

    assert len(seen) == len(set(seen)) == 12_000


@on_the_shared_deployment
def test_the_description_names_all_that_a_user_needs(deployed: Any) -> None:
    described = deployed.stack.description

    assert set(described["tables"]) == {"RecordingsTable", "WorkTable"}
    assert set(described["queues"]) == {
        "IngestQueue",
        "IngestDeadLetterQueue",
        "EventRuleDeadLetterQueue",
        "PublishDeadLetterQueue",
    }
    assert set(described["functions"]) == {
        "ReceiveWebhookFunction",
        "IngestRecordingFunction",
        "FollowUpFunction",
        "PublishChangesFunction",
        "ServeCatalogueFunction",
        "SweepRecordingsFunction",
    }
    assert described["queues"]["IngestQueue"]["arn"].startswith("arn:aws:sqs:eu-central-1:")
    assert described["event_bus"]["name"] == "realtimekit-recordings"


def test_what_is_built_has_its_bytecode() -> None:
    [package] = [path for path in (ROOT / ".local/build").iterdir() if path.is_dir()]

    sources = list(package.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        header = Path(cache_from_source(str(source))).read_bytes()[:8]
        # Checked against nothing (PEP 552): zipping changes the time stamps.
        assert header == MAGIC_NUMBER + b"\x01\0\0\0", source


def test_what_is_deployed_carries_no_heavy_dependency() -> None:
    [package] = [path for path in (ROOT / ".local/build").iterdir() if path.is_dir()]

    names = {path.name for path in package.iterdir()}
    assert names & {"pydantic", "aws_xray_sdk", "cloudflare", "requests", "moto"} == set()


def test_the_demo_keeps_its_promises_whatever_the_callers_settings(
    environment: dict[str, str],
) -> None:
    settings = {"AWS_PROFILE": "not-there", "HTTP_PROXY": "http://127.0.0.1:9"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "local.demo"],
        cwd=ROOT,
        env=environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    )
    try:
        told, complained = demo.communicate(timeout=SLOW)
    finally:
        demo.terminate()

    assert demo.returncode == 0, complained
    assert "All steps succeeded" in told
    assert told.count("Recording File Archived") == 3
    assert "      # Weekly sync\n" in told
    assert folders(demo.pid) == set()
    assert in_temp() == set()
