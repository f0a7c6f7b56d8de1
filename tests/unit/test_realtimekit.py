"""The REST client, against a loopback server with RealtimeKit's and its gateway's answers."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

from doubles import API_TOKEN, Answer, Upstream
from realtimekit_simulator import Drop, Simulator, faults
from recordings.model import Artifact
from recordings.realtimekit import (
    TIMEOUT,
    ApiToken,
    BudgetSpentError,
    NotFoundError,
    RealtimeKit,
    RealtimeKitError,
    Session,
    ThrottledError,
    UnauthorizedError,
    UnavailableError,
    UnintelligibleError,
)

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
SESSION_ID = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
UPLOADED_CAMEL = {"recordingId": RECORDING_ID, "status": "UPLOADED", "fileSize": "7"}
FOUND: dict[str, Any] = {
    "success": True,
    "data": {"id": RECORDING_ID, "status": "UPLOADED", "file_size": 7},
}
REFUSED = {
    "success": False,
    "errors": [{"code": 10000, "message": "Authentication error"}],
    "messages": [],
    "result": None,
}
UNKNOWN = {"success": False, "error": {"code": 404, "message": "Recording not found"}}


class FakeBudget:
    """A budget of as many requests as the test gives it."""

    def __init__(self) -> None:
        self.wait = 0
        self.waits: list[int] = []
        self.used = 0.0
        self.taken = 0
        self.closed_for: list[int] = []
        self.reserved: list[int] = []

    def take(self) -> int:
        self.taken += 1
        return self.waits.pop(0) if self.waits else self.wait

    def reserve(self, count: int) -> None:
        self.reserved.append(count)

    def close(self, seconds: int) -> None:
        self.closed_for.append(seconds)


@pytest.fixture
def budget() -> FakeBudget:
    return FakeBudget()


@pytest.fixture
def client(
    upstream: Upstream, token: ApiToken, budget: FakeBudget, http: urllib3.PoolManager
) -> RealtimeKit:
    return RealtimeKit(f"{upstream.url}/accounts/a/realtime/kit/app", token, budget, http)


@pytest.mark.parametrize("status", [200, 201])
def test_a_recording_is_fetched_with_the_token(
    client: RealtimeKit, upstream: Upstream, status: int
) -> None:
    upstream.says(Answer(FOUND, status))

    assert client.recording(RECORDING_ID).file_size == 7

    [(path, headers)] = upstream.requests
    assert path == f"/accounts/a/realtime/kit/app/recordings/{RECORDING_ID}"
    assert headers["Authorization"] == f"Bearer {API_TOKEN}"


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True, "data": {"recording": FOUND["data"]}},
        {"data": {"recording": FOUND["data"]}},
        {"data": FOUND["data"]},
        {"success": True, "data": {"recording": {**UPLOADED_CAMEL}}},
    ],
)
def test_a_recording_is_found_in_either_wrapper(
    client: RealtimeKit, upstream: Upstream, answer: dict[str, Any]
) -> None:
    upstream.says(Answer(answer))

    assert client.recording(RECORDING_ID).file_size == 7


def test_files_that_are_left_out_are_counted(
    upstream: Upstream, token: ApiToken, http: urllib3.PoolManager
) -> None:
    links = [f"https://example.com/{number}.webm" for number in range(10_003)]
    upstream.says(Answer({"data": {**UPLOADED_CAMEL, "downloadUrl": {"links": links}}}))
    counted = {}
    client = RealtimeKit(
        upstream.url,
        token,
        FakeBudget(),
        http,
        observe=lambda name, unit, value: counted.update({name: value}),
    )

    assert len(client.recording(RECORDING_ID).artifacts) == 10_000
    assert counted["FilesLeftOut"] == 3


def test_an_answer_of_nonsense_takes_little_memory_beyond_its_bytes(
    client: RealtimeKit, upstream: Upstream
) -> None:
    """340,000 links of 44 bytes took 221 MB of a function that has 256."""
    link = '"https://example.com/0123456789012345.webm",'
    upstream.says(Answer('{"data": {"links": [' + link * 340_000 + "0]}}"))
    with pytest.raises(UnintelligibleError):
        client.recording(RECORDING_ID)
    size = 15 * 1024 * 1024
    tracemalloc.start()

    with pytest.raises(UnintelligibleError):
        client.recording(RECORDING_ID)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * size


def test_a_connection_that_breaks_on_reuse_is_no_outage_and_counts_twice(
    simulator: Simulator, token: ApiToken, budget: FakeBudget, http: urllib3.PoolManager
) -> None:
    recording = simulator.world.record_meeting()
    client = RealtimeKit(simulator.app_url, token, budget, http)
    client.recording(recording.id)
    simulator.faults.add(Drop())

    assert client.recording(recording.id).status == "UPLOADED"

    assert len(simulator.requests) == budget.taken == 3


def test_a_connection_that_breaks_is_not_repeated_beyond_the_budget(
    simulator: Simulator, token: ApiToken, budget: FakeBudget, http: urllib3.PoolManager
) -> None:
    recording = simulator.world.record_meeting()
    client = RealtimeKit(simulator.app_url, token, budget, http)
    client.recording(recording.id)
    simulator.faults.add(Drop())
    budget.waits = [0, 9]

    with pytest.raises(UnavailableError):
        client.recording(recording.id)

    assert len(simulator.requests) == 2


@pytest.mark.parametrize("bad", ["", "..", "../sessions", "a/b?x=1", RECORDING_ID + "/x", "7"])
def test_a_malformed_id_is_not_sent(client: RealtimeKit, upstream: Upstream, bad: str) -> None:
    for ask in (client.recording, client.session, lambda i: list(client.recordings(meeting_id=i))):
        with pytest.raises(ValueError, match="UUID"):
            ask(bad)

    assert upstream.requests == []


@pytest.mark.parametrize(
    ("answer", "error", "detail"),
    [
        (Answer(UNKNOWN, 404), NotFoundError, "HTTP 404: Recording not found"),
        (Answer(UNKNOWN, 410), NotFoundError, "HTTP 410: Recording not found"),
        (Answer(UNKNOWN, 200), NotFoundError, "HTTP 200: Recording not found"),
        (Answer("<html>Not found</html>", 404), NotFoundError, "HTTP 404: no JSON object"),
        (Answer(REFUSED, 403), UnauthorizedError, "HTTP 403: Authentication error"),
        (Answer(REFUSED, 400), UnauthorizedError, "HTTP 400: Authentication error"),
        (Answer(b"", 401), UnauthorizedError, "HTTP 401: no JSON object"),
        (Answer({"success": False}, 500), UnavailableError, "HTTP 500: no message"),
        (Answer("<html>Bad gateway</html>", 502), UnavailableError, "HTTP 502: no JSON object"),
        (Answer(b"", 520), UnavailableError, "HTTP 520: no JSON object"),
        (Answer(b"", 408), UnavailableError, "HTTP 408: no JSON object"),
        (Answer(b"", 200), UnintelligibleError, "HTTP 200: no JSON object"),
        (Answer("<html>", 200), UnintelligibleError, "HTTP 200: no JSON object"),
        (Answer("[" * 100_000, 200), UnintelligibleError, "HTTP 200: no JSON object"),
        (Answer(b"\xff\xfe", 200), UnintelligibleError, "HTTP 200: no JSON object"),
        (Answer({"success": False}, 200), UnintelligibleError, "HTTP 200: no message"),
        (Answer({"success": True}, 200), UnintelligibleError, "HTTP 200: no message"),
        (Answer({"result": {}}, 200), UnintelligibleError, "HTTP 200: no message"),
        (Answer({"success": True, "data": []}), UnintelligibleError, "without a UUID"),
        (
            Answer({"success": True, "data": {"id": SESSION_ID, "status": "UPLOADED"}}),
            UnintelligibleError,
            "another recording",
        ),
        (Answer(b"", 301, {"Location": "http://127.0.0.1:9/"}), UnintelligibleError, "HTTP 301"),
        (Answer(UNKNOWN, 422), NotFoundError, "HTTP 422: Recording not found"),
        (Answer(UNKNOWN, 400), NotFoundError, "HTTP 400: Recording not found"),
        (Answer({"message": "bad id"}, 400), NotFoundError, "HTTP 400: bad id"),
        (Answer({"errors": "x", "error": "y"}, 400), NotFoundError, "HTTP 400: no message"),
        (
            Answer({"success": False, "error": {"code": 422, "message": "bad id"}}),
            NotFoundError,
            "HTTP 200: bad id",
        ),
        (
            Answer({"errors": [{"code": 7003, "message": "Could not route"}]}, 400),
            UnintelligibleError,
            "HTTP 400: Could not route",
        ),
        (Answer("<html>", 400), UnintelligibleError, "HTTP 400: no JSON object"),
        (Answer({"message": "Unauthorized"}, 401), UnauthorizedError, "HTTP 401: Unauthorized"),
        (Answer("{", 200, {"Content-Length": "99"}), UnavailableError, "no answer: ProtocolError"),
    ],
)
def test_every_failure_has_its_type(
    client: RealtimeKit,
    upstream: Upstream,
    answer: Answer,
    error: type[RealtimeKitError],
    detail: str,
) -> None:
    upstream.says(answer)

    with pytest.raises(error, match=detail) as raised:
        client.recording(RECORDING_ID)
    assert type(raised.value) is error


def test_a_refused_connection_is_unavailable(token: ApiToken, http: urllib3.PoolManager) -> None:
    nobody = RealtimeKit("http://127.0.0.1:9/app", token, FakeBudget(), http)

    with pytest.raises(UnavailableError, match="no answer: NewConnectionError"):
        nobody.recording(RECORDING_ID)


def test_a_slow_answer_is_unavailable(
    upstream: Upstream, token: ApiToken, http: urllib3.PoolManager
) -> None:
    upstream.says(Answer(FOUND, delay=0.5))
    hasty = RealtimeKit(upstream.url, token, FakeBudget(), http, urllib3.Timeout(read=0.05))

    with pytest.raises(UnavailableError, match="no answer: ReadTimeoutError"):
        hasty.recording(RECORDING_ID)


def test_three_requests_that_nobody_answers_fit_api_gateways_29_seconds() -> None:
    assert TIMEOUT.connect_timeout == 2
    assert TIMEOUT.read_timeout == 6


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30), ("0", 1), ("100000", 3600), (None, 300), ("soon", 300), ("-5", 300)],
)
def test_a_429_says_when_to_come_back_and_closes_the_budget(
    client: RealtimeKit,
    upstream: Upstream,
    budget: FakeBudget,
    header: str | None,
    seconds: int,
) -> None:
    upstream.says(Answer(b"", 429, {"Retry-After": header} if header else {}))

    with pytest.raises(ThrottledError) as raised:
        client.recording(RECORDING_ID)

    assert raised.value.retry_after == seconds
    assert budget.closed_for == [seconds]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "header",
    ["9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 31 Dec 99999999999 23:59:59 GMT"],
    ids=["seconds", "year", "year beyond C"],
)
def test_a_time_that_never_comes_is_none(
    client: RealtimeKit, upstream: Upstream, budget: FakeBudget, header: str
) -> None:
    upstream.says(Answer(b"", 429, {"Retry-After": header}))

    with pytest.raises(ThrottledError) as caught:
        client.recording(RECORDING_ID)

    assert caught.value.retry_after == 300
    assert budget.closed_for == [300]


def test_a_429_may_give_a_date(client: RealtimeKit, upstream: Upstream) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    upstream.says(Answer(b"", 429, {"Retry-After": date}))

    with pytest.raises(ThrottledError) as raised:
        client.recording(RECORDING_ID)

    assert raised.value.retry_after is not None
    assert 100 <= raised.value.retry_after <= 120


def test_a_503_may_say_when_to_come_back(client: RealtimeKit, upstream: Upstream) -> None:
    upstream.says(Answer(b"", 503, {"Retry-After": "17"}))

    with pytest.raises(UnavailableError) as raised:
        client.recording(RECORDING_ID)

    assert raised.value.retry_after == 17


def test_a_spent_budget_sends_nothing(
    client: RealtimeKit, upstream: Upstream, budget: FakeBudget
) -> None:
    budget.wait = 9

    with pytest.raises(BudgetSpentError) as raised:
        client.recording(RECORDING_ID)

    assert raised.value.retry_after == 9
    assert upstream.requests == []


def test_a_rotated_token_is_read_anew_and_used_at_once(
    client: RealtimeKit, upstream: Upstream, budget: FakeBudget, secretsmanager: Any
) -> None:
    upstream.says(Answer(FOUND))
    client.recording(RECORDING_ID)
    secretsmanager.put_secret_value(
        SecretId="realtimekit-api-token", SecretString='{"api_token": "rotated"}'
    )
    upstream.says(Answer(REFUSED, 401), Answer(FOUND))

    client.recording(RECORDING_ID)

    assert upstream.requests[-1][1]["Authorization"] == "Bearer rotated"
    assert budget.taken == 3


def test_a_token_that_is_still_the_same_is_not_tried_twice(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(Answer(REFUSED, 403))

    with pytest.raises(UnauthorizedError):
        client.recording(RECORDING_ID)

    assert len(upstream.requests) == 1


def test_the_token_is_not_sent_to_where_a_redirect_points(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(Answer(b"", 302, {"Location": f"{upstream.url}/elsewhere"}))

    with pytest.raises(UnintelligibleError):
        client.recording(RECORDING_ID)

    assert len(upstream.requests) == 1


def test_no_error_tells_the_token_or_a_urls_signature(
    client: RealtimeKit, upstream: Upstream
) -> None:
    message = "see https://host.example/x.mp4?X-Amz-Signature=canary for more " + "x" * 1000
    upstream.says(Answer({"success": False, "error": {"message": message}}, 400))

    with pytest.raises(NotFoundError) as raised:
        client.recording(RECORDING_ID)

    assert "canary" not in str(raised.value)
    assert API_TOKEN not in str(raised.value)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    "secret",
    ["canary", '"canary"', "{}", '{"api_token": ""}', '{"api_token": "can\\nary"}', "[1]"],
)
def test_a_secret_that_holds_no_token_is_told_without_its_text(
    secretsmanager: Any, secret: str
) -> None:
    secretsmanager.create_secret(Name="bad", SecretString=secret)

    with pytest.raises(UnauthorizedError) as raised:
        ApiToken(secretsmanager, "bad").value()

    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_secret_without_a_value_is_no_token_yet(secretsmanager: Any) -> None:
    """The stack creates the secret like this."""
    secretsmanager.create_secret(Name="empty")

    with pytest.raises(UnauthorizedError, match="ResourceNotFoundException"):
        ApiToken(secretsmanager, "empty").value()


def test_secrets_manager_out_of_reach_is_no_token() -> None:
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=1)
    nobody = boto3.client("secretsmanager", endpoint_url="http://127.0.0.1:9", config=once)

    with pytest.raises(UnauthorizedError, match="Secrets Manager cannot be reached"):
        ApiToken(nobody, "realtimekit-api-token").value()


def test_the_token_is_read_once_in_five_minutes(token: ApiToken, secretsmanager: Any) -> None:
    assert token.value() == API_TOKEN
    secretsmanager.put_secret_value(
        SecretId="realtimekit-api-token", SecretString='{"api_token": "rotated"}'
    )

    assert token.value() == API_TOKEN
    assert token.read() == "rotated"


def test_a_token_outlives_a_secret_that_cannot_be_read(secretsmanager: Any) -> None:
    token = ApiToken(secretsmanager, "realtimekit-api-token", max_age=0)
    assert token.value() == API_TOKEN

    secretsmanager.delete_secret(SecretId="realtimekit-api-token", ForceDeleteWithoutRecovery=True)

    assert token.value() == API_TOKEN
    with pytest.raises(UnauthorizedError):
        token.read()


def test_a_session_tells_its_meeting(client: RealtimeKit, upstream: Upstream) -> None:
    data = {
        "id": SESSION_ID,
        "associated_id": MEETING_ID,
        "meeting_display_name": "Weekly sync",
        "organization_id": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
        "started_at": "2026-06-03T10:00:00.000Z",
    }
    upstream.says(Answer({"success": True, "data": data}))

    assert client.session(SESSION_ID) == Session(
        started_at=datetime(2026, 6, 3, 10, 0, tzinfo=UTC),
        meeting_id=MEETING_ID,
        meeting_title="Weekly sync",
        organization_id="c94c437b-592a-4a39-b9e2-47ef1451e43b",
    )


def test_a_session_is_found_in_its_wrapper_too(client: RealtimeKit, upstream: Upstream) -> None:
    session = {"id": SESSION_ID.upper(), "associated_id": MEETING_ID.upper()}
    upstream.says(Answer({"data": {"session": session}}))

    assert client.session(SESSION_ID).meeting_id == MEETING_ID


def test_a_v1_meetings_room_name_is_no_id(client: RealtimeKit, upstream: Upstream) -> None:
    data = {
        "id": SESSION_ID,
        "associated_id": "abcdef-ghijkl",
        "meeting_display_name": "Weekly sync",
    }
    upstream.says(Answer({"success": True, "data": data}))

    assert client.session(SESSION_ID) == Session(
        started_at=None, meeting_id=None, meeting_title="Weekly sync", organization_id=None
    )


@pytest.mark.parametrize(
    ("said", "start"),
    [
        ({"startedAt": "2026-06-03T10:00:00.000Z"}, datetime(2026, 6, 3, 10, 0, tzinfo=UTC)),
        ({"started_at": "0001-01-01T00:00:00Z"}, None),
        ({"started_at": 1780480800}, None),
        ({"created_at": "2026-06-03T10:00:00.000Z"}, None),
    ],
)
def test_a_sessions_start_is_known_if_it_was_set(
    client: RealtimeKit, upstream: Upstream, said: dict[str, Any], start: datetime | None
) -> None:
    upstream.says(Answer({"data": {"session": {"id": SESSION_ID, **said}}}))

    assert client.session(SESSION_ID).started_at == start


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        "x",
        {},
        {"session": {}},
        {"session": None},
        {"sessions": []},
        {"associated_id": MEETING_ID},
        {"id": RECORDING_ID, "associated_id": MEETING_ID},
        {"session": {"id": RECORDING_ID, "associated_id": MEETING_ID}},
    ],
)
def test_a_session_that_says_neither_its_id_nor_itself_is_unintelligible(
    client: RealtimeKit, upstream: Upstream, data: object
) -> None:
    upstream.says(Answer({"success": True, "data": data}))

    with pytest.raises(UnintelligibleError):
        client.session(SESSION_ID)


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_a_session_id_that_is_refused_is_unknown(
    client: RealtimeKit, upstream: Upstream, status: int
) -> None:
    upstream.says(Answer({"success": False, "error": {"message": "bad id"}}, status))

    with pytest.raises(NotFoundError):
        client.session(SESSION_ID)


# --- the files of a session ---

FILE_URL = "https://bucket.r2.cloudflarestorage.com/s/file?X-Amz-Signature=s1"
FILE_EXPIRY = "2026-06-10T10:30:00.000Z"
TRANSCRIPT = {
    "sessionId": SESSION_ID,
    "transcript_download_url": FILE_URL,
    "transcript_download_url_expiry": FILE_EXPIRY,
}
SUMMARY = {
    "sessionId": SESSION_ID,
    "summaryDownloadUrl": FILE_URL,
    "summaryDownloadUrlExpiry": FILE_EXPIRY,
}
CHAT = {"chat_download_url": FILE_URL, "chat_download_url_expiry": FILE_EXPIRY}
KINDS = ["transcript", "captions", "summary", "chat"]


@pytest.fixture
def simulated(
    simulator: Simulator, token: ApiToken, budget: FakeBudget, http: urllib3.PoolManager
) -> RealtimeKit:
    """Return a client of the simulator."""
    return RealtimeKit(simulator.app_url, token, budget, http)


def order(simulator: Simulator, data: object) -> None:
    """Let the simulator answer with this `data` to the next request for a session's file."""
    body = json.dumps({"success": True, "data": data})
    headers = {"Content-Type": "application/json"}
    simulator.faults.add(faults.Answer(200, body, headers), path=f"/sessions/{SESSION_ID}/")


