"""No recording is lost or double, and no secret leaks, with faults and without.

Catalogue, archive and events are compared with the simulated world.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from boto3.dynamodb.types import TypeDeserializer

from faults.plan import (
    AWS_FAULTS,
    CANARY,
    CERTAIN_FILES,
    CERTAIN_RECORDINGS,
    KEPT_CONNECTIONS,
    ApiRequest,
)
from faults.simulation import POISON, Simulation
from realtimekit_simulator import (
    Artifact,
    FileKind,
    Kind,
    Recording,
    Session,
    SessionFile,
    Status,
    StoredFile,
    World,
)

FAR = datetime(2027, 1, 1, tzinfo=UTC)
RANKS = {"INVOKED": 1, "RECORDING": 2, "PAUSED": 2, "UPLOADING": 3, "UPLOADED": 4, "ERRORED": 4}
LIVE = ("RECORDING", "PAUSED")
SERVICES_OWN = {"first_seen_at", "fetched_at", "version", "status_history"}
# The files of a session as they are kept, by the artifact's name: their kind and format.
SESSION_FILES = {
    "transcript": (FileKind.TRANSCRIPT, "json"),
    "captions": (FileKind.TRANSCRIPT, "vtt"),
    "summary": (FileKind.SUMMARY, "txt"),
    "chat": (FileKind.CHAT, "csv"),
}
# A file is lost only if RealtimeKit has announced it and never had it.
LAST_STATES = {
    "file": {"archived"},
    "empty": {"none"},
    "shared": {"none"},
    "no file": {"expired"},
    # Whether a webhook of it came through.
    "no url": {"expired", "none"},
    "not ordered": {"none"},
}
Row = dict[str, Any]


def test_the_catalogue_is_what_realtimekit_says(simulated: Simulation) -> None:
    """The table has all recordings and no others, each with exactly its fields."""
    found, recordings = rows(simulated), writable(simulated)
    assert found.keys() == {recording.id for recording in recordings}
    for recording in recordings:
        row = found[recording.id]
        if recording.id in erased(simulated):
            assert row.keys() == {"recording_id", "version", "erased_at"}
            continue
        assert row.keys() >= SERVICES_OWN
        said = {name: value for name, value in row.items() if name not in SERVICES_OWN}
        assert owners_word(said) == told(simulated)[recording.id]
        if simulated.plan.faults:
            # The list does not say them.
            said.setdefault("organization_id", simulated.simulator.world.app_id)
            said.setdefault("session_started_at", written(recording.session.started_at))
        said["artifacts"] = {
            name: {key: value for key, value in artifact.items() if key not in ("url", "archive")}
            for name, artifact in row.get("artifacts", {}).items()
        }
        expected = expected_row(simulated.simulator.world, recording)
        expected["artifacts"] |= session_artifacts(recording.session, row)
        assert said == expected


def test_each_file_is_archived_exactly_once(simulated: Simulation) -> None:
    """Each file is one version of one object, with its bytes and the row's checksum.

    An erased recording has no object and no unfinished upload.
    """
    found, archived = rows(simulated), []
    s3, bucket = simulated.stack.client("s3"), simulated.stack.description["archive_bucket"]
    for recording in writable(simulated):
        artifacts = found[recording.id].get("artifacts", {})
        states = {name: artifact["archive"] for name, artifact in artifacts.items()}
        for name, file in files_to_keep(simulated.simulator.world, recording) if states else []:
            state = states.pop(name)
            assert (state["state"], state["bucket"]) == ("archived", bucket)
            body = s3.get_object(Bucket=bucket, Key=state["key"])["Body"].read()
            assert body == file.read()
            crc32 = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
            assert (state["size"], state["checksum_crc32"]) == (len(body), crc32)
            archived.append(state["key"])
        # These files are in the owner's bucket, or were never recorded.
        elsewhere = "none" if recording.options.realtimekit_bucket else "external"
        own = [state for name, state in states.items() if name not in SESSION_FILES]
        assert all(state["state"] == elsewhere for state in own)
    versions = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    assert sorted(versions.search("[Versions, DeleteMarkers][][].Key")) == sorted(archived)
    unfinished = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not {id for id in erased(simulated) for one in unfinished if id in one["Key"]}


def test_a_session_without_a_file_says_so_and_one_that_was_announced_is_lost(
    simulated: Simulation,
) -> None:
    """Each recording has a last state of each file; none is none that could have been had."""
    found = rows(simulated)
    for recording in writable(simulated):
        if recording.id in erased(simulated):
            continue
        artifacts = found[recording.id]["artifacts"]
        for name in SESSION_FILES:
            archive = artifacts[name]["archive"]
            assert archive["state"] in LAST_STATES[outcome(recording.session, name)]
            assert recording.session.id in archive.get("key", recording.session.id)


def test_rows_only_move_forward(simulated: Simulation) -> None:
    """Each change raises the version by one, and an erased row does not change."""
    versions: Counter[str] = Counter()
    for old, new in changes(simulated):
        versions[new["recording_id"]] += 1
        assert new["version"] == versions[new["recording_id"]]
        assert "erased_at" not in old
        assert "erased_at" in new or new["status_rank"] >= old.get("status_rank", 0)


def test_subscribers_hear_of_each_change_and_of_nothing_else(simulated: Simulation) -> None:
    """Each recording is catalogued, final and archived once, however often it is said.

    So is each file of its session, whenever it comes.
    """
    changed: set[tuple[str, str]] = set()
    told: defaultdict[str, list[str]] = defaultdict(list)
    kept: defaultdict[str, list[str]] = defaultdict(list)
    for old, new in changes(simulated):
        event_id = f"{new['recording_id']}#{new['version']}"
        for type_ in news(old, new):
            changed.add((type_, event_id))
            told[new["recording_id"]].append(type_)
        for name in sorted(in_state(new, "archived") - in_state(old, "archived")):
            changed.add(("Recording File Archived", f"{event_id}#{name}"))
            kept[new["recording_id"]].append(name)
        if in_state(new, "expired") - in_state(old, "expired"):
            changed.add(("Recording Expired", event_id))
    heard = {(event["detail-type"], event["detail"]["id"]) for event in simulated.heard}
    # The policy's own event is about no recording.
    assert {one for one in heard if one[0] != "Retention Announced"} == changed
    for recording in writable(simulated):
        if recording.id not in erased(simulated):
            files_of_session = to_keep(simulated.simulator.world, recording.session)
            assert sorted(kept[recording.id]) == sorted(files_of_session)
        final = "Recording Uploaded" if is_uploaded(recording) else "Recording Errored"
        files = ["Recording Archived"] * (is_uploaded(recording) and bool(recording.artifacts))
        life = ["Recording Catalogued", final, *files]
        if recording.id in erased(simulated):
            # As far as it had come.
            life[len(told[recording.id]) - 1 :] = ["Recording Erased"]
        assert told[recording.id] == life


def test_dead_letters_are_only_what_can_never_be_read(simulated: Simulation) -> None:
    planted = [body for bodies in POISON.values() for body in bodies] * simulated.plan.faults
    found = [
        message["Body"]
        for name, queue in simulated.stack.description["queues"].items()
        if "DeadLetter" in name
        for message in simulated.drain(queue["url"])
    ]
    assert sorted(found) == sorted(planted)


def test_no_work_is_left(simulated: Simulation) -> None:
    """All checks are settled, and all sweeps are completed.

    Sweeps pass over the recording that cannot be written, and count it. Recordings of another app
    are given up.
    """
    work = [plain(item) for item in simulated.items("WorkTable")]
    checks = [row for row in work if row["work_id"].startswith("check#")]
    assert all(row["cause"] == "not_found" and "given_up_at" in row for row in checks)
    assert {row["work_id"] for row in checks} == {
        f"check#recording#{delivery.about}"
        for delivery, answer in simulated.answers
        if delivery.way == "foreign" and delivery.event.recording and answer["statusCode"] == 202
    }
    sweeps = [row for row in work if row["work_id"].startswith("sweep#")]
    assert {row["state"] for row in sweeps} == {"completed"}
    passed_over = [row["examples"]["unwritable"] for row in sweeps if row["counts"]["unwritable"]]
    assert bool(passed_over) == simulated.plan.faults
    assert all(ids == [simulated.unwritable] for ids in passed_over)


def test_the_budget_of_requests_is_never_exceeded(
    simulated: Simulation, per_5_minutes: int
) -> None:
    """The requests are those of RealtimeKit's own log, in any five minutes."""
    window: deque[datetime] = deque()
    for request in simulated.simulator.request_log.matching("^/client/v4/"):
        window.append(request.simulated_at)
        while window[0] <= request.simulated_at - timedelta(minutes=5):
            window.popleft()
        assert len(window) <= per_5_minutes


