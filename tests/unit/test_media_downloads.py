"""A recording's file at its presigned URL: where it may be, what it may be, and its bytes."""

from __future__ import annotations

import socket

import pytest

from doubles import Answer, Upstream
from local.simulator import (
    Chunked,
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
    content_type_of,
    is_public,
)

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


def test_an_allowed_name_at_a_private_address_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever answers for the name's DNS decides where it leads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

        with pytest.raises(MediaUnavailableError):
            Media(("storage.googleapis.com",)).open("https://storage.googleapis.com/a.mp4")

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
        (Headers({"Content-Type": "text/html"}), NotMediaError),
        (Headers({"Content-Type": "application/json"}), NotMediaError),
        (Headers({"Content-Type": "image/png"}), NotMediaError),
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
        (Headers({"Content-Range": "bytes 0-511/*"}), WrongLengthError),
        (Headers({"Content-Range": None}), WrongLengthError),
        (Headers({"Content-Range": "bytes 0-511/9999999999999999"}), WrongLengthError),
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


def test_an_empty_file_is_no_recording(media: Media, simulator: Simulator) -> None:
    recording = simulator.world.record_meeting(options=RecordingOptions(file_size=0))
    url = simulator.world.media_url(recording, recording.artifacts[0])

    with pytest.raises(NotMediaError, match="empty"):
        media.open(url)


def test_a_file_of_unknown_length_is_refused(media: Media, simulator: Simulator, url: str) -> None:
    simulator.faults.add(IgnoreRange(), Chunked(), path="^/media/")

    with pytest.raises(WrongLengthError):
        media.open(url)


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

    assert content_type_of(file, name) == expected


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

    assert b"".join(file.chunks(0, file.size)) == whole


def test_what_makes_no_progress_is_given_up(media: Media, simulator: Simulator, url: str) -> None:
    file = media.open(url)
    simulator.faults.add(Truncate(0), path="^/media/", times=None)

    with pytest.raises(MediaUnavailableError):
        b"".join(file.chunks(0, file.size))

    assert ranges(simulator)[1:] == ["bytes=0-3145727"] * 3


def test_bytes_that_are_there_are_not_asked_for_again(
    media: Media, simulator: Simulator, url: str
) -> None:
    file = media.open(url)
    simulator.faults.add(Truncate(size=2 * MIB), path="^/media/")

    b"".join(file.chunks(0, file.size))

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
        b"".join(file.chunks(0, file.size))


def test_a_body_that_ends_early_but_well_is_not_the_whole(
    media: Media, simulator: Simulator, url: str, whole: bytes
) -> None:
    """A Content-Length that agrees with what was cut off proves nothing."""
    file = media.open(url)
    simulator.faults.add(Resize(100), path="^/media/")

    assert b"".join(file.chunks(0, file.size)) == whole


@pytest.fixture
def rangeless(simulator: Simulator, url: str) -> str:
    simulator.faults.add(IgnoreRange(), path="^/media/", times=None)
    return url


def test_without_ranges_it_is_read_once_from_its_start(
    media: Media, simulator: Simulator, rangeless: str, whole: bytes
) -> None:
    file = media.open(rangeless)

    assert not file.has_ranges
    assert b"".join(file.chunks(0, MIB)) + b"".join(file.chunks(MIB, 3 * MIB)) == whole
    assert len(simulator.requests) == 2
    file.close()


def test_without_ranges_nothing_can_be_skipped_or_had_again(media: Media, rangeless: str) -> None:
    file = media.open(rangeless)

    with pytest.raises(MediaUnavailableError, match="cannot be taken up again"):
        next(file.chunks(MIB, 2 * MIB))
    next(file.chunks(0, MIB))
    with pytest.raises(MediaUnavailableError, match="cannot be taken up again"):
        next(file.chunks(2 * MIB, 3 * MIB))
    file.close()


def test_without_ranges_what_breaks_off_is_said(
    media: Media, simulator: Simulator, upstream: Upstream
) -> None:
    headers = {"Content-Type": "video/mp4", "Content-Length": "2000"}
    upstream.says(Answer(b"\0" * 1000, headers=headers))
    file = media.open(f"{upstream.url}/a.mp4")

    with pytest.raises(MediaUnavailableError, match="broke off"):
        b"".join(file.chunks(0, 2000))
    file.close()


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted"])
def test_without_a_strong_etag_no_range_is_sure_to_be_of_the_same_file(
    media: Media, simulator: Simulator, url: str, etag: str | None
) -> None:
    simulator.faults.add(Headers({"ETag": etag}), path="^/media/")

    file = media.open(url)

    assert file.etag is None
    assert not file.has_ranges


def test_a_range_is_asked_for_only_of_the_file_that_was_opened(
    media: Media, upstream: Upstream
) -> None:
    """A storage that knows `If-Match` refuses to send what would be thrown away."""
    upstream.says(
        Answer(b"\0" * 10, 206, {**VIDEO, "Content-Range": "bytes 0-9/10"}),
        Answer(b"\0" * 4, 206, {**VIDEO, "Content-Range": "bytes 2-5/10"}),
    )

    assert b"".join(media.open(f"{upstream.url}/a.mp4").chunks(2, 6)) == b"\0" * 4

    asked = [(headers["Range"], headers.get("If-Match")) for _, headers in upstream.requests]
    assert asked == [("bytes=0-511", None), ("bytes=2-5", '"one"')]
