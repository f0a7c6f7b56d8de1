"""Many recordings at once: their downloads, the manifest, and the list as CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from doubles import Answer, Upstream
from realtimekit_recordings import api as api_module
from realtimekit_recordings.download_display import Display, StoppedError
from realtimekit_recordings.linked_file import DownloadError
from realtimekit_recordings.manifest import Manifest

IDS = [f"97cb480d-5840-4528-ace3-919b5e386c6{digit}" for digit in range(6)]
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
INVOKED_AT = "2026-06-03T10:00:00.000Z"
Run = Callable[..., Result]


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


class Catalogue:
    """An API with recordings, and the storage of their files, both at one loopback address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.paths: list[str] = []
        self.together = 1
        """So many files must be fetched at once before the first one is sent."""
        self.most_at_once = 0
        self._at_once = 0
        self._changed = threading.Condition()

    def add(self, recording_id: str, body: bytes = b"video", **row: Any) -> None:
        """Add a recording with one archived file."""
        archive = {
            "state": "archived",
            "bucket": "archive",
            "key": f"app/2026/06/03/{recording_id}/video/sync.mp4",
            "checksum_crc32": crc32(body),
        }
        row = {
            "recording_id": recording_id,
            "invoked_at": INVOKED_AT,
            "artifacts": {"video": {"kind": "video", "archive": archive}},
            **row,
        }
        link = {
            "name": "video",
            "url": f"{self.url}/media/{recording_id}?X-Amz-Signature=canary",
            "file_name": "sync.mp4",
            "size": len(body),
        }
        self.answers |= {
            f"/recordings/{recording_id}": Answer(row),
            f"/recordings/{recording_id}/links": Answer({"links": [link], "missing": []}),
            f"/media/{recording_id}": Answer(body),
        }

    def answer(self, path: str) -> Answer:
        self.paths.append(path)
        place = path.partition("?")[0]
        if place.startswith("/media/"):
            with self._changed:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self.most_at_once >= self.together, timeout=30)
                self._at_once -= 1
        missing = Answer({"status": 404, "detail": "The catalogue has no such recording."}, 404)
        return self.answers.get(place, missing)


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = server.catalogue.answer(self.path)  # type: ignore[attr-defined]
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def catalogue(aws: Any, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    monkeypatch.setattr(api_module, "RETRIES", api_module.RETRIES.new(backoff_factor=0, total=1))
    url = f"http://127.0.0.1:{server.server_port}"
    aws.outputs["ApiUrl"] = url
    server.catalogue = Catalogue(url)  # type: ignore[attr-defined]
    return server.catalogue  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def download(run: Run, tmp_path: Path) -> Run:
    return lambda *words: run("download", *words, "--output", str(tmp_path))


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_several_recordings_are_downloaded_at_once_but_no_more_than_allowed(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    for recording_id in IDS:
        catalogue.add(recording_id, recording_id.encode())
    catalogue.together = 3

    result = download(*IDS, IDS[0], "--parallel", "3")

    assert result.exit_code == 0
    assert catalogue.most_at_once == 3
    paths = sorted(Path(line) for line in result.stdout.splitlines())
    assert paths == [tmp_path / recording_id / "video" / "sync.mp4" for recording_id in IDS]
    assert [path.read_bytes().decode() for path in paths] == IDS
    assert "Recordings" in result.stderr
    assert "6/6" in result.stderr


def test_recordings_are_chosen_by_time_meeting_and_label(
    catalogue: Catalogue, download: Run
) -> None:
    catalogue.add(IDS[0])
    catalogue.answers["/recordings"] = Answer({"recordings": [{"recording_id": IDS[0]}]})

    result = download(
        *("--from", "2026-06-01", "--to", "2026-07-01", "--meeting", MEETING_ID),
        *("--label", "customer=a:b=c"),
    )

    assert result.exit_code == 0
    assert catalogue.paths[0] == (
        f"/recordings?from=2026-06-01&to=2026-07-01&meeting_id={MEETING_ID}"
        "&label=customer%3Aa%3Ab%3Dc&order=oldest&limit=100"
    )


def test_a_choice_without_recordings_downloads_nothing(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    catalogue.answers["/recordings"] = Answer({"recordings": []})

    result = download("--from", "2026-06-01")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Nothing to do: the catalogue has no such recordings.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give RECORDING_IDs, or one of --from, --to, --meeting and --label."),
        ((IDS[0], "--from", "2026-06-01"), "Give RECORDING_IDs, or one of --from"),
        (("--label", "customer"), "'customer' is not NAME=TEXT."),
        ((IDS[0], "--parallel", "17"), "17 is not in the range 1<=x<=16"),
    ],
)
def test_a_choice_that_is_none_is_2(
    catalogue: Catalogue, download: Run, words: tuple[str, ...], said: str
) -> None:
    result = download(*words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert catalogue.paths == []


def test_one_recordings_trouble_stays_with_it(catalogue: Catalogue, download: Run) -> None:
    gone = {"status": 410, "detail": "The recording was erased."}
    catalogue.add(IDS[0])
    catalogue.answers[f"/recordings/{IDS[1]}/links"] = Answer(gone, 410)
    catalogue.add(IDS[3])

    result = download(*IDS[:4])

    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.endswith(
        f"{IDS[1]}: The recording was erased. (HTTP 410)\n"
        f"{IDS[2]}: The catalogue has no such recording. (HTTP 404)\n"
    )


def test_a_recording_that_another_run_may_get_is_2(catalogue: Catalogue, download: Run) -> None:
    catalogue.add(IDS[0])
    catalogue.add(IDS[1])
    catalogue.add(IDS[2])
    catalogue.answers[f"/recordings/{IDS[0]}"] = Answer({"detail": "Too large."}, 507)
    catalogue.answers[f"/media/{IDS[1]}"] = Answer(b"<html>", 418)

    result = download(*IDS[:3], "--artifact", "video")

    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.endswith(
        f"{IDS[0]}: Too large. (HTTP 507)\n{IDS[1]}: The storage refuses sync.mp4 (HTTP 418).\n"
    )


def test_refused_credentials_end_the_command(catalogue: Catalogue, download: Run) -> None:
    for recording_id in IDS:
        refused = Answer({"message": "Forbidden"}, 403)
        catalogue.answers[f"/recordings/{recording_id}/links"] = refused

    result = download(*IDS, "--parallel", "1")

    assert result.exit_code == 2
    assert "refuses these AWS credentials" in result.stderr
    assert len(catalogue.paths) < len(IDS)


def test_downloads_that_go_on_while_the_command_ends_stop_at_their_next_chunk() -> None:
    display = Display(2)
    with display.file(IDS[0], "a.mp4", 10) as bar:
        bar.advance_to(5, 10)
        display.stop()

        with pytest.raises(StoppedError):
            bar.advance_to(6, 10)


# The manifest


def test_the_manifest_says_what_each_file_is_and_holds_no_url(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    labels = {"customer": "42"}
    catalogue.add(IDS[0], meeting_title="Weekly\nsync", meeting_id=MEETING_ID, labels=labels)

    download(IDS[0])

    assert manifest(tmp_path) == [
        {
            "recording_id": IDS[0],
            "artifact": "video",
            "path": f"{IDS[0]}/video/sync.mp4",
            "size": 5,
            "checksum_crc32": "fMfaLA==",
            "bucket": "archive",
            "key": f"app/2026/06/03/{IDS[0]}/video/sync.mp4",
            "meeting_id": MEETING_ID,
            "meeting_title": "Weekly\nsync",
            "invoked_at": INVOKED_AT,
            "labels": labels,
        }
    ]
    assert "X-Amz" not in (tmp_path / "manifest.jsonl").read_text()


def test_the_manifest_has_the_checksum_of_a_file_that_is_not_archived(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    catalogue.add(IDS[0], b"\x00video", artifacts={})

    download(IDS[0])

    [line] = manifest(tmp_path)
    assert line["checksum_crc32"] == crc32(b"\x00video")
    assert "key" not in line


def test_a_repeated_run_fetches_only_what_is_missing_and_adds_only_its_line(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    catalogue.add(IDS[0])
    first = download(IDS[0], IDS[1])
    catalogue.add(IDS[1])
    catalogue.paths.clear()

    second = download(IDS[0], IDS[1])

    assert (first.exit_code, second.exit_code) == (1, 0)
    assert [path for path in catalogue.paths if "/media/" in path] == [
        f"/media/{IDS[1]}?X-Amz-Signature=canary"
    ]
    assert [line["recording_id"] for line in manifest(tmp_path)] == IDS[:2]


def test_a_line_that_an_earlier_run_left_unfinished_spoils_no_other(
    catalogue: Catalogue, download: Run, tmp_path: Path
) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(b'{"recording_id": "a"}\n{"recordi')
    catalogue.add(IDS[0])
    catalogue.add(IDS[1])

    download(*IDS[:2])

    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert lines[:2] == ['{"recording_id": "a"}', '{"recordi']
    assert sorted(json.loads(line)["recording_id"] for line in lines[2:]) == IDS[:2]


def test_a_changed_label_is_a_new_line(catalogue: Catalogue, download: Run, tmp_path: Path) -> None:
    for labels in ({"customer": "1"}, {"customer": "1"}, {"customer": "2"}):
        catalogue.add(IDS[0], labels=labels)
        download(IDS[0])

    assert [line["labels"] for line in manifest(tmp_path)] == [{"customer": "1"}, {"customer": "2"}]


def test_a_manifest_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").mkdir()
    file = tmp_path / "recording" / "video" / "a.mp4"
    file.parent.mkdir(parents=True)
    file.touch()

    with pytest.raises(DownloadError, match=r"Cannot write .*manifest.jsonl: Is a directory"):
        Manifest(tmp_path).add({}, "video", file, "AAAAAA==")


# The list as CSV


def listed_as_csv(run: Run, aws: Any, upstream: Upstream, *rows: dict[str, Any]) -> bytes:
    aws.outputs["ApiUrl"] = upstream.url
    upstream.says(Answer({"recordings": list(rows)}))
    result = run("list", "--csv")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout_bytes


def test_csv_has_a_header_and_quotes_what_rfc_4180_wants_quoted(
    run: Run, aws: Any, upstream: Upstream
) -> None:
    row = {
        "recording_id": IDS[0],
        "invoked_at": INVOKED_AT,
        "status": "UPLOADED",
        "archived": "yes",
        "duration_seconds": 1800,
        "file_size": 149999400,
        "meeting_title": 'Größe, "weekly"',
        "labels": {"customer": "42", "case": "é"},
        "hold": {"reason": "=case 12", "since": INVOKED_AT},
    }

    text = listed_as_csv(run, aws, upstream, row, {"recording_id": IDS[1]})

    assert text.decode().split("\r\n") == [
        "recording_id,invoked_at,started_at,stopped_at,status,archived,duration_seconds,file_size,"
        "meeting_id,session_id,meeting_title,labels,hold",
        f"{IDS[0]},{INVOKED_AT},,,UPLOADED,yes,1800,149999400,,,"
        '"Größe, ""weekly""","{""customer"": ""42"", ""case"": ""é""}",'
        "'"
        "=case 12",
        f"{IDS[1]},,,,,,,,,,,,",
        "",
    ]


@pytest.mark.parametrize(
    ("title", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1+1", "'  =1+1"),
        ("\uff1d1", "'\uff1d1"),
        ("\t=1", "\N{REPLACEMENT CHARACTER}=1"),
        ("\r\n=1", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}=1"),
        ("a;=1", "a;'=1"),
        ("a = b, c-d", "a = b, c-d"),
        ("\x1b]0;owned\x07", "\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_no_title_is_a_formula_in_a_spreadsheet(
    run: Run, aws: Any, upstream: Upstream, title: str, cell: str
) -> None:
    row = {"recording_id": IDS[0], "meeting_title": title}

    text = listed_as_csv(run, aws, upstream, row).decode()

    [_, cells] = csv.reader(io.StringIO(text, newline=""))
    assert cells[10] == cell


def test_csv_and_json_are_not_both_given(run: Run, aws: Any, upstream: Upstream) -> None:
    aws.outputs["ApiUrl"] = upstream.url

    result = run("list", "--csv", "--json")

    assert result.exit_code == 2
    assert "Give --json or --csv, not both." in result.stderr
    assert upstream.requests == []