def test_only_what_realtimekit_signed_is_accepted(simulated: Simulation) -> None:
    """A forgery is refused, or put off; an event is accepted or put off, never refused.

    Another app's event is dropped if the stack knows its organisation.
    """
    for delivery, answer in simulated.answers:
        expected = (401, 503) if delivery.way == "forged" else (200, 202, 503)
        if delivery.way == "foreign" and simulated.plan.names_organization:
            expected = (200, 503)
        assert answer["statusCode"] in expected


def test_an_erasure_is_accepted_in_the_end(simulated: Simulation) -> None:
    """A recording may be unknown at first, or its erasure put off. The same holds for a sync.

    Labels, holds and releases are accepted, too, and the erasure of a held recording is refused.
    """
    accepted: set[str] = set()
    for request, answer in simulated.api_answers:
        status = answer["statusCode"]
        if request.method == "DELETE":
            is_refused = is_held(simulated, request.recording_id)
            assert status in ((409, 503) if is_refused else (200, 202, 404, 503))
            if status in (200, 202):
                accepted.add(request.recording_id)
        elif request.method == "PATCH":
            assert status in (200, 404, 503)
        elif request.recording_id == simulated.unwritable:
            assert status in (404, 502, 503, 507)
        else:
            assert status in (200, 404, 410, 502, 503)
    assert accepted == erased(simulated)
    patched = Counter(
        json.dumps(request.patch)
        for request, answer in simulated.api_answers
        if request.method == "PATCH" and answer["statusCode"] == 200
    )
    assert patched == Counter(planned_patches(simulated))