@pytest.mark.parametrize(
    ("kind", "data", "route", "query"),
    [
        ("transcript", TRANSCRIPT, "transcript", "format=JSON"),
        ("captions", TRANSCRIPT, "transcript", "format=VTT"),
        ("summary", SUMMARY, "summary", ""),
        ("chat", CHAT, "chat", ""),
    ],
)
def test_a_sessions_file_is_one_get_request(
    simulated: RealtimeKit,
    simulator: Simulator,
    budget: FakeBudget,
    kind: str,
    data: object,
    route: str,
    query: str,
) -> None:
    """A POST for a summary would create one, and costs money."""
    order(simulator, data)

    file = simulated.session_file(SESSION_ID.upper(), kind)

    assert file == Artifact(
        name=kind,
        kind=kind,
        url="https://bucket.r2.cloudflarestorage.com/s/file?X-Amz-Signature=s1",
        url_expires_at=datetime(2026, 6, 10, 10, 30, tzinfo=UTC),
    )
    [request] = simulator.requests
    assert (request.method, request.query, request.has_authorization) == ("GET", query, True)
    assert request.path.endswith(f"/sessions/{SESSION_ID}/{route}")
    assert budget.taken == 1


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("transcript", {"transcriptDownloadUrl": FILE_URL}),
        ("captions", {"transcript": TRANSCRIPT}),
        ("captions", {"session_id": SESSION_ID.upper(), "transcript_download_url": FILE_URL}),
        ("summary", {"session": {"id": SESSION_ID, "summary_download_url": FILE_URL}}),
        ("summary", {"summary": SUMMARY}),
        ("chat", {"id": RECORDING_ID, **CHAT}),
        ("chat", {"sessionId": None, "session_id": "", "chat": CHAT}),
    ],
)
def test_a_sessions_file_is_found_in_every_shape(
    simulated: RealtimeKit, simulator: Simulator, kind: str, data: object
) -> None:
    order(simulator, data)

    file = simulated.session_file(SESSION_ID, kind)

    assert file is not None
    assert (file.name, file.url) == (kind, FILE_URL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"sessionId": SESSION_ID},
        {"transcript_download_url": None, "summaryDownloadUrl": "", "chat_download_url": "soon"},
        {"session": {"id": SESSION_ID}},
        {"transcript_download_url": "https://example.com/default/transcript.csv?X-Amz-Signature=s"},
        {"transcript": [], "summary": "Ada proposed, Grace agreed.", "chat": None},
    ],
    ids=lambda data: json.dumps(data)[:40],
)
def test_a_session_without_the_file_has_none(
    simulated: RealtimeKit, simulator: Simulator, kind: str, data: object
) -> None:
    order(simulator, data)

    assert simulated.session_file(SESSION_ID, kind) is None


