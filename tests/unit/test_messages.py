"""The ingest queue's messages, and those that cannot be read."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from recordings import messages
from recordings.events import EventType, derive_events
from recordings.messages import (
    ArchiveRequest,
    EraseRequest,
    Hint,
    MalformedMessageError,
    RecordingRequest,
    SessionFilesRequest,
    SessionRequest,
    Source,
    StatusReport,
)

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
SESSION_ID = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
HINT = Hint(meeting_id=MEETING_ID, title="Weekly sync")
START = Hint(session_started_at="2026-06-03T10:00:00.000Z")
REPORT = StatusReport(
    status="UPLOADING",
    started_at="2026-06-03T10:00:03.000Z",
    stopped_at="2026-06-03T10:30:00.000Z",
    file_name="weekly-sync.mp4",
)
ANNOUNCED = {"transcript": "2026-06-10T10:30:00.000Z", "chat": ""}


@pytest.mark.parametrize(
    "request_",
    [
        RecordingRequest(recording_id=RECORDING_ID, source=Source.API),
        RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK, hint=HINT),
        RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK, report=REPORT),
        RecordingRequest(
            recording_id=RECORDING_ID,
            source=Source.WEBHOOK,
            hint=HINT,
            report=StatusReport(status="INVOKED"),
        ),
        SessionRequest(meeting_id=MEETING_ID, session_id=SESSION_ID, source=Source.EVENTBRIDGE),
        SessionRequest(meeting_id=MEETING_ID, source=Source.FOLLOW_UP),
        SessionRequest(meeting_id=MEETING_ID, source=Source.WEBHOOK, hint=START),
        SessionFilesRequest(session_id=SESSION_ID, source=Source.SWEEP),
        SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK, announced=ANNOUNCED),
        ArchiveRequest(
            recording_id=RECORDING_ID, deadline="2026-06-10T10:30:00.000Z", source=Source.CATALOGUE
        ),
        EraseRequest(recording_id=RECORDING_ID, source=Source.API),
    ],
)
def test_what_is_written_is_read_back(request_: messages.Request) -> None:
    assert messages.parse(messages.body(request_)) == request_


def test_what_an_event_does_not_say_is_an_empty_text_and_counts_as_absent() -> None:
    """The event rules' input transformers render messages like this."""
    body = {
        "v": 1,
        "source": "eventbridge",
        "recording_id": RECORDING_ID,
        "hint": {"meeting_id": MEETING_ID, "session_id": "", "title": "", "organization_id": ""},
    }

    assert messages.parse(json.dumps(body)) == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.EVENTBRIDGE, hint=Hint(meeting_id=MEETING_ID)
    )


@pytest.mark.parametrize(
    "hint",
    [
        None,
        [],
        "meeting",
        {"meeting_id": 7},
        {"unknown": "field"},
        {"session_started_at": "yesterday"},
        {"session_started_at": "2026-06-31T10:00:00.000Z"},
        {"session_started_at": 1780480800},
    ],
)
def test_a_hint_that_makes_no_sense_is_no_hint(hint: object) -> None:
    body = {"v": 1, "source": "webhook", "recording_id": RECORDING_ID, "hint": hint}

    request = messages.parse(json.dumps(body))

    assert request == RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK)


@pytest.mark.parametrize(
    "report",
    [
        None,
        "RECORDING",
        {},
        {"status": None},
        {"status": ["RECORDING"]},
        {"status": "TRANSCODING"},
        {"status": "UPLOADED"},
        {"status": "ERRORED", "started_at": "2026-06-03T10:00:03.000Z"},
    ],
)
def test_a_report_without_an_unfinished_status_is_no_report(report: object) -> None:
    """Without a report, the recording is fetched."""
    hint = {"title": "Weekly sync", "report": report}
    body = {"v": 1, "source": "webhook", "recording_id": RECORDING_ID, "hint": hint}

    request = messages.parse(json.dumps(body))

    assert request == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK, hint=Hint(title="Weekly sync")
    )


