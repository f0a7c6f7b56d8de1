"""The gate of the page: who gets in, and what every answer forbids."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import urllib3
from werkzeug.test import TestResponse

from doubles import Answer
from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer

from .conftest import ADDRESS, HOME, SECRET_KEY, Browser, Outside, links, listed, row

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def refusal(answer: TestResponse) -> int:
    """Return the status of a refusal, which sets no cookie and shows nothing of the catalogue."""
    assert "Set-Cookie" not in answer.headers
    assert "Weekly sync" not in answer.text
    return answer.status_code


# Who gets in


def test_the_address_gives_the_browser_a_cookie_that_no_script_and_no_site_can_use(
    stranger: Browser,
) -> None:
    answer = stranger.enter()

    assert answer.status_code == 200
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert stranger.get("/").status_code == 200


def test_an_address_is_good_once_and_the_next_one_is_announced(
    stranger: Browser, api: Api, outside: Outside
) -> None:
    used = stranger.gate.address
    stranger.enter()
    stranger.client.delete_cookie("realtimekit-recordings-4555", domain="127.0.0.1")

    assert refusal(stranger.get(used.removeprefix(HOME))) == 403
    assert stranger.announced == [stranger.gate.address]
    assert stranger.announced != [used]
    assert stranger.enter().status_code == 200


def test_a_browser_that_is_in_opens_an_old_address_and_comes_to_the_list(browser: Browser) -> None:
    answer = browser.get("/enter?token=old")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("query", ["", "?token=", "?token=guess", "?token=%F0%9F%98%80"])
def test_a_wrong_token_is_refused(stranger: Browser, query: str) -> None:
    assert refusal(stranger.get(f"/enter{query}")) == 403
    assert stranger.announced == []


@pytest.mark.parametrize(
    "path",
    ["/", "/rows", "/operations", "/operations/health", "/runbook", "/no-such-page", ADDRESS]
    + [f"{ADDRESS}/{name}" for name in ("links", "download", "transcript", "captions.vtt")],
)
def test_without_the_cookie_nothing_is_shown_and_the_api_is_not_called(
    stranger: Browser, outside: Outside, path: str
) -> None:
    assert refusal(stranger.get(path)) == 403
    assert outside.calls == []


def test_only_so_many_browsers_are_in_at_a_time(stranger: Browser) -> None:
    """The oldest one is out, so that whoever enters for ever fills no memory."""
    stranger.enter()
    first = stranger.client.get_cookie("realtimekit-recordings-4555", domain="127.0.0.1")
    assert first
    for _ in range(32):
        stranger.client.delete_cookie(first.key, domain="127.0.0.1")
        stranger.enter()
    stranger.client.set_cookie(first.key, first.value, domain="127.0.0.1")

    assert refusal(stranger.get("/")) == 403


# Other sites and other programs of this machine


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4555", "127.0.0.1", "127.0.0.1:4556", "[::1]:4555"]
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(
    stranger: Browser, host: str, outside: Outside
) -> None:
    path = stranger.gate.address.removeprefix(HOME)

    entered = stranger.client.get(path, base_url=f"http://{host}")
    stranger.enter()
    seen = stranger.get("/", Host=host)

    assert (refusal(entered), refusal(seen)) == (403, 403)
    assert outside.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_request_from_another_sites_page_is_refused_in_spite_of_the_cookie(
    browser: Browser, outside: Outside, headers: dict[str, str]
) -> None:
    read = browser.get(f"{ADDRESS}/links", **headers)
    changed = browser.post(f"{ADDRESS}/sync", **headers)

    assert (refusal(read), refusal(changed)) == (403, 403)
    assert outside.calls == []


CHANGES = ("/sync", "/erase", "/link", "/label", "/hold", "/release")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("missing", ["Origin", "X-CSRF-Token"])
def test_a_change_needs_the_pages_origin_and_its_csrf_token(
    browser: Browser, outside: Outside, change: str, missing: str
) -> None:
    wrong: dict[str, Any] = {"Origin": ""} if missing == "Origin" else {"X-CSRF-Token": "guess"}

    answer = browser.post(f"{ADDRESS}{change}", {"confirmation": "e4b06ce6"}, **wrong)

    assert refusal(answer) == 403
    assert outside.calls == []


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_changed_by_a_get(browser: Browser, outside: Outside, change: str) -> None:
    assert browser.get(f"{ADDRESS}{change}").status_code == 405
    assert outside.calls == []


# Headers of every answer


@pytest.mark.parametrize("path", ["/", "/operations", "/no-such-page", "/static/page.js", "/enter"])
def test_every_answer_forbids_all_scripts_styles_and_hosts_but_its_own(
    browser: Browser, path: str
) -> None:
    headers = browser.get(path).headers

    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_media_may_come_from_the_hosts_of_this_recordings_files_only(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video", "transcript"))

    policy = browser.get(ADDRESS).headers["Content-Security-Policy"]

    assert f"media-src 'self' {outside.url};" in policy
    assert "unsafe" not in policy


def test_no_page_has_a_script_or_a_style_of_its_own(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": [listed()]}))
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    for path in ("/", "/rows", "/operations", "/runbook", ADDRESS):
        page = browser.get(path).text
        assert page.count("<script") == page.count('<script type="module" src="/static/')
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page


def test_pages_are_kept_by_no_cache_and_the_credentials_are_in_none(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    answer = browser.get(ADDRESS)

    assert answer.headers["Cache-Control"] == "no-store"
    assert SECRET_KEY not in answer.text
    assert "AWS4-HMAC" not in answer.text


# The server


def test_the_server_is_reached_on_loopback_only_and_leaves_no_port(api: Api) -> None:
    with PageServer(api) as server:
        host, _, port = server.address.split("/")[2].partition(":")
        answer = urllib3.request("GET", server.address, retries=False)
        with socket.socket() as other:
            # Every address in 127.0.0.0/8 is this machine's, and this one is not the server's.
            refused = other.connect_ex(("127.0.0.2", int(port)))

    assert (host, answer.status) == ("127.0.0.1", 200)
    assert "Server" not in answer.headers
    assert refused != 0
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.1", int(port))) != 0


def test_a_rebound_name_is_refused_by_the_server_itself(api: Api) -> None:
    with PageServer(api) as server:
        port = int(server.address.split("/")[2].partition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            answer = raw.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 403 ")


def test_a_body_that_is_larger_than_any_request_is_refused(api: Api) -> None:
    with PageServer(api) as server:
        url = f"{server.address.partition('/enter')[0]}{ADDRESS}/erase"
        answer = urllib3.request("POST", url, body=b"x" * 20_000, retries=False)

    assert answer.status == 413


def test_a_port_that_is_taken_is_an_error(api: Api) -> None:
    with PageServer(api) as server:
        port = int(server.address.split("/")[2].partition(":")[2])

        with pytest.raises(OSError, match="in use"):
            PageServer(api, port)


def test_links_are_not_logged(
    api: Api, outside: Outside, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video", "transcript"))
    outside.says("GET /files/transcript", Answer("broken", 500))
    caplog.set_level("DEBUG", logger="waitress")
    caplog.set_level("DEBUG", logger="realtimekit_recordings")
    with PageServer(api) as server:
        home = server.address.partition("/enter")[0]
        entered = urllib3.request("GET", server.address)
        cookie = {"Cookie": entered.headers["Set-Cookie"].partition(";")[0]}
        for path in ("", "/transcript", "/links", "/download?artifact=video"):
            answer = urllib3.request(
                "GET", f"{home}{ADDRESS}{path}", headers=cookie, redirect=False
            )
            assert answer.status in (200, 303)

    logged = capfd.readouterr()
    assert "canary" not in f"{logged.out}{logged.err}{caplog.text}"
