"""The demo: a meeting is recorded, catalogued and archived, and each step is printed and checked.

Only AWS and RealtimeKit are emulated. template.yaml is deployed unchanged, and signed webhooks come
in through API Gateway. The exit code is 1 if a step does not do what the demo says.
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
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import urllib3

from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    Clock,
    FileKind,
    Recording,
    RecordingOptions,
    SessionFile,
    Simulator,
    StoredFile,
    World,
    samples,
)

from .stack import SEED, WEBHOOK_EVENTS, LocalStack, parameters, session

Found = TypeVar("Found")
MAX_WAIT_SECONDS = 300
CANARY = "this-must-not-be-stored"
SECRETS = ("access_key", "secret", "password", "private_key")
SESSION_FILES = {"transcript": "json", "captions": "vtt", "summary": "txt"}
"""Names of the artifacts that the recorded session leaves, and the simulator's formats of them."""


class StepFailedError(Exception):
    """Raised when a step of the demo does not do what the demo says; the message names the step."""


def main() -> int:
    """Run the demo. Return 0 if every step succeeded, 1 if a step failed."""
    # Exit in order also when the terminal closes: the emulator runs in a session of its own and
    # would otherwise keep running.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    started = time.monotonic()
    # RealtimeKit's clock starts one hour ago and moves only when the demo moves it.
    clock = Clock(datetime.now().astimezone() - timedelta(hours=1), speed=0)
    # Half an hour of video has some 150 MB; samples of 20 seconds show the same, and can be played.
    playable = RecordingOptions(playable=True)
    world = World(clock=clock, seed=SEED, reveals_secrets=True, defaults=playable)
    try:
        with Simulator(world) as simulator:
            _say("Starting an emulated AWS and deploying template.yaml to it, unchanged …")
            with LocalStack(parameters(simulator), DEFAULT_TOKEN) as stack:
                _say(f"… deployed in {time.monotonic() - started:.1f} seconds.")
                Demo(world, simulator, stack).run()
                if sys.stdin.isatty():
                    _show_page(stack)
    except StepFailedError as error:
        print(
            f"\nDemo failed: expected that {error}. To look for the cause, run the stack with"
            " make up and read .local/aws-*/ministack.log.",
            file=sys.stderr,
        )
        return 1
    seconds = time.monotonic() - started
    print(f"\nAll steps succeeded, in {seconds:.1f} seconds. No process is left running.")
    return 0