def test_of_a_report_only_known_and_readable_fields_are_read() -> None:
    report = {
        "status": "RECORDING",
        "started_at": "yesterday",
        "file_name": 7,
        "downloadUrl": "https://example.com/?X-Amz-Signature=canary",
    }
    hint = {"report": report}
    body = {"v": 1, "source": "webhook", "recording_id": RECORDING_ID, "hint": hint}

    request = messages.parse(json.dumps(body))

    assert request == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK, report=StatusReport(status="RECORDING")
    )


@pytest.mark.parametrize("source", [source for source in Source if source is not Source.WEBHOOK])
def test_only_a_webhooks_message_reports(source: Source) -> None:
    hint = {"title": "Weekly sync", "report": {"status": "RECORDING"}}
    body = {"v": 1, "source": source, "recording_id": RECORDING_ID, "hint": hint}

    request = messages.parse(json.dumps(body))

    assert request == RecordingRequest(
        recording_id=RECORDING_ID, source=source, hint=Hint(title="Weekly sync")
    )


def test_a_check_keeps_no_report_and_so_always_fetches() -> None:
    request = RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK, hint=HINT, report=REPORT
    )

    assert request.fields == {
        "recording_id": RECORDING_ID,
        "hint": {"meeting_id": MEETING_ID, "title": "Weekly sync"},
    }


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("RECORDING", "UPLOADING", "UPLOADING"),
        ("UPLOADING", "INVOKED", "UPLOADING"),
        ("PAUSED", "PAUSED", "PAUSED"),
        # Only a fetch tells which of the two is later; a message without a report requests a fetch.
        ("PAUSED", "RECORDING", None),
        ("RECORDING", None, None),
        (None, "UPLOADING", None),
    ],
)
def test_of_two_reports_the_one_that_is_further_along_is_kept(
    first: str | None, second: str | None, both: str | None
) -> None:
    one, other, merged = (
        RecordingRequest(
            recording_id=RECORDING_ID,
            source=Source.WEBHOOK,
            report=StatusReport(status=status) if status else None,
        )
        for status in (first, second, both)
    )

    assert messages.merged(one, other) == merged


def test_an_id_in_capitals_is_the_same_id() -> None:
    body = {"v": 1, "source": "api", "recording_id": RECORDING_ID.upper()}

    assert messages.parse(json.dumps(body)).key == f"recording#{RECORDING_ID}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "the message is not JSON"),
        ("{", "the message is not JSON"),
        ("[" * 100_000, "the message is not JSON"),
        ("[]", "the message is no JSON object"),
        ("{}", "v is None, not 1"),
        ('{"v": 2, "source": "api"}', "v is 2, not 1"),
        ('{"v": 1}', "source is none of those known"),
        ('{"v": 1, "source": "rumour"}', "source is none of those known"),
        ('{"v": 1, "source": "api"}', "meeting_id is not a UUID"),
        ('{"v": 1, "source": "api", "recording_id": "../sessions"}', "recording_id is not a UUID"),
        ('{"v": 1, "source": "api", "recording_id": null}', "recording_id is not a UUID"),
    ],
)
def test_what_cannot_be_worked_on_says_why(body: str, reason: str) -> None:
    with pytest.raises(MalformedMessageError, match=f"^{reason}$"):
        messages.parse(body)


@pytest.mark.parametrize("session_id", ["", "x", 7, None, {"id": SESSION_ID}])
def test_a_session_id_that_makes_no_sense_asks_for_the_whole_meeting(session_id: object) -> None:
    body = {"v": 1, "source": "eventbridge", "meeting_id": MEETING_ID, "session_id": session_id}

    assert messages.parse(json.dumps(body)) == SessionRequest(
        meeting_id=MEETING_ID, source=Source.EVENTBRIDGE
    )


# An event's values may hold anything, because EventBridge does not promise to escape them.
BREAK_OUTS = (
    f'x","source":"api","task":"erase","recording_id":"{RECORDING_ID}","y":"',
    f'x"}},"source":"api","task":"erase","recording_id":"{RECORDING_ID}","y":{{"z":"',
    'x","task":"erase","y":"',
    'x"},"task":"erase","y":{"z":"',
    'x","y":{"source":"api","task":"erase","z":"',
    f'x","task":"session_files","session_id":"{SESSION_ID}","y":"',
    'x","report":{"status":"RECORDING"},"y":"',
)


