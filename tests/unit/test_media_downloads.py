"""A recording's file at its presigned URL: allowed hosts, checks, bytes."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from doubles import Answer, Upstream
from realtimekit_simulator import (
    Delay,
    Drop,
    Effect,
    Headers,
    IgnoreRange,
    Kind,
    Recording,
    RecordingOptions,
    Replaced,
    Reset,
    Resize,
    Simulator,
    Truncate,
    html,
    storage_failure,
)
from recordings.media import (
    ForbiddenHostError,
    Media,
    MediaChangedError,
    MediaError,
    MediaMissingError,
    MediaUnavailableError,
    NotMediaError,
    UrlExpiredError,
    WrongLengthError,
    is_public,
)
from recordings.media_types import is_error_page, is_media, media_type, stored_type

MIB = 1024 * 1024
CANARY = "X-Amz-Signature=canary"
VIDEO = {"Content-Type": "video/mp4", "ETag": '"one"'}


@pytest.fixture
def recording(simulator: Simulator) -> Recording:
    return simulator.world.record_meeting(options=RecordingOptions(file_size=3 * MIB))


@pytest.fixture
def url(simulator: Simulator, recording: Recording) -> str:
    return simulator.world.media_url(recording, recording.artifacts[0])


@pytest.fixture
def whole(simulator: Simulator, recording: Recording) -> bytes:
    [file] = simulator.world.media_files(recording)
    return file.read()


def ranges(simulator: Simulator) -> list[str | None]:
    return [logged.range for logged in simulator.requests]


def test_a_file_is_described_by_its_first_bytes(
    media: Media, url: str, simulator: Simulator, recording: Recording
) -> None:
    [source] = simulator.world.media_files(recording)

    file = media.open(url)

    assert (file.size, file.etag, file.content_type) == (3 * MIB, source.etag, "video/mp4")
    assert file.has_ranges
    assert [(r.method, r.range) for r in simulator.requests] == [("GET", "bytes=0-511")]


@pytest.mark.parametrize(("start", "stop"), [(0, 3 * MIB), (5, 6), (MIB - 1, 2 * MIB + 1)])
def test_any_part_can_be_had(media: Media, url: str, whole: bytes, start: int, stop: int) -> None:
    assert b"".join(media.open(url).chunks(start, stop)) == whole[start:stop]


def test_nothing_of_ours_goes_along(media: Media, upstream: Upstream) -> None:
    upstream.says(Answer(b"\0" * 10, headers=VIDEO))

    media.open(f"{upstream.url}/a.mp4?{CANARY}")

    [(_, headers)] = upstream.requests
    assert {name.lower() for name in headers} == {
        "host",
        "range",
        "accept-encoding",
        "user-agent",
    }


# --- where it may be ---


@pytest.mark.parametrize(
    "url",
    [
        "https://account.r2.cloudflarestorage.com.evil.example/a.mp4",
        "https://evilr2.cloudflarestorage.com/a.mp4",
        "https://evil.example/.r2.cloudflarestorage.com",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/a.mp4",
        "https://storage.googleapis.com@evil.example/a.mp4",
        "https://user@storage.googleapis.com/a.mp4",
        "https://storage.googleapis.com:8443/a.mp4",
        "http://storage.googleapis.com/a.mp4",
        "http://127.0.0.1/a.mp4",
        "file:///etc/passwd",
        "https://storage.googleapis.com:port/a.mp4",
        "https://[storage.googleapis.com/a.mp4",
        "//storage.googleapis.com/a.mp4",
        "",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    media = Media((".r2.cloudflarestorage.com", "storage.googleapis.com"))

    with pytest.raises(ForbiddenHostError):
        media.open(url)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://evil.example/",
        "//evil.example/",
        "http://localhost/",
    ],
)
def test_a_redirect_that_leads_elsewhere_is_refused(
    media: Media, upstream: Upstream, target: str
) -> None:
    upstream.says(Answer(status=302, headers={"Location": target}))

    with pytest.raises(ForbiddenHostError):
        media.open(f"{upstream.url}/a.mp4")

    assert len(upstream.requests) == 1


def test_a_redirect_to_an_allowed_host_is_followed(media: Media, upstream: Upstream) -> None:
    upstream.says(
        Answer(status=307, headers={"Location": "/elsewhere.mp4"}),
        Answer(b"\0" * 10, headers=VIDEO),
    )

    assert media.open(f"{upstream.url}/a.mp4").size == 10

    assert upstream.paths == ["/a.mp4", "/elsewhere.mp4"]


def test_redirects_that_do_not_end_are_not_followed_for_ever(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(status=302, headers={"Location": "/again"}))

    with pytest.raises(MediaUnavailableError, match="too many redirects"):
        media.open(f"{upstream.url}/a.mp4")

    assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.googleapis.com/a.mp4",
        "https://chats.s3.eu-central-1.amazonaws.com/a.csv",
        "https://vpce-0a1b.s3.eu-central-1.vpce.amazonaws.com/a.csv",
    ],
)
def test_an_allowed_name_at_a_private_address_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The owner of a name's DNS decides where the name leads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

        with pytest.raises(MediaUnavailableError):
            Media(("storage.googleapis.com", ".amazonaws.com")).open(url)

        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("172.64.66.1", True),
        ("2606:4700::6810:84e5", True),
        ("10.0.0.1", False),
        ("172.16.5.4", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


# --- what it may be ---


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (html(200), NotMediaError),
        (storage_failure(200), NotMediaError),
        (storage_failure(400, "ExpiredRequest"), UrlExpiredError),
        (storage_failure(403, "AccessDenied"), UrlExpiredError),
        (storage_failure(404, "NoSuchKey"), MediaMissingError),
        (storage_failure(410, "Gone"), MediaMissingError),
        (storage_failure(418, "Teapot"), NotMediaError),
        (storage_failure(429, "SlowDown"), MediaUnavailableError),
        (storage_failure(503, "SlowDown"), MediaUnavailableError),
        (html(502), MediaUnavailableError),
        (Drop(), MediaUnavailableError),
        (Delay(60), MediaUnavailableError),
        (Truncate(0), MediaUnavailableError),
        (Headers({"Content-Range": "bytes 0-511/999999999999999"}), WrongLengthError),
    ],
    ids=repr,
)
def test_what_is_no_recording_says_what_it_is_instead(
    media: Media, simulator: Simulator, url: str, effect: Effect, error: type[MediaError]
) -> None:
    simulator.faults.add(effect, path="^/media/")

    with pytest.raises(error) as raised:
        media.open(url)

    assert "X-Amz" not in f"{raised.value} {raised.value.__cause__}"
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<!DOCTYPE html><html></html>", "error page"),
        (b'\xef\xbb\xbf  <?xml version="1.0"?><Error/>', "error page"),
        (b'{"message": "Internal server error"}', "error page"),
        (b"", "empty"),
    ],
)
def test_an_error_page_with_the_files_content_type_is_no_recording(
    media: Media, upstream: Upstream, body: bytes, reason: str
) -> None:
    upstream.says(Answer(body, headers=VIDEO))

    with pytest.raises(NotMediaError, match=reason):
        media.open(f"{upstream.url}/a.mp4")


TAR = b"{weird}.ts".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")
FIRST_BYTES = [
    (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00", "video/mp4"),
    (b"\x00\x00\x00\x08mdat", "video/mp4"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
    (b"\x1a\x45\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", "video/x-matroska"),
    (b"RIFF\x24\x08\x00\x00WAVEfmt ", "audio/wav"),
    (b"ID3\x04\x00\x00", "audio/mpeg"),
    (b"\xff\xfb\x90\x64", "audio/mpeg"),
    (b"\xff\xf1\x50\x80", "audio/aac"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),
    (b"OggS\x00\x02", "application/ogg"),
    (TAR, "application/x-tar"),
    (b"PK\x03\x04\x14\x00", "application/zip"),
    ((b"G" + bytes(187)) * 3, "video/mp2t"),
    (b"#EXTM3U\n#EXT-X-VERSION:3\n", "application/vnd.apple.mpegurl"),
    (b"\xef\xbb\xbfWEBVTT\n\n00:00.000", "text/vtt"),
    (b"\x1f\x8b\x08\x00", "application/gzip"),
]


@pytest.mark.parametrize(("start", "expected"), FIRST_BYTES)
def test_first_bytes_show_what_a_file_is_whatever_its_label_says(
    start: bytes, expected: str
) -> None:
    assert media_type(start) == expected
    for label in ("", "text/plain", "text/html", "application/json", "image/png"):
        assert not is_error_page(start, label)
        assert is_media(start, label)


@pytest.mark.parametrize(
    ("start", "label"),
    [
        (b"<!DOCTYPE html><html></html>", "video/mp4"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?><Error/>", ""),
        (b'\r\n{"message": "Internal server error"}', "application/octet-stream"),
        (b'[{"code": 10000}]', "audio/webm"),
        (b"<HTML><body>" + bytes(100), "video/mp4"),
        (b"upstream connect error", "text/plain; charset=utf-8"),
        (b"Not free", "text/html"),
        (b'"gone"', "application/problem+json"),
        (b"oops", "application/vnd.api+json"),
    ],
)
def test_an_error_page_is_known_by_its_bytes_or_its_label(start: bytes, label: str) -> None:
    assert is_error_page(start, label)
    assert not is_media(start, label)


OLD_TAR = b"{a}.ts".ljust(100, b"\0") + b"0000644\x00"


@pytest.mark.parametrize(
    ("start", "label", "expected"),
    [
        (OLD_TAR, "application/x-tar", True),
        (b"<\x00\x01", "video/mp4", True),
        (b"\x00\x01\x02", "", True),
        (b"\x00\x01\x02", "APPLICATION/OCTET-STREAM; x=y", True),
        (b"\x00\x01\x02", "application/force-download", True),
        (b"\x00\x01\x02", "image/png", False),
        (b"\x00\x01\x02", "text/html", False),
    ],
)
def test_bytes_that_show_nothing_are_what_their_label_says_but_no_error_page(
    start: bytes, label: str, expected: bool
) -> None:
    assert not is_error_page(start, label)
    assert is_media(start, label) is expected


def test_an_empty_file_is_no_recording(media: Media, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting(options=RecordingOptions(file_size=0))
    url = simulator.world.media_url(recording, recording.artifacts[0])

    with pytest.raises(NotMediaError, match="empty"):
        media.open(url)


@pytest.mark.parametrize(
    ("effect", "size", "is_urgent"),
    [
        (Headers({"Content-Type": "image/png"}), 1000, False),
        (Headers({"Content-Type": "image/png"}), 7, True),
        (Headers({"Content-Type": "text/html"}), 7, True),
        (Headers({"Content-Type": "video/mp4"}), 7, True),
    ],
    ids=repr,
)
def test_a_label_is_outweighed_by_the_right_size_and_by_urgency(
    media: Media, upstream: Upstream, effect: Headers, size: int, is_urgent: bool
) -> None:
    label = effect.headers["Content-Type"] or ""
    upstream.says(Answer(b"\0" * 1000, headers={"Content-Type": label}))

    file = media.open(f"{upstream.url}/a", size=size, is_urgent=is_urgent)

    assert b"".join(file.stream()) == b"\0" * 1000


@pytest.mark.parametrize(
    ("label", "size", "error"),
    [
        ("image/png", 7, NotMediaError),
        ("text/html", None, NotMediaError),
        ("", 7, WrongLengthError),
    ],
)
def test_bytes_that_show_nothing_are_refused_with_a_strange_label_or_a_wrong_size(
    media: Media, upstream: Upstream, label: str, size: int | None, error: type[MediaError]
) -> None:
    upstream.says(Answer(b"\0" * 1000, headers={"Content-Type": label}))

    with pytest.raises(error):
        media.open(f"{upstream.url}/a", size=size)


def test_an_error_page_is_refused_however_urgent_and_long_it_is(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(b"<html>" + b" " * 994, headers=VIDEO))

    with pytest.raises(NotMediaError, match="error page"):
        media.open(f"{upstream.url}/a", size=1000, is_urgent=True)


@pytest.mark.parametrize(
    ("said", "name", "expected"),
    [
        ("video/mp4", "a.mp4", "video/mp4"),
        ("audio/webm; codecs=opus", "a.webm", "audio/webm"),
        ("application/octet-stream", "a.mp4", "video/mp4"),
        ("binary/octet-stream", "a.MP3", "audio/mpeg"),
        ("application/octet-stream", "a.tar", "application/x-tar"),
        ("application/octet-stream", "nothing", "application/octet-stream"),
        (None, "a.webm", "video/webm"),
    ],
)
def test_a_player_is_told_what_it_is(
    media: Media, upstream: Upstream, said: str | None, name: str, expected: str
) -> None:
    upstream.says(Answer(b"\0" * 10, headers={"Content-Type": said} if said else {}))

    file = media.open(f"{upstream.url}/{name}")

    assert stored_type(file.content_type, name) == expected


def test_a_track_is_audio(media: Media, simulator: Simulator) -> None:
    options = RecordingOptions(kind=Kind.TRACK, participants=1, duration=60)
    recording = simulator.world.record_meeting(options=options)

    file = media.open(simulator.world.media_url(recording, recording.artifacts[0]))

    assert file.content_type == "audio/webm"


# --- its bytes ---


@pytest.mark.parametrize(
    "effect", [Truncate(0.4), Reset(MIB), Drop(), storage_failure(503)], ids=repr
)
def test_what_breaks_off_is_taken_up_where_it_broke_off(
    media: Media, simulator: Simulator, url: str, whole: bytes, effect: Effect
) -> None:
    file = media.open(url)
    simulator.faults.add(effect, path="^/media/", times=2)

    assert b"".join(file.chunks(0, 3 * MIB)) == whole


def test_what_makes_no_progress_is_given_up(media: Media, simulator: Simulator, url: str) -> None:
    file = media.open(url)
    simulator.faults.add(Truncate(0), path="^/media/", times=None)

    with pytest.raises(MediaUnavailableError):
        b"".join(file.chunks(0, 3 * MIB))

    assert ranges(simulator)[1:] == ["bytes=0-3145727"] * 3


def test_bytes_that_are_there_are_not_asked_for_again(
    media: Media, simulator: Simulator, url: str
) -> None:
    file = media.open(url)
    simulator.faults.add(Truncate(size=2 * MIB), path="^/media/")

    b"".join(file.chunks(0, 3 * MIB))

    assert ranges(simulator)[1:] == ["bytes=0-3145727", "bytes=2097152-3145727"]


@pytest.mark.parametrize(
    "effect",
    [
        Replaced(),
        IgnoreRange(),
        Headers({"ETag": '"another"'}),
        Headers({"ETag": None}),
        Headers({"Content-Range": "bytes 0-9/10"}),
        storage_failure(412, "PreconditionFailed"),
    ],
    ids=repr,
)
def test_another_file_at_the_same_place_is_not_mistaken_for_it(
    media: Media, simulator: Simulator, url: str, effect: Effect
) -> None:
    file = media.open(url)
    simulator.faults.add(effect, path="^/media/")

    with pytest.raises(MediaChangedError):
        b"".join(file.chunks(0, 3 * MIB))


def test_a_body_that_ends_early_but_well_is_not_the_whole(
    media: Media, simulator: Simulator, url: str, whole: bytes
) -> None:
    """The Content-Length agrees with the shortened body, so it is no proof."""
    file = media.open(url)
    simulator.faults.add(Resize(100), path="^/media/")

    assert b"".join(file.chunks(0, 3 * MIB)) == whole


@pytest.fixture
def rangeless(simulator: Simulator, url: str) -> str:
    simulator.faults.add(IgnoreRange(), path="^/media/", times=None)
    return url


def test_without_ranges_the_answer_that_was_looked_at_is_the_one_that_is_read(
    media: Media, simulator: Simulator, rangeless: str, whole: bytes
) -> None:
    file = media.open(rangeless)
    simulator.faults.clear()
    simulator.faults.add(html(200), path="^/media/", times=None)

    assert not file.has_ranges
    assert b"".join(file.stream()) == whole
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (html(200), NotMediaError),
        (Headers({"Content-Type": "image/png"}), None),
        (storage_failure(403, "AccessDenied"), UrlExpiredError),
        (Resize(7), WrongLengthError),
        (Headers({"Content-Length": "0"}), NotMediaError),
    ],
    ids=repr,
)
def test_the_second_answer_is_looked_at_too_where_the_first_is_a_range_of_no_use(
    media: Media, simulator: Simulator, url: str, effect: Effect, error: type[MediaError] | None
) -> None:
    simulator.faults.add(Headers({"ETag": None}), path="^/media/")
    simulator.faults.add(effect, path="^/media/")

    if error is None:
        assert media.open(url, size=3 * MIB).size == 3 * MIB
    else:
        with pytest.raises(error):
            media.open(url, size=3 * MIB)
    assert ranges(simulator) == ["bytes=0-511", None]


def test_without_ranges_what_breaks_off_is_said(media: Media, upstream: Upstream) -> None:
    headers = {"Content-Type": "video/mp4", "Content-Length": "2000"}
    upstream.says(Answer(b"\0" * 1000, headers=headers))
    file = media.open(f"{upstream.url}/a.mp4")

    with pytest.raises(MediaUnavailableError, match="broke off"):
        b"".join(file.stream())
    file.close()


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted"])
def test_without_a_strong_etag_no_range_is_sure_to_be_of_the_same_file(
    media: Media, simulator: Simulator, url: str, etag: str | None
) -> None:
    simulator.faults.add(Headers({"ETag": etag}), path="^/media/", times=None)

    file = media.open(url)

    assert file.etag is None
    assert not file.has_ranges


# --- its length ---

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 8
LABEL = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
CLOSED = LABEL + b"\r\n" + MP4
CHUNKED = LABEL + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(MP4), MP4)


class Wire:
    """A server on this machine that sends each connection the next of these bytes, and closes it.

    With `pause`, each byte of what follows the burst comes so many seconds after the last.
    """

    def __init__(self, *answers: bytes, pause: float = 0, burst: int = 4096) -> None:
        self._answers = list(answers)
        self._pause = pause
        self._burst = burst
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/a.mp4"

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                connection.sendall(answer[: self._burst])
                for byte in answer[self._burst :]:
                    time.sleep(self._pause)
                    connection.sendall(bytes([byte]))

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def wire() -> Iterator[Callable[..., str]]:
    """Start a server for these answers, and return its URL."""
    servers: list[Wire] = []

    def make(*answers: bytes, **options: Any) -> str:
        servers.append(Wire(*answers, **options))
        return servers[-1].url

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (CHUNKED, None),
        (CLOSED, len(MP4)),
        (LABEL + b"Content-Length: %d, %d\r\n\r\n%b" % (len(MP4), len(MP4), MP4), None),
        (LABEL + b"Content-Length: %d\r\n" % len(MP4) * 2 + b"\r\n" + MP4, None),
        (LABEL + b"Content-Encoding: binary\r\n\r\n" + MP4, len(MP4)),
    ],
    ids=["chunked", "closed", "doubled", "two headers", "strange encoding"],
)
def test_a_file_whose_length_is_not_said_or_said_twice_is_taken(
    media: Media, wire: Callable[..., str], answer: bytes, size: int | None
) -> None:
    answer = answer.replace(LABEL * 2, LABEL)

    with contextlib.closing(media.open(wire(answer), size=size)) as file:
        assert b"".join(file.stream()) == MP4


@pytest.mark.parametrize("said", ["bytes 0-511/*", None, "bytes 0-511/9999999999999999"])
def test_where_a_range_does_not_say_the_whole_size_the_whole_does(
    media: Media, simulator: Simulator, url: str, whole: bytes, said: str | None
) -> None:
    simulator.faults.add(Headers({"Content-Range": said}), path="^/media/")

    file = media.open(url)

    assert file.size == 3 * MIB
    assert b"".join(file.stream()) == whole


def test_a_body_that_ends_with_its_connection_is_taken_for_whole_only_when_time_is_short(
    media: Media, wire: Callable[..., str]
) -> None:
    with pytest.raises(WrongLengthError, match="says the length"):
        media.open(wire(CLOSED))
    with contextlib.closing(media.open(wire(CLOSED), is_urgent=True)) as file:
        assert b"".join(file.stream()) == MP4
    with (
        contextlib.closing(media.open(wire(CLOSED), size=7)) as file,
        pytest.raises(WrongLengthError, match="not 7"),
    ):
        b"".join(file.stream())


def test_chunks_without_their_end_are_never_the_whole(
    media: Media, wire: Callable[..., str]
) -> None:
    cut = CHUNKED.removesuffix(b"0\r\n\r\n")

    with (
        contextlib.closing(media.open(wire(cut), size=len(MP4), is_urgent=True)) as file,
        pytest.raises(MediaUnavailableError),
    ):
        b"".join(file.stream())


GZIPPED = gzip.compress(MP4[:700], mtime=0) + gzip.compress(MP4[700:], mtime=0)


@pytest.mark.parametrize(
    ("coding", "body", "size"),
    [
        ("gzip", GZIPPED, None),
        ("gzip", GZIPPED, len(MP4)),
        ("x-gzip", GZIPPED, len(GZIPPED)),
        ("deflate", zlib.compress(MP4), None),
        ("gzip", MP4, len(MP4)),
        ("aws-chunked", MP4, len(MP4)),
    ],
    ids=["gzip", "gzip, its size", "x-gzip", "deflate", "no gzip", "aws-chunked"],
)
def test_a_compressed_body_is_decoded_and_a_label_that_lies_is_not_believed(
    media: Media, upstream: Upstream, coding: str, body: bytes, size: int | None
) -> None:
    upstream.says(Answer(body, headers={**VIDEO, "Content-Encoding": coding}))

    file = media.open(f"{upstream.url}/a.mp4", size=size)

    assert b"".join(file.stream()) == MP4
    assert (file.content_type, file.content_encoding) == ("video/mp4", None)


def test_an_encoding_that_we_cannot_decode_is_kept_with_its_name(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(b"\x8b\x00\x80", headers={**VIDEO, "Content-Encoding": "br"}))

    file = media.open(f"{upstream.url}/a.mp4")

    assert b"".join(file.stream()) == b"\x8b\x00\x80"
    assert file.content_encoding == "br"


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"<html></html>", mtime=0), gzip.compress(MP4, mtime=0)[:-9]],
    ids=["a page", "half a file"],
)
def test_a_compressed_page_or_half_a_file_is_no_recording(
    media: Media, upstream: Upstream, body: bytes
) -> None:
    upstream.says(Answer(body, headers={**VIDEO, "Content-Encoding": "gzip"}))

    with pytest.raises(MediaError):
        b"".join(media.open(f"{upstream.url}/a.mp4", is_urgent=True).stream())


def test_what_is_gzip_by_its_bytes_alone_is_not_called_a_video(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(GZIPPED, headers=VIDEO))

    assert media.open(f"{upstream.url}/a.mp4").content_type == "application/gzip"


# --- ranges of another length than requested ---


def ranged(first: int, last: int, body: bytes) -> Answer:
    said = f"bytes {first}-{last}/{len(MP4)}"
    return Answer(body, status=206, headers={**VIDEO, "Content-Range": said})


def test_of_a_short_range_what_came_is_taken_and_the_rest_asked_for(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(
        ranged(0, 99, MP4[:100]),
        ranged(0, 999, MP4[:1000]),
        ranged(1000, len(MP4) - 1, MP4[1000:]),
    )

    assert b"".join(media.open(f"{upstream.url}/a.mp4").chunks(0, len(MP4))) == MP4

    asked = [headers["Range"] for _, headers in upstream.requests]
    assert asked == ["bytes=0-511", "bytes=0-2059", "bytes=1000-2059"]


def test_of_a_long_range_no_more_is_taken_than_was_asked_for(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(ranged(0, 511, MP4[:512]), ranged(5, len(MP4) - 1, MP4[5:]))

    assert b"".join(media.open(f"{upstream.url}/a.mp4").chunks(5, 9)) == MP4[5:9]


def test_a_storage_that_refuses_ranges_of_a_file_is_asked_for_the_whole(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(status=416), Answer(MP4, headers=VIDEO))

    assert b"".join(media.open(f"{upstream.url}/a.mp4").stream()) == MP4


# --- connections and time ---


def test_a_connection_that_died_while_it_was_kept_is_replaced_once(
    media: Media, simulator: Simulator, url: str
) -> None:
    media.open(url)
    simulator.faults.add(Drop(), path="^/media/")

    assert media.open(url).size == 3 * MIB

    assert len(simulator.requests) == 3


def test_a_new_connection_that_breaks_is_not_replaced(
    media: Media, simulator: Simulator, url: str
) -> None:
    media.open(url)
    simulator.faults.add(Drop(), path="^/media/", times=2)

    with pytest.raises(MediaUnavailableError):
        media.open(url)

    assert len(simulator.requests) == 3


class OverError(Exception):
    """Raised by the test's `require_time`."""


