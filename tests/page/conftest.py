"""The page in front of a loopback server that stands for the API and the storage; Chromium."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect, sync_playwright
from werkzeug.test import Client, TestResponse

from doubles import Answer
from local.chromium import CHROMIUM, FLAGS, MISSING
from realtimekit_recordings.api import Api
from realtimekit_recordings.page.app import create_app
from realtimekit_recordings.page.gate import Gate

PORT = 4555
HOME = f"http://127.0.0.1:{PORT}"
RECORDING_ID = "e4b06ce6-0741-47a8-bce4-2c8218072e8c"
ADDRESS = f"/recordings/{RECORDING_ID}"
SECRET_KEY = "canary-secret-key"
NOW = datetime(2026, 6, 3, 12, tzinfo=UTC)

# Set where a browser must be there (.ci/run), so that these tests are never skipped unnoticed.
IS_REQUIRED = "PAGE_TESTS_REQUIRE_CHROMIUM" in os.environ
IN_CHROMIUM = [
    pytest.mark.xdist_group("page in a browser"),
    pytest.mark.skipif(not CHROMIUM.exists() and not IS_REQUIRED, reason=MISSING),
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Yield the browser. Expectations wait for a minute, because machines are shared and may be slow."""
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=(*FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"),
        )
        yield browser
        browser.close()


class Outside:
    """A server that answers each path with what a test sets, and notes the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outside.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                outside.calls.append(f"{self.command} {self.path}")
                key = f"{self.command} {urlsplit(self.path).path}"
                answers = outside.answers.get(key, [Answer({"detail": "no such route"}, 404)])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.content)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def do_POST(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_PATCH(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def says(self, call: str, *answers: Answer) -> None:
        """Answer a call, such as `GET /recordings`, with each in turn, the last one for ever."""
        self.answers[call] = list(answers)

    def query(self, call: str) -> dict[str, str]:
        """Return the query of the last call of a route."""
        found = [path for path in self.calls if path.partition("?")[0] == call][-1]
        return {name: values[0] for name, values in parse_qs(urlsplit(found).query).items()}

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    server = Outside()
    yield server
    server.stop()


@dataclass
class Browser:
    """A browser without scripts, on its way into the page."""

    client: Client
    gate: Gate
    announced: list[str]
    csrf_token: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Origin": HOME})

    def enter(self) -> TestResponse:
        answer = self.client.get(self.gate.address.removeprefix(HOME), base_url=HOME)
        found = re.search(r'name="csrf-token" content="([^"]+)"', self.get("/").text)
        assert found
        self.csrf_token = found[1]
        return answer

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, base_url=HOME, headers=headers, buffered=True)

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        sent = {**self.headers, "X-CSRF-Token": self.csrf_token, **headers}
        return self.client.post(path, base_url=HOME, json=body or {}, headers=sent)


@pytest.fixture
def api(outside: Outside) -> Api:
    session = boto3.Session("testing", SECRET_KEY, region_name="eu-central-1")
    return Api(outside.url, session, "the stack test")


@pytest.fixture
def stranger(api: Api) -> Browser:
    """A browser that was not let in."""
    announced: list[str] = []
    gate = Gate(PORT, announced.append)
    return Browser(Client(create_app(api, gate, lambda: NOW)), gate, announced)


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    """A browser that was let in."""
    stranger.enter()
    return stranger


def listed(**changes: Any) -> dict[str, Any]:
    """Return a row of the list."""
    return {
        "recording_id": RECORDING_ID,
        "status": "UPLOADED",
        "meeting_title": "Weekly sync",
        "invoked_at": "2026-06-03T10:00:01.000Z",
        "started_at": "2026-06-03T10:00:04.000Z",
        "stopped_at": "2026-06-03T10:30:04.000Z",
        "duration_seconds": 1800,
        "file_size": 149999400,
        "archived": "yes",
        **changes,
    }


def archived(kind: str) -> dict[str, Any]:
    """Return an artifact that is in the archive."""
    return {
        "kind": kind,
        "archive": {
            "state": "archived",
            "bucket": "archive",
            "key": f"app/2026/06/03/{kind}",
            "size": 1000,
            "checksum_crc32": "y8zMfA==",
            "archived_at": "2026-06-03T10:31:12.000Z",
        },
    }


def row(**changes: Any) -> dict[str, Any]:
    """Return a whole row, of a recording with a video and a transcript."""
    whole = {
        "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
        "session_started_at": "2026-06-03T10:00:00.000Z",
        "artifacts": {name: archived(name) for name in ("video", "transcript", "captions")},
        "status_history": [{"status": "UPLOADED", "at": "2026-06-03T10:30:30.000Z"}],
        "first_seen_at": "2026-06-03T10:00:02.000Z",
        "fetched_at": "2026-06-03T10:30:30.000Z",
        "version": 3,
    }
    return listed(**{**whole, **changes})


def links(outside: Outside, *names: str, missing: dict[str, str] | None = None) -> Answer:
    """Return the API's answer with links to files of these names, each at `/files/<name>`."""
    found = [
        {
            "name": name,
            "kind": name,
            "source": "archive",
            "url": f"{outside.url}/files/{name}?signature=canary",
            "expires_at": "2026-06-03T13:00:00.000Z",
        }
        for name in names
    ]
    reasons = [{"name": name, "reason": reason} for name, reason in (missing or {}).items()]
    return Answer({"recording_id": RECORDING_ID, "links": found, "missing": reasons})


def problem(status: int, detail: str) -> Answer:
    return Answer({"status": status, "detail": detail}, status)
