"""The whole story, told step by step: a meeting is recorded, catalogued, and archived.

Everything is real but AWS and RealtimeKit: template.yaml is deployed as it is, webhooks are signed
and come in through API Gateway, and each step is checked. Exits with 1 if anything that it promises
does not happen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import urllib3

from .simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    Clock,
    Recording,
    RecordingOptions,
    Simulator,
    World,
)
from .stack import SEED, LocalStack, parameters

Found = TypeVar("Found")
PATIENCE_SECONDS = 300
CANARY = "this-must-not-be-stored"
SECRETS = ("access_key", "secret", "password", "private_key")
EVENTS = ("meeting.started", "meeting.ended", "recording.statusUpdate")


class BrokenPromiseError(Exception):
    """Raised when something that the demo promises does not happen."""


def main() -> int:
    """Tell the story; 0 if all of it came true."""
    # Also when the terminal is closed: the emulator is in a session of its own and would live on.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    started = time.monotonic()
    # RealtimeKit's time stands still unless the story moves it; it begins an hour ago.
    clock = Clock(datetime.now().astimezone() - timedelta(hours=1), speed=0)
    # Half an hour has some 150 MB; what is to be seen of them is to be seen of fewer.
    small = RecordingOptions(file_size=12_000_000, audio_file_size=2_000_000)
    world = World(clock=clock, seed=SEED, reveals_secrets=True, defaults=small)
    try:
        with Simulator(world) as simulator:
            _say("Starting an emulated AWS and deploying template.yaml to it, unchanged …")
            with LocalStack(parameters(simulator), DEFAULT_TOKEN) as stack:
                _say(f"… deployed in {time.monotonic() - started:.1f} seconds.")
                Story(world, simulator, stack).tell()
    except BrokenPromiseError as error:
        print(f"\nBroken promise: {error}", file=sys.stderr)
        return 1
    print(f"\nAll came true, in {time.monotonic() - started:.1f} seconds. Nothing is left running.")
    return 0


class Story:
    """A meeting, and what becomes of its recording."""

    def __init__(self, world: World, simulator: Simulator, stack: LocalStack) -> None:
        self.world = world
        self.simulator = simulator
        self.stack = stack
        self.delivered_until = world.clock.now()
        self.subscriber = _subscribe(stack)
        url = stack.description["webhook_url"]
        simulator.webhooks.registrations.add(url, events=EVENTS)

    def tell(self) -> None:
        """From the meeting's start to the search for secrets."""
        recording = self.record()
        self.end(recording)
        self.lose_a_webhook(recording)
        self.archive(recording)
        self.hear(recording)
        self.repeat_and_forge(recording)
        self.put_event()
        self.read(recording)
        self.sync_another()
        self.sweep()
        self.list_and_download(recording)
        self.look_for_secrets()
        self.erase(recording)

    def record(self) -> Recording:
        """Its storage configuration carries credentials, as RealtimeKit's answers may."""
        _say(
            "\nA meeting, “Weekly sync”, starts and is recorded. RealtimeKit sends signed webhooks,"
        )
        _say("which come in through API Gateway; for each the recording's details are fetched:")
        storage = {"type": "aws", "bucket": "recordings", "region": "eu-central-1"}
        options = replace(
            self.world.defaults,
            storage_config=storage | dict.fromkeys(SECRETS, CANARY),
            upload_seconds=60,
            separate_audio=True,
        )
        session = self.world.start_session(self.world.create_meeting(title="Weekly sync"))
        recording = self.world.start_recording(session, options)
        self.world.clock.advance(5)
        self.deliver()
        self.expect_status(recording, "RECORDING")
        return recording

    def end(self, recording: Recording) -> None:
        """meeting.ended comes before UPLOADED, as it does in life."""
        _say("\nHalf an hour later the host ends it. RealtimeKit uploads the file:")
        self.world.clock.advance(1800)
        self.world.end_session(recording.session, reason=HOST_ENDED_MEETING)
        self.world.clock.advance(1)
        self.deliver()
        self.expect_status(recording, "UPLOADING")

    def lose_a_webhook(self, recording: Recording) -> None:
        """The check that was left behind finds out by itself."""
        _say(
            "\nThe upload is done, but that webhook gets lost. A check was left in the work table:"
        )
        self.world.clock.advance(120)
        self.deliver(lost=1)
        check = _wait_for(lambda: self.check(recording), "a check is left")
        _show(f"due {check['due_at']['S']}, because: {check['cause']['S']}")
        _say("The scheduled function asks again (the demo turns the check's time back, not waits):")
        _make_due(self.stack, check)
        name = self.stack.description["functions"]["FollowUpFunction"]["name"]
        self.stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
        self.expect_status(recording, "UPLOADED")
        _wait_for(lambda: self.check(recording) is None, "the check is settled")

    def archive(self, recording: Recording) -> None:
        """The files arrive in the bucket, whole."""
        _say("\nRealtimeKit deletes files after seven days; these go to the owner's bucket:")

        def look() -> dict[str, Any] | None:
            row = self.row(recording)
            return row if row and row.get("archived") == "yes" else None

        row = _wait_for(look, "all files are archived")
        for file in self.world.media_files(recording):
            archive = row["artifacts"][file.artifact.kind]["archive"]
            _show(f"s3://{archive['bucket']}/{archive['key']}")
            _show(
                f"    {archive['size']} bytes, CRC-32 {archive['checksum_crc32']}, verified by S3"
            )
            answer = self.stack.client("s3").get_object(
                Bucket=archive["bucket"], Key=archive["key"]
            )
            digest = hashlib.sha256(answer["Body"].read()).hexdigest()
            _expect(digest == file.sha256(), "the copy is RealtimeKit's file, byte for byte")

    def hear(self, recording: Recording) -> None:
        """Subscribers hear of each change once."""
        _say("\nSubscribers hear of it on the event bus, once each:")
        told = ["Recording Archived", "Recording Catalogued", "Recording Uploaded"]
        heard: list[dict[str, Any]] = []

        def all_told() -> bool:
            heard.extend(self.heard())
            return len(heard) >= len(told)

        _wait_for(all_told, "each change is published")
        for event in heard:
            detail = event["detail"]
            _show(f"{event['detail-type']}: {detail['id']}, {detail['status']}")
        types = sorted(event["detail-type"] for event in heard)
        _expect(types == told, "each change is told once")
        _expect(heard[0]["detail"]["recording_id"] == recording.id, "it is told of this recording")

    def repeat_and_forge(self, recording: Recording) -> None:
        """Duplicates and disorder are harmless; forgeries do not get in."""
        _say("\nAll webhooks come once more, in reverse; and one that RealtimeKit did not sign:")
        before = self.row(recording)
        now = self.world.clock.now()
        again = self.simulator.webhooks.deliver(
            recording.session.started_at, now, order="reversed", duplicates=1
        )
        _expect(all(delivery.attempts[0].status in (200, 202) for delivery in again), "accepted")
        forged = self.forge(recording)
        time.sleep(1)
        _expect(self.row(recording) == before and not self.heard(), "duplicates change nothing")
        _expect(forged == 401, "a forgery is refused")
        _show(f"{len(again)} accepted, nothing changed, nobody was told; the forgery: 401")

    def put_event(self) -> None:
        """The other way in: the event bus."""
        other = self.world.record_meeting(title="Planning")
        _say("\nAnother backend puts a meeting.ended on the event bus; no webhook is involved:")
        meeting = {"id": other.session.meeting.id, "sessionId": other.session.id}
        entry = {
            "EventBusName": self.stack.description["event_bus"]["name"],
            "Source": "realtimekit",
            "DetailType": "meeting.ended",
            "Detail": json.dumps({"event": "meeting.ended", "meeting": meeting}),
        }
        answer = self.stack.client("events").put_events(Entries=[entry])
        _expect(answer["FailedEntryCount"] == 0, "the bus takes the event")
        self.expect_status(other, "UPLOADED")

    def read(self, recording: Recording) -> None:
        """IAM decides who may."""
        path = f"/recordings/{recording.id}"
        _say(f"\nWho has the right to may read a row: GET {path}, signed:")
        row = json.dumps(self.row(recording), indent=2, ensure_ascii=False)
        print(textwrap.indent(row, " " * 6))
        unsigned = self.stack.request("GET", path, signed=False).status
        _expect(unsigned == 403, "an unsigned request is refused")
        _say("The same request unsigned: 403.")

    def sync_another(self) -> None:
        """Whatever no event told of can be asked for."""
        other = self.world.record_meeting(title="Retrospective")
        path = f"/recordings/{other.id}"
        before = self.stack.request("GET", path).status
        answer = self.stack.request("POST", f"{path}/sync")
        _expect((before, answer.status) == (404, 200), "a sync catalogues what no event told of")
        _say(
            f"\nA recording that no event told of: GET {before}, POST {path}/sync {answer.status}:"
        )
        _show(_line(json.loads(answer.data)))

    def sweep(self) -> None:
        """What no event told of and nobody asked for is found."""
        three_hours_ago = self.world.clock.now() - timedelta(hours=3)
        other = self.world.record_meeting(title="All hands", started_at=three_hours_ago)
        _expect(self.row(other) is None, "what nobody told of is not in the catalogue")
        _say(
            "\nThe webhook of a recording was lost, hours ago. The hourly sweep holds RealtimeKit's"
        )
        _say("list against the catalogue:")
        self.stack.client("lambda").invoke(
            FunctionName=self.stack.description["functions"]["SweepRecordingsFunction"]["name"],
            Payload=json.dumps({"sweep": "hourly"}),
        )
        self.expect_status(other, "UPLOADED")
        [report, *_] = json.loads(self.stack.request("GET", "/sweeps").data)["sweeps"]
        counts = report["counts"]
        _expect((report["state"], report["complete"]) == ("completed", True), "a sweep sees all")
        _expect(counts["lost_webhooks"] == 1, "a lost webhook is counted")
        _show(
            f"{counts['seen']} seen, {counts['repaired']} repaired: GET /sweeps tells, and an alarm"
        )

    def list_and_download(self, recording: Recording) -> None:
        """What people come for."""
        _say("\nThe catalogue is listed by time, here what is in the archive: GET /recordings?…")
        listed = self.stack.request("GET", "/recordings?archived=yes&limit=100")
        for row in json.loads(listed.data)["recordings"]:
            _show(f"{row['invoked_at']} {row['recording_id']} “{row.get('meeting_title', '')}”")
        path = f"/recordings/{recording.id}/links"
        _say(f"Each file can be downloaded for a short time: GET {path}")
        answer = json.loads(self.stack.request("GET", f"{path}?expires_in=60").data)
        files = {f.artifact.kind: f for f in self.world.media_files(recording)}
        for link in answer["links"]:
            body = urllib3.request("GET", link["url"], retries=False).data
            _expect(body == files[link["name"]].read(), "a link downloads the file")
            _show(f"{link['name']}: {len(body):,} bytes from the {link['source']}, as recorded")

    def erase(self, recording: Recording) -> None:
        """Row and files, and not to be brought back."""
        path = f"/recordings/{recording.id}"
        erased = self.stack.request("DELETE", path).status
        again = self.stack.request("POST", f"{path}/sync").status
        _expect((erased, again) == (200, 410), "what is erased stays erased")
        _say(f"\nErased on request, with its files: DELETE {path} {erased}; a sync does not")
        _say(f"bring it back: {again}.")

    def look_for_secrets(self) -> None:
        """In the tables and the logs."""
        dynamodb = self.stack.client("dynamodb")
        tables = [
            dynamodb.scan(TableName=table["name"])["Items"]
            for table in self.stack.description["tables"].values()
        ]
        everything = f"{tables} {self.stack.logs()}"
        _expect("'recordings'" in everything, "the storage's bucket is kept")
        for secret in (CANARY, DEFAULT_TOKEN):
            _expect(secret not in everything, "no credential is in a table or a log")
        _say(
            "\nRealtimeKit's answers carried the storage's access key, secret, password and private"
        )
        _say("key. Neither they nor the API token are in any table or log: searched, not found.")

    def deliver(self, lost: float = 0) -> None:
        """The webhooks of what has happened since the last time."""
        now = self.world.clock.now()
        deliveries = self.simulator.webhooks.deliver(self.delivered_until, now, lost=lost)
        self.delivered_until = now
        for delivery in deliveries:
            answers = [str(attempt.status) for attempt in delivery.attempts] or ["lost"]
            _show(f"{delivery.message.event}: {', '.join(answers)}")
            _expect(bool(lost) or delivery.outcome == "delivered", "webhooks are accepted")

    def forge(self, recording: Recording) -> int:
        """Somebody else's webhook; what it is answered."""
        body = {"event": "recording.statusUpdate", "recording": {"id": recording.id}}
        answer = urllib3.request(
            "POST",
            self.stack.description["webhook_url"],
            body=json.dumps(body),
            headers={"rtk-signature": base64.b64encode(bytes(256)).decode()},
            timeout=20,
        )
        return answer.status

    def expect_status(self, recording: Recording, status: str) -> None:
        """Wait until the row says so, and show it."""

        def look() -> dict[str, Any] | None:
            row = self.row(recording)
            return row if row and row["status"] == status else None

        _show(_line(_wait_for(look, f"the row says {status}")))

    def row(self, recording: Recording) -> dict[str, Any] | None:
        """As the API has it."""
        answer = self.stack.request("GET", f"/recordings/{recording.id}")
        row: dict[str, Any] | None = json.loads(answer.data) if answer.status == 200 else None
        return row

    def check(self, recording: Recording) -> dict[str, Any] | None:
        """The pending check, from the work table."""
        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.description["tables"]["WorkTable"]["name"],
            Key={"work_id": {"S": f"check#recording#{recording.id}"}},
        )
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def heard(self) -> list[dict[str, Any]]:
        """What the subscriber received since it was last asked."""
        sqs = self.stack.client("sqs")
        found = []
        while messages := sqs.receive_message(QueueUrl=self.subscriber).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.subscriber, ReceiptHandle=message["ReceiptHandle"])
        return found


def _subscribe(stack: LocalStack) -> str:
    """The URL of a queue with a rule on the bus, as a subscriber would have."""
    sqs, events = stack.client("sqs"), stack.client("events")
    url: str = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    rule = {"Name": "subscriber", "EventBusName": stack.description["event_bus"]["name"]}
    events.put_rule(**rule, EventPattern=json.dumps({"source": ["realtimekit.recordings"]}))
    events.put_targets(
        Rule=rule["Name"],
        EventBusName=rule["EventBusName"],
        Targets=[{"Id": "queue", "Arn": attributes["QueueArn"]}],
    )
    return url


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


def _line(row: dict[str, Any]) -> str:
    meeting = row.get("meeting_title", "not known")
    return f"row {row['recording_id']}: {row['status']}, meeting “{meeting}”"


def _say(text: str) -> None:
    print(textwrap.indent(text, "  "), flush=True)


def _show(text: str) -> None:
    print(f"      {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
