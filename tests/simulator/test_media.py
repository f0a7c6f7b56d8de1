"""Media at presigned URLs as a client meets it on its socket."""

import contextlib
import hashlib
import re
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
from urllib3.exceptions import IncompleteRead, ProtocolError

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Chunked,
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
    Slow,
    Status,
    Truncate,
    Undocumented,
    World,
    html,
    samples,
    storage_failure,
)
from realtimekit_simulator.media import parse_range

MIB = 1024 * 1024
GIB = 1024 * MIB
SEVEN_DAYS = 604_800

Get = Callable[..., urllib3.BaseHTTPResponse]


@pytest.fixture
def recording(simulator: Simulator) -> Recording:
    """Record a meeting with a million bytes of video, uploaded at noon."""
    return simulator.world.record_meeting(options=RecordingOptions(file_size=1_000_000))


@pytest.fixture
def media(simulator, recording):
    """Return the only file of the recording."""
    [file] = simulator.world.media_files(recording)
    return file


@pytest.fixture
def url(world: World, recording: Recording) -> str:
    return world.media_url(recording, recording.artifacts[0])


@pytest.fixture
def get(pool: urllib3.PoolManager, url: str) -> Get:
    """GET the recording's file with these headers; read it whole if `preload`."""

    def get(range: str | None = None, /, preload: bool = True, **headers: str):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if range is not None:
            named["Range"] = range
        return pool.request("GET", url, headers=named, preload_content=preload)

    return get


@pytest.fixture
def faults(simulator):
    return simulator.faults


def refusal(response: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """Return the status, and the code in S3's XML."""
    assert response.headers["Content-Type"] == "application/xml"
    assert response.data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>')
    return response.status, response.data.partition(b"<Code>")[2].partition(b"<")[0].decode()


class TestFiles:
    def test_are_sent_whole(self, get, media):
        response = get()

        assert response.status == 200
        assert response.data == media.read()
        assert hashlib.sha256(response.data).hexdigest() == media.sha256()
        assert dict(response.headers).items() >= {
            ("Content-Type", "video/mp4"),
            ("Content-Length", "1000000"),
            ("Accept-Ranges", "bytes"),
            ("Last-Modified", "Wed, 03 Jun 2026 12:00:00 GMT"),
            ("ETag", media.etag),
        }

    def test_are_the_same_bytes_in_every_process(self, media):
        assert media.key == (
            "e4b06ce6-0741-47a8-bce4-2c8218072e8c/78e51061-7311-48a3-82ce-6f447ed4d57b_1780486177000.mp4"
        )
        assert media.sha256() == (
            "142bbe98d9c3e5a6dd051ebf6916daabd076eee3b9ff1afb786a7a364df43aff"
        )
        assert media.crc32() == "ncS2qA=="
        assert media.etag == '"0cf9fc32346111fe81ee385d5af09d55-1"'

    def test_differ_from_one_another(self, world):
        options = RecordingOptions(file_size=5_000, audio_file_size=5_000, separate_audio=True)
        recordings = [world.record_meeting(options=options) for _ in range(2)]
        files = [file for recording in recordings for file in world.media_files(recording)]

        assert len({file.read(1_000) for file in files}) == 4
        assert len({file.etag for file in files}) == 4

    def test_differ_in_every_part_of_an_upload(self, world):
        [media] = world.media_files(
            world.record_meeting(options=RecordingOptions(file_size=3 * GIB))
        )
        starts = range(0, 3 * GIB, 5 * MIB)
        assert len({media.read(start, start + 64) for start in starts}) == 615

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 300_000), (65_520, 65_522), (7, 7)])
    def test_are_the_same_from_wherever_they_are_read(self, media, start, stop):
        assert media.read(start, stop) == media.read()[start:stop]

    @pytest.mark.parametrize(
        ("options", "content_type", "begins"),
        [
            ({}, "video/mp4", b"\x00\x00\x00\x18ftypisom"),
            ({"video_codec": "VP9"}, "video/webm", b"\x1a\x45\xdf\xa3"),
            ({"kind": Kind.INTERACTIVE}, "application/x-tar", b"stream.m3u8\x00"),
            ({"kind": Kind.AUDIO}, "audio/aac", b"\xff\xf1"),
            ({"kind": Kind.AUDIO, "audio_codec": "MP3"}, "audio/mpeg", b"ID3"),
            ({"kind": Kind.TRACK}, "audio/webm", b"\x1a\x45\xdf\xa3"),
        ],
    )
    def test_are_what_they_say_they_are(self, simulator, pool, options, content_type, begins):
        recording = simulator.world.record_meeting(options=RecordingOptions(**options))
        url = simulator.world.media_url(recording, recording.artifacts[0])
        response = pool.request("GET", url, headers={"Range": "bytes=0-511"})

        assert response.headers["Content-Type"] == content_type
        assert response.data.startswith(begins)

    def test_may_be_empty(self, simulator, pool):
        recording = simulator.world.record_meeting(options=RecordingOptions(file_size=0))
        url = simulator.world.media_url(recording, recording.artifacts[0])
        response = pool.request("GET", url)

        assert (response.status, response.headers["Content-Length"]) == (200, "0")
        assert refusal(pool.request("GET", url, headers={"Range": "bytes=0-"}))[0] == 416

    def test_of_all_participants_are_served(self, simulator, pool, call):
        options = RecordingOptions(kind=Kind.TRACK, participants=3, audio_file_size=10)
        recording = simulator.world.record_meeting(options=options)
        data = call("GET", f"/recordings/{recording.id}").json()["data"]
        files = data["download_url"]["links"][0]["download_urls"].values()
        bodies = [pool.request("GET", file["download_url"]).data for file in files]

        assert [len(body) for body in bodies] == [10, 10, 10]
        assert len(set(bodies)) == 3

    def test_of_one_name_in_two_layers_are_two(self, simulator, pool):
        options = RecordingOptions(
            kind=Kind.TRACK, participants=1, layers=("a", "b"), layers_share_names=True
        )
        world = simulator.world
        recording = world.record_meeting(options=options)
        bodies = [
            pool.request("GET", world.media_url(recording, file)).data
            for file in recording.artifacts
        ]

        assert bodies == [file.read() for file in world.media_files(recording)]
        assert bodies[0] != bodies[1]

    def test_leave_the_connection_usable(self, simulator, pool, get):
        for _ in range(3):
            assert get("bytes=0-9").status == 206
        assert pool.connection_from_url(simulator.url).num_connections == 1