def rendered(template: Mapping[str, Any], rule: str, values: Mapping[str, str]) -> str:
    """Return the message of an event rule, with the values inserted unescaped."""
    [target] = template["Resources"][rule]["Properties"]["Targets"]
    transformer = target["InputTransformer"]
    body = str(transformer["InputTemplate"])
    for name, path in transformer["InputPathsMap"].items():
        assert f'"<{name}>"' in body
        body = body.replace(f"<{name}>", values.get(path, ""))
    return body


STATUS_UPDATE = {
    "$.detail.recording.id": RECORDING_ID,
    "$.detail.recording.recordingId": RECORDING_ID,
    "$.detail.meeting.id": MEETING_ID,
    "$.detail.recording.roomUUID": SESSION_ID,
    "$.detail.recording.organizationId": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
}
MEETING_ENDED = {
    "$.detail.meeting.id": MEETING_ID,
    "$.detail.meeting.sessionId": SESSION_ID,
}


@pytest.mark.parametrize("missing", ["", "$.detail.recording.id", "$.detail.recording.recordingId"])
def test_an_event_rule_asks_for_a_recording_by_either_of_its_names(
    template: Mapping[str, Any], missing: str
) -> None:
    values = {path: value for path, value in STATUS_UPDATE.items() if path != missing}

    body = rendered(template, "RecordingStatusUpdateRule", values)

    hint = Hint(
        meeting_id=MEETING_ID,
        session_id=SESSION_ID,
        organization_id="5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
    )
    assert messages.parse(body) == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.EVENTBRIDGE, hint=hint
    )


@pytest.mark.parametrize(
    ("rule", "values"),
    [("RecordingStatusUpdateRule", STATUS_UPDATE), ("MeetingEndedRule", MEETING_ENDED)],
)
def test_an_events_values_are_ids_and_cannot_make_another_request_of_it(
    template: Mapping[str, Any], rule: str, values: Mapping[str, str]
) -> None:
    [target] = template["Resources"][rule]["Properties"]["Targets"]
    assert set(target["InputTransformer"]["InputPathsMap"].values()) == set(values)
    for path, break_out in itertools.product(values, BREAK_OUTS):
        body = rendered(template, rule, {**values, path: break_out})
        try:
            request = messages.parse(body)
        except MalformedMessageError:
            continue
        assert request.source is Source.EVENTBRIDGE
        assert isinstance(request, RecordingRequest | SessionRequest)
        assert getattr(request, "report", None) is None


@pytest.mark.parametrize(
    "body",
    [
        f'{{"v":1,"source":"eventbridge","recording_id":"{RECORDING_ID}","source":"api"}}',
        f'{{"v":1,"source":"api","recording_id":"x","recording_id":"{RECORDING_ID}"}}',
        f'{{"v":1,"source":"api","recording_id":"{RECORDING_ID}","hint":{{"title":1,"title":2}}}}',
    ],
)
def test_a_message_in_which_a_key_comes_twice_is_malformed(body: str) -> None:
    with pytest.raises(MalformedMessageError, match=r"^a key comes twice$"):
        messages.parse(body)


@pytest.mark.parametrize(
    "fields",
    [
        {"recording_id": RECORDING_ID, "other": 1},
        {"recording_id": RECORDING_ID, "deadline": "2026-06-10T10:30:00.000Z"},
        {"recording_id": RECORDING_ID, "meeting_id": MEETING_ID},
        {"meeting_id": MEETING_ID, "announced": {}},
        {"recording_id": RECORDING_ID, "announced": {}},
        {"task": "session_files", "session_id": SESSION_ID, "hint": {}},
        {"task": "session_files", "session_id": SESSION_ID, "meeting_id": MEETING_ID},
        {"task": "session_files", "session_id": SESSION_ID, "url": "https://example.com/"},
        {"task": "erase", "recording_id": RECORDING_ID, "hint": {}},
        {"task": "paint", "recording_id": RECORDING_ID},
        {"task": "", "recording_id": RECORDING_ID},
        {"task": None, "recording_id": RECORDING_ID},
        {"task": ["erase"], "recording_id": RECORDING_ID},
    ],
)
def test_a_message_with_a_key_that_its_kind_has_not_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessageError, match=r"^unknown keys: "):
        messages.parse(json.dumps({"v": 1, "source": "follow_up", **fields}))