def test_what_is_accepted_is_on_the_queue(simulated: Simulation) -> None:
    """An answer of 202 is a promise, even where a sweep would find what was lost."""
    accepted = Counter(
        delivery.about for delivery, answer in simulated.answers if answer["statusCode"] == 202
    )
    bodies = [body for queue in simulated.queues for body in queue.bodies.values()]
    messages = [json.loads(body) for body in bodies if '"source": "webhook"' in body]
    assert accepted <= Counter(one.get("recording_id", one.get("session_id")) for one in messages)


def test_an_unfinished_status_may_be_reported_and_a_final_one_is_fetched(
    simulated: Simulation,
) -> None:
    """Only webhooks report. No report makes a recording final, and none is of its invocation."""
    lines = [line for line in simulated.log().splitlines() if '"recording ingested"' in line]
    reported = [line for line in map(json.loads, lines) if not line["fetched"] and line["changed"]]
    assert "UPLOADING" in {line["status"] for line in reported}
    assert {line["source"] for line in reported} == {"webhook"}
    hints = [
        json.loads(body)["hint"]
        for queue in simulated.queues
        for body in queue.bodies.values()
        if '"report": ' in body
    ]
    assert {hint["report"]["status"] for hint in hints} <= {*LIVE, "UPLOADING"}


