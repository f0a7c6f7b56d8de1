"""The headers of a linked file: its name, its content type, and whether a browser shows it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recordings.dispositions import (
    MAX_NAME_BYTES,
    Disposition,
    content_type,
    download_names,
    response_headers,
)

ATTACHMENT, INLINE = Disposition
EPOCH_NAME = "78e51061-7311-48a3-82ce-6f447ed4d57b_1780480804000.mp4"


def name_of(
    title: str | None = None,
    file_name: str | None = EPOCH_NAME,
    kind: str = "video",
    invoked_at: str | None = "2026-06-03T10:00:04.000Z",
    key: str | None = None,
) -> str:
    """Return the name under which the only file of a recording is saved."""
    artifact: dict[str, Any] = {"kind": kind}
    artifact |= {"file_name": file_name} if file_name is not None else {}
    artifact |= {"archive": {"state": "archived", "key": key}} if key else {}
    row = {"meeting_title": title, "invoked_at": invoked_at}
    row = {name: value for name, value in row.items() if value is not None}
    [(name, download_name)] = download_names(row, {kind: artifact})
    assert name == kind
    return download_name


# --- names ---


@pytest.mark.parametrize(
    ("title", "file_name", "expected"),
    [
        ("Weekly sync", EPOCH_NAME, "Weekly sync 2026-06-03 10.00 video.mp4"),
        ("Weekly sync", "team-a_1780480804000.webm", "Weekly sync 2026-06-03 10.00 video.webm"),
        ("Weekly sync", None, "Weekly sync 2026-06-03 10.00 video"),
        ("週次 – 定例", EPOCH_NAME, "週次 – 定例 2026-06-03 10.00 video.mp4"),
        (" Q1\n\tand\u2028 Q2 ", EPOCH_NAME, "Q1 and Q2 2026-06-03 10.00 video.mp4"),
        ("../../etc/passwd", EPOCH_NAME, "_.._etc_passwd 2026-06-03 10.00 video.mp4"),
        ('a/b\\c:d*e?f"g<h>i|j', EPOCH_NAME, "a_b_c_d_e_f_g_h_i_j 2026-06-03 10.00 video.mp4"),
        ("\x00\x1b]0;\x9b", EPOCH_NAME, "__]0;_ 2026-06-03 10.00 video.mp4"),
        ("gpj.\u202e", EPOCH_NAME, "gpj._ 2026-06-03 10.00 video.mp4"),
        ("CON", EPOCH_NAME, "CON 2026-06-03 10.00 video.mp4"),
        (".hidden", EPOCH_NAME, "hidden 2026-06-03 10.00 video.mp4"),
        ("invoice.exe", EPOCH_NAME, "invoice.exe 2026-06-03 10.00 video.mp4"),
    ],
)
def test_a_file_is_saved_under_title_date_time_and_kind(
    title: str, file_name: str | None, expected: str
) -> None:
    assert name_of(title, file_name) == expected


@pytest.mark.parametrize("title", [None, "", "  ", "..."])
@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("team-a_1780480804000.mp4", "team-a_1780480804000.mp4"),
        ("a/../b\r\n.mp4", "a_.._b.mp4"),
        (EPOCH_NAME, "2026-06-03 10.00 video.mp4"),
        (EPOCH_NAME.removesuffix("_1780480804000.mp4"), "2026-06-03 10.00 video"),
        ("1780480804000.mp4", "2026-06-03 10.00 video.mp4"),
        ("{{file_name_prefix}}_{{user_id}}.webm", "2026-06-03 10.00 video.webm"),
        (None, "2026-06-03 10.00 video"),
    ],
)
def test_without_a_title_a_file_has_its_own_name_or_date_time_and_kind(
    title: str | None, file_name: str | None, expected: str
) -> None:
    assert name_of(title, file_name) == expected


@pytest.mark.parametrize("invoked_at", [None, "", "yesterday", "2026-06-03"])
def test_without_a_time_a_file_is_saved_under_title_and_kind(invoked_at: str | None) -> None:
    assert name_of("Weekly sync", invoked_at=invoked_at) == "Weekly sync video.mp4"
    assert name_of(invoked_at=invoked_at) == "video.mp4"


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("transcript", "json"), ("captions", "vtt"), ("summary", "md"), ("chat", "csv")],
)
def test_a_sessions_file_has_the_suffix_of_its_object(kind: str, suffix: str) -> None:
    key = f"app/2026/06/03/recording/{kind}/05b6e6e3-07d4-4edc-9143-1193e6c3f339.{suffix}"

    assert name_of("Weekly sync", None, kind, key=key) == (
        f"Weekly sync 2026-06-03 10.00 {kind}.{suffix}"
    )
    assert name_of(None, None, kind, key=key) == f"2026-06-03 10.00 {kind}.{suffix}"


def test_several_tracks_have_their_number_and_their_participant() -> None:
    tracks = {
        "track/default/a.webm": {"kind": "track", "file_name": "a.webm", "participant_id": "mary"},
        "track/default/b.webm": {"kind": "track", "file_name": "b.webm", "participant_id": "mary"},
        "track/default/c.webm": {"kind": "track", "file_name": "c.webm"},
        "transcript": {"kind": "transcript"},
    }
    row = {"meeting_title": "Weekly sync", "invoked_at": "2026-06-03T10:00:04.000Z"}

    assert dict(download_names(row, tracks)) == {
        "track/default/a.webm": "Weekly sync 2026-06-03 10.00 track 1 mary.webm",
        "track/default/b.webm": "Weekly sync 2026-06-03 10.00 track 2 mary.webm",
        "track/default/c.webm": "Weekly sync 2026-06-03 10.00 track 3.webm",
        "transcript": "Weekly sync 2026-06-03 10.00 transcript",
    }


def test_tracks_of_long_names_keep_their_numbers() -> None:
    tracks = {
        name: {"kind": "track", "file_name": f"{name}.webm", "participant_id": "p" * 1024}
        for name in ("a", "b")
    }
    row = {"meeting_title": "t" * 1024, "invoked_at": "2026-06-03T10:00:04.000Z"}

    first, second = dict(download_names(row, tracks)).values()

    assert first == f"{'t' * 109} 2026-06-03 10.00 track 1 {'p' * 60}.webm"
    assert len(first) == len(second) == 200
    assert first != second


@given(st.text(), st.text(), st.text(), st.booleans())
@example(title="", file_name="\r", participant="", is_one_of_two=False)
def test_whatever_it_is_called_a_name_is_short_one_line_and_no_path(
    title: str, file_name: str, participant: str, is_one_of_two: bool
) -> None:
    artifact = {"kind": "track", "file_name": file_name, "participant_id": participant}
    tracks = {"a": artifact, **({"b": artifact} if is_one_of_two else {})}
    row = {"meeting_title": title, "invoked_at": "2026-06-03T10:00:04.000Z"}

    name = dict(download_names(row, tracks))["a"]

    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & set('/\\"<>:|?*\0\r\n\u202e\u2028')
    assert not name.startswith((".", " "))


# --- content types ---


@pytest.mark.parametrize(
    ("kind", "file_name", "saved", "shown"),
    [
        ("video", "a.mp4", "video/mp4", "video/mp4"),
        ("video", "a.MP4", "video/mp4", "video/mp4"),
        ("video", "a.webm", "video/webm", "video/webm"),
        ("track", "a.webm", "audio/webm", "audio/webm"),
        ("audio", "a.mp4", "audio/mp4", "audio/mp4"),
        ("audio", "a.mp3", "audio/mpeg", "audio/mpeg"),
        ("audio", "a.m4a", "audio/mp4", "audio/mp4"),
        ("audio", "a.aac", "audio/aac", "audio/aac"),
        ("captions", "a.vtt", "text/vtt; charset=utf-8", "text/vtt; charset=utf-8"),
        ("transcript", "a.json", "application/json", "text/plain; charset=utf-8"),
        ("chat", "a.csv", "text/csv; charset=utf-8", "text/plain; charset=utf-8"),
        ("summary", "a.md", "text/markdown; charset=utf-8", "text/plain; charset=utf-8"),
        ("summary", "a.txt", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("video", "a.tar", "application/x-tar", None),
        *(
            ("video", name, None, None)
            for name in ("a.html", "a.svg", "a.xml", "a.xhtml", "a.pdf", "a.js", "a", "", "mp4")
        ),
    ],
)
def test_a_content_type_follows_from_kind_and_suffix(
    kind: str, file_name: str, saved: str | None, shown: str | None
) -> None:
    assert content_type(kind, file_name, ATTACHMENT) == saved
    assert content_type(kind, file_name, INLINE) == shown


def test_a_file_to_be_saved_keeps_the_type_that_it_was_stored_with() -> None:
    assert response_headers(ATTACHMENT, "a.mp4", "video/mp4") == {
        "ResponseContentDisposition": 'attachment; filename="a.mp4"'
    }


def test_a_file_to_be_shown_has_a_type_that_browsers_show() -> None:
    assert response_headers(INLINE, "a.mp4", "video/mp4") == {
        "ResponseContentDisposition": 'inline; filename="a.mp4"',
        "ResponseContentType": "video/mp4",
    }


def test_a_file_of_unknown_type_is_saved_even_if_it_is_to_be_shown() -> None:
    """HTML would run with the rights of the bucket's origin."""
    assert response_headers(INLINE, "a.html", None) == {
        "ResponseContentDisposition": 'attachment; filename="a.html"',
        "ResponseContentType": "application/octet-stream",
    }


# --- the header ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Weekly sync (1).mp4", 'attachment; filename="Weekly sync (1).mp4"'),
        (
            "Café 100%.mp4",
            "attachment; filename=\"Caf_ 100_.mp4\"; filename*=UTF-8''Caf%C3%A9%20100%25.mp4",
        ),
        (
            "it's; a=b.mp4",
            "attachment; filename=\"it_s_ a=b.mp4\"; filename*=UTF-8''it%27s%3B%20a%3Db.mp4",
        ),
    ],
)
def test_a_name_beyond_ascii_is_given_twice(name: str, expected: str) -> None:
    headers = response_headers(ATTACHMENT, name, None)

    assert headers["ResponseContentDisposition"] == expected


@given(st.text())
def test_no_title_breaks_the_header(title: str) -> None:
    header = response_headers(INLINE, name_of(title), "video/mp4")["ResponseContentDisposition"]

    match = re.fullmatch(
        r'inline; filename="([0-9A-Za-z ._()+,@=-]+)"(; filename\*=UTF-8\'\'([!-~]+))?', header
    )
    assert match
    assert unquote(match[3] or match[1]) == name_of(title)