def test_a_trickle_does_not_hold_up_whoever_has_no_more_time(
    media: Media, wire: Callable[..., str]
) -> None:
    """A byte comes just before each read times out, and time is checked after each byte."""
    looks: list[None] = []

    def require_time() -> None:
        looks.append(None)
        if len(looks) == 3:
            raise OverError

    body = MP4 * 3
    answer = LABEL + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    received: list[bytes] = []

    with contextlib.closing(media.open(wire(answer, pause=0.1))) as file, pytest.raises(OverError):
        received.extend(file.stream(require_time))

    assert len(b"".join(received)) < 5000


def test_a_beginning_that_trickles_does_not_hold_up_either(
    media: Media, wire: Callable[..., str]
) -> None:
    looks: list[None] = []

    def require_time() -> None:
        looks.append(None)
        if len(looks) == 4:
            raise OverError

    url = wire(CHUNKED, pause=0.1, burst=len(LABEL) + 40)

    with pytest.raises(OverError):
        media.open(url, require_time=require_time)


def test_between_two_tries_the_time_is_looked_at(
    media: Media, simulator: Simulator, url: str
) -> None:
    file = media.open(url)
    simulator.faults.add(Truncate(0), path="^/media/", times=None)

    def require_time() -> None:
        if len(simulator.requests) == 2:
            raise OverError

    with pytest.raises(OverError):
        b"".join(file.chunks(0, 3 * MIB, require_time))

    assert len(simulator.requests) == 2