def test_no_secret_is_anywhere(simulated: Simulation) -> None:
    """The one place for a download URL is the `url` of its artifact, in the row."""
    world = simulated.simulator.world
    signatures = {
        parse_qs(urlsplit(world.media_url(recording, artifact)).query)["X-Amz-Signature"][0]
        for recording in world.recordings()
        if is_uploaded(recording)
        for artifact in recording.artifacts
    }
    signatures |= {
        parse_qs(urlsplit(world.session_file_url(file)).query)["X-Amz-Signature"][0]
        for session in world.sessions()
        for file in world.session_files(session)
    }
    for where, text in places(simulated):
        leaked = signatures & set(re.findall("[0-9a-f]{64}", text))
        for secret in (CANARY, "X-Amz-", *leaked):
            start = text.find(secret)
            assert start < 0, f"in a {where}: {text[max(0, start - 200) :][:300]}"


def test_all_that_can_go_wrong_did(simulated: Simulation) -> None:
    """Each kind of fault occurs; without faults no function raises."""
    if not simulated.plan.faults:
        assert simulated.met == Counter()
        return
    kinds = {name.partition(":")[0] for name in simulated.met}
    assert kinds >= {*AWS_FAULTS, "refused in a 200", "killed before", "killed after", "stalled"}
    assert "unwritable" in kinds
    assert any(request.fault_id for request in simulated.simulator.requests)
    assert any(delivery.way == "foreign" for delivery, _ in simulated.answers)
    broken = [request for request in simulated.simulator.requests if request.fault_id == 1]
    assert len(broken) == KEPT_CONNECTIONS
    assert {request.method for request, _ in simulated.api_answers} == {"DELETE", "PATCH", "POST"}


def test_what_was_seen_of_realtimekit_is_in_each_run(simulated: Simulation) -> None:
    """Files in layers in links, a recording without a file, an expiry that was never set."""
    options = [recording.options for recording in simulated.simulator.world.recordings()]
    for certain in CERTAIN_RECORDINGS.values():
        assert [one for one in options if all(getattr(one, k) == v for k, v in certain.items())]
    assert simulated.simulator.world.undocumented.track_urls == "layers in links"
    sessions = simulated.simulator.world.sessions()
    ordered = {options.outcome for session in sessions for options in session.files.values()}
    assert ordered == LAST_STATES.keys() - {"not ordered"}
    titles = {session.meeting.title for session in sessions if session.recordings}
    assert titles >= {f"Meeting {number}" for number in CERTAIN_FILES}


# The truth, as a row has it.


def expected_row(world: World, recording: Recording) -> Row:
    """Return the row that RealtimeKit's truth implies, without states and URLs of files.

    The files of the recording's session are left out.
    """
    final, uploaded = recording.at(FAR), is_uploaded(recording)
    row: Row = {
        "recording_id": recording.id,
        "app_id": world.app_id,
        "organization_id": world.app_id,
        "status": final.status.value,
        "status_rank": 4,
        "session_id": recording.session.id,
        "session_started_at": written(recording.session.started_at),
        "meeting_id": recording.meeting.id,
        "meeting_title": recording.meeting.title,
        "invoked_at": written(recording.invoked_at),
        "started_at": written(final.started_at),
        "stopped_at": written(final.stopped_at),
        "duration_seconds": final.duration and Decimal(str(final.duration)),
        "file_name": recording.file_name,
        "file_size": recording.file_size if uploaded else None,
        "start_reason": reason(recording.start_reason),
        "stop_reason": reason(recording.stop_reason),
        "storage": storage(recording),
        "artifacts": dict(artifacts(recording)) if uploaded else {},
        "archived": ("yes" if recording.artifacts else "no") if uploaded else None,
    }
    return {name: value for name, value in row.items() if value is not None}


