"""What must be so in the end, whatever went wrong: the simulated world is the truth."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from boto3.dynamodb.types import TypeDeserializer
from faults.plan import CANARY
from faults.simulation import Simulation

from local.simulator import Artifact, Kind, Recording, Status, World

FAR = datetime(2027, 1, 1, tzinfo=UTC)
RANKS = {"INVOKED": 1, "RECORDING": 2, "PAUSED": 2, "UPLOADING": 3, "UPLOADED": 4, "ERRORED": 4}
SERVICES_OWN = {"first_seen_at", "fetched_at", "version", "status_history"}
FIVE_MINUTES = timedelta(minutes=5)

Row = dict[str, Any]


def plain(item: dict[str, Any]) -> Row:
    """A row with Python's values."""
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


def rows(simulation: Simulation) -> dict[str, Row]:
    """The catalogue."""
    return {row["recording_id"]: row for row in map(plain, simulation.items("RecordingsTable"))}


# The catalogue is the truth, field by field.


def check_catalogue(simulation: Simulation) -> None:
    """Every recording is there, and nothing else; each field is what RealtimeKit says."""
    world, found = simulation.simulator.world, rows(simulation)
    recordings = {recording.id: recording for recording in world.recordings()}
    assert found.keys() == recordings.keys()
    for recording_id, row in found.items():
        expected = expected_row(world, recordings[recording_id])
        assert SERVICES_OWN <= row.keys(), recording_id
        said = {name: value for name, value in row.items() if name not in SERVICES_OWN}
        # Only some ways of telling say it.
        said.setdefault("organization_id", world.organization_id)
        said["artifacts"] = {
            name: {key: value for key, value in artifact.items() if key not in ("url", "archive")}
            for name, artifact in row.get("artifacts", {}).items()
        }
        assert said == expected, recording_id
        statuses = [entry["status"] for entry in row["status_history"]]
        ranks = [RANKS[status] for status in statuses]
        assert ranks == sorted(ranks), recording_id
        assert statuses[-1] == row["status"], recording_id


def expected_row(world: World, recording: Recording) -> Row:
    """All but the service's own, what became of the files, and their URLs."""
    final, meeting = recording.at(FAR), recording.meeting
    is_uploaded = final.status is Status.UPLOADED
    row = {
        "recording_id": recording.id,
        "app_id": world.app_id,
        "status": final.status.value,
        "status_rank": 4,
        "session_id": recording.session.id,
        "meeting_id": meeting.id,
        "meeting_title": meeting.title,
        "organization_id": world.organization_id,
        "invoked_at": written(recording.invoked_at),
        "started_at": written(final.started_at),
        "stopped_at": written(final.stopped_at),
        "duration_seconds": None if final.duration is None else Decimal(str(final.duration)),
        "file_name": recording.file_name,
        "file_size": recording.file_size if is_uploaded else None,
        "start_reason": reason(recording.start_reason),
        "stop_reason": reason(recording.stop_reason),
        "storage": storage(recording),
        "artifacts": dict(artifacts(recording)) if is_uploaded else {},
        "archived": archived(recording) if is_uploaded else None,
    }
    return {name: value for name, value in row.items() if value is not None}


def written(time: datetime | None) -> str | None:
    """As a row has it."""
    return time and f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def reason(said: Any) -> Row | None:
    """A start's or a stop's."""
    if said is None:
        return None
    if said.caller is None:
        return {"reason": said.reason}
    named = {"type": said.caller.type, "name": said.caller.name, "user_id": said.caller.user_id}
    caller = {name: value for name, value in named.items() if value is not None}
    return {"reason": said.reason, "caller": caller}


def storage(recording: Recording) -> Row | None:
    """Where RealtimeKit put it, never how to get in."""
    config = recording.options.storage_config
    known = ("type", "bucket", "region", "path")
    return config and {name: config[name] for name in known}


def artifacts(recording: Recording) -> Iterator[tuple[str, Row]]:
    """Each file's entry, without what became of it."""
    if not recording.artifacts:
        kind = {Kind.TRACK: "track", Kind.AUDIO: "audio"}.get(recording.options.kind, "video")
        yield kind, {"kind": kind, "file_name": recording.file_name}
    for artifact in recording.artifacts:
        entry = {
            "kind": artifact.kind,
            "file_name": artifact.file_name,
            "url_expires_at": written(recording.at(FAR).expires_at),
        }
        yield name_of(artifact), entry | (
            {"file_size": artifact.size} if artifact.kind == "video" else {}
        )


def name_of(artifact: Artifact) -> str:
    """The key of its entry in the row."""
    is_track = artifact.kind == "track"
    return f"track/{artifact.layer}/{artifact.file_name}" if is_track else artifact.kind


def archived(recording: Recording) -> str:
    """Of what RealtimeKit never had in its own bucket there is no copy."""
    return "yes" if recording.artifacts else "no"


# Each file is archived exactly once, byte by byte.


def check_archive(simulation: Simulation) -> None:
    """One version of each object, of the right bytes; the row says where, and nothing is besides."""
    world, catalogue = simulation.simulator.world, rows(simulation)
    s3, bucket = simulation.stack.client("s3"), simulation.stack.description["archive_bucket"]
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    listed = [version["Key"] for page in pages for version in page.get("Versions", [])]
    expected = []
    for recording in world.recordings():
        states = {
            name: artifact["archive"]
            for name, artifact in catalogue[recording.id].get("artifacts", {}).items()
        }
        for file in world.media_files(recording) if states else []:
            state = states.pop(name_of(file.artifact))
            expected.append(state["key"])
            body = s3.get_object(Bucket=bucket, Key=state["key"])["Body"].read()
            assert body == file.read(), state["key"]
            crc32 = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
            facts = (state["state"], state["bucket"], state["size"], state["checksum_crc32"])
            assert facts == ("archived", bucket, len(body), crc32), state["key"]
            assert recording.id in state["key"]
        assert all(state["state"] == "external" for state in states.values()), recording.id
    assert sorted(listed) == sorted(expected)