@pytest.mark.parametrize(
    "data",
    [
        {**CHAT, "sessionId": RECORDING_ID},
        {**CHAT, "session_id": RECORDING_ID},
        {**CHAT, "sessionId": SESSION_ID, "session_id": "the next one"},
        {"sessionId": RECORDING_ID},
        {"chat": {**CHAT, "session_id": RECORDING_ID}},
        {"session": {**CHAT, "id": RECORDING_ID}},
        {"session": {**CHAT, "id": 7}},
    ],
)
def test_a_file_of_another_session_is_unintelligible(
    simulated: RealtimeKit, simulator: Simulator, data: object
) -> None:
    order(simulator, data)

    with pytest.raises(UnintelligibleError, match=r"^the answer is about another session$"):
        simulated.session_file(SESSION_ID, "chat")


@pytest.mark.parametrize("data", [[], [CHAT], "", FILE_URL, 0, True])
def test_a_session_file_that_is_no_object_is_unintelligible(
    simulated: RealtimeKit, simulator: Simulator, data: object
) -> None:
    order(simulator, data)

    with pytest.raises(UnintelligibleError, match=r"^the answer's chat is not an object$"):
        simulated.session_file(SESSION_ID, "chat")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("effect", "failure"),
    [
        (faults.error(404, "Transcript not found"), NotFoundError),
        (faults.error(410), NotFoundError),
        (faults.error(400), NotFoundError),
        (faults.error(422), NotFoundError),
        (faults.html(404), NotFoundError),
        (faults.unsuccessful(), UnavailableError),
        (faults.error(503), UnavailableError),
        (faults.html(502), UnavailableError),
        (faults.empty(520), UnavailableError),
        (Drop(), UnavailableError),
        (faults.rate_limited(30), ThrottledError),
        (faults.message_only(401), UnauthorizedError),
        (faults.gateway_error(403), UnauthorizedError),
        (faults.gateway_error(400, 7003, "Could not route"), UnintelligibleError),
        (faults.empty(200), UnintelligibleError),
        (faults.empty(204), UnintelligibleError),
        (faults.garbage(), UnintelligibleError),
        (faults.Answer(200, '{"success": true}'), UnintelligibleError),
        (faults.Answer(302, "", {"Location": "/elsewhere"}), UnintelligibleError),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_every_failure_of_a_sessions_file_has_its_type(
    simulated: RealtimeKit,
    simulator: Simulator,
    kind: str,
    effect: faults.Effect,
    failure: type[RealtimeKitError],
) -> None:
    simulator.faults.add(effect, path=f"/sessions/{SESSION_ID}/")

    with pytest.raises(failure) as raised:
        simulated.session_file(SESSION_ID, kind)

    assert type(raised.value) is failure
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("bad", ["", "..", f"{SESSION_ID}/../x", "7"])
def test_a_file_of_a_session_with_a_malformed_id_is_not_requested(
    simulated: RealtimeKit, simulator: Simulator, bad: str
) -> None:
    with pytest.raises(ValueError, match="UUID"):
        simulated.session_file(bad, "chat")

    assert simulator.requests == []


def test_a_session_file_is_not_requested_beyond_the_budget(
    simulated: RealtimeKit, simulator: Simulator, budget: FakeBudget
) -> None:
    budget.wait = 9

    with pytest.raises(BudgetSpentError):
        simulated.session_file(SESSION_ID, "transcript")

    assert simulator.requests == []


def listed(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"00000000-0000-4000-8000-{n:012}", "status": "UPLOADED"} for n in numbers]