class TestUrls:
    @pytest.mark.parametrize(
        "parameter",
        [
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
        ],
    )
    def test_open_nothing_if_a_parameter_is_changed(self, pool, url, parameter):
        response = pool.request("GET", url.replace(f"{parameter}=", f"{parameter}=1"))
        assert refusal(response) == (403, "SignatureDoesNotMatch")

    def test_open_nothing_if_a_parameter_is_added(self, pool, url):
        for more in ("&response-content-type=text/html", "&X-Amz-Expires=604800"):
            assert refusal(pool.request("GET", url + more)) == (403, "SignatureDoesNotMatch")

    def test_open_no_other_file(self, pool, url):
        response = pool.request("GET", url.replace(".mp4?", ".aac?"))
        assert refusal(response) == (403, "SignatureDoesNotMatch")

    def test_open_nothing_without_their_query(self, pool, url):
        response = pool.request("GET", url.partition("?")[0])
        assert refusal(response) == (403, "AccessDenied")

    @pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "DELETE", "OPTIONS"])
    def test_are_for_get_only(self, pool, url, method):
        response = pool.request(method, url)
        assert response.status == 403
        assert b"SignatureDoesNotMatch" in response.data or method == "HEAD"

    def test_expire_seven_days_after_the_stop(self, get, clock):
        clock.advance(SEVEN_DAYS - 21)
        last = get("bytes=0-0").status
        clock.advance(1)
        response = get("bytes=0-0")

        assert last == 206
        assert refusal(response) == (403, "AccessDenied")
        assert b"<Message>Request has expired</Message>" in response.data

    def test_may_expire_as_r2_documents_it(self, world, get, clock):
        world.undocumented = Undocumented(expired_url="ExpiredRequest")
        clock.advance(SEVEN_DAYS)
        assert refusal(get()) == (400, "ExpiredRequest")

    def test_may_expire_earlier_and_be_told_anew(self, world, pool, call, recording, clock):
        def current_url():
            return call("GET", f"/recordings/{recording.id}").json()["data"]["download_url"]

        world.undocumented = Undocumented(url_seconds=60)
        first = current_url()
        clock.advance(60)

        assert refusal(pool.request("GET", first)) == (403, "AccessDenied")
        assert pool.request("GET", current_url()).status == 200

    @pytest.mark.parametrize("seconds", [0, SEVEN_DAYS + 1])
    def test_are_valid_for_no_longer_than_r2_allows(self, seconds):
        with pytest.raises(ValueError, match="between 1 and 604800"):
            Undocumented(url_seconds=seconds)

    def test_lead_to_nothing_once_the_file_is_deleted(self, world, recording, pool, clock):
        world.undocumented = Undocumented(url_seconds=60)
        clock.advance(SEVEN_DAYS - 21)
        url = world.media_url(recording, recording.artifacts[0])
        last = pool.request("GET", url).status
        clock.advance(1)

        assert last == 200
        assert refusal(pool.request("GET", url)) == (404, "NoSuchKey")

    def test_lead_to_nothing_before_the_upload_is_done(self, simulator, pool):
        recording = simulator.world.record_meeting(status=Status.UPLOADING)
        url = simulator.world.media_url(recording, recording.artifacts[0])
        assert refusal(pool.request("GET", url)) == (404, "NoSuchKey")

    @pytest.mark.parametrize("key", ["nobody/video.mp4", "nobody", "{id}/another.mp4"])
    def test_lead_to_nothing_that_never_was(self, simulator, pool, recording, key):
        path = "/" + key.format(id=recording.id)
        query = simulator.world.media_query(path, "20260603T120000Z", "60")
        url = f"{simulator.url}/media{path}?{urlencode(query)}"
        assert refusal(pool.request("GET", url)) == (404, "NoSuchKey")