def test_a_range_is_asked_for_only_of_the_file_that_was_opened(
    media: Media, upstream: Upstream
) -> None:
    """A storage that knows `If-Match` refuses to send bytes of another file."""
    upstream.says(
        Answer(b"\0" * 10, 206, {**VIDEO, "Content-Range": "bytes 0-9/10"}),
        Answer(b"\0" * 4, 206, {**VIDEO, "Content-Range": "bytes 2-5/10"}),
    )

    assert b"".join(media.open(f"{upstream.url}/a.mp4").chunks(2, 6)) == b"\0" * 4

    asked = [(headers["Range"], headers.get("If-Match")) for _, headers in upstream.requests]
    assert asked == [("bytes=0-511", None), ("bytes=2-5", '"one"')]


# --- a small file in memory ---

PLAIN = b"WEBVTT\n\n00:00.000 --> 00:02.000\nAda: " + bytes(range(97, 123)) * 100
TEXT = {"Content-Type": "text/html"}


def test_a_small_file_is_read_by_one_request_whatever_it_is(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(PLAIN, headers=TEXT))

    assert media.read(f"{upstream.url}/a.vtt?{CANARY}", max_bytes=MIB) == PLAIN

    [(_, headers)] = upstream.requests
    assert {name.lower() for name in headers} == {"host", "accept-encoding", "user-agent"}


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Encoding": "gzip"}, {"Content-Type": "text/csv"}], ids=repr
)
def test_a_small_file_may_be_empty(
    media: Media, upstream: Upstream, headers: dict[str, str]
) -> None:
    upstream.says(Answer(b"", headers=headers))

    assert media.read(f"{upstream.url}/a.csv", max_bytes=MIB) == b""


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(PLAIN[:700], mtime=0) + gzip.compress(PLAIN[700:], mtime=0)),
        ("x-gzip", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("gzip", PLAIN),
        ("aws-chunked", PLAIN),
    ],
    ids=["gzip", "x-gzip", "deflate", "no gzip", "aws-chunked"],
)
def test_a_small_file_is_decoded_and_a_label_that_lies_is_not_believed(
    media: Media, upstream: Upstream, coding: str, body: bytes
) -> None:
    upstream.says(Answer(body, headers={"Content-Encoding": coding}))

    assert media.read(f"{upstream.url}/a.vtt", max_bytes=len(PLAIN)) == PLAIN


