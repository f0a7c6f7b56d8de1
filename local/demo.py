"""The main job, told step by step: a meeting ends, and its recording is in the catalogue.

Everything is real but AWS and RealtimeKit: template.yaml is deployed as it is, and each step is
checked. Exits with 1 if anything that it promises does not happen.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from .simulator import (
    DEFAULT_TOKEN,
    Clock,
    Recording,
    RecordingOptions,
    Simulator,
    Status,
    World,
)
from .stack import SEED, LocalStack, parameters

Found = TypeVar("Found")
PATIENCE_SECONDS = 20
CANARY = "this-must-not-be-stored"
SECRETS = ("access_key", "secret", "password", "private_key")


class BrokenPromiseError(Exception):
    """Raised when something that the demo promises does not happen."""


def main() -> int:
    """Tell the story; 0 if all of it came true."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    world = World(clock=Clock(speed=0), seed=SEED, reveals_secrets=True)
    try:
        with Simulator(world) as simulator:
            _say("Starting an emulated AWS and deploying template.yaml to it, unchanged …")
            with LocalStack(parameters(simulator), DEFAULT_TOKEN) as stack:
                _say(f"… deployed in {time.monotonic() - started:.1f} seconds.")
                _tell(world, simulator, stack)
    except BrokenPromiseError as error:
        print(f"\nBroken promise: {error}", file=sys.stderr)
        return 1
    print(f"\nAll came true, in {time.monotonic() - started:.1f} seconds. Nothing is left running.")
    return 0


def _tell(world: World, simulator: Simulator, stack: LocalStack) -> None:
    recording = _record(world)
    _end_meeting(recording, stack)
    _finish_upload(world, recording, stack)
    _read(recording, stack)
    _sync_another(world, stack)
    _look_for_secrets(stack)
    _say("What RealtimeKit was asked, in all:")
    for request in simulator.requests:
        print(f"      {request.method} …{request.path.partition('/realtime/kit')[2][37:]}")


def _record(world: World) -> Recording:
    """A meeting whose storage configuration carries credentials, as RealtimeKit's answers may."""
    storage = {"type": "aws", "bucket": "recordings", "region": "eu-central-1"}
    options = RecordingOptions(
        storage_config=storage | dict.fromkeys(SECRETS, CANARY), upload_seconds=None
    )
    recording = world.record_meeting(title="Weekly sync", status=Status.UPLOADING, options=options)
    _say("A meeting, “Weekly sync”, was recorded. It ends; RealtimeKit still uploads the file.")
    return recording


def _end_meeting(recording: Recording, stack: LocalStack) -> None:
    session = recording.session
    meeting = {"id": session.meeting.id, "sessionId": session.id, "title": session.meeting.title}
    _put_event(stack, "meeting.ended", {"event": "meeting.ended", "meeting": meeting})
    _say("meeting.ended is put on the event bus. A rule passes it to the ingest queue, and the")
    _say("function lists the meeting's recordings with the API token from Secrets Manager:")
    row = _wait_for(lambda: _row(stack, recording), "the recording is catalogued")
    print(f"      {row['recording_id']}: {row['status']}, meeting “{row['meeting_title']}”")


def _finish_upload(world: World, recording: Recording, stack: LocalStack) -> None:
    _say("It is not final, so a check is left in the work table:")
    check = _wait_for(lambda: _check(stack, recording), "a check is left")
    print(f"      due {check['due_at']['S']}, because: {check['cause']['S']}")
    world.finish_upload(recording)
    _say("RealtimeKit finishes the upload. Its webhook gets lost. A minute later (the demo turns")
    _say("the check's time back instead of waiting) the scheduled function asks again:")
    _make_due(stack, check)
    name = stack.description["functions"]["FollowUpFunction"]["name"]
    stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")

    def uploaded() -> dict[str, Any] | None:
        row = _row(stack, recording)
        return row if row and row["status"] == "UPLOADED" else None

    row = _wait_for(uploaded, "the row says UPLOADED")
    print(f"      {row['recording_id']}: {row['status']}, {row['file_size']} bytes")
    _wait_for(lambda: _check(stack, recording) is None, "the check is settled")


def _read(recording: Recording, stack: LocalStack) -> None:
    path = f"/recordings/{recording.id}"
    _say(f"Anybody with the right to may read it: GET {path}, signed:")
    print(
        json.dumps(_row(stack, recording), indent=2, ensure_ascii=False).replace("\n", "\n      ")
    )
    _expect(
        stack.request("GET", path, signed=False).status == 403, "an unsigned request is refused"
    )
    _say("The same request unsigned: 403.")


def _sync_another(world: World, stack: LocalStack) -> None:
    other = world.record_meeting(title="Retrospective")
    path = f"/recordings/{other.id}"
    before = stack.request("GET", path).status
    answer = stack.request("POST", f"{path}/sync")
    _expect(before == 404 and answer.status == 200, "a sync catalogues what no event told of")
    row = json.loads(answer.data)
    _say(f"A recording that no event told of: GET {before}, POST {path}/sync {answer.status}:")
    print(f"      {row['recording_id']}: {row['status']}, meeting “{row['meeting_title']}”")


def _look_for_secrets(stack: LocalStack) -> None:
    dynamodb = stack.client("dynamodb")
    tables = [
        dynamodb.scan(TableName=table["name"])["Items"]
        for table in stack.description["tables"].values()
    ]
    everything = f"{tables} {stack.logs()}"
    _expect("recordings" in everything, "the storage's bucket is kept")
    for secret in (CANARY, DEFAULT_TOKEN):
        _expect(secret not in everything, "no credential is in a table or a log")
    _say("RealtimeKit's answers carried the storage's access key, secret, password and private")
    _say("key. Neither they nor the API token are in any table or log: searched, not found.")


def _put_event(stack: LocalStack, detail_type: str, detail: dict[str, Any]) -> None:
    entry = {
        "EventBusName": stack.description["event_bus"]["name"],
        "Source": "realtimekit",
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
    }
    answer = stack.client("events").put_events(Entries=[entry])
    _expect(answer["FailedEntryCount"] == 0, "the bus takes the event")


def _row(stack: LocalStack, recording: Recording) -> dict[str, Any] | None:
    answer = stack.request("GET", f"/recordings/{recording.id}")
    row: dict[str, Any] | None = json.loads(answer.data) if answer.status == 200 else None
    return row


def _check(stack: LocalStack, recording: Recording) -> dict[str, Any] | None:
    answer = stack.client("dynamodb").get_item(
        TableName=stack.description["tables"]["WorkTable"]["name"],
        Key={"work_id": {"S": f"check#recording#{recording.id}"}},
    )
    item: dict[str, Any] | None = answer.get("Item")
    return item


def _make_due(stack: LocalStack, check: dict[str, Any]) -> None:
    stack.client("dynamodb").update_item(
        TableName=stack.description["tables"]["WorkTable"]["name"],
        Key={"work_id": check["work_id"]},
        UpdateExpression="SET due_at = :past",
        ExpressionAttributeValues={":past": check["since"]},
    )


def _wait_for(look: Callable[[], Found | None], promise: str) -> Found:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise BrokenPromiseError(promise)


def _expect(kept: bool, promise: str) -> None:
    if not kept:
        raise BrokenPromiseError(promise)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