class TestAuthorization:
    @pytest.mark.parametrize("has_query", [True, False])
    def test_beside_the_url_is_refused(self, pool, url, has_query):
        headers = {"Authorization": f"Bearer {DEFAULT_TOKEN}"}
        target = url if has_query else url.partition("?")[0]
        response = pool.request("GET", target, headers=headers)

        assert refusal(response) == (400, "InvalidArgument")
        assert DEFAULT_TOKEN.encode() not in response.data

    def test_is_logged_without_its_value(self, simulator, control, get, call):
        get()
        get(Authorization=f"Bearer {DEFAULT_TOKEN}")
        call("GET", "/recordings")
        listed = control("GET", "/requests?path=^/media/")

        logged = [request.has_authorization for request in simulator.requests]
        assert logged == [False, True, True]
        assert [request["has_authorization"] for request in listed.json()["requests"]] == [
            False,
            True,
        ]
        assert DEFAULT_TOKEN.encode() not in listed.data

    def test_of_the_api_is_not_asked_for_nor_counted(self, simulator, get):
        simulator.rate_limit.set(0, window=60, block=60)
        assert get().status == 200


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "content_range", "length"),
        [
            ("bytes=0-0", "bytes 0-0/1000000", 1),
            ("bytes=262143-524288", "bytes 262143-524288/1000000", 262_146),
            ("bytes=999990-", "bytes 999990-999999/1000000", 10),
            ("bytes=999990-5000000", "bytes 999990-999999/1000000", 10),
            ("bytes=-7", "bytes 999993-999999/1000000", 7),
            ("bytes=-5000000", "bytes 0-999999/1000000", 1_000_000),
        ],
    )
    def test_are_sent_alone(self, get, media, header, content_range, length):
        response = get(header)
        start = int(content_range.removeprefix("bytes ").partition("-")[0])

        assert response.status == 206
        assert response.headers["Content-Range"] == content_range
        assert response.headers["Content-Length"] == str(length)
        assert response.headers["ETag"] == media.etag
        assert response.data == media.read(start, start + length)

    @pytest.mark.parametrize("header", ["bytes=1000000-", "bytes=1000000-1000001", "bytes=-0"])
    def test_beyond_the_end_cannot_be_satisfied(self, get, header):
        response = get(header)
        assert refusal(response) == (416, "InvalidRange")
        assert response.headers["Content-Range"] == "bytes */1000000"

    @pytest.mark.parametrize(
        "header", ["bytes=0-1,5-6", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=1"]
    )
    def test_that_are_many_or_senseless_are_ignored(self, get, header):
        response = get(header)
        assert (response.status, len(response.data)) == (200, 1_000_000)
        assert "Content-Range" not in response.headers

    def test_that_no_file_could_have_are_ignored(self):
        assert parse_range(f"bytes={'9' * 5000}-", 10) is None

    def test_are_logged(self, simulator, get):
        get("bytes=5-9")
        get()
        assert [logged.range for logged in simulator.requests] == ["bytes=5-9", None]

    def test_of_three_gibibytes_cost_their_length_only(self, simulator, pool):
        recording = simulator.world.record_meeting(options=RecordingOptions(file_size=3 * GIB))
        [media] = simulator.world.media_files(recording)
        url = simulator.world.media_url(recording, media.artifact)
        start = time.process_time()
        response = pool.request("GET", url, headers={"Range": "bytes=-16"})

        assert response.headers["Content-Range"] == "bytes 3221225456-3221225471/3221225472"
        assert response.data.hex() == "cfbb8769342ed84e79cd730741c8d6e9"
        assert time.process_time() - start < 1


class TestConditions:
    def test_if_match_is_held_against_the_etag(self, get, media):
        assert get("bytes=0-0", If_Match=media.etag).status == 206
        assert get(If_Match=f'"other", {media.etag}').status == 200
        assert get(If_Match="*").status == 200
        assert refusal(get("bytes=0-0", If_Match='"other"')) == (412, "PreconditionFailed")
        assert refusal(get(If_Match=f"W/{media.etag}")) == (412, "PreconditionFailed")

    @pytest.mark.parametrize("validator", ["Wed, 03 Jun 2026 12:00:00 GMT", "etag"])
    def test_if_range_asks_for_the_range_of_the_same_file(self, get, media, validator):
        response = get("bytes=0-0", If_Range=media.etag if validator == "etag" else validator)
        assert response.status == 206

    @pytest.mark.parametrize("validator", ["Wed, 03 Jun 2026 11:59:59 GMT", '"other"', "W/etag"])
    def test_if_range_asks_for_all_of_another_file(self, get, media, validator):
        response = get("bytes=0-0", If_Range=validator.replace("etag", media.etag))
        assert (response.status, len(response.data)) == (200, 1_000_000)


class TestStreaming:
    def test_holds_little_in_memory(self, simulator, pool):
        recording = simulator.world.record_meeting(options=RecordingOptions(file_size=256 * MIB))
        url = simulator.world.media_url(recording, recording.artifacts[0])
        checksum = size = 0
        tracemalloc.start()
        with contextlib.closing(pool.request("GET", url, preload_content=False)) as response:
            for chunk in response.stream(MIB):
                checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert (size, checksum) == (268_435_456, 1_892_155_929)
        assert peak < 8 * MIB

    @pytest.mark.parametrize("effect", [Effect(), Slow(1_000_000)])
    def test_ends_when_the_client_hangs_up(self, simulator, world, eventually, effect):
        simulator.faults.add(effect)
        before = set(threading.enumerate())
        hang_up = _begin_to_read(world, 3 * GIB)
        assert set(threading.enumerate()) != before

        hang_up()

        assert eventually(lambda: set(threading.enumerate()) == before)

    @pytest.mark.parametrize("effect", [Effect(), Slow(1_000_000)])
    def test_does_not_hold_up_the_servers_end(self, world, effect):
        with Simulator(world) as simulator:
            simulator.faults.add(effect)
            hang_up = _begin_to_read(world, 3 * GIB)
            start = time.monotonic()
        stopped_in = time.monotonic() - start
        hang_up()

        assert stopped_in < 60


def _begin_to_read(world: World, size: int) -> Callable[[], None]:
    """Read only the first bytes of a file; return a function that hangs up."""
    recording = world.record_meeting(options=RecordingOptions(file_size=size))
    url = world.media_url(recording, recording.artifacts[0])
    pool = urllib3.PoolManager(retries=False, timeout=60)
    response = pool.request("GET", url, preload_content=False)
    assert len(response.read(1_000)) == 1_000

    def hang_up() -> None:
        response.close()
        pool.clear()

    return hang_up


class TestFaults:
    def test_slow(self, faults, get, media):
        faults.add(Slow(500_000))
        start = time.monotonic()
        response = get("bytes=0-99999")

        assert response.data == media.read(0, 100_000)
        assert time.monotonic() - start >= 0.18

    def test_truncated_after_so_many_bytes(self, faults, get, media):
        faults.add(Truncate(size=300_000))
        response = get(preload=False)
        assert response.headers["Content-Length"] == "1000000"
        assert response.read(300_000) == media.read(0, 300_000)
        with pytest.raises(ProtocolError, match="700000 more expected"):
            response.read()
        assert get().status == 200

    def test_truncated_to_a_part(self, faults, get):
        faults.add(Truncate(0.5))
        with pytest.raises((IncompleteRead, ProtocolError), match="500000 bytes read"):
            get()

    def test_truncated_in_chunks(self, faults, get):
        faults.add(Truncate(size=10), Chunked())
        with pytest.raises(ProtocolError):
            get()

    @pytest.mark.parametrize("size", [0, 300_000])
    def test_reset_after_so_many_bytes(self, faults, get, media, size):
        faults.add(Reset(size))
        response = get(preload=False)
        received = b""
        with pytest.raises(ProtocolError, match="Connection reset by peer"):
            while chunk := response.read1(65_536):
                received += chunk

        assert len(received) <= size
        assert received == media.read(0, len(received))
        assert get().status == 200

    @pytest.mark.parametrize("size", [0, 10, 999_999])
    def test_shorter_than_the_recording_says(self, faults, get, media, size):
        faults.add(Resize(size))
        response = get()
        assert response.headers["Content-Length"] == str(size)
        assert response.headers["Content-Type"] == "video/mp4"
        assert response.data == media.read(0, size)

    def test_longer_than_the_recording_says(self, faults, get, media):
        faults.add(Resize(1_100_000))
        assert get().data == media.read() + bytes(100_000)

    def test_without_a_length(self, faults, get, media):
        faults.add(Chunked())
        response = get()
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        assert response.data == media.read()

    def test_shorter_and_without_a_length(self, simulator, faults, pool, get, media):
        faults.add(Resize(10), Chunked())
        assert get().data == media.read(0, 10)
        assert get().status == 200
        assert pool.connection_from_url(simulator.url).num_connections == 1

    def test_with_a_length_that_is_not_the_bodys(self, faults, get, media):
        faults.add(Headers({"Content-Length": "10"}))
        assert get().data == media.read(0, 10)

    def test_an_error_page_that_says_that_all_is_well(self, faults, get):
        faults.add(html(200))
        response = get()
        assert (response.status, response.data[:6]) == (200, b"<html>")
        assert response.headers["Content-Type"] == "text/html; charset=UTF-8"

    def test_the_buckets_error_that_says_that_all_is_well(self, faults, get):
        faults.add(storage_failure())
        assert refusal(get()) == (200, "InternalError")

    def test_the_buckets_error(self, faults, get):
        faults.add(storage_failure(503, "SlowDown", "Please reduce your request rate."))
        assert refusal(get()) == (503, "SlowDown")

    def test_another_content_type(self, faults, get):
        faults.add(Headers({"Content-Type": "text/html"}))
        assert get().headers["Content-Type"] == "text/html"

    def test_no_etag(self, faults, get):
        faults.add(Headers({"ETag": None}))
        assert "ETag" not in get().headers

    def test_ranges_are_ignored(self, faults, get):
        faults.add(IgnoreRange())
        response = get("bytes=10-19")
        assert (response.status, len(response.data)) == (200, 1_000_000)
        assert "Content-Range" not in response.headers
        assert get("bytes=10-19").status == 206

    def test_another_etag_in_each_request(self, faults, get):
        faults.add(Replaced(), times=None)
        etags = [get("bytes=0-0").headers["ETag"] for _ in range(2)]
        assert etags[0] != etags[1]
        assert refusal(get("bytes=1-1", If_Match=etags[1])) == (412, "PreconditionFailed")
        assert get("bytes=1-1", If_Range=etags[1]).status == 200

    def test_reach_media_alone_if_told(self, faults, get, call):
        fault = faults.add(storage_failure(503, "SlowDown"), path="^/media/")
        assert [call("GET", "/recordings").status, get().status] == [200, 503]
        assert fault.times == 0

    @pytest.mark.parametrize(
        "make",
        [lambda: Slow(0), lambda: Reset(-1), lambda: Resize(-1), lambda: Truncate(size=-1)],
    )
    def test_that_make_no_sense_are_refused(self, make):
        with pytest.raises(ValueError, match=" from "):
            make()


class TestControl:
    @pytest.mark.parametrize(
        "effect",
        [
            {"effect": "slow", "bytes_per_second": 1e6},
            {"effect": "truncate", "size": 10},
            {"effect": "reset", "size": 10},
            {"effect": "resize", "size": 10},
            {"effect": "chunked"},
            {"effect": "headers", "headers": {"Content-Type": "text/html", "ETag": None}},
            {"effect": "ignore_range"},
            {"effect": "replaced"},
            {"effect": "storage_failure", "status": 200},
        ],
    )
    def test_knows_every_effect_by_name(self, control, effect):
        added = control("POST", "/faults", {"effects": [effect], "path": "^/media/"})
        assert added.status == 201

    def test_explains_every_effect(self, simulator, control):
        index = control("GET", "").json()
        assert index["media"] == f"{simulator.url}/media"
        assert index["effects"]["slow"] == (
            "(bytes_per_second) Send the body at this many bytes per real second."
        )
        assert all(not text.endswith(") ") for text in index["effects"].values())

    def test_tells_a_recordings_files(self, control, recording, url, media):
        [file] = control("GET", f"/recordings/{recording.id}/media").json()["files"]
        assert file == {
            "file_name": media.artifact.file_name,
            "kind": "video",
            "layer": None,
            "size": 1_000_000,
            "content_type": "video/mp4",
            "etag": media.etag,
            "url": url,
        }

    def test_tells_checksums_if_asked(self, control, recording):
        path = f"/recordings/{recording.id}/media?checksum=sha256&checksum=crc32"
        [file] = control("GET", path).json()["files"]
        assert file["sha256"] == (
            "142bbe98d9c3e5a6dd051ebf6916daabd076eee3b9ff1afb786a7a364df43aff"
        )
        assert file["crc32"] == "ncS2qA=="

    def test_refuses_checksums_that_it_cannot_make(self, control, recording):
        assert control("GET", f"/recordings/{recording.id}/media?checksum=md5").status == 400

    def test_sets_how_urls_expire(self, control, get, clock):
        settings = {"undocumented": {"url_seconds": 60, "expired_url": "ExpiredRequest"}}
        assert control("PUT", "/settings", settings).status == 200
        clock.advance(SEVEN_DAYS)
        assert refusal(get()) == (400, "ExpiredRequest")
        wrong = {"undocumented": {"expired_url": "Gone"}}
        assert control("PUT", "/settings", wrong).status == 400


PLAYABLE: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({}, "video.mp4", "video/mp4"),
    ({"video_codec": "VP9"}, "video.webm", "video/webm"),
    ({"kind": Kind.AUDIO}, "audio.aac", "audio/aac"),
    ({"kind": Kind.AUDIO, "audio_codec": "MP3"}, "audio.mp3", "audio/mpeg"),
    ({"kind": Kind.AUDIO, "audio_codec": "M4A"}, "audio.m4a", "audio/mp4"),
    ({"kind": Kind.TRACK, "participants": 1}, "track-1.webm", "audio/webm"),
)


