"""The operators' command line against a deployed stack."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from realtimekit_recordings.__main__ import main
from realtimekit_simulator import Recording, RecordingOptions

from .conftest import Deployment, deployment, wait_for

pytestmark = pytest.mark.xdist_group("command line")

MIB = 1024 * 1024
UNKNOWN_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def stack() -> Iterator[Deployment]:
    with deployment() as own:
        yield own


@pytest.fixture(scope="module")
def recording(stack: Deployment) -> Recording:
    """Return a recording with two files, both archived."""
    options = RecordingOptions(file_size=3 * MIB, separate_audio=True, audio_file_size=1000)
    recording = stack.simulator.world.record_meeting(title="Weekly [sync]", options=options)
    assert stack.stack.request("POST", f"/recordings/{recording.id}/sync").status == 200
    wait_for(lambda: is_archived(stack, recording))
    return recording


def is_archived(stack: Deployment, recording: Recording) -> bool:
    row = stack.row(recording)
    return bool(row and row.get("archived") == "yes")


@pytest.fixture
def run(stack: Deployment, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command with the stack's URL and credentials."""
    described = stack.stack.description
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", described["api_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", described["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", described["aws_secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", described["region"])

    def run(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=input)

    return run


def test_recordings_are_listed_as_a_table_and_as_json(run: Run, recording: Recording) -> None:
    table = run("list", "--status", "UPLOADED", "--order", "oldest")
    as_json = run("list", "--all", "--json")

    assert table.exit_code == 0
    assert recording.id in table.stdout
    assert "Weekly [sync]" in table.stdout
    assert "3.1 MB" in table.stdout
    listed = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [one["recording_id"] for one in listed] == [recording.id]


def test_filters_narrow_the_list(run: Run, recording: Recording) -> None:
    session = recording.session.id

    assert recording.id in run("list", "--session-id", session, "--limit", "1").stdout
    assert run("list", "--session-id", UNKNOWN_ID).stdout == "No recordings.\n"
    assert run("list", "--from", "2031-01-01").stdout == "No recordings.\n"


def test_a_wrong_filter_is_told_in_the_apis_words(run: Run, recording: Recording) -> None:
    result = run("list", "--from", "yesterday")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: from is neither a date nor a time")


def test_a_recording_is_shown_and_synced(run: Run, recording: Recording) -> None:
    shown = json.loads(run("show", recording.id).stdout)

    assert shown["archived"] == "yes"
    assert json.loads(run("sync", recording.id).stdout)["recording_id"] == recording.id


def test_what_is_not_there_is_told(run: Run, recording: Recording) -> None:
    result = run("show", UNKNOWN_ID)

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: The catalogue has no recording with this recording_id. (HTTP 404)\n"
    )
    assert run("show", "7").exit_code == 2


def test_links_are_printed(run: Run, recording: Recording) -> None:
    printed = run("links", recording.id, "--expires-in", "60").stdout
    as_json = json.loads(run("links", recording.id, "--json").stdout)

    assert "video (archive, until " in printed
    assert "X-Amz-Signature=" in printed
    assert [link["name"] for link in as_json["links"]] == ["audio", "video"]


