"""The bench of the catalogue page: the time to the first list, and whether paging slows down.

    make bench-page

A loopback server stands for the API, so the figures are the page's own: its server and Chromium.
The pages of the list are timed one after the other in the same tab, so the last ones can be
compared with the first ones, whatever else the machine does.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from playwright.sync_api import Page, sync_playwright

from local.chromium import CHROMIUM, FLAGS, MISSING
from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer

ROWS = 10_000
FIRST_PAGES, LAST_PAGES = slice(None, 10), slice(-10, None)
ENTRIES = 5

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
NEXT_PAGE = """() => new Promise(done => {
  const rows = document.getElementById("rows");
  const begun = performance.now(), had = rows.querySelectorAll(".batch").length;
  rows.lastElementChild.scrollIntoView();
  const look = () => rows.querySelectorAll(".batch").length > had ?
    done(performance.now() - begun) : requestAnimationFrame(look);
  look();
})"""


class Recordings(BaseHTTPRequestHandler):
    """The API's list and details of `ROWS` recordings."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a page of the list, or one recording."""
        address = urlsplit(self.path)
        if address.path == "/recordings":
            answer = _list({name: given[0] for name, given in parse_qs(address.query).items()})
        else:
            answer = _row(0) | {"artifacts": {"video": {"kind": "video"}}}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _list(query: Mapping[str, str]) -> dict[str, Any]:
    begin = int(query.get("cursor", 0))
    end = min(begin + int(query["limit"]), ROWS)
    page: dict[str, Any] = {"recordings": [_row(number) for number in range(begin, end)]}
    return page | ({"next_cursor": str(end)} if end < ROWS else {})


def _row(number: int) -> dict[str, Any]:
    invoked_at = datetime(2026, 6, 3, tzinfo=UTC) - timedelta(minutes=7 * number)
    return {
        "recording_id": f"00000000-0000-4000-8000-{number:012}",
        "status": "UPLOADED",
        "meeting_title": f"Meeting {number}",
        "invoked_at": invoked_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration_seconds": 1800,
        "file_size": 149_999_400,
        "archived": "yes",
    }


@contextmanager
def _page_server() -> Iterator[PageServer]:
    api_server = ThreadingHTTPServer(("127.0.0.1", 0), Recordings)
    thread = threading.Thread(target=api_server.serve_forever, args=(0.01,))
    thread.start()
    session = boto3.Session("testing", "testing", region_name="eu-central-1")
    try:
        url = f"http://127.0.0.1:{api_server.server_port}"
        with PageServer(Api(url, session, "the bench")) as server:
            yield server
    finally:
        api_server.shutdown()
        thread.join()
        api_server.server_close()


def _enter(page: Page, server: PageServer) -> tuple[float, float, int]:
    """Return the seconds to the first paint and to the first list, and the bytes that came."""
    received = 0

    def count(size: Mapping[str, Any]) -> None:
        nonlocal received
        received += int(size["encodedDataLength"])

    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", count)
    begun = time.perf_counter()
    page.goto(server.address)
    page.wait_for_selector("#rows .row")
    listed = time.perf_counter() - begun
    page.wait_for_load_state("networkidle")
    return page.evaluate(PAINTED) / 1000, listed, received


def _read_on(page: Page) -> list[float]:
    """Return the seconds that each further page of the list took, up to the last."""
    seconds = []
    while page.locator("#rows .more").count():
        seconds.append(page.evaluate(NEXT_PAGE) / 1000)
    rows = page.locator("#rows .row").count()
    if rows != ROWS:
        raise AssertionError(f"the list ended after {rows} rows")
    return seconds


def main() -> int:
    """Measure, and print the table."""
    if not CHROMIUM.exists():
        sys.exit(MISSING)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS) as browser,
        _page_server() as server,
    ):
        entries = []
        for _ in range(ENTRIES):
            # A new context keeps nothing of the last visit.
            page = browser.new_context().new_page()
            entries.append(_enter(page, server))
        seconds = _read_on(page)
    painted, listed, received = zip(*entries, strict=True)
    first, last = statistics.median(seconds[FIRST_PAGES]), statistics.median(seconds[LAST_PAGES])
    print(f"first contentful paint              {statistics.median(painted):.2f} s")
    print(f"first list visible                  {statistics.median(listed):.2f} s")
    print(f"received for the first list         {statistics.median(received) / 1000:.0f} KB")
    print(f"next page, median of the first ten  {first:.2f} s")
    print(f"next page, median of the last ten   {last:.2f} s, {last / first:.1f} times as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