# Subscribers were told each change at least once, and nothing else.


def check_history(simulation: Simulation) -> None:
    """Rows went forward, one version at a time, under whatever concurrency."""
    versions: Counter[str] = Counter()
    for old, new in changes(simulation):
        recording_id = new["recording_id"]
        assert new["version"] == versions[recording_id] + 1, recording_id
        versions[recording_id] += 1
        assert new.get("status_rank", 0) >= old.get("status_rank", 0), recording_id


def changes(simulation: Simulation) -> Iterator[tuple[Row, Row]]:
    """Each change of a row, as it was and as it is."""
    for record in simulation.stream.records:
        images = record["dynamodb"]
        yield plain(images.get("OldImage", {})), plain(images["NewImage"])


def check_events(simulation: Simulation, heard: list[Row]) -> None:
    """Each recording is catalogued once, is final once, and archived once, whoever heard how often."""
    expected = set()
    for old, new in changes(simulation):
        told = {
            "Recording Catalogued": not old,
            "Recording Uploaded": new["status"] == "UPLOADED" != old.get("status"),
            "Recording Errored": new["status"] == "ERRORED" != old.get("status"),
            "Recording Archived": new.get("archived") == "yes" != old.get("archived"),
        }
        id_ = f"{new['recording_id']}#{new['version']}"
        expected |= {(type_, id_) for type_, is_told in told.items() if is_told}
    assert {(event["detail-type"], event["detail"]["id"]) for event in heard} == expected
    world = simulation.simulator.world
    uploaded = [one for one in world.recordings() if one.at(FAR).status is Status.UPLOADED]
    assert Counter(type_ for type_, _ in expected) == Counter(
        {
            "Recording Catalogued": len(world.recordings()),
            "Recording Uploaded": len(uploaded),
            "Recording Errored": len(world.recordings()) - len(uploaded),
            "Recording Archived": sum(archived(recording) == "yes" for recording in uploaded),
        }
    )


# Limits, dead letters, forgeries.


def check_budget(simulation: Simulation, per_5_minutes: int) -> None:
    """RealtimeKit's own log: in no five minutes were there more requests than are allowed."""
    window: deque[datetime] = deque()
    for request in simulation.simulator.request_log.matching("^/client/v4/"):
        window.append(request.simulated_at)
        while window[0] <= request.simulated_at - FIVE_MINUTES:
            window.popleft()
        assert len(window) <= per_5_minutes, request.simulated_at


def check_dead_letters(simulation: Simulation, planted: Counter[str]) -> None:
    """Only what can never be read."""
    found: Counter[str] = Counter()
    for name in simulation.stack.description["queues"]:
        if "DeadLetter" in name:
            found.update(message["Body"] for message in drain(simulation, name))
    assert found == planted


def drain(simulation: Simulation, name: str) -> Iterator[Any]:
    """A queue's messages, which are deleted."""
    sqs, url = simulation.stack.client("sqs"), simulation.stack.description["queues"][name]["url"]
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in found:
            yield message
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def check_work(simulation: Simulation) -> None:
    """Nothing waits any more, and nothing was given up."""
    checks = [plain(item) for item in simulation.items("WorkTable")]
    left = [check for check in checks if check["work_id"].startswith("check#")]
    assert left == []


def check_forgeries(simulation: Simulation) -> None:
    """What RealtimeKit did not sign was never accepted; nor was anything of its own refused as such."""
    for delivery, answer in simulation.answers:
        if answer is not None and delivery.way == "forged":
            assert answer["statusCode"] in (401, 503)


# No secret is anywhere.


def check_secrets(simulation: Simulation, log: str, heard: list[Row]) -> None:
    """The one place for a download URL is its artifact's `url`, in the row and the row's changes."""
    world = simulation.simulator.world
    urls = [
        world.media_url(recording, artifact)
        for recording in world.recordings()
        for artifact in recording.artifacts
        if recording.at(FAR).status is Status.UPLOADED
    ]
    signatures = {parse_qs(urlsplit(url).query)["X-Amz-Signature"][0] for url in urls}
    for where, text in places(simulation, log, heard):
        for secret in (CANARY, "X-Amz-", *signatures & set(re.findall("[0-9a-f]{64}", text))):
            assert secret not in text, f"{where}: {text[text.index(secret) - 200 :][:400]}"


def places(simulation: Simulation, log: str, heard: list[Row]) -> Iterator[tuple[str, str]]:
    """Wherever something is kept, said or sent, but for the artifacts' URLs."""
    for row in rows(simulation).values():
        yield "row", without_urls(row)
    for old, new in changes(simulation):
        yield "stream", without_urls(old) + without_urls(new)
    for item in simulation.items("WorkTable"):
        yield "work", json.dumps(item)
    s3, bucket = simulation.stack.client("s3"), simulation.stack.description["archive_bucket"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            head = s3.head_object(Bucket=bucket, Key=found["Key"])
            yield "object", found["Key"] + json.dumps(head, default=str)
    yield from simulation.seen
    for _, answer in simulation.answers:
        yield "webhook's answer", json.dumps(answer)
    for event in heard:
        yield "event", json.dumps(event)
    yield "log", log


def without_urls(row: Row) -> str:
    """Its text; every artifact's current URL is left out."""
    artifacts = {
        name: {key: value for key, value in artifact.items() if key != "url"}
        for name, artifact in row.get("artifacts", {}).items()
    }
    return json.dumps({**row, "artifacts": artifacts}, default=str)