class Demo:
    """The steps of the demo: a meeting, its recording, and the stack that catalogues it."""

    def __init__(self, world: World, simulator: Simulator, stack: LocalStack) -> None:
        self.world = world
        self.simulator = simulator
        self.stack = stack
        self.delivered_until = world.clock.now()
        self.subscriber = _subscribe(stack)
        url = stack.description["webhook_url"]
        simulator.webhooks.registrations.add(url, events=("meeting.started", *WEBHOOK_EVENTS))

    def run(self) -> None:
        """Run all steps, from the start of the meeting to the erasure of its recording."""
        recording = self.record()
        self.end(recording)
        self.lose_a_webhook(recording)
        self.archive(recording)
        self.keep_session_files(recording)
        self.receive_events(recording)
        self.repeat_and_forge(recording)
        self.put_event()
        self.read(recording)
        self.sync_another()
        self.sweep()
        self.list_and_download(recording)
        self.look_for_secrets()
        self.erase(recording)

    def record(self) -> Recording:
        """Start a meeting and record it.

        The recording's storage configuration carries credentials, as RealtimeKit's answers may.
        """
        _say(
            "\nA meeting, “Weekly sync”, starts and is recorded. RealtimeKit sends signed webhooks,"
        )
        _say(
            "which come in through API Gateway. At the first, the recording's details are fetched:"
        )
        storage = {"type": "aws", "bucket": "recordings", "region": "eu-central-1"}
        options = replace(
            self.world.defaults,
            storage_config=storage | dict.fromkeys(SECRETS, CANARY),
            upload_seconds=60,
            separate_audio=True,
        )
        meeting = self.world.create_meeting(title="Weekly sync")
        session = self.world.start_session(meeting, session_files=("transcript", "summary"))
        recording = self.world.start_recording(session, options)
        self.world.clock.advance(5)
        self.deliver()
        self.expect_status(recording, "RECORDING")
        return recording

    def end(self, recording: Recording) -> None:
        """End the meeting.

        meeting.ended comes before UPLOADED, as it does in RealtimeKit.
        """
        _say("\nSoon the host ends the meeting. RealtimeKit uploads the files:")
        self.world.clock.advance(samples.SECONDS)
        self.world.end_session(recording.session, reason=HOST_ENDED_MEETING)
        self.world.clock.advance(1)
        self.deliver()
        self.expect_status(recording, "UPLOADING")

    def lose_a_webhook(self, recording: Recording) -> None:
        """Drop the webhook of the upload, and show that the pending check finds the upload."""
        _say("\nThe upload is done, but its webhook is lost. The work table holds a check:")
        self.world.clock.advance(90)
        self.deliver(lost=1)
        check = _wait_for(lambda: self.check(recording), "the work table has a check")
        _show(f"due {check['due_at']['S']}, because: {check['cause']['S']}")
        _say(
            "The scheduled function fetches the recording again. (The demo makes the check due now,"
        )
        _say("so that you need not wait.)")
        _make_due(self.stack, check)
        name = self.stack.description["functions"]["FollowUpFunction"]["name"]
        self.stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
        self.expect_status(recording, "UPLOADED")
        _wait_for(lambda: self.check(recording) is None, "the check is removed")

    def archive(self, recording: Recording) -> None:
        """Wait until the files are in the bucket, and compare them with RealtimeKit's."""
        _say("\nRealtimeKit deletes files after seven days, so the owner's bucket gets a copy:")

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

    def keep_session_files(self, recording: Recording) -> None:
        """Announce the session's transcript and summary, and show a line of each copy."""
        _say("\nMinutes later RealtimeKit announces the session's transcript and summary. They are")
        _say("kept beside the recording's files, the transcript also as captions:")
        self.world.clock.advance(180)
        self.deliver()

        def look() -> dict[str, Any] | None:
            artifacts = (self.row(recording) or {}).get("artifacts", {})
            is_kept = all("archive" in artifacts.get(name, {}) for name in SESSION_FILES)
            return artifacts if is_kept else None

        artifacts = _wait_for(look, "the session's files are archived")
        for name, file in self.session_files(recording).items():
            archive = artifacts[name]["archive"]
            _expect(archive["state"] == "archived", "the session's files are archived")
            answer = self.stack.client("s3").get_object(
                Bucket=archive["bucket"], Key=archive["key"]
            )
            text = answer["Body"].read()
            _expect(text == file.read(), "the copy is RealtimeKit's text, byte for byte")
            _show(f"s3://{archive['bucket']}/{archive['key']}")
            _show(f"    {_line_of_text(name, text.decode())}")

    def receive_events(self, recording: Recording) -> None:
        """Check that the subscriber received one event for each change."""
        _say("\nEach change is published once on the event bus:")
        expected = [
            "Recording Archived",
            "Recording Catalogued",
            *["Recording File Archived"] * len(SESSION_FILES),
            "Recording Uploaded",
        ]
        events: list[dict[str, Any]] = []

        def received_all() -> bool:
            events.extend(self.received())
            return len(events) >= len(expected)

        _wait_for(received_all, "each change is published")
        for event in events:
            detail = event["detail"]
            _show(f"{event['detail-type']}: {detail['id']}, {detail['status']}")
        types = sorted(event["detail-type"] for event in events)
        _expect(types == expected, "each change is published once")
        is_about_it = events[0]["detail"]["recording_id"] == recording.id
        _expect(is_about_it, "the event names this recording")

    def repeat_and_forge(self, recording: Recording) -> None:
        """Repeat all webhooks in reverse order, forge one, and check that the row is unchanged."""
        _say("\nAll webhooks are delivered twice more, in reverse order. Then comes one that")
        _say("RealtimeKit did not sign:")
        before = self.row(recording)
        now = self.world.clock.now()
        again = self.simulator.webhooks.deliver(
            recording.session.started_at, now, order="reversed", duplicates=1
        )
        _expect(
            all(delivery.attempts[0].status in (200, 202) for delivery in again),
            "repeated webhooks are accepted",
        )
        forged = self.forge(recording)
        time.sleep(1)
        unchanged = self.row(recording) == before and not self.received()
        _expect(unchanged, "a repeated webhook changes no row and publishes no event")
        _expect(forged == 401, "a forged webhook is refused with 401")
        _show(f"{len(again)} accepted: no row changed, no event published. The forged one: 401")

    def put_event(self) -> None:
        """Announce a meeting on the event bus, the other way in."""
        other = self.world.record_meeting(title="Planning")
        _say("\nAnother backend puts a meeting.ended on the event bus, without a webhook:")
        meeting = {"id": other.session.meeting.id, "sessionId": other.session.id}
        entry = {
            "EventBusName": self.stack.description["event_bus"]["name"],
            "Source": "realtimekit",
            "DetailType": "meeting.ended",
            "Detail": json.dumps({"event": "meeting.ended", "meeting": meeting}),
        }
        answer = self.stack.client("events").put_events(Entries=[entry])
        _expect(answer["FailedEntryCount"] == 0, "the event bus accepts the event")
        self.expect_status(other, "UPLOADED")

    def read(self, recording: Recording) -> None:
        """Read the row through the API, which IAM protects."""
        path = f"/recordings/{recording.id}"
        _say(f"\nA caller with the IAM right reads the row: GET {path}, signed:")
        row = json.dumps(self.row(recording), indent=2, ensure_ascii=False)
        print(textwrap.indent(row, " " * 6))
        unsigned = self.stack.request("GET", path, signed=False).status
        _expect(unsigned == 403, "an unsigned request is refused with 403")
        _say("The same request unsigned: 403.")

    def sync_another(self) -> None:
        """Catalogue a recording that no event announced, by a request to the API."""
        other = self.world.record_meeting(title="Retrospective")
        path = f"/recordings/{other.id}"
        before = self.stack.request("GET", path).status
        answer = self.stack.request("POST", f"{path}/sync")
        _expect(
            (before, answer.status) == (404, 200),
            "a sync catalogues a recording that no event announced",
        )
        _say(f"\nA recording without any event: GET {before}, POST {path}/sync {answer.status}:")
        _show(_line(json.loads(answer.data)))

    def sweep(self) -> None:
        """Run a sweep, and check that it finds a recording whose webhook was lost."""
        three_hours_ago = self.world.clock.now() - timedelta(hours=3)
        other = self.world.record_meeting(title="All hands", started_at=three_hours_ago)
        _expect(
            self.row(other) is None, "a recording without a webhook is not in the catalogue yet"
        )
        _say("\nThe webhook of a recording was lost, hours ago. The hourly sweep compares")
        _say("RealtimeKit's list with the catalogue:")
        self.stack.client("lambda").invoke(
            FunctionName=self.stack.description["functions"]["SweepRecordingsFunction"]["name"],
            Payload=json.dumps({"sweep": "hourly"}),
        )
        self.expect_status(other, "UPLOADED")

        def look() -> dict[str, Any] | None:
            """Return the report once the sweep is over: the minute's tick may work on it, too."""
            [report, *_] = json.loads(self.stack.request("GET", "/sweeps").data)["sweeps"]
            return report if report["state"] == "completed" else None

        report = _wait_for(look, "the sweep is completed")
        counts = report["counts"]
        _expect(report["complete"] is True, "the sweep reads all")
        _expect(counts["lost_webhooks"] == 1, "a lost webhook is counted")
        _show(f"{counts['seen']} seen, {counts['repaired']} repaired")
        _say("GET /sweeps reports these counts, and an alarm reports the lost webhook.")

    def list_and_download(self, recording: Recording) -> None:
        """List the archived recordings, and download each file by its link."""
        _say("\nThe catalogue lists the archived recordings by time: GET /recordings?archived=yes")
        listed = self.stack.request("GET", "/recordings?archived=yes&limit=100")
        for row in json.loads(listed.data)["recordings"]:
            _show(f"{row['invoked_at']} {row['recording_id']} “{row.get('meeting_title', '')}”")
        path = f"/recordings/{recording.id}/links"
        _say(f"Each file can be downloaded for a short time: GET {path}")
        answer = json.loads(self.stack.request("GET", f"{path}?expires_in=60").data)
        files: dict[str, StoredFile] = {
            **{file.artifact.kind: file for file in self.world.media_files(recording)},
            **self.session_files(recording),
        }
        _expect(
            sorted(link["name"] for link in answer["links"]) == sorted(files),
            "each file has a link",
        )
        for link in answer["links"]:
            body = urllib3.request("GET", link["url"], retries=False).data
            _expect(body == files[link["name"]].read(), "a link downloads the file")
            _show(f"{link['name']}: {len(body):,} bytes from the {link['source']}, as recorded")

    def erase(self, recording: Recording) -> None:
        """Erase the recording, and check that a sync cannot bring it back."""
        path = f"/recordings/{recording.id}"
        erased = self.stack.request("DELETE", path).status
        again = self.stack.request("POST", f"{path}/sync").status
        _expect((erased, again) == (200, 410), "an erased recording stays erased")
        _say(f"\nThe recording and its files are erased on request: DELETE {path} {erased}.")
        _say(f"A later sync is refused: {again}.")

    def look_for_secrets(self) -> None:
        """Search the tables and the logs for credentials, and fail if one is found."""
        dynamodb = self.stack.client("dynamodb")
        tables = [
            dynamodb.scan(TableName=table["name"])["Items"]
            for table in self.stack.description["tables"].values()
        ]
        everything = f"{tables} {self.stack.logs()}"
        _expect("'recordings'" in everything, "the name of the storage's bucket is stored")
        for secret in (CANARY, DEFAULT_TOKEN):
            _expect(secret not in everything, "tables and logs hold no credential")
        _say(
            "\nRealtimeKit's answers carried the storage's access key, secret, password and private"
        )
        _say("key. A search finds neither these nor the API token in any table or log.")

    def deliver(self, lost: float = 0) -> None:
        """Deliver the webhooks of all changes since the last delivery; drop the share `lost`."""
        now = self.world.clock.now()
        deliveries = self.simulator.webhooks.deliver(self.delivered_until, now, lost=lost)
        self.delivered_until = now
        for delivery in deliveries:
            answers = [str(attempt.status) for attempt in delivery.attempts] or ["lost"]
            _show(f"{delivery.message.event}: {', '.join(answers)}")
            _expect(bool(lost) or delivery.outcome == "delivered", "webhooks are accepted")

    def forge(self, recording: Recording) -> int:
        """Send a webhook with a wrong signature and return the HTTP status of the answer."""
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
        """Wait until the recording's row has this status, and print the row."""

        def look() -> dict[str, Any] | None:
            row = self.row(recording)
            return row if row and row["status"] == status else None

        _show(_line(_wait_for(look, f"the row has the status {status}")))

    def row(self, recording: Recording) -> dict[str, Any] | None:
        """Return the recording's row from the API, or `None` if it is not in the catalogue."""
        answer = self.stack.request("GET", f"/recordings/{recording.id}")
        row: dict[str, Any] | None = json.loads(answer.data) if answer.status == 200 else None
        return row

    def session_files(self, recording: Recording) -> dict[str, SessionFile]:
        """Return the files of the recording's session in RealtimeKit, by the artifact's name."""
        kinds = {"captions": FileKind.TRANSCRIPT}
        return {
            name: self.world.session_file(
                recording.session, kinds.get(name) or FileKind(name), suffix
            )
            for name, suffix in SESSION_FILES.items()
        }

    def check(self, recording: Recording) -> dict[str, Any] | None:
        """Return the recording's pending check from the work table, or `None`."""
        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.description["tables"]["WorkTable"]["name"],
            Key={"work_id": {"S": f"check#recording#{recording.id}"}},
        )
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def received(self) -> list[dict[str, Any]]:
        """Return the events in the subscriber's queue, and remove them from it."""
        sqs = self.stack.client("sqs")
        events = []
        while messages := sqs.receive_message(QueueUrl=self.subscriber).get("Messages"):
            for message in messages:
                events.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.subscriber, ReceiptHandle=message["ReceiptHandle"])
        return events