class TestPlayable:
    @pytest.fixture
    def recording(self, simulator):
        return simulator.world.record_meeting(playable=True)

    @pytest.mark.parametrize(("options", "sample", "content_type"), PLAYABLE)
    def test_files_are_samples_served_like_other_media(
        self, simulator, pool, options, sample, content_type
    ):
        world = simulator.world
        recording = world.record_meeting(playable=True, options=RecordingOptions(**options))
        [file] = world.media_files(recording)
        url = world.media_url(recording, file.artifact)
        whole = pool.request("GET", url)
        part = pool.request(
            "GET", url, headers={"Range": "bytes=100-299", "If-Match": whole.headers["ETag"]}
        )

        assert whole.data == samples.read(sample)
        assert file.size == len(whole.data)
        assert hashlib.sha256(whole.data).hexdigest() == file.sha256()
        assert whole.headers["Content-Type"] == content_type
        assert (part.status, part.data) == (206, whole.data[100:300])
        assert part.headers["Content-Range"] == f"bytes 100-299/{len(whole.data)}"

    def test_files_are_as_long_as_the_recording(self, recording, call):
        data = call("GET", f"/recordings/{recording.id}").json()["data"]

        assert data["recording_duration"] == samples.SECONDS == 20
        assert data["file_size"] == len(samples.read("video.mp4"))

    def test_files_of_a_meeting_of_another_length_keep_their_own(self, simulator):
        recording = simulator.world.record_meeting(playable=True, duration=3600)

        assert recording.duration == 3600
        assert simulator.world.media_files(recording)[0].read() == samples.read("video.mp4")

    def test_files_ignore_ordered_sizes(self, simulator):
        options = RecordingOptions(file_size=7, audio_file_size=7, separate_audio=True)
        recording = simulator.world.record_meeting(playable=True, options=options)

        assert [file.size for file in simulator.world.media_files(recording)] == [
            len(samples.read("video.mp4")),
            len(samples.read("audio.aac")),
        ]

    def test_two_participants_have_tracks_of_their_own(self, simulator):
        options = RecordingOptions(kind=Kind.TRACK, participants=3)
        recording = simulator.world.record_meeting(playable=True, options=options)
        bodies = [file.read() for file in simulator.world.media_files(recording)]

        tracks = [samples.read(f"track-{number}.webm") for number in (1, 2)]
        assert bodies == [*tracks, tracks[0]]
        assert tracks[0] != tracks[1]

    def test_a_tar_has_no_sample(self, simulator):
        options = RecordingOptions(kind=Kind.INTERACTIVE, file_size=1_000)
        recording = simulator.world.record_meeting(playable=True, options=options)

        [file] = simulator.world.media_files(recording)
        assert (file.size, file.artifact.sample) == (1_000, None)

    def test_files_are_ordered_over_http_one_by_one_or_by_default(self, control):
        body = {"playable": True, "count": 2, "every": 60}
        ordered = control("POST", "/recordings", body).json()["recordings"]
        options = {"options": {"playable": True, "kind": "audio"}}
        [audio] = control("POST", "/recordings", options).json()["recordings"]
        [plain] = control("POST", "/recordings", {}).json()["recordings"]

        def size(recording):
            [file] = control("GET", f"/recordings/{recording['recording_id']}/media").json()[
                "files"
            ]
            return file["size"]

        assert [size(recording) for recording in ordered] == [len(samples.read("video.mp4"))] * 2
        assert size(audio) == len(samples.read("audio.aac"))
        assert size(plain) == 1800 * 83_333

    def test_files_of_a_world_may_all_be_playable(self, clock):
        world = World(clock=clock, defaults=RecordingOptions(playable=True))
        session = world.start_session(world.create_meeting())
        started = world.start_recording(session)

        assert [artifact.sample for artifact in started.artifacts] == ["video.mp4"]
        assert world.record_meeting().duration == 20