def session_artifacts(session: Session, row: Row) -> dict[str, Row]:
    """Return the entries of the session's files, without what became of them.

    A file that RealtimeKit has offered or announced says until when. Whether one without a URL was
    announced is the row's to say.
    """
    entries: dict[str, Row] = {name: {"kind": name} for name in SESSION_FILES}
    expires_at = written(session.ended_at and session.ended_at + timedelta(days=7))
    for name, entry in entries.items():
        is_expired = row["artifacts"][name]["archive"]["state"] == "expired"
        if is_expired or outcome(session, name) in ("file", "empty", "no file"):
            entry["url_expires_at"] = expires_at
    return entries


def outcome(session: Session, name: str) -> str:
    """Return the fate of a session's file, by the artifact's name."""
    options = session.files.get(SESSION_FILES[name][0])
    return options.outcome if options else "not ordered"


def to_keep(world: World, session: Session) -> dict[str, SessionFile]:
    """Return the session's files that can be had, by the artifact's name."""
    return {
        name: world.session_file(session, *SESSION_FILES[name])
        for name in SESSION_FILES
        if outcome(session, name) == "file"
    }


def files_to_keep(world: World, recording: Recording) -> list[tuple[str, StoredFile]]:
    """Return the recording's own files and its session's, by the artifact's name."""
    own = [(name_of(file.artifact), file) for file in world.media_files(recording)]
    return [*(own if is_uploaded(recording) else []), *to_keep(world, recording.session).items()]


def in_state(row: Row, state: str) -> set[str]:
    """Return the names of the session's files in an archive state."""
    artifacts = row.get("artifacts", {})
    return {
        name
        for name in SESSION_FILES
        if artifacts.get(name, {}).get("archive", {}).get("state") == state
    }


def news(old: Row, new: Row) -> list[str]:
    """Return the types of the events that a change of a row must cause."""
    told = {
        "Recording Catalogued": not old,
        "Recording Uploaded": new.get("status") == "UPLOADED" != old.get("status"),
        "Recording Errored": new.get("status") == "ERRORED" != old.get("status"),
        "Recording Archived": new.get("archived") == "yes" != old.get("archived"),
        "Recording Erased": "erased_at" in new,
    }
    return [type_ for type_, is_told in told.items() if is_told]


def is_uploaded(recording: Recording) -> bool:
    """Return True if the recording ends as UPLOADED, False if as ERRORED."""
    return recording.at(FAR).status is Status.UPLOADED


def written(time: datetime | None) -> str | None:
    """Return the time as a row has it."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z" if time else None


def reason(said: Any) -> Row | None:
    """Return the row's form of the reason of a start or a stop."""
    if said is None or said.caller is None:
        return said and {"reason": said.reason}
    named = {"type": said.caller.type, "name": said.caller.name, "user_id": said.caller.user_id}
    caller = {name: value for name, value in named.items() if value is not None}
    return {"reason": said.reason, "caller": caller}


def storage(recording: Recording) -> Row | None:
    """Return the place where RealtimeKit put a recording, without its credentials."""
    config = recording.options.storage_config
    names = ("type", "bucket", "region", "path")
    return {name: config[name] for name in names} if config else None


def artifacts(recording: Recording) -> Iterator[tuple[str, Row]]:
    """Yield the name and the entry of each file, without its archive."""
    if not recording.artifacts:
        kind = {Kind.TRACK: "track", Kind.AUDIO: "audio"}.get(recording.options.kind, "video")
        is_external = not recording.options.realtimekit_bucket
        yield kind, {"kind": kind} | ({"file_name": recording.file_name} if is_external else {})
    for artifact in recording.artifacts:
        size = {"file_size": artifact.size} if artifact.kind == "video" else {}
        entry: Row = {"kind": artifact.kind, "file_name": artifact.file_name}
        if "download_url_expiry" not in recording.options.never_set:
            entry["url_expires_at"] = written(recording.at(FAR).expires_at)
        if artifact.participant_id:
            entry["participant_id"] = artifact.participant_id
        yield name_of(artifact), entry | size


def name_of(artifact: Artifact) -> str:
    """Return the name under which a row has a file."""
    is_track = artifact.kind == "track"
    return f"track/{artifact.layer}/{artifact.file_name}" if is_track else artifact.kind