def test_archiving_can_be_asked_for_and_rows_restored(
    run: Run, stack: Deployment, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.stack.description["aws_endpoint_url"])
    table = stack.stack.description["tables"]["RecordingsTable"]["name"]
    stack.dynamodb.create_table(
        TableName="restored",
        KeySchema=[{"AttributeName": "recording_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "recording_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    key = {"recording_id": {"S": recording.id}}
    row = stack.dynamodb.get_item(TableName=table, Key=key)["Item"]
    stack.dynamodb.put_item(TableName="restored", Item=row)
    stack.dynamodb.delete_item(TableName=table, Key=key)

    restored = run("restore-table", "restored", "--yes")
    asked = run("archive", recording.id)
    stack.dynamodb.delete_table(TableName="restored")

    assert (restored.exit_code, restored.stdout) == (0, "1 rows written, 0 left as they were.\n")
    assert (asked.exit_code, asked.stdout) == (0, f"{recording.id}: archiving requested.\n")
    assert stack.dynamodb.get_item(TableName=table, Key=key)["Item"] == row


def test_files_are_downloaded_whole(
    run: Run, stack: Deployment, recording: Recording, tmp_path: Path
) -> None:
    result = run("download", recording.id, "--output", str(tmp_path / "new"))

    assert result.exit_code == 0
    files = {file.artifact.kind: file for file in stack.simulator.world.media_files(recording)}
    found = {path.parent.name: path for path in (tmp_path / "new" / recording.id).glob("*/*")}
    # RealtimeKit's own names say nothing.
    name = f"{recording.invoked_at:%Y-%m-%d} Weekly [sync]"
    assert {kind: path.name for kind, path in found.items()} == {
        "video": f"{name}.mp4",
        "audio": f"{name}.aac",
    }
    for kind, file in files.items():
        assert found[kind].read_bytes() == file.read()
    assert "X-Amz-" not in result.output


def test_one_file_can_be_chosen(run: Run, recording: Recording, tmp_path: Path) -> None:
    output = ("--output", str(tmp_path))

    chosen = run("download", recording.id, "--artifact", "audio", *output)
    unknown = run("download", recording.id, "--artifact", "subtitles", *output)

    assert chosen.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {recording.id, "manifest.jsonl"}
    assert (unknown.exit_code, unknown.stderr) == (
        2,
        "Error: The recording has no file subtitles.\n",
    )


def test_health_is_an_exit_code(run: Run, stack: Deployment, recording: Recording) -> None:
    well = run("health")
    queue = stack.stack.description["queues"]["IngestDeadLetterQueue"]["url"]
    sqs = stack.stack.client("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody="dead")
    unwell = run("health", "--json")
    sqs.purge_queue(QueueUrl=queue)

    assert (well.exit_code, unwell.exit_code) == (0, 1)
    assert "realtimekit" in well.stdout
    assert json.loads(unwell.stdout)["parts"]["queues"]["status"] == "degraded"


def test_an_erasure_is_asked_about_first(run: Run, stack: Deployment) -> None:
    options = RecordingOptions(realtimekit_bucket=False)
    recording = stack.simulator.world.record_meeting(status="ERRORED", options=options)  # type: ignore[arg-type]
    run("sync", recording.id)

    assert run("erase", recording.id, input="n\n").exit_code == 1
    assert run("show", recording.id).exit_code == 0
    assert run("erase", recording.id, input="y\n").stdout.startswith(f"{recording.id}: erased at ")
    assert run("erase", recording.id, "--yes").exit_code == 0
    assert "was erased" in run("show", recording.id).stderr


def test_dead_letters_are_told_and_redriven_and_purged(
    run: Run, stack: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.stack.description["aws_endpoint_url"])
    sqs, queues = stack.stack.client("sqs"), stack.stack.description["queues"]
    recordings = [stack.simulator.world.record_meeting() for _ in range(2)]
    for queue, dead in zip(("Ingest", "EventRule"), recordings, strict=True):
        body = {"v": 1, "source": "eventbridge", "recording_id": dead.id}
        url = queues[f"{queue}DeadLetterQueue"]["url"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    sqs.send_message(QueueUrl=queues["ArchiveDeadLetterQueue"]["url"], MessageBody="dead")

    listed = [run("dead-letters", "list", "--json").stdout for _ in range(2)]
    first, second = ([json.loads(line) for line in lines.splitlines()] for lines in listed)
    one = run("dead-letters", "redrive", "--recording", recordings[1].id)
    all_others = run("dead-letters", "redrive", "--queue", "ingest")
    purged = run("dead-letters", "purge", "--queue", "archive", "--yes")

    assert [letter["queue"] for letter in first] == ["ingest", "archive", "event-rule"]
    assert [letter.get("recording_id") for letter in first] == [
        recordings[0].id,
        None,
        recordings[1].id,
    ]
    assert first[1]["cause"] == "malformed: the message is not JSON"
    assert [letter["message_id"] for letter in second] == [letter["message_id"] for letter in first]
    assert (one.exit_code, one.stdout.splitlines()[-1]) == (0, "event-rule: 1 sent again")
    assert (all_others.exit_code, all_others.stdout) == (0, "ingest: 1 sent again\n")
    assert (purged.exit_code, purged.stdout) == (0, "Deleted 1 of 1.\n")
    for dead in recordings:
        assert wait_for(functools.partial(stack.row, dead))
    assert run("dead-letters", "list", "--json").stdout == ""


@contextlib.contextmanager
def ticking(stack: Deployment) -> Iterator[None]:
    """Let the schedules' minutes pass faster, while a command watches."""
    over = threading.Event()
    answers: list[dict[str, Any]] = []

    def tick() -> None:
        while not over.wait(0.2):
            answers.append(stack.invoke("SweepRecordingsFunction", "sweep-recordings.tick"))

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert [answer["Payload"] for answer in answers if "FunctionError" in answer] == []


def test_what_a_backfill_catalogued_is_not_missing_until_it_is_lost(
    run: Run, stack: Deployment
) -> None:
    three_days_ago = stack.simulator.world.clock.now() - timedelta(days=3)
    recordings = stack.simulator.world.record_meetings(
        5, every=60, started_at=three_days_ago, options=RecordingOptions(file_size=1000)
    )
    day = timedelta(days=1)
    window = ("--from", f"{three_days_ago:%FT%TZ}", "--to", f"{three_days_ago + day:%FT%TZ}")
    watching = (*window, "--json", "--interval", "0.1")

    # A look at what was due would bring back the row that is deleted.
    with stack.without_schedules(), ticking(stack):
        before = run("reconcile", *watching)
        backfill = run("backfill", *watching)
        # All that is known of it, and archived, so that neither a check nor a copy brings it back.
        assert run("sync", recordings[3].id).exit_code == 0
        wait_for(lambda: is_archived(stack, recordings[3]))
        after = run("reconcile", *watching)
        stack.dynamodb.delete_item(
            TableName=stack.stack.description["tables"]["RecordingsTable"]["name"],
            Key={"recording_id": {"S": recordings[3].id}},
        )
        lost = run("reconcile", *watching)
        told = run("reconcile", *watching[:4], "--interval", "0.1")

    codes = [result.exit_code for result in (before, backfill, after, lost, told)]
    assert codes == [1, 0, 0, 1, 1], [result.output for result in (before, backfill, after, lost)]
    counts = [json.loads(result.stdout)["counts"] for result in (before, backfill, after, lost)]
    assert [one["seen"] for one in counts] == [5, 5, 5, 5]
    assert [one["missing"] for one in counts] == [5, 5, 0, 1]
    assert [one["repaired"] for one in counts] == [0, 5, 0, 0]
    assert [one["catalogued"] for one in counts] == [0, 5, 5, 4]
    assert json.loads(lost.stdout)["examples"]["missing"] == [recordings[3].id]
    assert f"missing, for example:\n  {recordings[3].id}\n" in told.stdout


def test_a_sweep_can_be_looked_at_and_cancelled(run: Run) -> None:
    sweep_id = run("backfill", "--from", "2026-05-01", "--detach").stdout.strip()

    cancelled = run("sweeps", "cancel", sweep_id)
    shown = run("sweeps", "show", sweep_id)

    assert cancelled.stdout == "Cancelled at 0%; 0 repaired.\n"
    assert shown.stdout.startswith(f"Sweep {sweep_id}: cancelled\n")
    assert sweep_id in run("sweeps", "list").stdout


def test_a_window_that_cannot_be_is_told_in_the_apis_words(run: Run) -> None:
    future = run("backfill", "--from", "2026-05-01", "--to", "2100-01-01")
    backwards = run("reconcile", "--from", "2026-05-02", "--to", "2026-05-01")
    neither = run("backfill", "--from", "last week")

    assert [result.exit_code for result in (future, backwards, neither)] == [2, 2, 2]
    assert future.stderr == "Error: to is in the future. (HTTP 400)\n"
    assert backwards.stderr == "Error: from is not before to. (HTTP 400)\n"
    assert neither.stderr.startswith("Error: from is neither a date nor a time with its offset")


def test_who_is_not_known_is_told_so(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE")

    result = run("show", recording.id)

    assert result.exit_code == 2
    assert "refuses these AWS credentials (HTTP 403" in result.stderr


def test_setup_brings_the_stack_into_service_and_verifies_it(
    run: Run, stack: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = stack.stack.description
    monkeypatch.setenv("AWS_ENDPOINT_URL", described["aws_endpoint_url"])

    result = run("setup", "--alarm-email", "you@example.com", "--url", described["webhook_url"])

    [webhook] = stack.simulator.webhooks.registrations.all()
    assert f"Created {webhook.id}:\n" in result.stdout
    assert "AWS now asks you@example.com to confirm." in result.stdout
    assert "of all recordings since 2015-01-01 00:00 UTC.\n" in result.stdout
    assert "  ok           webhook: Registered for " in result.stdout
    assert re.search(r"\d+ ok, \d+ wrong, \d+ cannot tell\.\n\Z", result.stdout)
    assert result.exit_code == (", 0 wrong," not in result.stdout)