class TestSamples:
    def test_are_in_the_package_and_small_enough_to_commit(self):
        sizes = {name: len(samples.read(name)) for name in samples.NAMES}

        assert len(sizes) == 7
        assert all(10_000 < size <= samples.MAX_BYTES == 60_000 for size in sizes.values())

    @pytest.mark.parametrize("name", sorted(samples.NAMES))
    def test_begin_as_their_format_does(self, name):
        begins = {
            "mp4": rb"\0\0\0.ftyp",
            "m4a": rb"\0\0\0.ftypM4A ",
            "webm": rb"\x1aE\xdf\xa3.{4,40}webm",
            "aac": rb"\xff[\xf0\xf1]",
            "mp3": rb"ID3|\xff[\xf2\xf3\xfb]",
        }
        assert re.match(begins[name.rpartition(".")[2]], samples.read(name), re.DOTALL)

    @pytest.mark.parametrize(
        ("name", "index", "media"),
        [
            ("video.mp4", b"moov", b"mdat"),
            ("audio.m4a", b"moov", b"mdat"),
            ("video.webm", b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75"),
            ("track-1.webm", b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75"),
        ],
    )
    def test_have_their_index_first_so_that_seeking_needs_no_second_look(self, name, index, media):
        sample = samples.read(name)
        assert 0 < sample.index(index) < sample.index(media)
