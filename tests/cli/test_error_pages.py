"""Error pages: one table for the command line's rule about media and the archive's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from realtimekit_recordings import error_pages
from recordings import media_types

TAR = b"{layer}.webm".ljust(100, b"\0") + b"0000644\0".ljust(157, b"\0") + b"ustar\00000".ljust(255)


@pytest.mark.parametrize("is_error_page", [error_pages.is_error_page, media_types.is_error_page])
@pytest.mark.parametrize(
    ("first_bytes", "content_type", "expected"),
    [
        (b"<html>sign in</html>", "video/mp4", True),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "", True),
        (b"<?xml version='1.0'?><Error/>", "application/octet-stream", True),
        (b"<Error><Code>AccessDenied</Code></Error>", "video/mp4", True),
        (b'{"error": "gone"}', "video/mp4", True),
        (b'["gone"]', "", True),
        (b'{"error": "\x00"}', "video/mp4", True),
        (b"<!-- sign in -->", "", True),
        (b"sign in", "text/plain; charset=utf-8", True),
        (b"sign in", "application/problem+json", True),
        (b"\0\0\0\x20ftypisom", "text/html", False),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "text/plain", False),
        (b"ID3\x03\0\0\0", "application/json", False),
        (b"#EXTM3U\n#EXT-X-VERSION:3", "text/plain", False),
        (b"WEBVTT\n\n00:00.000", "text/vtt", False),
        (TAR, "application/x-tar", False),
        (TAR, "text/plain", False),
        (b'{"a":' + TAR[5:], "application/x-tar", False),
        (b"0123456789", "application/octet-stream", False),
        (b"0123456789", "", False),
    ],
)
def test_an_error_page_is_told_from_a_file(
    is_error_page: Callable[[bytes, str], bool],
    first_bytes: bytes,
    content_type: str,
    expected: bool,
) -> None:
    assert is_error_page(first_bytes, content_type) is expected


@pytest.mark.parametrize(
    ("first_bytes", "content_type", "expected"),
    [
        (b"<!DOCTYPE html><p>Sign in", "", True),
        (b"\xef\xbb\xbf\n<html>sign in</html>", "text/csv", True),
        (b"<?xml version='1.0'?><Error/>", "", True),
        (b"<Error><Code>AccessDenied</Code></Error>", "", True),
        (b'{"success": false, "errors": []}', "application/json", True),
        (b'{ "error" : "gone"}', "", True),
        (b'{"errors":[{"code":10000}]}', "", True),
        (b"sign in", "text/html; charset=utf-8", True),
        (b'[{"startTime": 0, "sentence": "<html>"}]', "application/json", False),
        (b'{"transcript": []}', "application/json", False),
        (b"WEBVTT\n\n00:00.000", "text/vtt", False),
        (b"# Summary\n", "text/markdown; charset=utf-8", False),
        (b"<b>Summary</b>", "text/plain", False),
        (b"id,participantId,sessionId\n", "text/csv", False),
        (b"[]", "", False),
        (b"", "", False),
    ],
)
def test_an_error_is_told_from_a_sessions_file(
    first_bytes: bytes, content_type: str, expected: bool
) -> None:
    assert error_pages.is_error_text(first_bytes, content_type) is expected
