"""The signature of webhooks, and the requests that they lead to."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from doubles import Answer, Signer, Upstream, pem
from recordings import webhook
from recordings.messages import (
    Hint,
    RecordingRequest,
    SessionFilesRequest,
    SessionRequest,
    Source,
)
from recordings.webhook import (
    KeyUnavailableError,
    MalformedEventError,
    PublicKeys,
    SignatureError,
)

BODY = b'{"event": "meeting.ended" }'
RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
SESSION_ID = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
ORGANIZATION_ID = "c94c437b-592a-4a39-b9e2-47ef1451e43b"


class Stopwatch:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


def published(*signers: Signer) -> Answer:
    return Answer(
        {"success": True, "data": {"publicKey": "".join(s.pem for s in signers)}, "message": ""}
    )


@pytest.fixture
def keys(upstream: Upstream, http: urllib3.PoolManager, stopwatch: Stopwatch) -> PublicKeys:
    return PublicKeys(f"{upstream.url}/.well-known/webhooks.json", http, clock=stopwatch)


def test_what_realtimekit_signed_is_believed_and_the_key_fetched_once_an_hour(
    keys: PublicKeys, upstream: Upstream, signer: Signer, stopwatch: Stopwatch
) -> None:
    upstream.says(published(signer))
    for _ in range(3):
        keys.verify(BODY, signer.sign(BODY))
        stopwatch.seconds += 1000
    assert upstream.paths == ["/.well-known/webhooks.json"]

    stopwatch.seconds += 1000
    keys.verify(BODY, signer.sign(BODY))
    assert len(upstream.paths) == 2


@pytest.mark.parametrize(
    "body", [b"", b'{"event":"meeting.ended"}', BODY + b"\n", BODY.replace(b"e", b"E")]
)
def test_any_other_bytes_are_not_believed(
    keys: PublicKeys, upstream: Upstream, signer: Signer, body: bytes
) -> None:
    upstream.says(published(signer))

    with pytest.raises(SignatureError):
        keys.verify(body, signer.sign(BODY))


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        " ",
        "not base64!",
        "YWJj",
        "YWJj" * 64 + "=",
        base64.b64encode(bytes(255)).decode(),
        base64.b64encode(bytes(257)).decode(),
        "é",
    ],
)
def test_what_is_no_signature_is_refused_without_asking_for_the_key(
    keys: PublicKeys, upstream: Upstream, signature: str | None
) -> None:
    with pytest.raises(SignatureError):
        keys.verify(BODY, signature)

    assert upstream.requests == []


def test_a_signature_over_another_hash_is_not_believed(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    upstream.says(published(signer))
    signed = signer.key.sign(BODY, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303

    with pytest.raises(SignatureError):
        keys.verify(BODY, base64.b64encode(signed).decode())


def test_a_rotated_key_is_fetched_when_the_known_one_fails(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    upstream.says(published(successor))

    keys.verify(BODY, successor.sign(BODY))

    # A delivery that was signed before may still be under way.
    keys.verify(BODY, signer.sign(BODY))
    assert len(upstream.requests) == 2


def test_a_forgery_is_refused_under_a_key_fetched_for_it(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))

    with pytest.raises(SignatureError):
        keys.verify(BODY, successor.sign(BODY))

    assert len(upstream.requests) == 2


def test_a_flood_of_forgeries_fetches_the_key_once_a_minute_and_costs_no_event(
    keys: PublicKeys,
    upstream: Upstream,
    signer: Signer,
    successor: Signer,
    stopwatch: Stopwatch,
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    with pytest.raises(SignatureError):
        keys.verify(BODY, successor.sign(BODY))

    for _ in range(50):
        stopwatch.seconds += 1
        with pytest.raises(KeyUnavailableError):
            keys.verify(BODY, successor.sign(BODY))
        keys.verify(BODY, signer.sign(BODY))
    assert len(upstream.requests) == 2

    stopwatch.seconds += 10
    upstream.says(published(successor))
    keys.verify(BODY, successor.sign(BODY))


def test_the_last_known_key_outlives_an_outage(
    keys: PublicKeys, upstream: Upstream, signer: Signer, stopwatch: Stopwatch
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    upstream.says(Answer(b"", 503))
    stopwatch.seconds += 3600

    keys.verify(BODY, signer.sign(BODY))
    keys.verify(BODY, signer.sign(BODY))

    assert len(upstream.requests) == 2


def test_a_signature_that_fails_while_the_key_cannot_be_fetched_is_undecided(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    upstream.says(Answer(b"", 500))

    with pytest.raises(KeyUnavailableError):
        keys.verify(BODY, successor.sign(BODY))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", 503),
        Answer(b"", 302, {"Location": "http://127.0.0.1:9/"}),
        Answer("<html>"),
        Answer("[" * 100_000),
        Answer({"success": True, "data": {}}),
        Answer({"success": True, "data": {"publicKey": "no key"}}),
        Answer({"success": True, "data": {"publicKey": 7}}),
        Answer({"success": True, "data": {"publicKey": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}}),
        Answer({"success": True, "data": {"publicKey": pem(ec.generate_private_key(ec.SECP256R1()).public_key())}}),
        Answer("{", 200, {"Content-Length": "99"}),
    ],
)  # fmt: skip
def test_without_any_key_nothing_can_be_told(
    keys: PublicKeys, upstream: Upstream, signer: Signer, stopwatch: Stopwatch, answer: Answer
) -> None:
    upstream.says(answer)

    with pytest.raises(KeyUnavailableError):
        keys.verify(BODY, signer.sign(BODY))

    stopwatch.seconds += 60
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))


def test_a_flood_of_forgeries_while_no_key_is_known_fetches_it_once_a_minute(
    keys: PublicKeys,
    upstream: Upstream,
    signer: Signer,
    successor: Signer,
    stopwatch: Stopwatch,
) -> None:
    upstream.says(Answer(b"", 503))
    for _ in range(50):
        with pytest.raises(KeyUnavailableError):
            keys.verify(BODY, successor.sign(BODY))
        stopwatch.seconds += 1
    assert len(upstream.requests) == 1

    stopwatch.seconds += 10
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    assert len(upstream.requests) == 2


def test_a_start_without_the_key_does_not_keep_the_first_delivery_from_fetching_it(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    upstream.says(Answer(b"", 503), published(signer))
    with pytest.raises(KeyUnavailableError):
        keys.refresh()

    keys.verify(BODY, signer.sign(BODY))


def test_several_published_keys_are_all_believed(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer
) -> None:
    upstream.says(Answer({"data": {"publicKey": [successor.pem, signer.pem, None]}}))

    keys.verify(BODY, signer.sign(BODY))
    keys.verify(BODY, successor.sign(BODY))

    assert len(upstream.requests) == 1


def test_a_pinned_key_is_never_fetched(
    upstream: Upstream, http: urllib3.PoolManager, signer: Signer, successor: Signer
) -> None:
    in_one_line = signer.pem.replace("\n", "\\n")
    keys = PublicKeys(f"{upstream.url}/keys", http, pinned=in_one_line)

    keys.verify(BODY, signer.sign(BODY))
    with pytest.raises(SignatureError):
        keys.verify(BODY, successor.sign(BODY))

    assert upstream.requests == []


def test_a_pinned_key_that_is_none_stops_the_start(http: urllib3.PoolManager) -> None:
    with pytest.raises(ValueError, match="pinned key"):
        PublicKeys("https://api.realtime.cloudflare.com/x", http, pinned="no key")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.realtime.cloudflare.com/.well-known/webhooks.json",
        "https://evil.example/.well-known/webhooks.json",
        "https://api.realtime.cloudflare.com.evil.example/",
        "https://api.realtime.cloudflare.com@evil.example/",
        "",
    ],
)
def test_an_address_that_is_not_realtimekits_stops_the_start(
    http: urllib3.PoolManager, url: str
) -> None:
    with pytest.raises(ValueError, match="address"):
        PublicKeys(url, http)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe", "the body is not UTF-8"),
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body is no JSON object"),
        (b"null", "the body is no JSON object"),
    ],
)
def test_a_body_that_can_never_be_read_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedEventError, match=f"^{reason}$"):
        webhook.parse(body)


def test_an_ended_meeting_asks_for_its_sessions_recordings() -> None:
    event = {"event": "meeting.ended", "meeting": {"id": MEETING_ID, "sessionId": SESSION_ID}}

    assert webhook.ingest_request(event) == SessionRequest(
        meeting_id=MEETING_ID, session_id=SESSION_ID, source=Source.WEBHOOK
    )


@pytest.mark.parametrize("session_id", ["../x", 7, {}, "abcdef-ghijkl", "", None])
def test_an_ended_meeting_whose_session_makes_no_sense_asks_for_all_of_its_recordings(
    session_id: object,
) -> None:
    event = {"event": "meeting.ended", "meeting": {"id": MEETING_ID, "sessionId": session_id}}

    assert webhook.ingest_request(event) == SessionRequest(
        meeting_id=MEETING_ID, session_id=None, source=Source.WEBHOOK
    )


@pytest.mark.parametrize("others", [{}, {"id": None}, {"id": "7"}, {"id": {}}])
def test_a_status_update_may_name_its_recording_by_recording_id_alone(
    others: dict[str, object],
) -> None:
    event = {
        "event": "recording.statusUpdate",
        "recording": {**others, "recordingId": RECORDING_ID.upper()},
    }

    assert webhook.ingest_request(event) == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK
    )


def test_a_status_update_asks_for_its_recording_with_what_only_it_knows() -> None:
    event = {
        "event": "recording.statusUpdate",
        "recording": {
            "recordingId": RECORDING_ID,
            "status": "UPLOADED",
            "roomUUID": SESSION_ID,
            "organizationId": ORGANIZATION_ID,
            "downloadUrl": "https://example.com/x?X-Amz-Signature=canary",
        },
        "meeting": {"id": MEETING_ID, "title": "Weekly sync"},
    }

    assert webhook.ingest_request(event) == RecordingRequest(
        recording_id=RECORDING_ID,
        source=Source.WEBHOOK,
        hint=Hint(
            meeting_id=MEETING_ID,
            session_id=SESSION_ID,
            title="Weekly sync",
            organization_id=ORGANIZATION_ID,
        ),
    )


def test_a_status_update_without_a_status_is_still_about_its_recording() -> None:
    event = {"event": "recording.statusUpdate", "recording": {"id": RECORDING_ID}}

    assert webhook.ingest_request(event) == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK
    )


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event": "meeting.ended"}, "meeting.id is not a UUID"),
        ({"event": "meeting.ended", "meeting": {"id": "x"}}, "meeting.id is not a UUID"),
        ({"event": "recording.statusUpdate"}, "recording.id is not a UUID"),
        ({"event": "recording.statusUpdate", "recording": []}, "recording.id is not a UUID"),
    ],
)
def test_an_event_that_does_not_say_of_what_it_is_says_which_field(
    event: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MalformedEventError, match=f"^{reason}$"):
        webhook.ingest_request(event)


@pytest.mark.parametrize(
    "name",
    [
        "meeting.started",
        "meeting.participantJoined",
        "meeting.participantLeft",
        "livestreaming.statusUpdate",
        "something.new",
        None,
        7,
        ["meeting.summary"],
    ],
)
def test_other_events_ask_for_nothing(name: object) -> None:
    assert webhook.ingest_request({"event": name}) is None


@pytest.mark.parametrize(
    "event",
    [
        {"recording": {"organizationId": ORGANIZATION_ID}},
        {"recording": {"organization_id": ORGANIZATION_ID}},
        {"meeting": {"organizedBy": {"id": ORGANIZATION_ID}}},
        {"organizedBy": {"id": ORGANIZATION_ID}},
    ],
)
def test_an_event_may_say_whose_it_is_in_several_places(event: dict[str, Any]) -> None:
    assert webhook.organization_id(event) == ORGANIZATION_ID
    assert webhook.organization_id(json.loads("{}")) is None


def test_a_key_larger_than_any_is_not_read_to_its_end(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    upstream.says(Answer(published(signer).content + b" " * 65_536))

    with pytest.raises(KeyUnavailableError, match="AnswerTooLargeError"):
        keys.verify(BODY, signer.sign(BODY))


def test_a_flood_of_forgeries_during_an_outage_fetches_the_key_once_a_minute(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer, stopwatch: Stopwatch
) -> None:
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    upstream.says(Answer(b"", 503))
    fetched = []

    for seconds in (0, 1, 58, 1, 59):
        stopwatch.seconds += seconds
        with pytest.raises(KeyUnavailableError):
            keys.verify(BODY, successor.sign(BODY))
        fetched.append(len(upstream.requests) - 1)

    assert fetched == [1, 1, 1, 2, 2]


def test_of_the_keys_there_were_the_newest_are_believed(
    keys: PublicKeys, upstream: Upstream, signer: Signer, stopwatch: Stopwatch
) -> None:
    signers = [signer, *(Signer() for _ in range(3))]
    for published_by in signers:
        upstream.says(published(published_by))
        keys.verify(BODY, published_by.sign(BODY))
        stopwatch.seconds += 60

    for known in signers[1:]:
        keys.verify(BODY, known.sign(BODY))
    assert len(upstream.requests) == 4
    with pytest.raises(SignatureError):
        keys.verify(BODY, signer.sign(BODY))


# --- what an answer says, and what a fetch costs ---


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "no signature"),
        (" ", "no signature"),
        ("not base64!", "the signature is not base64"),
        ("YW!Jj", "the signature is not base64"),
        ("YWJj", "not an RSA signature's size"),
    ],
)
def test_what_is_no_signature_says_why(
    keys: PublicKeys, signature: str | None, reason: str
) -> None:
    with pytest.raises(SignatureError, match=f"^{reason}$"):
        keys.verify(BODY, signature)


def test_a_refusal_says_under_which_keys_the_signature_failed(
    keys: PublicKeys,
    upstream: Upstream,
    http: urllib3.PoolManager,
    signer: Signer,
    successor: Signer,
) -> None:
    upstream.says(published(signer))
    pinned = PublicKeys(f"{upstream.url}/keys", http, pinned=signer.pem)

    with pytest.raises(SignatureError) as raised:
        keys.verify(BODY, successor.sign(BODY))
    assert str(raised.value) == "RealtimeKit's published keys did not make the signature"
    with pytest.raises(SignatureError) as raised:
        pinned.verify(BODY, successor.sign(BODY))
    assert str(raised.value) == "the pinned key did not make the signature"


def test_a_key_that_cannot_be_had_says_why(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    upstream.says(Answer(b"", 503))

    with pytest.raises(KeyUnavailableError) as raised:
        keys.verify(BODY, signer.sign(BODY))
    assert str(raised.value) == "the keys' URL answered HTTP 503 without a public key"
    with pytest.raises(KeyUnavailableError) as raised:
        keys.verify(BODY, signer.sign(BODY))
    assert str(raised.value) == "the keys' last fetch is less than a minute ago"


def test_a_setting_that_stops_the_start_says_which(http: urllib3.PoolManager) -> None:
    with pytest.raises(ValueError, match="address") as raised:
        PublicKeys("https://evil.example/", http)
    assert str(raised.value) == "the key's address is not https at cloudflare.com or dyte.io"
    with pytest.raises(ValueError, match="pinned") as raised:
        PublicKeys("https://api.realtime.cloudflare.com/x", http, pinned="no key")
    assert str(raised.value) == "the pinned key is not the PEM of an RSA public key"


def test_a_signature_that_fails_after_the_hourly_fetch_failed_is_undecided(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer, stopwatch: Stopwatch
) -> None:
    """The key may have been rotated while it could not be fetched; a 401 would lose the event."""
    upstream.says(published(signer))
    keys.verify(BODY, signer.sign(BODY))
    upstream.says(Answer(b"", 503))
    stopwatch.seconds += 3600

    with pytest.raises(KeyUnavailableError):
        keys.verify(BODY, successor.sign(BODY))


def test_a_forgery_that_meets_the_hourly_fetch_or_the_first_costs_no_other(
    keys: PublicKeys, upstream: Upstream, signer: Signer, successor: Signer, stopwatch: Stopwatch
) -> None:
    upstream.says(published(signer))
    for fetches in (1, 2):
        with pytest.raises(SignatureError):
            keys.verify(BODY, successor.sign(BODY))
        assert len(upstream.requests) == fetches
        stopwatch.seconds += 3600


def test_a_host_of_the_key_that_is_silent_is_not_waited_for(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    answered = threading.Event()
    upstream.says(Answer(b"", held=answered))
    try:
        with pytest.raises(
            KeyUnavailableError, match=r"^no answer from the keys' URL: ReadTimeoutError$"
        ):
            keys.verify(BODY, signer.sign(BODY))
    finally:
        answered.set()


def test_a_published_key_that_is_none_does_not_hide_those_after_it(
    keys: PublicKeys, upstream: Upstream, signer: Signer
) -> None:
    broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    elliptic = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    upstream.says(Answer({"data": {"publicKey": broken + elliptic + signer.pem}}))

    keys.verify(BODY, signer.sign(BODY))


@pytest.mark.parametrize("name", ["sessionId", "session_id"])
def test_an_ended_meeting_names_its_session_in_either_spelling(name: str) -> None:
    event = {"event": "meeting.ended", "meeting": {"id": MEETING_ID, name: SESSION_ID.upper()}}

    assert webhook.ingest_request(event) == SessionRequest(
        meeting_id=MEETING_ID, session_id=SESSION_ID, source=Source.WEBHOOK
    )


# --- the files of a session ---

FILE_URL = "https://bucket.r2.cloudflarestorage.com/s/file?X-Amz-Signature=canary"
FILE_EXPIRY = "2026-06-10T10:30:00.000Z"
TRANSCRIPT = {
    "event": "meeting.transcript",
    "meeting": {"id": MEETING_ID, "sessionId": SESSION_ID, "status": "LIVE"},
    "transcriptDownloadUrl": FILE_URL,
    "transcriptDownloadUrlExpiry": FILE_EXPIRY,
}
SUMMARY = {
    "event": "meeting.summary",
    "meeting": {"id": MEETING_ID, "sessionId": SESSION_ID},
    "summaryDownloadUrl": FILE_URL,
    "summaryDownloadUrlExpiry": FILE_EXPIRY,
}
CHAT = {
    "event": "meeting.chatSynced",
    "sessionId": SESSION_ID,
    "meetingId": MEETING_ID,
    "title": "Weekly sync",
    "chatDownloadUrl": FILE_URL,
    "chatDownloadUrlExpiry": FILE_EXPIRY,
    "startedAt": "2026-06-03T10:00:00.000Z",
    "organizedBy": {"id": ORGANIZATION_ID, "name": "Example organization"},
}


def asked_for(**announced: str) -> SessionFilesRequest:
    return SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK, announced=announced)


@pytest.mark.parametrize(
    ("event", "request_"),
    [
        (
            TRANSCRIPT,
            asked_for(transcript="2026-06-10T10:30:00.000Z", captions="2026-06-10T10:30:00.000Z"),
        ),
        (SUMMARY, asked_for(summary="2026-06-10T10:30:00.000Z")),
        (CHAT, asked_for(chat="2026-06-10T10:30:00.000Z")),
        (
            {**CHAT, "chatDownloadUrlExpiry": "2022-12-13 07:08:39.051621Z"},
            asked_for(chat="2022-12-13T07:08:39.051Z"),
        ),
        ({**CHAT, "chatDownloadUrlExpiry": None}, asked_for(chat="")),
        ({**SUMMARY, "summaryDownloadUrlExpiry": "0001-01-01T00:00:00Z"}, asked_for(summary="")),
        (
            {
                "event": "meeting.summary",
                "session_id": SESSION_ID,
                "summary_download_url": FILE_URL,
            },
            asked_for(summary=""),
        ),
    ],
)
def test_an_event_announces_a_sessions_files_and_when_they_are_deleted(
    event: dict[str, Any], request_: SessionFilesRequest
) -> None:
    request = webhook.ingest_request(event)

    assert request == request_
    assert "canary" not in repr(request)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "meeting.transcript", "sessionId": SESSION_ID},
        {**TRANSCRIPT, "transcriptDownloadUrl": None},
        {**TRANSCRIPT, "transcriptDownloadUrl": "soon"},
        {**TRANSCRIPT, "transcriptDownloadUrl": "https://example.com/app/default/transcript.csv"},
        {**SUMMARY, "summaryDownloadUrl": ""},
        {**SUMMARY, "event": "meeting.transcript"},
        {**CHAT, "chatDownloadUrl": ["x"]},
    ],
)
def test_an_event_without_a_url_asks_for_the_files_and_announces_none(
    event: dict[str, Any],
) -> None:
    assert webhook.ingest_request(event) == asked_for()


@pytest.mark.parametrize("name", ["meeting.transcript", "meeting.summary", "meeting.chatSynced"])
@pytest.mark.parametrize(
    "fields",
    [
        {"meeting": {"sessionId": SESSION_ID.upper()}},
        {"meeting": {"session_id": SESSION_ID}},
        {"sessionId": SESSION_ID},
        {"session_id": SESSION_ID},
        {"meeting": {"sessionId": "x", "session_id": SESSION_ID}},
        {"meeting": {"sessionId": ""}, "sessionId": 7, "session_id": SESSION_ID},
        {"meeting": "x", "sessionId": SESSION_ID},
        {"meeting": {"sessionId": SESSION_ID}, "sessionId": RECORDING_ID},
    ],
)
def test_an_event_of_a_sessions_file_names_the_session_in_several_places(
    name: str, fields: dict[str, Any]
) -> None:
    assert webhook.ingest_request({"event": name, **fields}) == asked_for()


@pytest.mark.parametrize("event", [TRANSCRIPT, SUMMARY, CHAT])
@pytest.mark.parametrize("session_id", ["", "../recordings", 7, None, {"id": SESSION_ID}])
def test_an_event_of_a_file_without_its_sessions_id_is_malformed(
    event: dict[str, Any], session_id: object
) -> None:
    """A meeting has many sessions, so its id does not stand in."""
    unnamed = {**event, "sessionId": session_id, "meeting": {"id": MEETING_ID}}

    with pytest.raises(MalformedEventError, match=r"^the session's id is not a UUID$"):
        webhook.ingest_request(unnamed)


def test_an_ended_meeting_passes_on_the_start_of_its_session() -> None:
    meeting = {"id": MEETING_ID, "startedAt": "2026-06-03T10:00:00.000Z"}
    named = {"event": "meeting.ended", "meeting": {**meeting, "sessionId": SESSION_ID}}
    unnamed = {"event": "meeting.ended", "meeting": meeting}

    assert webhook.ingest_request(named) == SessionRequest(
        meeting_id=MEETING_ID,
        session_id=SESSION_ID,
        source=Source.WEBHOOK,
        hint=Hint(session_started_at="2026-06-03T10:00:00.000Z"),
    )
    assert webhook.ingest_request(unnamed) == SessionRequest(
        meeting_id=MEETING_ID, source=Source.WEBHOOK
    )


def test_a_status_update_passes_on_the_start_of_its_session() -> None:
    event = {
        "event": "recording.statusUpdate",
        "recording": {"id": RECORDING_ID, "status": "UPLOADED"},
        "meeting": {"startedAt": "2026-06-03 10:00:00.000000Z"},
    }

    assert webhook.ingest_request(event) == RecordingRequest(
        recording_id=RECORDING_ID,
        source=Source.WEBHOOK,
        hint=Hint(session_started_at="2026-06-03T10:00:00.000Z"),
    )