@pytest.mark.parametrize("source", list(Source))
def test_only_those_who_send_a_task_may_ask_for_it(source: Source) -> None:
    message = {"v": 1, "source": source, "recording_id": RECORDING_ID}
    archive = {**message, "task": "archive", "deadline": "2026-06-10T10:30:00.000Z"}
    files = {"v": 1, "source": source, "task": "session_files", "session_id": SESSION_ID}
    for body, sources in (
        (files, {"webhook", "catalogue", "sweep", "follow_up"}),
        ({**message, "task": "erase"}, {"api", "follow_up"}),
        (archive, {"catalogue", "follow_up"}),
    ):
        if source in sources:
            assert messages.parse(json.dumps(body)).source is source
        else:
            with pytest.raises(MalformedMessageError, match=f"^{source} may not ask"):
                messages.parse(json.dumps(body))


def test_of_two_messages_the_hints_add_up_and_news_outweighs_follow_up() -> None:
    again = RecordingRequest(recording_id=RECORDING_ID, source=Source.FOLLOW_UP, hint=HINT)
    news = RecordingRequest(
        recording_id=RECORDING_ID, source=Source.WEBHOOK, hint=Hint(session_id=SESSION_ID)
    )

    both = RecordingRequest(
        recording_id=RECORDING_ID,
        source=Source.WEBHOOK,
        hint=Hint(meeting_id=MEETING_ID, session_id=SESSION_ID, title="Weekly sync"),
    )
    assert messages.merged(again, news) == both
    assert messages.merged(news, again) == both


def test_the_start_of_a_session_stays_when_its_requests_are_merged() -> None:
    news = SessionRequest(meeting_id=MEETING_ID, source=Source.WEBHOOK, hint=START)
    again = SessionRequest(meeting_id=MEETING_ID, source=Source.FOLLOW_UP)

    assert messages.merged(again, news) == news
    assert messages.merged(news, again) == news


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({}, {}, {}),
        (ANNOUNCED, {}, {"transcript": "2026-06-10T10:30:00.000Z", "chat": ""}),
        ({}, ANNOUNCED, {"transcript": "2026-06-10T10:30:00.000Z", "chat": ""}),
        (
            {"summary": "2026-06-10T10:30:00.000Z"},
            {"chat": "2026-06-11T10:30:00.000Z"},
            {"summary": "2026-06-10T10:30:00.000Z", "chat": "2026-06-11T10:30:00.000Z"},
        ),
        (
            {"chat": "2026-06-11T10:30:00.000Z"},
            {"chat": "2026-06-10T10:30:00.000Z"},
            {"chat": "2026-06-10T10:30:00.000Z"},
        ),
        ({"chat": ""}, {"chat": "2026-06-10T10:30:00.000Z"}, {"chat": "2026-06-10T10:30:00.000Z"}),
        ({"chat": "2026-06-10T10:30:00.000Z"}, {"chat": ""}, {"chat": "2026-06-10T10:30:00.000Z"}),
    ],
)
def test_two_requests_for_a_sessions_files_announce_the_files_of_both(
    first: dict[str, str], second: dict[str, str], both: dict[str, str]
) -> None:
    """The later time wins; a message without a time does not hide a known one."""
    earlier = SessionFilesRequest(session_id=SESSION_ID, source=Source.FOLLOW_UP, announced=first)
    later = SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK, announced=second)

    assert messages.merged(earlier, later) == SessionFilesRequest(
        session_id=SESSION_ID, source=Source.WEBHOOK, announced=both
    )