def test_a_small_file_that_comes_in_chunks_is_read_to_its_end(
    media: Media, wire: Callable[..., str]
) -> None:
    assert media.read(wire(CHUNKED), max_bytes=len(MP4)) == MP4


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (storage_failure(400, "ExpiredRequest"), UrlExpiredError),
        (storage_failure(403, "AccessDenied"), UrlExpiredError),
        (storage_failure(404, "NoSuchKey"), MediaMissingError),
        (storage_failure(418, "Teapot"), NotMediaError),
        (storage_failure(429, "SlowDown"), MediaUnavailableError),
        (storage_failure(503, "SlowDown"), MediaUnavailableError),
        (Drop(), MediaUnavailableError),
        (Truncate(0.5), MediaUnavailableError),
        (Reset(MIB), MediaUnavailableError),
    ],
    ids=repr,
)
def test_a_small_file_that_cannot_be_read_raises_the_errors_of_a_recordings_file(
    media: Media, simulator: Simulator, url: str, effect: Effect, error: type[MediaError]
) -> None:
    simulator.faults.add(effect, path="^/media/")

    with pytest.raises(error) as raised:
        media.read(url, max_bytes=3 * MIB)

    assert "X-Amz" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize(
    "body",
    [gzip.compress(PLAIN, mtime=0)[:-9], gzip.compress(PLAIN, mtime=0)[:30] + bytes(100)],
    ids=["broken off", "broken"],
)
def test_half_of_a_compressed_small_file_is_not_the_file(
    media: Media, upstream: Upstream, body: bytes
) -> None:
    upstream.says(Answer(body, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(MediaUnavailableError):
        media.read(f"{upstream.url}/a.vtt", max_bytes=MIB)


def test_a_small_file_in_an_encoding_that_we_cannot_decode_is_refused(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(b"\x8b\x00\x80", headers={"Content-Encoding": "br"}))

    with pytest.raises(NotMediaError, match="encoded as br"):
        media.read(f"{upstream.url}/a.vtt", max_bytes=MIB)


def test_a_small_file_whose_end_cannot_be_told_from_a_broken_connection_is_refused(
    media: Media, wire: Callable[..., str]
) -> None:
    with pytest.raises(WrongLengthError, match="says the length"):
        media.read(wire(CLOSED), max_bytes=MIB)


@pytest.mark.parametrize("url", ["https://evil.example/a.csv", "http://storage.googleapis.com/a"])
def test_a_small_file_is_read_from_allowed_hosts_only(url: str) -> None:
    with pytest.raises(ForbiddenHostError):
        Media(("storage.googleapis.com",)).read(url, max_bytes=MIB)


def test_a_small_file_is_read_through_a_redirect_to_an_allowed_host_only(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(
        Answer(status=307, headers={"Location": "/elsewhere.csv"}),
        Answer(PLAIN),
        Answer(status=307, headers={"Location": "http://169.254.169.254/"}),
    )

    assert media.read(f"{upstream.url}/a.csv", max_bytes=MIB) == PLAIN
    with pytest.raises(ForbiddenHostError):
        media.read(f"{upstream.url}/a.csv", max_bytes=MIB)


def test_a_small_file_of_the_most_bytes_is_read_and_one_of_a_byte_more_is_not(
    media: Media, upstream: Upstream
) -> None:
    upstream.says(Answer(PLAIN, headers={"Content-Length": "2637"}))

    assert media.read(f"{upstream.url}/a.csv", max_bytes=len(PLAIN)) == PLAIN
    with pytest.raises(WrongLengthError, match="2637 bytes, more than the 2636 allowed"):
        media.read(f"{upstream.url}/a.csv", max_bytes=len(PLAIN) - 1)


class Flood:
    """A server on this machine that sends one connection 100 MiB, and counts the bytes sent."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.sent = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, args=(head, piece), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/a.csv"

    def _serve(self, head: bytes, piece: bytes) -> None:
        connection, _ = self._server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(head)
            while self.sent < 100 * MIB:
                connection.sendall(piece)
                self.sent += len(piece)

    def close(self) -> None:
        self._server.close()
        self._thread.join()


PIECE = b"a,b\n" * 16_384
OK = b"HTTP/1.1 200 OK\r\n"
FLOODS = {
    "length": (OK + b"Content-Length: 104857600\r\n\r\n", PIECE, 0),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n%b\r\n" % PIECE, 4 * MIB),
}


@pytest.mark.parametrize(("head", "piece", "read"), FLOODS.values(), ids=FLOODS)
def test_of_a_file_that_is_too_long_no_more_than_the_limit_is_received(
    media: Media, head: bytes, piece: bytes, read: int
) -> None:
    """The kernels' buffers take some megabytes that were never read."""
    with contextlib.closing(Flood(head, piece)) as flood:
        tracemalloc.start()
        try:
            with pytest.raises(WrongLengthError):
                media.read(flood.url, max_bytes=4 * MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert flood.sent < read + 16 * MIB
    assert peak < read + 3 * MIB


def test_a_compression_bomb_is_decoded_no_further_than_the_limit(
    media: Media, upstream: Upstream
) -> None:
    bomb = gzip.compress(bytes(100 * MIB), compresslevel=1)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    upstream.says(Answer(bomb, headers=headers))
    tracemalloc.start()
    try:
        with pytest.raises(WrongLengthError, match="more than the 4194304 bytes allowed"):
            media.read(f"{upstream.url}/a.csv", max_bytes=4 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * MIB


def test_a_small_file_that_trickles_does_not_hold_up_whoever_has_no_more_time(
    media: Media, wire: Callable[..., str]
) -> None:
    looks: list[None] = []

    def require_time() -> None:
        looks.append(None)
        if len(looks) == 4:
            raise OverError

    url = wire(CHUNKED, pause=0.1, burst=len(LABEL) + 40)

    with pytest.raises(OverError):
        media.read(url, max_bytes=MIB, require_time=require_time)