def _show_page(stack: LocalStack) -> None:
    """Serve the catalogue page until Enter or Ctrl-C."""
    api = Api(stack.description["api_url"], session(), "the demo's stack")
    with PageServer(api) as page, suppress(EOFError, KeyboardInterrupt):
        _say("\nThe catalogue, to look at in a browser on this machine:")
        _show(page.address)
        input("\n  Press Enter to end the demo. ")


def _subscribe(stack: LocalStack) -> str:
    """Create a subscriber's queue with a rule on the event bus, and return the queue's URL."""
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


def _wait_for(look: Callable[[], Found | None], expectation: str) -> Found:
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise StepFailedError(expectation)


def _expect(happened: bool, expectation: str) -> None:
    if not happened:
        raise StepFailedError(expectation)


def _line(row: dict[str, Any]) -> str:
    meeting = row.get("meeting_title", "not known")
    return f"row {row['recording_id']}: {row['status']}, meeting “{meeting}”"


def _line_of_text(name: str, text: str) -> str:
    """Return a line of a session's file, as a reader would quote it."""
    if name == "transcript":
        sentence = json.loads(text)[0]
        return f"{sentence['peerData']['displayName']}: {sentence['sentence']}"
    lines = [line for line in text.splitlines() if line and line != "WEBVTT"]
    return " ".join(lines[:2]) if name == "captions" else lines[0]


def _say(text: str) -> None:
    print(textwrap.indent(text, "  "), flush=True)


def _show(text: str) -> None:
    print(f"      {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