def test_all_requests_for_a_sessions_files_share_a_key_and_the_sessions_id_in_logs() -> None:
    body = {"v": 1, "source": "webhook", "task": "session_files", "session_id": SESSION_ID.upper()}

    request = messages.parse(json.dumps(body))

    assert request == SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK)
    assert request.key == f"session_files#{SESSION_ID}"
    assert request.correlation_id == SESSION_ID


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"session_id": None}, "session_id is not a UUID"),
        ({"session_id": "../recordings"}, "session_id is not a UUID"),
        ({"announced": None}, "announced is not a map of kinds of session files"),
        ({"announced": []}, "announced is not a map of kinds of session files"),
        ({"announced": "chat"}, "announced is not a map of kinds of session files"),
        ({"announced": {"video": ""}}, "announced is not a map of kinds of session files"),
        ({"announced": {"chat": "", "": ""}}, "announced is not a map of kinds of session files"),
        ({"announced": {"chat": None}}, "announced.chat is neither a timestamp nor empty"),
        ({"announced": {"chat": 7}}, "announced.chat is neither a timestamp nor empty"),
        ({"announced": {"chat": []}}, "announced.chat is neither a timestamp nor empty"),
        (
            {"announced": {"chat": "", "summary": "2026-06-10"}},
            "announced.summary is neither a timestamp nor empty",
        ),
        (
            {"announced": {"captions": "2026-06-31T10:30:00.000Z"}},
            "announced.captions is neither a timestamp nor empty",
        ),
        (
            {"announced": {"chat": "https://example.com/?X-Amz-Signature=canary"}},
            "announced.chat is neither a timestamp nor empty",
        ),
    ],
)
def test_a_malformed_request_for_a_sessions_files_says_why(
    fields: dict[str, Any], reason: str
) -> None:
    body = {"v": 1, "source": "webhook", "task": "session_files", "session_id": SESSION_ID}

    with pytest.raises(MalformedMessageError, match=f"^{reason}$"):
        messages.parse(json.dumps({**body, **fields}))


@pytest.mark.parametrize(
    "deadline",
    [
        None,
        "",
        7,
        "tomorrow",
        "2026-06-10",
        "2026-06-10T10:30:00Z",
        "2026-06-31T10:30:00.000Z",
        ["x"],
    ],
)
def test_an_archive_request_without_a_deadline_is_malformed(deadline: object) -> None:
    """The deadline is compared with other times as text."""
    body = {"v": 1, "source": "catalogue", "task": "archive", "recording_id": RECORDING_ID}

    with pytest.raises(MalformedMessageError, match="deadline is not a timestamp"):
        messages.parse(json.dumps({**body, "deadline": deadline}))


def row(version: int, **artifacts: dict[str, object] | None) -> dict[str, object]:
    """Return the row of an uploaded recording whose artifacts have these archives."""
    states = {
        name: {"kind": name, "url": "https://x/?canary"} | ({"archive": state} if state else {})
        for name, state in artifacts.items()
    }
    held = [bool(state and state["state"] == "archived") for state in artifacts.values()]
    return {
        "recording_id": RECORDING_ID,
        "status": "UPLOADED",
        "version": version,
        "artifacts": states,
        "archived": "yes" if all(held) else "partly" if any(held) else "no",
    }


ARCHIVED: dict[str, object] = {
    "state": "archived",
    "bucket": "archive-bucket",
    "key": "app/2026/06/03/recording/video/a.mp4",
    "size": 2044680,
    "checksum_crc32": "y8zMfA==",
    "archived_at": "2026-06-03T10:31:00.000Z",
}
EXPIRED: dict[str, object] = {"state": "expired", "expired_at": "2026-06-10T10:30:00.000Z"}
EXTERNAL: dict[str, object] = {"state": "external", "location": {"bucket": "canary"}}


def test_subscribers_are_told_when_the_last_file_is_archived_and_where_all_are() -> None:
    before, partly = row(1, video=None, audio=None), row(2, video=ARCHIVED, audio=None)
    whole = row(3, video=ARCHIVED, audio={**ARCHIVED, "key": "b.mp3"})

    assert derive_events(before, partly) == []
    [event] = derive_events(partly, whole)
    assert derive_events(whole, {**whole, "version": 4}) == []

    assert event.type == EventType.ARCHIVED
    detail = json.loads(event.detail)
    assert detail["id"] == f"{RECORDING_ID}#3"
    assert detail["artifact_count"] == 2
    assert detail["artifacts"][1] == {
        "name": "video",
        "kind": "video",
        "bucket": "archive-bucket",
        "key": "app/2026/06/03/recording/video/a.mp4",
        "size": 2044680,
        "checksum_crc32": "y8zMfA==",
    }
    assert "canary" not in event.detail


