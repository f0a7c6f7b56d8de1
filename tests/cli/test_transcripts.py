"""The command transcript: readable lines, the stored documents, and why there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from doubles import Answer, Upstream
from realtimekit_recordings.transcripts import (
    UnknownShapeError,
    caption_text,
    read_sentences,
    transcript_lines,
)

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
ALICE = {
    "id": "b6f3e9a0-1c1d-4f0b-8a39-3ed3a2f1c001",
    "userId": "2ad6c5a1-7d0e-4d27-9a55-0a4f3a9f1001",
    "displayName": "Alice",
    "cpi": "user-1",
    "joinedAt": "2026-06-03T10:00:00.000Z",
    "leftAt": "",
}
BOB = {
    **ALICE,
    "id": "b6f3e9a0-1c1d-4f0b-8a39-3ed3a2f1c002",
    "userId": "2ad6c5a1-7d0e-4d27-9a55-0a4f3a9f1002",
    "displayName": "Bob",
    "cpi": "user-2",
}
CAPTIONS = "WEBVTT\n\n00:03:17.000 --> 00:03:19.500\nAlice: Good morning, everyone.\n"

Run = Callable[..., Result]


def spoken(start: Any, text: Any, peer: Any = ALICE) -> dict[str, Any]:
    return {"startTime": start, "endTime": None, "sentence": text, "peerData": peer}


TRANSCRIPT = [
    spoken(197_000, "Good morning, everyone."),
    spoken(199_800, "Shall we start?"),
    spoken(203_100, "Yes.", BOB),
]


def links_to(upstream: Upstream, kind: str, key: str) -> Answer:
    """Return the API's answer with the archive's link to a session's file."""
    link = {
        "name": kind,
        "kind": kind,
        "source": "archive",
        "url": f"{upstream.url}/bucket/{key}?X-Amz-Signature=canary",
        "expires_at": "2026-06-03T11:00:00.000Z",
        "size": 512,
    }
    return Answer({"recording_id": RECORDING_ID, "links": [link], "missing": []})


@pytest.fixture
def transcript(run: Run, aws: Any, upstream: Upstream) -> Run:
    """Run the command, while the storage answers its link to the file."""

    def transcript(answer: Answer | Any, *options: str) -> Result:
        if not isinstance(answer, Answer):
            answer = Answer(answer if isinstance(answer, bytes) else json.dumps(answer))
        kind, key = ("captions", "a.vtt") if "--vtt" in options else ("transcript", "a.json")
        upstream.says(links_to(upstream, kind, key), answer)
        return run("transcript", RECORDING_ID, "--api-url", upstream.url, *options)

    return transcript


@pytest.fixture
def answered(run: Run, aws: Any, upstream: Upstream) -> Run:
    """Run the command, while the API gives an answer without a link."""

    def answered(answer: Answer, *options: str) -> Result:
        upstream.says(answer)
        return run("transcript", RECORDING_ID, "--api-url", upstream.url, *options)

    return answered


def lines(document: list[Any]) -> list[str]:
    return list(transcript_lines(read_sentences(document)))


# Readable lines


def test_a_sentence_is_a_line_with_its_time_and_a_speaker_who_is_another_one(
    transcript: Run, upstream: Upstream
) -> None:
    result = transcript(TRANSCRIPT)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "0:03:17  Alice  Good morning, everyone.\n"
        "0:03:19         Shall we start?\n"
        "0:03:23  Bob    Yes.\n"
    )
    assert upstream.paths == [
        f"/recordings/{RECORDING_ID}/links?expires_in=900&artifact=transcript",
        "/bucket/a.json?X-Amz-Signature=canary",
    ]


def test_columns_are_as_wide_as_the_longest_time_and_name() -> None:
    assert lines(
        [
            spoken(0, "First.", {**ALICE, "displayName": "週次"}),
            spoken(35_999_999, "Nearly ten hours.", BOB),
            spoken(36_000_000, "Ten hours.", {**ALICE, "displayName": "x" * 100}),
        ]
    ) == [
        " 0:00:00  週次                      First.",
        " 9:59:59  Bob                       Nearly ten hours.",
        "10:00:00  xxxxxxxxxxxxxxxxxxxxxxx…  Ten hours.",
    ]


