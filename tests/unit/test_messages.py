"""What the ingest queue's messages say, and what becomes of those that say nothing."""

import json

import pytest

from recordings import messages
from recordings.messages import (
    Hint,
    MalformedMessageError,
    RecordingRequest,
    SessionRequest,
    Source,
)

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
SESSION_ID = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
HINT = Hint(meeting_id=MEETING_ID, title="Weekly sync")


@pytest.mark.parametrize(
    "request_",
    [
        RecordingRequest(recording_id=RECORDING_ID, source=Source.API),
        RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK, hint=HINT),
        SessionRequest(meeting_id=MEETING_ID, session_id=SESSION_ID, source=Source.EVENTBRIDGE),
        SessionRequest(meeting_id=MEETING_ID, source=Source.FOLLOW_UP),
    ],
)
def test_what_is_written_is_read_back(request_: messages.Request) -> None:
    assert messages.parse(messages.body(request_)) == request_


def test_what_an_event_does_not_say_is_an_empty_text_and_counts_as_absent() -> None:
    """So the event rules' input transformers render it."""
    body = {
        "v": 1,
        "source": "eventbridge",
        "recording_id": RECORDING_ID,
        "hint": {"meeting_id": MEETING_ID, "session_id": "", "title": "", "organization_id": ""},
    }

    assert messages.parse(json.dumps(body)) == RecordingRequest(
        recording_id=RECORDING_ID, source=Source.EVENTBRIDGE, hint=Hint(meeting_id=MEETING_ID)
    )


@pytest.mark.parametrize("hint", [None, [], "meeting", {"meeting_id": 7}, {"unknown": "field"}])
def test_a_hint_that_makes_no_sense_is_no_hint(hint: object) -> None:
    body = {"v": 1, "source": "webhook", "recording_id": RECORDING_ID, "hint": hint}

    request = messages.parse(json.dumps(body))

    assert request == RecordingRequest(recording_id=RECORDING_ID, source=Source.WEBHOOK)


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
        (
            f'{{"v": 1, "source": "api", "meeting_id": "{MEETING_ID}", "session_id": "x"}}',
            "session_id is not a UUID",
        ),
    ],
)
def test_what_cannot_be_worked_on_says_why(body: str, reason: str) -> None:
    with pytest.raises(MalformedMessageError, match=f"^{reason}$"):
        messages.parse(body)


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