def test_subscribers_are_told_of_files_that_are_lost_each_once() -> None:
    before, one = row(1, video=None, audio=None), row(2, video=EXPIRED, audio=None)
    two = row(3, video=EXPIRED, audio=EXPIRED)

    [first] = derive_events(before, one)
    [second] = derive_events(one, two)

    assert first.type == second.type == EventType.EXPIRED
    assert json.loads(first.detail)["expired"] == ["video"]
    assert json.loads(second.detail)["expired"] == ["audio", "video"]
    assert derive_events(two, {**two, "version": 4}) == []


def test_files_that_are_elsewhere_are_no_archive() -> None:
    assert derive_events(row(1, video=None), row(2, video=EXTERNAL)) == []


@pytest.mark.parametrize("letter", ["n", "ж", "会"])
def test_an_event_of_very_many_files_fits(letter: str) -> None:
    names = {f"track/{letter * 1000}/{n:04}": {**ARCHIVED, "key": "k" * 1000} for n in range(400)}
    before = row(1, **dict.fromkeys(names))

    [event] = derive_events(before, row(2, **names))

    assert json.loads(event.detail)["artifact_count"] == 400
    assert len(event.detail.encode()) < 240_000


def test_subscribers_are_told_of_an_erasure_once_and_only_of_whom() -> None:
    before = {**row(3, video=ARCHIVED), "meeting_id": "canary", "erasing_since": "2026-06-04"}
    tombstone = {
        "recording_id": RECORDING_ID,
        "version": 5,
        "erased_at": "2026-06-04T09:00:00.000Z",
    }

    assert derive_events(row(3, video=ARCHIVED), before) == []
    [event] = derive_events(before, tombstone)
    assert derive_events(tombstone, tombstone) == []

    assert event.type == EventType.ERASED
    expected = {"id": f"{RECORDING_ID}#5", **tombstone, "reason": "request"}
    assert json.loads(event.detail) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"v": "9" * 30}, "v is 99999999999999999999, not 1"),
        ({"b" * 60: 1, "a" * 60: 1}, f"unknown keys: {'a' * 60}, {'b' * 38}"),
        ({"task": "archive", "deadline": "tomorrow"}, "deadline is not a timestamp"),
    ],
)
def test_what_cannot_be_worked_on_is_quoted_only_so_far(
    fields: dict[str, Any], reason: str
) -> None:
    message = {"v": 1, "source": "follow_up", "recording_id": RECORDING_ID, **fields}

    with pytest.raises(MalformedMessageError, match=f"^{reason}$"):
        messages.parse(json.dumps(message))


@pytest.mark.parametrize(
    "news",
    [
        SessionRequest(meeting_id=MEETING_ID, session_id=SESSION_ID, source=Source.WEBHOOK),
        SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK),
        EraseRequest(recording_id=RECORDING_ID, source=Source.API),
        ArchiveRequest(
            recording_id=RECORDING_ID, deadline="2026-06-10T10:30:00.000Z", source=Source.CATALOGUE
        ),
    ],
)
def test_news_outweighs_follow_up_whatever_is_asked_for(news: messages.Request) -> None:
    again = replace(news, source=Source.FOLLOW_UP)

    assert messages.merged(again, news) == news
    assert messages.merged(news, again) == news


def test_a_change_that_subscribers_are_not_told_of_is_no_event() -> None:
    before = {**row(1, video=None), "status": "RECORDING"}
    after = {**row(2, video=None), "status": "UPLOADING"}

    assert derive_events(before, after) == []


def test_a_new_row_is_catalogued_before_it_is_final() -> None:
    catalogued, uploaded = derive_events(None, row(1, video=None))

    assert catalogued.type == EventType.CATALOGUED
    assert uploaded.type == EventType.UPLOADED
    assert json.loads(uploaded.detail) == {
        "id": f"{RECORDING_ID}#1",
        "recording_id": RECORDING_ID,
        "status": "UPLOADED",
        "version": 1,
    }


