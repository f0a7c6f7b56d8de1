"""The pictures of the catalogue page, in docs/pictures.

`python -m local.screenshots` makes them on a local stack with the meetings of `examples`.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Clock,
    DeliveryRules,
    Recording,
    RecordingOptions,
    Simulator,
    World,
)

from . import examples
from .chromium import CHROMIUM, FLAGS, MISSING
from .stack import ROOT, SEED, WEBHOOK_EVENTS, LocalStack, parameters, session

FOLDER = ROOT / "docs" / "pictures"
# A page of the documentation loads them all.
MAX_BYTES = 200_000
WAIT_SECONDS = 300
SHOWN = "Weekly sync"
HEIGHT = 800
# The whole list, down to the recordings that are at risk and lost.
LIST_HEIGHT = 1010
# One is still recording, one failed, one is lost.
ROWS_WITHOUT_FILES = 3


def main() -> int:
    """Make all pictures; return 1 if one is too large."""
    if not CHROMIUM.exists():
        sys.exit(MISSING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    world = World(clock=Clock(), seed=SEED, defaults=RecordingOptions(playable=True))
    with (
        Simulator(world, delivery_rules=DeliveryRules(timeout=10)) as simulator,
        LocalStack(parameters(simulator), DEFAULT_TOKEN) as stack,
    ):
        url = stack.description["webhook_url"]
        simulator.webhooks.registrations.add(url, events=WEBHOOK_EVENTS)
        recordings = examples.record(simulator)
        examples.announce(simulator, recordings)
        stack.client("lambda").invoke(
            FunctionName=stack.description["functions"]["SweepRecordingsFunction"]["name"],
            Payload=b'{"sweep": "hourly"}',
        )
        api = Api(stack.description["api_url"], session(), "the stack realtimekit-recordings")
        _wait_for(lambda: _is_settled(api, recordings))
        with PageServer(api) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            made = _take_all(browser, server)
            browser.close()
    for path in made:
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    return int(any(path.stat().st_size > MAX_BYTES for path in made))


def _take_all(browser: Browser, server: PageServer) -> list[Path]:
    made = []
    for scheme, suffix in (("light", ""), ("dark", "-dark")):
        context = browser.new_context(
            viewport={"width": 1280, "height": HEIGHT},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.set_viewport_size({"width": 1280, "height": LIST_HEIGHT})
        page.goto(server.address)
        page.locator(".row").last.wait_for()
        _wait_for(functools.partial(_is_filled, page))
        made.append(_take(page, f"list{suffix}"))
        page.set_viewport_size({"width": 1280, "height": HEIGHT})
        page.get_by_role("link", name=SHOWN).click()
        page.locator("#transcript li").first.wait_for()
        page.locator(".prose").wait_for()
        _seek(page)
        made.append(_take(page, f"recording{suffix}"))
        page.goto(page.url.partition("/recordings/")[0] + "/operations")
        page.locator(".plot circle").first.wait_for()
        page.locator("main .skeleton:visible").first.wait_for(state="detached")
        made.append(_take(page, f"operations{suffix}"))
        context.close()
    return made


def _is_filled(page: Page) -> bool:
    """Return True if each row of the list that has files names them."""
    return page.locator(".row:not(:has(.kinds span))").count() <= ROWS_WITHOUT_FILES


def _seek(page: Page) -> None:
    """Show the picture of the third sentence, with its caption."""
    place = page.locator("#transcript li").nth(2).get_attribute("data-t")
    page.evaluate(
        "async (seconds) => {"
        " const video = document.querySelector('video');"
        " const shown = new Promise(done => video.addEventListener('seeked', done));"
        " video.currentTime = seconds; await shown; }",
        float(place or 0) + 0.2,
    )
    page.locator("li[aria-current]").wait_for()
    page.wait_for_timeout(1500)


def _take(page: Page, name: str) -> Path:
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    return path


def _is_settled(api: Api, recordings: list[Recording]) -> bool:
    """Return True if all files are archived that can be."""
    for recording, example in zip(recordings, examples.EXAMPLES, strict=True):
        row = api.recording(recording.id)
        files = {
            name: file.get("archive", {}).get("state") for name, file in row["artifacts"].items()
        }
        wanted = {"captions" if name == "transcript" else name for name in example.files}
        is_copied = row["status"] != "UPLOADED" or example.stuck or None not in files.values()
        if not is_copied or not wanted <= {name for name, state in files.items() if state}:
            return False
    return True


def _wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not look():
        if time.monotonic() > deadline:
            sys.exit(f"The page did not show all examples as settled within {WAIT_SECONDS} s.")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