def page(items: list[Any], start: int, end: int, total: int) -> Answer:
    paging = {"start_offset": start, "end_offset": end, "total_count": total}
    return Answer({"success": True, "data": items, "paging": paging})


def found(client: RealtimeKit) -> list[int]:
    return [int(r.recording_id[-12:]) for r in client.recordings(meeting_id=MEETING_ID)]


def test_a_meetings_recordings_are_one_request_where_one_page_holds_them(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(page(listed(3, 2, 1), 1, 3, 3))

    assert found(client) == [3, 2, 1]
    assert upstream.paths == [
        f"/accounts/a/realtime/kit/app/recordings?meeting_id={MEETING_ID}"
        "&page_no=1&per_page=100&sort_by=invokedTime&sort_order=DESC"
    ]


REFUSED_SIZE = Answer({"success": False, "error": {"code": 422, "message": "per_page"}}, 422)


def test_a_page_that_is_too_large_is_asked_for_in_a_smaller_size_from_then_on(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(
        REFUSED_SIZE, page(listed(3, 2), 1, 2, 3), page(listed(1), 3, 3, 3), page([], 0, 0, 0)
    )

    assert found(client) == [3, 2, 1]
    assert client.page(1).size == 0

    sizes = [path.partition("per_page=")[2].partition("&")[0] for path in upstream.paths]
    assert sizes == ["100", "25", "25", "25"]


@pytest.mark.parametrize("status", [400, 422])
def test_a_list_that_is_refused_in_any_size_is_not_unknown_and_asked_for_twice(
    client: RealtimeKit, upstream: Upstream, status: int
) -> None:
    upstream.says(Answer({"success": False, "error": {"message": "bad meeting"}}, status))

    for _ in range(2):
        with pytest.raises(UnintelligibleError, match="bad meeting"):
            found(client)

    sizes = [path.partition("per_page=")[2].partition("&")[0] for path in upstream.paths]
    assert sizes == ["100", "25", "100", "25"]


def test_other_meetings_recordings_are_skipped_and_no_further_page_is_asked_for(
    client: RealtimeKit, upstream: Upstream
) -> None:
    ours, other, silent = listed(3, 2, 1)
    ours["meeting"] = {"id": MEETING_ID.upper()}
    other["meeting"] = {"id": SESSION_ID}
    upstream.says(page([other, ours, silent], 1, 3, 900))

    assert found(client) == [3, 1]
    assert len(upstream.requests) == 1


def test_pages_are_followed_to_the_end(client: RealtimeKit, upstream: Upstream) -> None:
    upstream.says(
        page(listed(5, 4), 1, 2, 5), page(listed(3, 2), 3, 4, 5), page(listed(1), 5, 5, 5)
    )

    assert found(client) == [5, 4, 3, 2, 1]


def test_pages_that_count_from_zero_are_noticed(client: RealtimeKit, upstream: Upstream) -> None:
    second = page(listed(3, 2), 3, 4, 4)
    upstream.says(second, page(listed(5, 4), 1, 2, 4), second)

    assert found(client) == [5, 4, 3, 2]
    assert ["page_no=1" in path for path in upstream.paths] == [True, False, True]


def test_an_only_page_numbered_zero_is_noticed(client: RealtimeKit, upstream: Upstream) -> None:
    upstream.says(page([], 0, 0, 2), page(listed(2, 1), 1, 2, 2))

    assert found(client) == [2, 1]


def test_an_item_that_shifts_to_the_next_page_comes_once(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(page(listed(3, 2), 1, 2, 4), page(listed(2, 1), 3, 4, 4))

    assert found(client) == [3, 2, 1]


def test_a_total_that_is_missing_ends_with_an_empty_page(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(Answer({"success": True, "data": listed(1)}), page([], 0, 0, 0))

    assert found(client) == [1]


def test_a_server_that_ignores_the_page_number_is_asked_no_further(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(page(listed(2, 1), 1, 2, 9))

    assert found(client) == [2, 1]
    assert len(upstream.requests) == 2


def test_a_list_without_end_is_given_up(client: RealtimeKit, upstream: Upstream) -> None:
    upstream.says(*[page(listed(number), number, number, 1000) for number in range(1, 200)])

    with pytest.raises(UnintelligibleError, match="more than 100 pages"):
        found(client)

    assert len(upstream.requests) == 100


def test_no_recordings_are_no_error(client: RealtimeKit, upstream: Upstream) -> None:
    upstream.says(page([], 0, 0, 0))

    assert found(client) == []


def test_an_unreadable_item_is_told_after_the_readable_ones(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(page([*listed(2), {"id": "?"}, *listed(1)], 1, 3, 3))
    read = []

    with pytest.raises(UnintelligibleError, match="1 items"):
        for recording in client.recordings(meeting_id=MEETING_ID):
            read.append(recording.recording_id[-1])

    assert read == ["2", "1"]


@pytest.mark.parametrize("data", [{}, None, "x"])
def test_a_list_that_is_no_array_is_unintelligible(
    client: RealtimeKit, upstream: Upstream, data: object
) -> None:
    upstream.says(Answer(json.dumps({"success": True, "data": data})))

    with pytest.raises(UnintelligibleError):
        found(client)


@pytest.mark.parametrize(
    "number",
    ["1E+999999999", "1E+9999999999999999999999", "9" * 5000, "NaN"],
    ids=["exponent", "exponent beyond Decimal", "digits", "NaN"],
)
def test_a_number_beyond_all_bounds_is_none(
    client: RealtimeKit, upstream: Upstream, number: str
) -> None:
    """The first number is valid JSON; as an integer it would take a gigabyte and hours."""
    paging = f'{{"start_offset": 1, "end_offset": 1, "total_count": {number}}}'
    upstream.says(Answer(f'{{"success": true, "data": [], "paging": {paging}}}'))

    with contextlib.suppress(UnintelligibleError):
        assert found(client) == []


def test_an_answer_larger_than_any_is_not_read_to_its_end(
    client: RealtimeKit, upstream: Upstream
) -> None:
    upstream.says(Answer(b" " * (16 * 1024 * 1024 + 1)))

    with pytest.raises(UnintelligibleError, match="more than 16777216 bytes"):
        client.recording(RECORDING_ID)