def test_a_duration_may_be_no_whole_number_of_seconds() -> None:
    [event] = derive_events(
        {**row(1), "status": "UPLOADING"}, {**row(2), "duration_seconds": Decimal("1800.5")}
    )

    assert json.loads(event.detail)["duration_seconds"] == 1800.5


def test_a_row_without_files_that_is_said_to_be_archived_has_none_to_tell_of() -> None:
    before = {"recording_id": RECORDING_ID, "status": "UPLOADED", "version": 1}

    [event] = derive_events(before, {**before, "version": 2, "archived": "yes"})

    assert json.loads(event.detail)["artifact_count"] == 0
    assert json.loads(event.detail)["artifacts"] == []


def test_a_file_of_which_no_place_is_known_is_told_of_by_its_name() -> None:
    files = {"video": {"kind": "video"}}
    before = {"recording_id": RECORDING_ID, "status": "UPLOADED", "version": 1, "artifacts": files}

    [event] = derive_events(before, {**before, "version": 2, "archived": "yes"})

    assert json.loads(event.detail)["artifacts"] == [{"name": "video", "kind": "video"}]


@pytest.mark.parametrize(("longer_by", "told_of"), [(0, 50), (1, 49)])
def test_lost_files_are_named_as_far_as_an_event_holds_them(longer_by: int, told_of: int) -> None:
    """50 names of 2,996 bytes, with quotes and separators, fill the 150,000 bytes that are allowed."""
    names = [f"{number:02}".ljust(2996, "x") for number in range(50)]
    names[0] += longer_by * "x"

    [event] = derive_events(row(1, **dict.fromkeys(names)), row(2, **dict.fromkeys(names, EXPIRED)))

    assert json.loads(event.detail)["expired"] == sorted(names)[:told_of]


@pytest.mark.parametrize(
    ("request_", "written"),
    [
        (
            RecordingRequest(recording_id=RECORDING_ID, source=Source.API),
            {"v": 1, "source": "api", "recording_id": RECORDING_ID},
        ),
        (
            RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK, report=REPORT),
            {
                "v": 1,
                "source": "webhook",
                "recording_id": RECORDING_ID,
                "hint": {
                    "report": {
                        "status": "UPLOADING",
                        "started_at": "2026-06-03T10:00:03.000Z",
                        "stopped_at": "2026-06-03T10:30:00.000Z",
                        "file_name": "weekly-sync.mp4",
                    }
                },
            },
        ),
        (
            SessionRequest(meeting_id=MEETING_ID, source=Source.FOLLOW_UP),
            {"v": 1, "source": "follow_up", "meeting_id": MEETING_ID},
        ),
        (
            SessionRequest(meeting_id=MEETING_ID, source=Source.WEBHOOK, hint=START),
            {
                "v": 1,
                "source": "webhook",
                "meeting_id": MEETING_ID,
                "hint": {"session_started_at": "2026-06-03T10:00:00.000Z"},
            },
        ),
        (
            SessionFilesRequest(session_id=SESSION_ID, source=Source.CATALOGUE),
            {"v": 1, "source": "catalogue", "task": "session_files", "session_id": SESSION_ID},
        ),
        (
            SessionFilesRequest(session_id=SESSION_ID, source=Source.WEBHOOK, announced=ANNOUNCED),
            {
                "v": 1,
                "source": "webhook",
                "task": "session_files",
                "session_id": SESSION_ID,
                "announced": {"transcript": "2026-06-10T10:30:00.000Z", "chat": ""},
            },
        ),
        (
            EraseRequest(recording_id=RECORDING_ID, source=Source.API),
            {"v": 1, "source": "api", "task": "erase", "recording_id": RECORDING_ID},
        ),
    ],
)
def test_a_message_says_no_more_than_is_known(
    request_: messages.Request, written: dict[str, object]
) -> None:
    """Messages of one version of this service are read by the next."""
    assert json.loads(messages.body(request_)) == written