# The stack's contents.


def plain(item: dict[str, Any]) -> Row:
    """Return a row with Python's values."""
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


def rows(simulated: Simulation) -> dict[str, Row]:
    """Return the catalogue's rows, by recording."""
    return {row["recording_id"]: row for row in map(plain, simulated.items("RecordingsTable"))}


def writable(simulated: Simulation) -> list[Recording]:
    """Return all recordings but the one whose row DynamoDB refuses."""
    recordings = simulated.simulator.world.recordings()
    return [recording for recording in recordings if recording.id != simulated.unwritable]


def erased(simulated: Simulation) -> set[str]:
    """Return the ids of the recordings whose erasure was requested, and that were not held."""
    asked = [request for request, _ in simulated.api_answers]
    ids = {request.recording_id for request in asked if request.method == "DELETE"}
    return {identifier for identifier in ids if not is_held(simulated, identifier)}


def told(simulated: Simulation) -> defaultdict[str, Row]:
    """Return the labels, and whether there is a hold, as the callers were told, by recording."""
    found: defaultdict[str, Row] = defaultdict(lambda: {"labels": {}, "held": False})
    for request, answer in simulated.api_answers:
        if request.patch is None or answer["statusCode"] != 200:
            continue
        known = found[request.recording_id]
        merged = {**known["labels"], **request.patch.get("labels", {})}
        known["labels"] = {name: text for name, text in merged.items() if text is not None}
        if "hold" in request.patch:
            known["held"] = request.patch["hold"] is not None
    return found


def is_held(simulated: Simulation, recording_id: str) -> bool:
    """Return True if a caller was told that the recording is on hold."""
    return bool(told(simulated)[recording_id]["held"])


def owners_word(row: Row) -> Row:
    """Take the labels and the hold out of a row, and return them as `told` does."""
    labels, hold, labelled = (row.pop(name, None) for name in ("labels", "hold", "labelled"))
    assert labelled == (row["app_id"] if labels else None)
    return {"labels": labels or {}, "held": hold is not None}


def planned_patches(simulated: Simulation) -> Iterator[str]:
    """Yield each planned patch, and those that follow it."""
    for planned in simulated.plan.annotations(simulated.simulator.world):
        request: ApiRequest | None = planned
        while request:
            if request.patch is not None:
                yield json.dumps(request.patch)
            request = request.then


def changes(simulated: Simulation) -> Iterator[tuple[Row, Row]]:
    """Yield each change of a row: the old row and the new one."""
    for record in simulated.stream.records:
        images = record["dynamodb"]
        yield plain(images.get("OldImage", {})), plain(images["NewImage"])


def places(simulated: Simulation) -> Iterator[tuple[str, str]]:
    """Yield each stored, sent or logged text with its place, without the artifacts' URLs."""
    for old, new in changes(simulated):
        yield "row", without_urls(old) + without_urls(new)
    for row in rows(simulated).values():
        yield "row", without_urls(row)
    yield "row of the work table", json.dumps(simulated.items("WorkTable"))
    s3, bucket = simulated.stack.client("s3"), simulated.stack.description["archive_bucket"]
    listed = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for key in listed.search("Contents[].Key"):
        yield "object", key + json.dumps(s3.head_object(Bucket=bucket, Key=key), default=str)
    for queue in simulated.queues:
        yield "message", json.dumps(queue.bodies)
    yield "webhook's answer", json.dumps([answer for _, answer in simulated.answers])
    yield "API's answer", json.dumps([answer for _, answer in simulated.api_answers])
    yield "event", json.dumps(simulated.heard)
    yield "log", simulated.log()


def without_urls(row: Row) -> str:
    """Return a row's text without the artifacts' URLs."""
    said = {
        name: {key: value for key, value in artifact.items() if key != "url"}
        for name, artifact in row.get("artifacts", {}).items()
    }
    return json.dumps({**row, "artifacts": said}, default=str)