def test_sentences_of_speakers_who_are_listed_apart_are_printed_by_their_times() -> None:
    assert lines(
        [
            spoken(1000, "One."),
            spoken(9000, "Three."),
            spoken(None, "And more."),
            spoken(5000, "Two.", BOB),
        ]
    ) == [
        "0:00:01  Alice  One.",
        "0:00:05  Bob    Two.",
        "0:00:09  Alice  Three.",
        "-:--:--         And more.",
    ]


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        (0, "0:00:00"),
        (61_500.75, "0:01:01"),
        (86_400_000, "24:00:00"),
        (-1500, "-0:00:01"),
        (-1, "0:00:00"),
        (1_780_480_804_000, "-:--:--"),
        (10**400, "-:--:--"),
        (float("nan"), "-:--:--"),
        (float("-inf"), "-:--:--"),
        (None, "-:--:--"),
        ("197000", "-:--:--"),
        (True, "-:--:--"),
        ({}, "-:--:--"),
    ],
)
def test_a_time_is_that_within_the_session_or_unknown(start: Any, shown: str) -> None:
    assert lines([spoken(start, "Hello.")]) == [f"{shown}  Alice  Hello."]


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ({**ALICE, "displayName": " "}, "user-1"),
        ({**ALICE, "displayName": None}, "user-1"),
        ({"displayName": None, "cpi": None}, "(unknown)"),
        ({"displayName": 7, "cpi": ["x"], "userId": {}}, "(unknown)"),
        ({}, "(unknown)"),
        (None, "(unknown)"),
        ("Alice", "(unknown)"),
    ],
)
def test_a_speaker_without_a_name_has_the_owners_id_or_is_unknown(peer: Any, shown: str) -> None:
    assert lines([spoken(0, "Hello.", peer)]) == [f"0:00:00  {shown}  Hello."]


def test_two_speakers_of_one_name_are_told_apart_and_one_who_came_back_is_not() -> None:
    again = {**ALICE, "id": "b6f3e9a0-1c1d-4f0b-8a39-3ed3a2f1c009"}
    other = {**BOB, "displayName": "Alice"}

    assert lines([spoken(0, "A."), spoken(0, "B.", again), spoken(0, "C.", other)]) == [
        "0:00:00  Alice  A.",
        "0:00:00         B.",
        "0:00:00  Alice  C.",
    ]


def test_a_sentence_without_words_has_no_line() -> None:
    assert lines([spoken(0, None), spoken(0, " \n "), spoken(0, "Hello.")]) == [
        "0:00:00  Alice  Hello."
    ]


def test_what_was_said_and_by_whom_is_no_command_to_the_terminal(transcript: Run) -> None:
    name = "Al\x1b]0;owned\x07ice\u202e"
    text = "a\r\nb\tc\x9b31m\u2028d \u2066e\u2069 \u200f\U000e0041f\u00a0g"

    result = transcript([spoken(0, text, {**ALICE, "displayName": name})])

    assert result.exit_code == 0
    assert result.stdout == "0:00:00  Al�]0;owned�ice�  a b c�31m d �e� ��f g\n"


@pytest.mark.parametrize(
    "text", ["می\u200cشود", "क\u094d\u200dष", "👩\u200d💻", "[red]x[/red]", "…"]
)
def test_text_of_every_language_is_printed_as_it_is(transcript: Run, text: str) -> None:
    assert transcript([spoken(0, text)]).stdout == f"0:00:00  Alice  {text}\n"


def test_half_a_character_is_replaced(transcript: Run) -> None:
    result = transcript(b'[{"startTime": 0, "sentence": "\\ud83d", "peerData": null}]')

    assert (result.exit_code, result.stdout) == (
        0,
        "0:00:00  (unknown)  \N{REPLACEMENT CHARACTER}\n",
    )


# The stored documents


def test_json_is_printed_as_it_is_stored(transcript: Run) -> None:
    stored = '[{"startTime": 197000.50,\r\n\t"sentence": "Zoë", "sentence": "週次"}]\n'

    result = transcript(f"\ufeff{stored}".encode(), "--json")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == stored.replace("\r", "")


