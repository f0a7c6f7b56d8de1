"""The page in Chromium, on a local stack: what only a browser can show."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect

from doubles import Answer
from local import stack as local_stack
from local.stack import SEED, LocalStack, parameters
from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Clock,
    Recording,
    RecordingOptions,
    SessionFileOptions,
    Simulator,
    World,
)

from .conftest import IN_CHROMIUM, Outside, listed

HOUR = timedelta(hours=1)
MARKUP = '<img src=x onerror="document.title=1">'
SUMMARY = f"# Decisions\n\n- **Ada**: ship it\n\n{MARKUP}\n\n[a](javascript:alert(1))\n".encode()
# Of the recordings the stack learns by a sync each, which takes less time than four webhooks.
EVENTS = (
    "meeting.transcript",
    "meeting.summary",
    "meeting.chatSynced",
)

pytestmark = IN_CHROMIUM


@dataclass
class Stage:
    """A local stack with recordings, and the page in front of it."""

    api: Api
    server: PageServer
    recordings: dict[str, Recording]

    @property
    def home(self) -> str:
        return self.server.address.partition("/enter")[0]

    def address(self, title: str) -> str:
        return f"{self.home}/recordings/{self.recordings[title].id}"


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    world = World(
        clock=Clock(), seed=SEED, defaults=RecordingOptions(playable=True, separate_audio=True)
    )
    with (
        Simulator(world) as simulator,
        LocalStack(parameters(simulator), DEFAULT_TOKEN) as local,
    ):
        simulator.webhooks.registrations.add(local.description["webhook_url"], events=EVENTS)
        files: dict[str, SessionFileOptions] = {
            "transcript": SessionFileOptions(),
            "summary": SessionFileOptions(content=SUMMARY),
            "chat": SessionFileOptions(),
        }
        recordings = {}
        for number, (title, left) in enumerate((("Weekly sync", files), (MARKUP, {}), ("Old", {}))):
            began = world.clock.now().replace(microsecond=0) - (number + 1) * HOUR
            recordings[title] = world.record_meeting(
                title=title, duration=20, started_at=began, session_files=left
            )
        api = Api(local.description["api_url"], local_stack.session(), "the local stack")
        for recording in recordings.values():
            api.sync(recording.id)
        simulator.webhooks.deliver(world.clock.now() - 8 * HOUR, world.clock.now())
        wait_for(lambda: all(is_whole(api, title, it) for title, it in recordings.items()))
        with PageServer(api) as server:
            yield Stage(api, server, recordings)


def is_whole(api: Api, title: str, recording: Recording) -> bool:
    """Return True if all files of a recording are archived, with those that its session leaves."""
    artifacts = api.recording(recording.id)["artifacts"]
    states = [file.get("archive", {}).get("state") for file in artifacts.values()]
    return states.count("archived") == (6 if title == "Weekly sync" else 2)


def wait_for(look: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def cookies(stage: Stage, chromium: Browser) -> Any:
    """Return the cookies of a browser that was let in."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(stage.server.address)
    page.wait_for_url(f"{stage.home}/")
    found = context.cookies()
    context.close()
    return found


