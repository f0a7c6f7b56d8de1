"""The player in examples/: a team's own page plays the archive's files, by the bucket's CORS rules."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from local import template
from local.aws import Ministack
from local.stack import ROOT, client
from realtimekit_simulator import Clock, RecordingOptions, World

from .conftest import IN_CHROMIUM

pytestmark = IN_CHROMIUM
PLAYER = ROOT / "examples" / "player" / "index.html"
VTT = b"WEBVTT\n\n00:00.000 --> 00:20.000\nGood morning, everyone.\n"


@dataclass
class Team:
    """A team's server: the player's page, and links that its backend got from the API."""

    port: int
    links: list[dict[str, str]]


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_page = self.path.startswith("/?")
            answer = json.dumps({"links": served.links}).encode()
            body = PLAYER.read_bytes() if is_page else answer
            self.send_response(200 if is_page or self.path == "/links/a%2Fb" else 404)
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Team(server.server_port, [])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    # Only with IAM does the emulator follow a bucket's CORS rules.
    with Ministack(ROOT / ".local", enforce_iam=True) as aws:
        served.links = archived_files(aws.url, f"http://127.0.0.1:{served.port}")
        yield served
    server.shutdown()
    thread.join()
    server.server_close()


def archived_files(endpoint: str, origin: str) -> list[dict[str, str]]:
    """Deploy the template's bucket for pages of this origin; return links to a video and captions."""
    whole = template.load(ROOT / "template.yaml")
    parts = {name: whole[name] for name in ("AWSTemplateFormatVersion", "Parameters", "Conditions")}
    bucket = {"ArchiveBucket": whole["Resources"]["ArchiveBucket"]}
    given = {"CloudflareAccountId": "a", "RealtimeKitAppId": "b", "AllowedOrigins": origin}
    cloudformation = client("cloudformation", endpoint)
    cloudformation.create_stack(
        StackName="bucket",
        TemplateBody=json.dumps({**parts, "Resources": bucket}),
        Parameters=[{"ParameterKey": key, "ParameterValue": given[key]} for key in given],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="bucket", WaiterConfig={"Delay": 1}
    )
    [created] = cloudformation.describe_stack_resources(StackName="bucket")["StackResources"]
    s3, name = client("s3", endpoint), created["PhysicalResourceId"]
    world = World(clock=Clock())
    recording = world.record_meeting(duration=20, options=RecordingOptions(playable=True))
    video = world.media_files(recording)[0].read()
    s3.put_object(Bucket=name, Key="video", Body=video, ContentType="video/mp4")
    s3.put_object(Bucket=name, Key="captions", Body=VTT, ContentType="text/vtt; charset=utf-8")
    return [
        {
            "name": key,
            "source": "archive",
            "url": s3.generate_presigned_url("get_object", {"Bucket": name, "Key": key}),
        }
        for key in ("video", "captions")
    ]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    page.set_default_timeout(60_000)
    yield page
    page.close()


CUES = "[...document.querySelector('video').textTracks[0]?.activeCues ?? []].map(c => c.text)"


def test_a_page_of_an_allowed_origin_plays_the_video_with_captions(page: Page, team: Team) -> None:
    page.goto(f"http://127.0.0.1:{team.port}/?recording=a/b")
    page.wait_for_function("document.querySelector('video').readyState > 1")

    page.evaluate("document.querySelector('video').currentTime = 12")
    page.evaluate("document.querySelector('video').play()")

    page.wait_for_function("document.querySelector('video').currentTime > 12.2")
    page.wait_for_function(f"({CUES}).length === 1")
    assert page.evaluate(CUES) == ["Good morning, everyone."]


def test_a_page_of_another_origin_plays_nothing(page: Page, team: Team) -> None:
    page.goto(f"http://evil.example:{team.port}/?recording=a/b")

    page.wait_for_function("document.querySelector('video').error !== null")
    page.wait_for_function("document.querySelector('track').readyState === 3")
    assert page.evaluate("document.querySelector('video').readyState") == 0


def test_a_recording_without_a_link_is_said(page: Page, team: Team) -> None:
    page.goto(f"http://127.0.0.1:{team.port}/?recording=unknown")

    expect(page.get_by_role("alert")).to_have_text("There is no video of this recording yet.")


def test_the_player_has_20_lines() -> None:
    assert len(PLAYER.read_text().splitlines()) == 20