def test_json_has_escapes_for_what_a_terminal_obeys(transcript: Run) -> None:
    stored = [spoken(0, "\x7f\x9b31m \u202e \u2028 \U000e0041 👩\u200d💻")]

    result = transcript(json.dumps(stored, ensure_ascii=False).encode(), "--json")

    assert (
        '"sentence": "\\u007f\\u009b31m \\u202e \\u2028 \\udb40\\udc41 👩\u200d💻"' in result.stdout
    )
    assert json.loads(result.stdout) == stored


@pytest.mark.parametrize("stored", [{"transcript": []}, [["0", "Alice", "Hello."]], [], "text"])
def test_json_of_any_shape_is_printed(transcript: Run, stored: Any) -> None:
    result = transcript(stored, "--json")

    assert (result.exit_code, result.stdout) == (0, f"{json.dumps(stored)}\n")


def test_vtt_prints_the_captions(transcript: Run, upstream: Upstream) -> None:
    result = transcript(f"\ufeff{CAPTIONS}".replace("\n", "\r\n").encode(), "--vtt")

    assert (result.exit_code, result.stdout, result.stderr) == (0, CAPTIONS, "")
    assert upstream.paths == [
        f"/recordings/{RECORDING_ID}/links?expires_in=900&artifact=captions",
        "/bucket/a.vtt?X-Amz-Signature=canary",
    ]


def test_vtt_has_references_for_what_a_terminal_obeys() -> None:
    assert caption_text("WEBVTT\n\n\t\x1b[2J\x9b31m \u202eאב\u200f") == (
        "WEBVTT\n\n\t&#x1b;[2J&#x9b;31m &#x202e;אב&#x200f;"
    )


def test_json_and_vtt_are_not_both_printed(transcript: Run, upstream: Upstream) -> None:
    result = transcript(TRANSCRIPT, "--json", "--vtt")

    assert result.exit_code == 2
    assert "Give --json or --vtt, not both." in result.stderr
    assert upstream.requests == []


# Why there is none


def gone(detail: str) -> Answer:
    return Answer({"title": "Gone", "status": 410, "detail": detail}, 410)


def conflict(detail: str) -> Answer:
    return Answer({"title": "Conflict", "status": 409, "detail": detail}, 409)


NOT_IN_ROW = Answer(
    {"status": 400, "detail": "artifact is none of this recording's.", "parameter": "artifact"}, 400
)
MISSING = Answer({"links": [], "missing": [{"name": "transcript", "reason": "no_file"}]})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            gone("There is no file any more: no_file."),
            "No transcript: RealtimeKit made none for this session.\n",
        ),
        (MISSING, "No transcript: RealtimeKit made none for this session.\n"),
        (
            conflict("There is no file to link to: not_yet."),
            "No transcript: not archived yet. The stack looks for a session's files until a day "
            "after its end. Run the command again later, and see whether `webhook check` finds "
            "anything wrong.\n",
        ),
        (
            gone("There is no file any more: expired."),
            "No transcript: RealtimeKit deleted the file before it was archived.\n",
        ),
        (
            conflict("There is no file to link to: archive_unreachable."),
            "No transcript: the file is in a bucket that this stack cannot access. Check the "
            "stack's parameter ArchiveBucketName.\n",
        ),
        (
            NOT_IN_ROW,
            "No transcript: the stack has not looked for this session's files yet, or its "
            "parameter SessionFiles leaves this one out.\n",
        ),
        (gone("The recording was erased."), "The recording was erased. (HTTP 410)\n"),
        (conflict("Because: later\x1b[2J."), "Because: later�[2J. (HTTP 409)\n"),
    ],
)
def test_why_there_is_no_transcript_is_said_with_exit_code_1(
    answered: Run, answer: Answer, said: str
) -> None:
    result = answered(answer)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", said)


