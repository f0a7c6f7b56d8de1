"""The text files of a session: which are kept, and as what."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.texts import EmptyTextError, NotTextError, require_text

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"

SENTENCE = {
    "startTime": 2000,
    "endTime": 1000,
    "sentence": "Schöne Grüße – <b>до завтра</b> 👋",
    "peerData": {"id": "5d3e7f0a", "userId": "", "displayName": "", "cpi": None, "leftAt": ""},
}
TRANSCRIPT = json.dumps([SENTENCE], ensure_ascii=False).encode()
CAPTIONS = b"WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.000\nAda: Hello\n"
SUMMARY = "# Protokoll\n\n- Grüße\n".encode()
HEADER = (
    b"id, participantId, sessionId, meetingId, displayName, pinned, isEdited, "
    b"payloadType, payload, createdAt"
)
CHAT = HEADER + b"\n1,p,s,m,Ada,false,false,TEXT_MESSAGE,Hello,2026-06-03T10:00:00.000Z\n"
TEXTS = {"transcript": TRANSCRIPT, "captions": CAPTIONS, "summary": SUMMARY, "chat": CHAT}
KINDS = list(TEXTS)


@pytest.mark.parametrize("before", [b"", BOM], ids=["", "BOM"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("transcript", "application/json"),
        ("captions", "text/vtt; charset=utf-8"),
        ("summary", "text/markdown; charset=utf-8"),
        ("chat", "text/csv; charset=utf-8"),
    ],
)
def test_a_text_is_stored_as_the_type_of_its_kind(kind: str, expected: str, before: bytes) -> None:
    assert require_text(kind, before + TEXTS[kind]) == expected


@pytest.mark.parametrize("data", [b'[{"payload": "Hi"}]', b'\n {"messages": [{"id": 1}]}\n'])
def test_a_chat_that_is_json_is_stored_as_json(data: bytes) -> None:
    assert require_text("chat", data) == "application/json"


# --- contents that are stored as they are ---


@pytest.mark.parametrize(
    "data",
    [
        b"[1, 2]",
        b'[[], {}, null, ""]',
        b'{"sentences": [{"text": "Hi"}]}',
        b'[{"error": "is what Ada said"}]',
        b'[{"startTime": 2000}, {"startTime": -1000}]',
        b'{"success": true, "message": "Hi"}',
        b"[" + b"9" * 10_000 + b", -1E+999999999, 1.5]",
        b"[NaN]",
        b"\r\n\t [1] \r\n",
        b"[" * 500 + b"]" * 500,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_json_of_any_shape_is_a_transcript(data: bytes) -> None:
    assert require_text("transcript", data) == "application/json"


@pytest.mark.parametrize(
    "data",
    [
        b"WEBVTT - Weekly sync\r\n\r\n00:02.000 --> 00:01.000\r\n\r\n",
        b"WEBVTT\n\n00:00.000 --> 00:01.000\n<v Ada><b>Hi</b> <script>alert(1)</script>\n",
        b"WEBVTT\r\r00:00.000 --> 00:01.000\r: Hi\r",
        b"WEBVTT\n\nNOTE <html>\n\n00:00.000 --> 00:01.000\n\0\n",
    ],
)
def test_captions_with_strange_cues_are_captions(data: bytes) -> None:
    assert require_text("captions", data) == "text/vtt; charset=utf-8"


@pytest.mark.parametrize(
    "data",
    [
        b"no markdown",
        b"[Agenda](https://example.org) was discussed.",
        b"[Agenda]",
        b"{Agenda} was discussed.",
        b"<https://example.org> was discussed.",
        b"ID3 tags were discussed.",
        b'{"summary": "inline"}',
        b"x" * 10 * MIB,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_any_text_is_a_summary(data: bytes) -> None:
    assert require_text("summary", data) == "text/markdown; charset=utf-8"


@pytest.mark.parametrize(
    "data",
    [
        HEADER + b'\n1,p,s,m,,false,false,TEXT_MESSAGE,Hello, all,\nof "you",2026-06-03\n',
        HEADER.replace(b", ", b",") + b"\r\n,,,,,,,,,\r\n",
        HEADER + b"\r1,p,s,m,Ada,false,false,TEXT_MESSAGE,Hello,2026-06-03\r",
        HEADER + b"\n1,p,s,m,Ada,false,false,TEXT_MESSAGE,a \0 and a \x1b[2J,2026-06-03\n",
        b"1,p,s,m,Ada,false,false,TEXT_MESSAGE,the only message without a header,2026-06-03",
        b'"id","payload"\n"1","{not json}"\n',
    ],
    ids=[
        "unquoted commas and line breaks",
        "no name",
        "carriage returns",
        "control characters",
        "no header",
        "quotes",
    ],
)
def test_rows_with_a_comma_are_a_chat_whatever_they_say(data: bytes) -> None:
    assert require_text("chat", data) == "text/csv; charset=utf-8"


# --- files without content ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data",
    [b"", b" \r\n\t\n", BOM, BOM + b"\n", b"[]", b"[\n]\n", b"{}", BOM + b" { } ", b'""', b"null"],
)
def test_a_file_without_content_is_empty_whatever_its_kind(kind: str, data: bytes) -> None:
    with pytest.raises(EmptyTextError) as raised:
        require_text(kind, data)

    assert raised.value.cause == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"WEBVTT",
        BOM + b"WEBVTT\n\n",
        b"WEBVTT - Weekly sync\r\nKind: captions\r\n\r\nNOTE none\r\n",
        b"WEBVTT\n" + b"\n" * 10_000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_captions_without_a_cue_are_empty(data: bytes) -> None:
    with pytest.raises(EmptyTextError, match="no cue"):
        require_text("captions", data)


@pytest.mark.parametrize(
    "data",
    [
        HEADER,
        HEADER + b"\r\n",
        BOM + HEADER.replace(b", ", b",") + b"\n\n",
        b'"id","payload_type","payload"\n',
    ],
)
def test_a_chat_of_a_header_alone_is_empty(data: bytes) -> None:
    with pytest.raises(EmptyTextError, match="no message"):
        require_text("chat", data)


# --- files that are no text of a session ---

PAGES = [
    b"<!DOCTYPE html><html><body>Not found</body></html>",
    BOM + b"  <html\nlang='en'><h1>502</h1>",
    b"<h1>Bad Gateway</h1>",
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    b"<Error><Code>NoSuchKey</Code></Error>",
    b"<Error/>",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", PAGES)
def test_a_page_of_html_or_xml_is_no_text(kind: str, data: bytes) -> None:
    with pytest.raises(NotTextError, match="a page of HTML or XML") as raised:
        require_text(kind, data)

    assert raised.value.cause == "not_text"


ERRORS = [
    b'{"success": false}',
    b'{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}',
    b'{"success":false,"error":{"code":404,"message":"No transcript"},"data":null}',
    b'{"error": "expired"}',
    b'{"errors": []}',
    b'{"message": "Unauthorized"}',
    BOM + b'\n {"error": 404}\n',
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", ERRORS)
def test_an_error_document_of_an_api_is_no_text(kind: str, data: bytes) -> None:
    with pytest.raises(NotTextError, match="an API's error document"):
        require_text(kind, data)


OTHER_ENCODINGS = {
    "UTF-16, little end": "Grüße, Ada".encode("utf-16"),
    "UTF-16, big end": b"\xfe\xff" + "Grüße, Ada".encode("utf-16-be"),
    "UTF-16 without a BOM": "WEBVTT, Ada".encode("utf-16-le"),
    "UTF-32": "Hello, all".encode("utf-32-be"),
    "Latin-1": "Grüße, Ada".encode("latin-1"),
    "a surrogate": b"Hello, \xed\xa0\x80",
    "broken off": "Grüße, Ada ü".encode()[:-1],
    "wrong after 300,000 bytes": b"x, " * 100_000 + b"\xff",
    "NUL bytes": bytes(100),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", OTHER_ENCODINGS.values(), ids=OTHER_ENCODINGS)
def test_bytes_that_are_not_utf_8_are_no_text(kind: str, data: bytes) -> None:
    with pytest.raises(NotTextError, match="not UTF-8 but text in another encoding, or no text"):
        require_text(kind, data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (gzip.compress(CHAT, mtime=0), "application/gzip"),
        (b"PK\x03\x04\x14\x00\xff\xff", "application/zip"),
    ],
)
def test_bytes_that_are_no_text_are_called_what_they_are(data: bytes, expected: str) -> None:
    with pytest.raises(NotTextError, match=f"not UTF-8 but {expected}"):
        require_text("summary", data)


def test_a_character_that_begins_in_one_piece_and_ends_in_the_next_is_utf_8() -> None:
    assert require_text("summary", b"x" + "ü".encode() * 300_000) == "text/markdown; charset=utf-8"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'"Hello"', "begins with neither"),
        (b"5", "begins with neither"),
        (b"Hello", "begins with neither"),
        (b"1000,peer,user,cpi,Ada,Hello\n", "begins with neither"),
        (TRANSCRIPT[:-1], "Expecting ',' delimiter"),
        (TRANSCRIPT + TRANSCRIPT, "Extra data"),
        (b"[1,]", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[" * MIB, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"[1, \0]", "not JSON"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_transcript_that_is_not_json_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NotTextError, match=reason):
        require_text("transcript", data)


@pytest.mark.parametrize(
    "data", [b"1\n00:00:01,000 --> 00:00:02,000\nAda: Hi\n", b"\nWEBVTT\n", b"[1]", b"Hello"]
)
def test_captions_that_do_not_begin_as_captions_are_refused(data: bytes) -> None:
    with pytest.raises(NotTextError, match="WEBVTT"):
        require_text("captions", data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Service unavailable", "no comma"),
        (b"Service unavailable\na,b\n", "no comma"),
        (b'[{"payload": "Hi"}', "not JSON"),
        (b"[" * MIB, "nested too deeply"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_chat_that_is_neither_rows_nor_json_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NotTextError, match=reason):
        require_text("chat", data)


def test_an_error_says_nothing_of_what_was_said() -> None:
    with pytest.raises(NotTextError) as raised:
        require_text("transcript", b'[{"sentence": "our secret"} "our secret"]')

    assert str(raised.value) == (
        "the file is not JSON: Expecting ',' delimiter: line 1 column 29 (char 28)"
    )
    assert raised.value.__suppress_context__


@given(st.sampled_from(KINDS), st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_text_or_refused(kind: str, data: bytes) -> None:
    try:
        assert "/" in require_text(kind, data)
    except (EmptyTextError, NotTextError) as error:
        assert str(error)


# --- large files ---


def filled(value: bytes, size: int) -> bytes:
    """Return a JSON array of that value, of at most so many bytes."""
    return b"[" + b",".join([value] * ((size - 1) // (len(value) + 1))) + b"]"


def memory_of(kind: str, data: bytes) -> int:
    """Return the memory in bytes that the check takes at its peak, beside the file's."""
    tracemalloc.start()
    try:
        require_text(kind, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_largest_json_that_is_parsed_takes_a_quarter_of_the_functions_memory() -> None:
    """Of all values measured, these take the most memory for a byte."""
    assert memory_of("transcript", filled(b'{"":{}}', 4 * MIB)) < 140 * MIB


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("transcript", filled(TRANSCRIPT, 64 * MIB)),
        ("transcript", filled(b"[[]]", 64 * MIB - 100) + b"\n" * 100),
        ("captions", CAPTIONS * 1_000_000),
        ("summary", "👋".encode() * 16 * MIB),
        ("chat", HEADER + b"\n" * 64 * MIB),
        ("chat", b"payloadtype," * 5 * MIB),
        ("chat", filled(b'{"":{}}', 64 * MIB)),
    ],
    ids=["transcript", "brackets", "captions", "emoji", "line breaks", "one line", "chat"],
)
def test_a_text_of_64_mib_takes_little_memory_beside_its_bytes(kind: str, data: bytes) -> None:
    assert memory_of(kind, data) < 3 * MIB


@pytest.mark.parametrize(
    ("opening", "closing", "reason"),
    [
        (b"[", b"}", "does not end with ]"),
        (b"[", b"", "does not end with ]"),
        (b"{", b"]", "does not end with }"),
        (b"", b"]", "begins with neither"),
    ],
)
def test_json_too_large_to_parse_is_known_by_its_brackets(
    opening: bytes, closing: bytes, reason: str
) -> None:
    large = b"1," * 3 * MIB + b"1"

    assert require_text("transcript", b"[" + large + b"]\n") == "application/json"
    assert require_text("transcript", b"{" + large + b"}") == "application/json"
    with pytest.raises(NotTextError, match=reason):
        require_text("transcript", opening + large + closing)