@contextlib.contextmanager
def visiting(chromium: Browser, stage: Stage, cookies: Any, **options: Any) -> Iterator[Page]:
    """Open a tab that was let in; no script may fail in it, and no other host may be asked."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, **options)
    context.add_cookies(cookies)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stage.home)
    page = context.new_page()
    page.set_default_timeout(30_000)
    troubles: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
    page.on(
        "console",
        lambda message: (
            troubles.append(message.text) if "Content Security" in message.text else None
        ),
    )
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
    yield page
    context.close()
    assert troubles == []
    assert hosts == {"127.0.0.1"}


@pytest.fixture
def page(chromium: Browser, stage: Stage, cookies: Any) -> Iterator[Page]:
    with visiting(chromium, stage, cookies) as page:
        yield page


def current_time(page: Page) -> float:
    seconds: float = page.evaluate("document.querySelector('video').currentTime")
    return seconds


def test_recordings_are_listed_filtered_found_and_opened_by_keyboard(
    page: Page, stage: Stage
) -> None:
    page.goto(stage.home)
    rows = page.locator("#rows .row")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".kinds")).to_have_text(
        re.compile("Video.*Audio.*Transcript.*Summary.*Chat")
    )
    expect(rows.nth(1).locator(".title")).to_have_text(MARKUP)
    assert page.locator("#rows img").count() == 0

    page.get_by_label("Status").select_option("ERRORED")
    expect(page.get_by_text("No recordings match")).to_be_visible()
    assert page.url == f"{stage.home}/?status=ERRORED"
    page.get_by_role("button", name="Clear").click()
    expect(rows).to_have_count(3)

    page.keyboard.press("/")
    page.keyboard.type("weekly")
    expect(page.locator("#rows .row:visible")).to_have_count(1)
    expect(page.locator("#count")).to_have_text("1 of 3 match")
    page.get_by_placeholder("Find by title").blur()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(stage.address("Weekly sync"))


def test_further_pages_come_as_the_reader_scrolls_and_go_on_with_the_same_day(
    chromium: Browser, api: Api, outside: Outside
) -> None:
    def page_of(day: str, **more: str) -> Answer:
        rows = [
            listed(meeting_title=f"{day} {n}", invoked_at=f"{day}T12:00:00Z") for n in range(40)
        ]
        return Answer({"recordings": rows, **more})

    outside.says(
        "GET /recordings",
        page_of("2026-06-03", next_cursor="second"),
        page_of("2026-06-03", next_cursor="third"),
        page_of("2026-06-02"),
    )
    with PageServer(api) as server, contextlib.closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(server.address)
        rows = page.locator("#rows .row")
        expect(rows).to_have_count(40)
        expect(page.locator("#count")).to_have_text("40 loaded")
        for loaded in (80, 120):
            page.locator("#rows .more").scroll_into_view_if_needed()
            expect(rows).to_have_count(loaded)
        expect(page.locator("#count")).to_have_text("120 recordings")
        expect(page.locator("#rows .more")).to_have_count(0)
        # The last row of each of the two days has round corners, and no other one.
        expect(page.locator("#rows .day")).to_have_count(2)
        expect(page.locator("#rows .end .title")).to_have_text(["2026-06-03 39", "2026-06-02 39"])

        page.get_by_placeholder("Find by title").fill("06-02 7")
        expect(page.locator("#rows .row:visible")).to_have_count(1)
        expect(page.locator("#rows .day:visible")).to_have_count(1)


def test_a_recording_plays_with_captions_and_its_transcript_leads_to_the_place(
    page: Page, stage: Stage
) -> None:
    page.goto(stage.address("Weekly sync"))
    lines = page.locator("#transcript li")
    expect(lines).to_have_count(4)

    page.evaluate("document.querySelector('video').play()")
    wait_for(lambda: current_time(page) > 0.3)
    lines.nth(2).click()
    place = float(lines.nth(2).get_attribute("data-t") or 0)
    wait_for(lambda: place <= current_time(page) < place + 5)
    expect(lines.nth(2)).to_have_attribute("aria-current", "true")
    wait_for(lambda: "José García" in cue(page) or "Mary Sue" in cue(page))
    spoken = lines.nth(2).locator(".words").inner_text()
    assert spoken in cue(page)

    page.locator("main h1").click()
    page.keyboard.press("ArrowLeft")
    wait_for(lambda: current_time(page) < place)
    page.keyboard.press("/")
    page.keyboard.type("a")
    expect(page.locator("#matches")).to_have_text(re.compile(r"1 of \d+"))


def cue(page: Page) -> str:
    """Return the text of the captions that the browser shows now."""
    text: str = page.evaluate(
        "(() => { const track = document.querySelector('video').textTracks[0];"
        " return track.mode === 'showing' ? [...track.activeCues ?? []].map(c => c.text).join() : ''"
        "; })()"
    )
    return text


def test_a_summary_is_shown_safely_and_the_chat_beside_it(page: Page, stage: Stage) -> None:
    page.goto(stage.address("Weekly sync"))
    summary = page.locator(".prose")

    expect(summary.locator("h3")).to_have_text("Decisions")
    expect(summary).to_contain_text(MARKUP)
    assert summary.locator("img, script, a").count() == 0
    assert page.title() == "Weekly sync"

    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#chat li").first).to_contain_text("Good morning!")
    page.get_by_role("button", name="Audio", exact=True).click()
    wait_for(lambda: page.evaluate("document.querySelector('video').duration") > 19)


def test_a_link_that_expired_is_renewed(page: Page, stage: Stage) -> None:
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=403)

    page.route("**/video/**", refuse, times=1)
    page.goto(stage.address("Weekly sync"))

    wait_for(lambda: page.evaluate("document.querySelector('video').duration") == 20)
    assert len(refused) == 1
    expect(page.locator("#player-problem")).to_be_hidden()


def test_a_link_is_renewed_before_it_expires_and_the_place_is_kept(
    page: Page, stage: Stage
) -> None:
    page.clock.install()
    page.goto(stage.address("Weekly sync"))
    wait_for(lambda: page.evaluate("document.querySelector('video').readyState") > 0)
    page.evaluate("document.querySelector('video').currentTime = 12")
    before = page.locator("#player").get_attribute("src")

    page.clock.fast_forward("59:30")

    expect(page.locator("#player")).not_to_have_attribute("src", before or "")
    wait_for(lambda: current_time(page) == 12)


def test_a_link_is_copied_and_a_file_saved_under_the_meetings_title(
    page: Page, stage: Stage
) -> None:
    page.goto(stage.address("Weekly sync"))

    page.get_by_role("button", name="Copy link to Video").click()
    expect(page.locator("#toast")).to_contain_text("Link copied.")
    assert page.evaluate("navigator.clipboard.readText()").startswith("http://127.0.0.1:")
    with page.expect_download() as saving:
        page.get_by_role("link", name="Download Video").click()
    assert "Weekly sync" in saving.value.suggested_filename


def test_labels_and_a_hold_are_set_by_keyboard_and_the_list_is_filtered_by_a_label(
    page: Page, stage: Stage
) -> None:
    page.goto(stage.address(MARKUP))
    page.get_by_label("Reason").fill("Case 12")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Release the hold")).to_be_visible()
    expect(page.get_by_role("button", name="Erase this recording")).to_have_count(0)

    page.get_by_label("Name", exact=True).fill("customer")
    page.keyboard.press("Tab")
    page.keyboard.type("a & b")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="customer=a & b").click()
    expect(page.locator("#rows .row")).to_have_count(1)
    expect(page.locator("#rows .row .labels")).to_contain_text("On hold customer=a & b")
    expect(page.get_by_label("Label")).to_have_value("customer=a & b")
    assert axe(page) == []

    page.locator("#rows .title").click()
    expect(page.get_by_text(re.compile("^On hold since .*: Case 12$"))).to_be_visible()
    assert axe(page) == []
    page.get_by_role("button", name="Remove the label customer").press("Enter")
    expect(page.get_by_role("link", name="customer=a & b")).to_have_count(0)
    page.get_by_role("button", name="Release the hold").press("Enter")
    expect(page.get_by_role("button", name="Erase this recording")).to_be_visible()


def test_a_recording_is_erased_once_the_beginning_of_its_id_is_typed(
    page: Page, stage: Stage
) -> None:
    page.goto(stage.address("Old"))
    page.get_by_role("button", name="Erase this recording").click()
    erase = page.get_by_role("button", name="Erase for good")
    expect(erase).to_be_disabled()

    page.get_by_label("to confirm").fill(stage.recordings["Old"].id[:8])
    erase.click()

    expect(page.locator("h1")).to_have_text("This recording was erased")


def axe(page: Page) -> list[str]:
    """Return the serious faults that axe finds in what the page shows now."""
    page.evaluate(Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{page.url}: {fault['id']} at {node['target']}: {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    chromium: Browser, stage: Stage, cookies: Any, scheme: str
) -> None:
    with visiting(chromium, stage, cookies, color_scheme=scheme) as page:
        for path, loaded in (
            ("/", "#rows .kinds span"),
            (f"/recordings/{stage.recordings['Weekly sync'].id}", ".prose"),
            ("/operations", ".plot circle"),
        ):
            page.goto(f"{stage.home}{path}")
            page.locator(loaded).first.wait_for()
            page.locator("main .skeleton:visible").first.wait_for(state="detached")
            assert axe(page) == []


def test_an_api_that_is_down_is_said_with_a_way_to_try_again(
    chromium: Browser, stage: Stage
) -> None:
    down = Api("http://127.0.0.1:9", local_stack.session(), "nothing")
    with PageServer(down) as server:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(server.address)
        expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=30_000)
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        context.close()


def test_a_browser_without_the_token_and_a_rebound_name_are_refused(
    chromium: Browser, stage: Stage, cookies: Any
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    port = urlsplit(stage.home).port

    without = page.goto(f"{stage.home}/enter?token=guess")
    assert without
    assert without.status == 403
    expect(page.locator("h1")).to_have_text("This browser is not let in")
    context.add_cookies([{**cookies[0], "domain": "evil.example"}])
    with contextlib.suppress(Error):
        rebound = page.goto(f"http://evil.example:{port}/")
        assert rebound
        assert rebound.status == 403
    context.close()