def test_missing_captions_are_called_captions(answered: Run) -> None:
    result = answered(gone("There is no file any more: no_file."), "--vtt")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "No captions: RealtimeKit made none for this session.\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer({"status": 404, "detail": "The recording is not catalogued."}, 404),
            "Error: The recording is not catalogued. (HTTP 404)\n",
        ),
        (
            Answer(
                {"status": 400, "detail": "expires_in is wrong.", "parameter": "expires_in"}, 400
            ),
            "Error: expires_in is wrong. (HTTP 400)\n",
        ),
    ],
)
def test_a_request_that_the_api_refuses_is_2(answered: Run, answer: Answer, said: str) -> None:
    result = answered(answer)

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--vtt",)])
def test_an_empty_file_is_1(transcript: Run, body: bytes, options: tuple[str, ...]) -> None:
    result = transcript(body, *options)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"No {'captions' if options == ('--vtt',) else 'transcript'}: RealtimeKit's file is empty, "
        "as for a session in which nobody spoke.\n"
    )


@pytest.mark.parametrize("document", [[], [spoken(0, "")]])
def test_a_transcript_without_sentences_is_1(transcript: Run, document: Any) -> None:
    result = transcript(document)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The transcript has no sentences.\n"


def test_a_file_that_the_storage_does_not_have_is_1(transcript: Run) -> None:
    result = transcript(Answer("<Error/>", 404))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "The storage has no file transcript.json (HTTP 404).\n"


# Files that are no transcript


@pytest.mark.parametrize(
    "document",
    [
        {"transcript": []},
        "text",
        None,
        7,
        ["Hello."],
        [None],
        [["0", "Alice", "Hello."]],
        [{}],
        [{"startTime": 0, "text": "Hello."}],
        [{"startTime": 0, "sentence": {"text": "Hello."}}],
    ],
)
def test_a_shape_that_is_not_known_is_2_and_json_is_named(transcript: Run, document: Any) -> None:
    with pytest.raises(UnknownShapeError):
        read_sentences(document)

    result = transcript(document)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: The transcript is not a list of sentences. Use --json to print it as it is.\n"
    )


@pytest.mark.parametrize("body", [b"0,peer,user,cpi,Alice,Hello.", b"[" * 200_000, b'["\x1b"]'])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_file_that_is_not_json_is_2_and_can_still_be_downloaded(
    transcript: Run, body: bytes, options: tuple[str, ...]
) -> None:
    result = transcript(body, *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: The transcript is not JSON. Use `download {RECORDING_ID} --artifact transcript` "
        "to save it as it is.\n"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"1\n00:00:01,000 --> 00:00:02,000\nHello.", "The captions are not WebVTT."),
        (b"WEBVTT\n\n\xff\xfe", "captions.vtt is not UTF-8 text."),
    ],
)
def test_a_file_that_is_not_captions_is_2(transcript: Run, body: bytes, said: str) -> None:
    result = transcript(body, "--vtt")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {said} Use `download {RECORDING_ID} --artifact captions` to save it as it is.\n"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer("<Error/>", 403),
            "The link to transcript.json has expired (HTTP 403). Run the command again.",
        ),
        (
            Answer("busy", 503),
            "The storage refuses transcript.json for now (HTTP 503). Try again later.",
        ),
        (Answer("x", 204), "The storage refuses transcript.json (HTTP 204)."),
        (
            Answer("[]", 200, {"Content-Length": "9"}),
            "The download of transcript.json broke off: ProtocolError. Run the command again.",
        ),
        (
            Answer("", 302, {"Location": "https://example.com/"}),
            "Cannot download transcript.json: a redirect of the link leads to another domain.",
        ),
        (
            Answer("<!DOCTYPE html><p>Sign in"),
            "The storage sent an error page instead of transcript.json.",
        ),
        (
            Answer('{"success": false, "errors": []}'),
            "The storage sent an error page instead of transcript.json.",
        ),
        (
            Answer("Sign in", 200, {"Content-Type": "text/html"}),
            "The storage sent an error page instead of transcript.json.",
        ),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_file_that_does_not_come_is_2_and_its_link_is_not_shown(
    transcript: Run, answer: Answer, said: str, options: tuple[str, ...]
) -> None:
    result = transcript(answer, *options)

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {said}\n")


def test_a_file_of_64_mib_is_the_largest(transcript: Run) -> None:
    largest = json.dumps([spoken(0, "Hello.")]).ljust(64 * 1024 * 1024).encode()

    assert transcript(largest).stdout == "0:00:00  Alice  Hello.\n"
    result = transcript(largest + b" ")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: transcript.json is larger than 64 MiB. Use the command download instead.\n"
    )
