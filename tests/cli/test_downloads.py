"""Downloads of files, and the API's client."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from doubles import Answer, Upstream
from realtimekit_recordings import api as api_module
from realtimekit_recordings import linked_file
from realtimekit_recordings.__main__ import main
from realtimekit_recordings.api import Api, ApiError
from realtimekit_recordings.connections import Connections
from realtimekit_recordings.file_download import Download
from realtimekit_recordings.linked_file import DownloadError
from realtimekit_simulator import (
    Chunked,
    Effect,
    Headers,
    IgnoreRange,
    Recording,
    RecordingOptions,
    Replaced,
    Reset,
    Simulator,
    Truncate,
    storage_failure,
)
from realtimekit_simulator import MediaFile as Source

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked_file, "PAUSE_SECONDS", 0)


@pytest.fixture
def recording(simulator: Simulator) -> Recording:
    return simulator.world.record_meeting(options=RecordingOptions(file_size=3 * MIB))


@pytest.fixture
def source(simulator: Simulator, recording: Recording) -> Source:
    [source] = simulator.world.media_files(recording)
    return source


@pytest.fixture
def link(simulator: Simulator, recording: Recording, source: Source) -> dict[str, Any]:
    url = simulator.world.media_url(recording, recording.artifacts[0])
    return {"name": "video", "url": url, "size": source.size, "file_name": "sync.mp4"}


def file_of(link: dict[str, Any], checksum: str | None, folder: Path, **row: Any) -> Download:
    archive = {"checksum_crc32": checksum} if checksum else {}
    recording = {"artifacts": {link["name"]: {"archive": archive}}, **row}
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-central-1")
    return Download(link, recording, folder, Connections(session))


def downloaded(link: dict[str, Any], checksum: str | None, folder: Path) -> list[int]:
    return list(file_of(link, checksum, folder).chunks())


def test_a_file_comes_whole_and_how_far_it_is_is_said(
    link: dict[str, Any], source: Source, tmp_path: Path
) -> None:
    steps = downloaded(link, source.crc32(), tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b" / "video" / "sync.mp4").read_bytes() == source.read()
    assert steps == [MIB, 2 * MIB, 3 * MIB]
    assert len(list((tmp_path / "a" / "b" / "video").iterdir())) == 1


@pytest.mark.parametrize("effect", [Truncate(0.5), Reset(MIB)], ids=repr)
def test_what_breaks_off_is_taken_up(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path, effect: Effect
) -> None:
    simulator.faults.add(effect, path="^/media/", times=2)

    downloaded(link, source.crc32(), tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()
    # A reset may drop the bytes that had arrived, and then no part is left to continue.
    assert len(simulator.requests) == 3


def test_another_run_goes_on_where_one_ended(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    steps = file_of(link, None, tmp_path).chunks()
    next(steps)
    steps.close()  # type: ignore[attr-defined]

    downloaded(link, source.crc32(), tmp_path)

    assert simulator.requests[-1].range == f"bytes={MIB}-"
    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()


@pytest.mark.parametrize("effect", [Replaced(), IgnoreRange()], ids=repr)
def test_a_part_of_another_file_is_not_gone_on_with(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path, effect: Effect
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4.part").write_bytes(b"x" * MIB)
    (tmp_path / "video" / "sync.mp4.part.etag").write_text(source.etag)
    simulator.faults.add(effect, path="^/media/")

    downloaded(link, source.crc32(), tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()


def test_a_file_that_is_there_is_not_fetched_again(
    link: dict[str, Any], simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4").write_bytes(b"x" * 3 * MIB)

    assert downloaded(link, None, tmp_path) == [3 * MIB]
    assert simulator.requests == []


@pytest.mark.parametrize("there", [b"x" * 3 * MIB, b"x" * MIB], ids=["content", "size"])
def test_a_file_that_is_there_and_is_another_is_replaced(
    link: dict[str, Any], source: Source, tmp_path: Path, there: bytes
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4").write_bytes(there)

    downloaded(link, source.crc32(), tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()
    assert [path.name for path in (tmp_path / "video").iterdir()] == ["sync.mp4"]


def test_a_file_that_is_there_stays_until_the_right_one_is_whole(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4").write_bytes(b"another")
    simulator.faults.add(Truncate(0), path="^/media/", times=None)

    with pytest.raises(DownloadError):
        downloaded(link, source.crc32(), tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == b"another"


def test_a_file_with_another_checksum_is_not_kept(link: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="checksum differs"):
        downloaded(link, "AAAAAA==", tmp_path)

    assert not (tmp_path / "video" / "sync.mp4").exists()


def test_a_file_that_is_too_long_is_not_kept(link: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4.part").write_bytes(b"x" * 4 * MIB)

    with pytest.raises(DownloadError):
        downloaded({**link, "size": 2 * MIB}, None, tmp_path)

    assert not (tmp_path / "video" / "sync.mp4").exists()


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (storage_failure(403, "AccessDenied"), "has expired"),
        (storage_failure(404, "NoSuchKey"), "has no file"),
        (storage_failure(503, "SlowDown"), "refuses"),
        (Truncate(0), "broke off again and again"),
    ],
    ids=repr,
)
def test_why_a_file_does_not_come_is_said_without_its_link(
    link: dict[str, Any], simulator: Simulator, tmp_path: Path, effect: Effect, said: str
) -> None:
    simulator.faults.add(effect, path="^/media/", times=None)

    with pytest.raises(DownloadError, match=said) as raised:
        downloaded(link, None, tmp_path)

    assert "X-Amz" not in str(raised.value)


def test_a_file_of_unknown_size_comes_too(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Headers({"ETag": None}), path="^/media/")
    del link["size"]

    downloaded(link, source.crc32(), tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()


@pytest.mark.parametrize(
    "effects",
    [(Truncate(0.5),), (Chunked(), Truncate(size=MIB)), (Chunked(), Reset(MIB))],
    ids=repr,
)
def test_what_breaks_off_is_taken_up_where_nobody_said_the_size(
    link: dict[str, Any],
    source: Source,
    simulator: Simulator,
    tmp_path: Path,
    effects: tuple[Effect, ...],
) -> None:
    simulator.faults.add(*effects, path="^/media/", times=2)
    del link["size"]

    downloaded(link, None, tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()
    assert len(simulator.requests) == 3


def test_a_file_of_unknown_size_goes_on_where_it_was(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Truncate(size=MIB), path="^/media/")
    del link["size"]
    download = file_of(link, None, tmp_path)

    steps = list(download.chunks())

    assert [request.range for request in simulator.requests] == [None, f"bytes={MIB}-"]
    assert (steps[-1], download.size) == (3 * MIB, 3 * MIB)
    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()


@pytest.mark.parametrize(
    "effects",
    [
        (Truncate(size=MIB),),
        (Chunked(), Truncate(size=MIB)),
        (Chunked(), Reset(MIB)),
        # The next answer may be of another file, so the download starts over.
        (Headers({"ETag": None}), Truncate(size=MIB)),
        (Chunked(), Headers({"ETag": None}), Truncate(size=MIB)),
    ],
    ids=repr,
)
def test_what_never_ends_as_it_should_is_no_file(
    link: dict[str, Any], simulator: Simulator, tmp_path: Path, effects: tuple[Effect, ...]
) -> None:
    simulator.faults.add(*effects, IgnoreRange(), path="^/media/", times=None)
    del link["size"]

    with pytest.raises(DownloadError, match="broke off again and again"):
        downloaded(link, None, tmp_path)

    assert not (tmp_path / "video" / "sync.mp4").exists()


def test_a_body_in_chunks_that_ends_in_good_order_is_whole(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(Chunked(), path="^/media/")
    del link["size"]

    downloaded(link, None, tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()
    assert len(simulator.requests) == 1


def test_a_part_that_was_the_whole_is_known_as_such(
    link: dict[str, Any], source: Source, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4.part").write_bytes(source.read())
    (tmp_path / "video" / "sync.mp4.part.etag").write_text(source.etag)
    del link["size"]

    downloaded(link, None, tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()
    assert [request.range for request in simulator.requests] == [f"bytes={3 * MIB}-"]


def test_a_part_that_is_longer_than_the_file_begins_anew(
    link: dict[str, Any], source: Source, tmp_path: Path
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "sync.mp4.part").write_bytes(b"x" * 4 * MIB)
    (tmp_path / "video" / "sync.mp4.part.etag").write_text(source.etag)

    downloaded(link, None, tmp_path)

    assert (tmp_path / "video" / "sync.mp4").read_bytes() == source.read()


def test_a_folder_that_cannot_be_written_to_is_said(link: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DownloadError, match="file"):
        downloaded(link, None, tmp_path / "file")


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..\\..\\a.mp4", "_.._a.mp4"),
        (".bashrc", "bashrc"),
        ("a\nb.mp4", "a_b.mp4"),
        ("a\x9b31mb.mp4", "a_31mb.mp4"),
        ("...", "recording"),
        (None, "video.mp4"),
    ],
)
def test_a_name_leads_nowhere_else(file_name: str | None, expected: str, tmp_path: Path) -> None:
    url = "https://example.com/folder/video.mp4?X-Amz-Signature=s"
    link = {"name": "video", "url": url, "file_name": file_name}

    assert file_of(link, None, tmp_path).path == tmp_path / "video" / expected


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("audio", "audio"),
        ("track/default/ada.webm", "track-default-ada-webm-09c4e3db"),
        ("track/../../etc/passwd", "track-etc-passwd-"),
        ("..", "-"),
        ("track/" + "x" * 300, "track-" + "x" * 94 + "-"),
    ],
)
def test_an_artifacts_name_is_that_of_one_folder(name: str, folder: str, tmp_path: Path) -> None:
    path = file_of({"name": name, "url": "https://x/a.mp4"}, None, tmp_path).path

    assert path.parent.parent == tmp_path
    assert path.parent.name.startswith(folder)


def test_artifacts_with_names_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    names = ("track/host/a.webm", "track/Host/a.webm", "track/host-a/webm", "track/host:a.webm")

    folders = {
        file_of({"name": name, "url": "https://x/a"}, None, tmp_path).path.parent.name.lower()
        for name in names
    }

    assert len(folders) == 4


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("transcript", "https://x/a/transcript.json?X-Amz-Signature=s", "transcript.json"),
        ("transcript", "https://x/a/transcript", "transcript.json"),
        ("captions", "https://x/a/c.VTT", "captions.vtt"),
        ("summary", "https://x/a/50c8940e-1b97-402a-97d6-2708b7feca41.md", "summary.md"),
        ("summary", "https://x/a/s.txt", "summary.txt"),
        ("chat", "https://x/a/chat.csv", "chat.csv"),
        ("chat", "https://x/a/chat.json", "chat.json"),
        ("chat", "https://x/a/chat.exe", "chat.csv"),
        ("video", "https://x/a/transcript.json", "transcript.json"),
    ],
)
def test_a_sessions_file_is_named_after_its_kind(
    tmp_path: Path, name: str, source: str, expected: str
) -> None:
    row = {"meeting_title": "Weekly sync", "invoked_at": "2026-06-03T10:00:00.000Z"}

    path = file_of({"name": name, "url": source}, None, tmp_path, **row).path

    assert path == tmp_path / name / expected


def test_a_name_that_realtimekit_gave_a_sessions_file_counts_only_by_its_suffix(
    tmp_path: Path,
) -> None:
    link = {"name": "chat", "url": "https://x/a.csv", "file_name": "../1780480777000.json"}

    assert file_of(link, None, tmp_path).path == tmp_path / "chat" / "chat.json"


RANGED = Answer(b"67890", 206, {"ETag": '"a"', "Content-Range": "bytes 5-9/10"})
WHOLE = Answer(b"abcdefghij", 200, {"ETag": '"b"'})


def given_part(folder: Path, part: bytes = b"12345", tag: bytes = b'"a"') -> Path:
    """Write the part that an earlier run left; return the path of the whole file."""
    (folder / "video").mkdir()
    (folder / "video" / "a.mp4.part").write_bytes(part)
    (folder / "video" / "a.mp4.part.etag").write_bytes(tag)
    return folder / "video" / "a.mp4"


def link_to(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"name": "video", "url": f"{upstream.url}/media", "file_name": "a.mp4", **more}


def test_a_part_is_continued_with_the_rest_of_the_same_file(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = given_part(tmp_path)
    upstream.says(RANGED)

    downloaded(link_to(upstream), None, tmp_path)

    assert path.read_bytes() == b"1234567890"


@pytest.mark.parametrize("size", [{}, {"size": 10}], ids=["unknown size", "known size"])
@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"other"', "Content-Range": "bytes 5-9/10"},
        {"Content-Range": "bytes 5-9/10"},
        {"ETag": 'W/"a"', "Content-Range": "bytes 5-9/10"},
        {"ETag": '"a"', "Content-Range": "bytes 0-4/10"},
        {"ETag": '"a"', "Content-Range": "bytes 5-9/20"},
        {"ETag": '"a"', "Content-Range": "bytes 5-9/*"},
        {"ETag": '"a"', "Content-Range": "bytes 5-9"},
        {"ETag": '"a"'},
    ],
)
def test_a_206_that_is_not_the_rest_of_the_part_begins_anew(
    upstream: Upstream, tmp_path: Path, headers: dict[str, str], size: dict[str, int]
) -> None:
    path = given_part(tmp_path)
    upstream.says(Answer(b"67890", 206, headers), WHOLE)

    downloaded(link_to(upstream, **size), None, tmp_path)

    assert path.read_bytes() == b"abcdefghij"
    assert [headers.get("Range") for _, headers in upstream.requests] == ["bytes=5-", None]


def test_a_206_that_nobody_asked_for_is_no_file(upstream: Upstream, tmp_path: Path) -> None:
    upstream.says(RANGED)

    with pytest.raises(DownloadError, match="another part than requested"):
        downloaded(link_to(upstream), None, tmp_path)


@pytest.mark.parametrize("status", [200, 206])
def test_a_file_does_not_grow_beyond_its_size(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    given_part(tmp_path)
    body = b"5\r\n67890\r\n5\r\n67890\r\n5\r\n67890\r\n0\r\n\r\n"
    headers = {**RANGED.headers, "Transfer-Encoding": "chunked", "Content-Length": ""}
    upstream.says(Answer(body, status, headers))

    steps = []
    with pytest.raises(DownloadError, match="broke off again and again"):
        for done in file_of(link_to(upstream, size=10), None, tmp_path).chunks():
            steps.append(done)

    assert steps == []
    assert list((tmp_path / "video").iterdir()) == []


@pytest.mark.parametrize("tag", [b"\xff\xfe", b'"a"\r\nX: y', b"", b'W/"a"', b"a"])
def test_a_damaged_tag_begins_anew(upstream: Upstream, tmp_path: Path, tag: bytes) -> None:
    path = given_part(tmp_path, tag=tag)
    upstream.says(WHOLE)

    downloaded(link_to(upstream), None, tmp_path)

    assert path.read_bytes() == b"abcdefghij"
    assert "Range" not in upstream.requests[0][1]


@pytest.mark.parametrize("part", [b"12345", b"1234567890"], ids=["a part", "of full length"])
def test_a_damaged_part_begins_anew_where_the_checksum_is_known(
    upstream: Upstream, tmp_path: Path, part: bytes
) -> None:
    path = given_part(tmp_path, part)
    upstream.says(*([RANGED] if len(part) == 5 else []), WHOLE)
    checksum = base64.b64encode(zlib.crc32(b"abcdefghij").to_bytes(4, "big")).decode()

    downloaded(link_to(upstream, size=10), checksum, tmp_path)

    assert path.read_bytes() == b"abcdefghij"


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"<html>sign in</html>", {}, "an error page"),
        (b'\n {"error": "no such file"}', {}, "an error page"),
        (b"please sign in", {"Content-Type": "text/html; charset=utf-8"}, "an error page"),
        (b"", {}, "an empty file"),
    ],
)
def test_an_error_page_is_no_file_whatever_its_status_says(
    upstream: Upstream, tmp_path: Path, body: bytes, headers: dict[str, str], said: str
) -> None:
    upstream.says(Answer(body, 200, headers))

    with pytest.raises(DownloadError, match=said):
        downloaded(link_to(upstream), None, tmp_path)

    assert list((tmp_path / "video").iterdir()) == []


def test_what_the_archive_has_is_taken_for_what_it_is(upstream: Upstream, tmp_path: Path) -> None:
    upstream.says(Answer(b"<smil/>", 200, {"Content-Type": "application/xml"}))
    checksum = base64.b64encode(zlib.crc32(b"<smil/>").to_bytes(4, "big")).decode()

    downloaded(link_to(upstream, size=7), checksum, tmp_path)

    assert (tmp_path / "video" / "a.mp4").read_bytes() == b"<smil/>"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_storage_is_asked_once_more_after_a_pause(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    busy = Answer("<Error/>", status, {"Retry-After": "0"})
    upstream.says(busy, WHOLE)

    downloaded(link_to(upstream), None, tmp_path)

    upstream.says(busy)
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        downloaded(link_to(upstream, file_name="b.mp4"), None, tmp_path)
    assert len(upstream.requests) == 4


def test_a_redirect_within_the_domain_is_followed_with_the_range(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = given_part(tmp_path)
    upstream.says(Answer(b"", 307, {"Location": "/elsewhere"}), RANGED)

    downloaded(link_to(upstream), None, tmp_path)

    assert path.read_bytes() == b"1234567890"
    assert upstream.paths == ["/media", "/elsewhere"]
    assert upstream.requests[1][1]["Range"] == "bytes=5-"


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost/media",
        "https://127.0.0.1/media",
        "http://user@127.0.0.1/media",
        "http://[::1/",
        "file:///etc/passwd",
        "//example.com/media",
    ],
)
def test_a_redirect_to_somewhere_else_is_not_followed(
    upstream: Upstream, tmp_path: Path, location: str
) -> None:
    upstream.says(Answer(b"", 302, {"Location": location}))

    with pytest.raises(DownloadError, match="leads to another domain"):
        downloaded(link_to(upstream), None, tmp_path)


def test_redirects_end(upstream: Upstream, tmp_path: Path) -> None:
    upstream.says(Answer(b"", 307, {"Location": "/media"}))

    with pytest.raises(DownloadError, match="too many redirects"):
        downloaded(link_to(upstream), None, tmp_path)

    assert len(upstream.requests) == 4


def test_two_downloads_of_one_file_do_not_fight(upstream: Upstream, tmp_path: Path) -> None:
    upstream.says(WHOLE)
    first = file_of(link_to(upstream), None, tmp_path).chunks()
    next(first)

    with pytest.raises(DownloadError, match=r"a.mp4 is being downloaded by another command"):
        downloaded(link_to(upstream), None, tmp_path)

    assert list(first) == []
    assert [path.name for path in (tmp_path / "video").iterdir()] == ["a.mp4"]
    assert (tmp_path / "video" / "a.mp4").read_bytes() == b"abcdefghij"


def test_a_lock_file_that_somebody_left_locks_nothing(upstream: Upstream, tmp_path: Path) -> None:
    path = given_part(tmp_path)
    path.with_name("a.mp4.part.lock").touch()
    upstream.says(RANGED)

    downloaded(link_to(upstream), None, tmp_path)

    assert path.read_bytes() == b"1234567890"


def test_a_download_goes_through_the_proxy_that_botocore_would_use(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", upstream.url.replace("http://", "http://user:pass@"))
    monkeypatch.setenv("no_proxy", "")
    upstream.says(WHOLE)

    downloaded({**link_to(upstream), "url": "http://storage.example/media"}, None, tmp_path)

    assert upstream.paths == ["http://storage.example/media"]
    assert upstream.requests[0][1]["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"


def test_certificates_are_those_that_botocore_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def ca_certs() -> Any:
        connections = Connections(boto3.Session(region_name="eu-central-1"))
        return connections.to("https://storage.example/").connection_pool_kw["ca_certs"]

    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert ca_certs() == "/requests.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/aws.pem")
    assert ca_certs() == "/aws.pem"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("50c8940e-1b97-402a-97d6-2708b7feca41_1780480777000.mp4", "2026-06-03 Weekly – sync_.mp4"),
        ("1780480777000.mp4", "2026-06-03 Weekly – sync_.mp4"),
        ("weekly_1780480777000.mp4", "weekly_1780480777000.mp4"),
    ],
)
def test_a_name_that_says_nothing_is_the_date_and_the_title(
    tmp_path: Path, given: str, expected: str
) -> None:
    link = {"name": "video", "url": "https://x/a", "file_name": given}
    row = {"meeting_title": "Weekly – sync?", "invoked_at": "2026-06-03T10:00:00.000Z"}

    assert file_of(link, None, tmp_path, **row).path.name == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("con.mp4", "_con.mp4"),
        ("LPT1", "_LPT1"),
        ("console.mp4", "console.mp4"),
        ('a<b>c:d"e|f?g*.mp4', "a_b_c_d_e_f_g_.mp4"),
        ("a.mp4. ", "a.mp4"),
        ("é" * 300 + ".webm", "é" * 97 + ".webm"),
        ("x" * 300, "x" * 200),
        ("\udcff.mp4", "?.mp4"),
    ],
)
def test_a_name_is_one_on_every_system(tmp_path: Path, given: str, expected: str) -> None:
    link = {"name": "video", "url": "https://x/a", "file_name": given}

    assert file_of(link, None, tmp_path).path.name == expected


@pytest.fixture
def api(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Api:
    # The retries are real, but do not wait.
    monkeypatch.setattr(api_module, "RETRIES", api_module.RETRIES.new(backoff_factor=0, total=2))
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-central-1")
    return Api(upstream.url, session)


def problem(status: int, **headers: str) -> Answer:
    return Answer({"status": status, "detail": "What is wrong."}, status, headers)


def test_what_passes_is_asked_for_again(api: Api, upstream: Upstream) -> None:
    upstream.says(problem(503), Answer({"recording_id": "x"}))

    assert api.recording("x") == {"recording_id": "x"}


@pytest.mark.parametrize("call", ["sync", "erase"])
def test_what_changes_something_is_asked_for_once(api: Api, upstream: Upstream, call: str) -> None:
    upstream.says(Answer({"message": "no"}, 503))
    monkey = {"sync": api.sync, "erase": api.erase}[call]

    with pytest.raises(ApiError):
        monkey("x")

    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem(404), "What is wrong. (HTTP 404)"),
        (Answer({"message": "Forbidden"}, 403), "refuses these AWS credentials"),
        (Answer("<html>", 500), "answered a body without a type instead of JSON"),
        (
            Answer("<html>", 200, {"Content-Type": "text/html; charset=utf-8"}),
            "is not the API: it answered text/html instead of JSON (HTTP 200).",
        ),
        (Answer("[]", 500), "answered a body without a type instead of JSON"),
        (problem(503), " does not answer: too many 503 error responses."),
    ],
)
def test_what_the_api_says_is_told(api: Api, upstream: Upstream, answer: Answer, said: str) -> None:
    upstream.says(answer)

    with pytest.raises(ApiError, match=r".") as raised:
        api.recording("x")

    assert said in str(raised.value)
    # The error names the host, so that a proxy's answer is recognised.
    assert raised.value.status == 404 or "127.0.0.1:" in str(raised.value)


def test_an_api_that_is_not_there_is_told() -> None:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-central-1")

    with pytest.raises(ApiError, match="does not answer"):
        Api("http://127.0.0.1:9", session).health()


def test_without_credentials_nothing_is_sent(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(ApiError, match="no AWS credentials"):
        Api(upstream.url, boto3.Session(region_name="eu-central-1")).health()

    assert upstream.requests == []


def test_credentials_that_cannot_be_renewed_are_told_of(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soon = f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    given = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "s", "Expiration": soon}
    (tmp_path / "once.json").write_text(json.dumps(given))
    once = f"sh -c 'cat {tmp_path}/once.json && rm {tmp_path}/once.json'"
    (tmp_path / "config").write_text(f"[profile short]\ncredential_process = {once}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    upstream.says(Answer({"recording_id": "x"}))

    with pytest.raises(ApiError, match="no AWS credentials"):
        Api(upstream.url, boto3.Session(profile_name="short")).recording("x")

    assert not (tmp_path / "once.json").exists()
    assert upstream.requests == []


def test_the_region_is_that_of_the_url() -> None:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
    url = "https://abc.execute-api.eu-west-1.amazonaws.com/v1"

    assert Api(url, session)._region == "eu-west-1"


def test_the_api_is_found_by_the_stacks_name(aws: Any, upstream: Upstream) -> None:
    aws.outputs["ApiUrl"] = upstream.url
    upstream.says(Answer({"recordings": [], "next_cursor": "c"}), Answer({"recordings": []}))

    result = CliRunner().invoke(main, ["list", "--all", "--json"])

    assert (result.exit_code, result.stdout) == (0, "")
    assert upstream.paths == ["/recordings?limit=100", "/recordings?limit=100&cursor=c"]
    assert aws.calls == ["DescribeStacks"]


def test_a_stack_without_an_api_is_told(aws: Any) -> None:
    result = CliRunner().invoke(main, ["health"])

    assert result.exit_code == 2
    assert "has no output ApiUrl" in result.stderr


RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e"


@pytest.mark.parametrize(
    "command", [["list"], ["list", "--json"], ["show", RECORDING_ID], ["links", RECORDING_ID]]
)
def test_what_others_named_is_no_command_to_the_terminal(
    upstream: Upstream, command: list[str]
) -> None:
    row = {
        "recording_id": RECORDING_ID,
        "invoked_at": "2026-06-03T10:00:00.000Z",
        "meeting_title": f"Weekly {HOSTILE}",
    }
    link = {"name": f"track/{HOSTILE}", "source": "archive", "expires_at": "…", "url": "https://x"}
    missing = {"name": HOSTILE, "reason": "not_yet"}
    upstream.says(Answer({**row, "recordings": [row], "links": [link], "missing": [missing]}))

    result = CliRunner().invoke(main, [*command, "--api-url", upstream.url])

    assert result.exit_code == 0
    assert result.output
    assert set(result.output) & {"\x1b", "\x07", "\x9b", "\u202e"} == set()


@pytest.mark.parametrize(
    "title", ["週次\u3000定例", "C:\\[/tmp]", "[red]sync[/red]", "a\\[x", "sync\\", ":smile:"]
)
def test_a_title_is_shown_as_it_is(upstream: Upstream, title: str) -> None:
    row = {"recording_id": RECORDING_ID, "invoked_at": "2026-06-03T10:00:00.000Z"}
    upstream.says(Answer({"recordings": [{**row, "meeting_title": title}]}))

    result = CliRunner().invoke(main, ["list", "--api-url", upstream.url])

    assert result.exit_code == 0
    assert f" {title}\n" in result.stdout


def test_what_is_wrong_with_a_part_is_shown_as_it_is(upstream: Upstream) -> None:
    part = {"status": "degraded", "detail": "[/queue]"}
    upstream.says(Answer({"status": "degraded", "parts": {"queues": part}}, 503))

    result = CliRunner().invoke(main, ["health", "--api-url", upstream.url])

    assert result.exit_code == 1
    assert "!  queues  degraded  detail: [/queue]\n" in result.stdout


OTHER_ID = "2f1c8d43-3fd9-43a5-b6d8-5f4a0e5d9e0c"


def files_answered(*files: tuple[str, str], missing: dict[str, str] | None = None) -> Answer:
    """Return an answer with links to `/media` by artifact and file name, and with reasons."""
    links = [{"name": name, "url": "{url}/media", "file_name": file} for name, file in files]
    absent = [{"name": name, "reason": reason} for name, reason in (missing or {}).items()]
    return Answer({"links": links, "missing": absent})


def download(upstream: Upstream, answer: Answer, bodies: list[bytes], *arguments: str) -> Result:
    """Run the command with these links, while the storage serves these bodies."""
    links = Answer(answer.content.decode().replace("{url}", upstream.url))
    upstream.says(links, Answer({"artifacts": {}}), *map(Answer, bodies))
    return CliRunner().invoke(main, ["download", *arguments, "--api-url", upstream.url])


def test_files_of_one_name_do_not_overwrite_each_other(upstream: Upstream, tmp_path: Path) -> None:
    output = ("--output", str(tmp_path))
    names = ("track/a/x.webm", "track/b/x.webm")
    tracks = files_answered(*((name, "x.webm") for name in names))

    first = download(upstream, tracks, [b"1", b"2"], RECORDING_ID, *output)
    other = download(upstream, tracks, [b"3", b"4"], OTHER_ID, *output)

    assert (first.exit_code, other.exit_code) == (0, 0)
    paths = [Path(line) for line in (first.stdout + other.stdout).splitlines()]
    assert [path.read_bytes() for path in paths] == [b"1", b"2", b"3", b"4"]
    assert {path.name for path in paths} == {"x.webm"}
    assert [path.parent.parent for path in paths] == [
        tmp_path / RECORDING_ID,
        tmp_path / RECORDING_ID,
        tmp_path / OTHER_ID,
        tmp_path / OTHER_ID,
    ]


@pytest.mark.parametrize("reason", ["not_yet", "external", "archive_unreachable", "expired"])
def test_a_file_that_could_not_be_had_is_an_exit_code(
    upstream: Upstream, tmp_path: Path, reason: str
) -> None:
    answer = files_answered(("video", "sync.mp4"), missing={"audio": reason})

    result = download(upstream, answer, [b"video"], RECORDING_ID, "--output", str(tmp_path))

    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}/{RECORDING_ID}/video/sync.mp4\n"
    assert result.stderr.endswith(f"audio: {reason}\n")


def test_a_file_that_nobody_asked_for_is_not_missed(upstream: Upstream, tmp_path: Path) -> None:
    answer = files_answered(("video", "[red]sync.mp4"), missing={"audio": "expired"})
    wanted = ("--artifact", "video", "--output", str(tmp_path))

    result = download(upstream, answer, [b"video"], RECORDING_ID, *wanted)

    assert result.exit_code == 0
    assert "[red]sync.mp4" in result.stderr
    assert "audio" not in result.stderr


@pytest.mark.parametrize(
    ("file", "body"),
    [
        (("transcript", "transcript.json"), b'[{"startTime": 0, "sentence": "Hello."}]'),
        (("captions", "captions.vtt"), b"WEBVTT\n"),
        (("summary", "summary.md"), b"# Summary\n"),
        (("chat", "chat.csv"), b"id,participantId\n"),
        (("chat", "chat.json"), b'[{"id": "1"}]'),
    ],
)
def test_a_sessions_file_of_realtimekits_is_not_taken_for_an_error_page(
    upstream: Upstream, tmp_path: Path, file: tuple[str, str], body: bytes
) -> None:
    result = download(
        upstream, files_answered(file), [body], RECORDING_ID, "--output", str(tmp_path)
    )

    path = tmp_path / RECORDING_ID / file[0] / file[1]
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert path.read_bytes() == body


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"", 1, "The storage sent an empty file instead of transcript.json.\n"),
        (b"<html>", 2, "The storage sent an error page instead of transcript.json.\n"),
        (b'{"error": {}}', 2, "The storage sent an error page instead of transcript.json.\n"),
    ],
)
def test_an_empty_transcript_is_missing_and_an_error_page_has_failed(
    upstream: Upstream, tmp_path: Path, body: bytes, code: int, said: str
) -> None:
    answer = files_answered(("transcript", "transcript.json"))

    result = download(upstream, answer, [body], RECORDING_ID, "--output", str(tmp_path))

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.endswith(said)


NO_SESSION_FILES = dict.fromkeys(("transcript", "captions", "summary", "chat"), "no_file")


def test_a_file_that_the_session_never_had_is_not_missed(
    upstream: Upstream, tmp_path: Path
) -> None:
    answer = files_answered(("video", "sync.mp4"), missing=NO_SESSION_FILES)

    result = download(upstream, answer, [b"video"], RECORDING_ID, "--output", str(tmp_path))

    assert (result.exit_code, result.stdout) == (
        0,
        f"{tmp_path}/{RECORDING_ID}/video/sync.mp4\n",
    )
    assert "no_file" not in result.stderr


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({**NO_SESSION_FILES, "chat": "not_yet"}, "chat: not_yet\n"),
        ({**NO_SESSION_FILES, "summary": "expired"}, "summary: expired\n"),
        ({**NO_SESSION_FILES, "audio": "no_file"}, "audio: no_file\n"),
    ],
)
def test_a_sessions_file_that_may_come_or_was_lost_is_missed(
    upstream: Upstream, tmp_path: Path, missing: dict[str, str], said: str
) -> None:
    answer = files_answered(("video", "sync.mp4"), missing=missing)

    result = download(upstream, answer, [b"video"], RECORDING_ID, "--output", str(tmp_path))

    assert result.exit_code == 1
    assert result.stderr.endswith(said)
    assert result.stderr.count("no_file") == said.count("no_file")


def test_a_sessions_file_that_is_asked_for_is_missed_though_there_never_was_one(
    upstream: Upstream, tmp_path: Path
) -> None:
    answer = files_answered(("video", "sync.mp4"), missing=NO_SESSION_FILES)
    wanted = ("--artifact", "transcript", "--output", str(tmp_path))

    result = download(upstream, answer, [], RECORDING_ID, *wanted)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("transcript: no_file\n")
