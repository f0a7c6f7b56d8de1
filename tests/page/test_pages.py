"""The pages, without a browser: what they show of the API's answers, and what they ask it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from doubles import Answer
from realtimekit_recordings.page import operations, words
from realtimekit_recordings.page.runbook import runbook_html

from .conftest import ADDRESS, NOW, Browser, Outside, archived, links, listed, problem, row

MARKUP = '<img src=x onerror="alert(1)">'
ESCAPED = "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;"


def of_session(**names: dict[str, Any]) -> dict[str, Any]:
    return row(artifacts={"video": archived("video"), **names})


# The list


def test_a_row_of_the_list_is_shown_in_words(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": [listed()]}))

    rows = browser.get("/rows").text

    for shown in ("Weekly sync", "30:00", "150.0 MB", "Uploaded", "Archived", "Today"):
        assert shown in rows


def test_a_title_is_text_whatever_is_in_it(browser: Browser, outside: Outside) -> None:
    recordings = [listed(meeting_title=f"{MARKUP}\u202e\x07")]
    outside.says("GET /recordings", Answer({"recordings": recordings}))

    rows = browser.get("/rows").text

    assert f"{ESCAPED}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in rows
    assert "<img" not in rows


@pytest.mark.parametrize(
    ("changes", "word", "tone"),
    [
        ({"status": "RECORDING", "archived": ""}, "Not yet", "plain"),
        ({"status": "ERRORED", "archived": "no"}, "No file", "plain"),
        ({"archived": "no"}, "Waiting", "wait"),
        ({"archived": "partly"}, "Partly", "wait"),
        ({"archived": "no", "stopped_at": "2026-05-29T11:59:59.000Z"}, "At risk", "risk"),
        ({"archived": "partly", "stopped_at": "2026-05-27T12:30:00.000Z"}, "At risk", "risk"),
        ({"archived": "no", "stopped_at": "2026-05-27T11:59:59.000Z"}, "Not archived", "bad"),
    ],
)
def test_the_archive_state_says_what_is_at_risk(
    changes: dict[str, Any], word: str, tone: str
) -> None:
    state = words.archive_state(listed(**changes), NOW)

    assert (state.word, state.tone) == (word, tone)


@pytest.mark.parametrize(
    ("archive", "word"),
    [
        ({"state": "expired", "expired_at": "2026-06-10T10:30:04.000Z"}, "Lost"),
        ({"state": "external", "location": {"type": "aws"}}, "In your storage"),
        ({"state": "none"}, "No file"),
    ],
)
def test_a_whole_row_says_why_files_are_not_in_the_archive(
    browser: Browser, outside: Outside, archive: dict[str, Any], word: str
) -> None:
    video = {"kind": "video", "archive": archive}
    outside.says(f"GET {ADDRESS}", Answer(row(archived="no", artifacts={"video": video})))

    glance = browser.get(f"{ADDRESS}/glance").json

    assert glance
    assert glance["state"]["word"] == word


def test_a_glance_lists_what_there_is_and_leaves_out_what_there_never_was(
    browser: Browser, outside: Outside
) -> None:
    tracks = {f"track/default/{name}.webm": archived("track") for name in "abc"}
    never = {"chat": {"kind": "chat", "archive": {"state": "none"}}}
    found = of_session(transcript=archived("transcript"), **tracks, **never)
    outside.says(f"GET {ADDRESS}", Answer(found))

    glance = browser.get(f"{ADDRESS}/glance").json

    assert glance
    assert glance["kinds"] == ["Video", "3 tracks", "Transcript"]


def test_filters_reach_the_api_and_days_are_this_machines(
    browser: Browser, outside: Outside
) -> None:
    outside.says("GET /recordings", Answer({"recordings": []}))

    rows = browser.get("/rows?status=UPLOADED&archived=no&since=2026-06-01&until=2026-06-02")

    query = outside.query("GET /recordings")
    begin = datetime(2026, 6, 1).astimezone()
    assert (query["status"], query["archived"], query["limit"]) == ("UPLOADED", "no", "50")
    assert datetime.fromisoformat(query["from"]) == begin
    assert datetime.fromisoformat(query["to"]) == datetime(2026, 6, 3).astimezone()
    assert "No recordings match" in rows.text


def test_the_next_page_keeps_the_filters_and_repeats_no_day(
    browser: Browser, outside: Outside
) -> None:
    page = {"recordings": [listed()], "next_cursor": "7Cx7"}
    outside.says("GET /recordings", Answer(page), Answer({"recordings": [listed()]}))

    first = browser.get("/rows?status=UPLOADED").text
    following = browser.get("/rows?status=UPLOADED&cursor=7Cx7&after_day=Today").text

    assert 'data-next="/rows?status=UPLOADED&amp;cursor=7Cx7&amp;after_day=Today"' in first
    assert outside.query("GET /recordings")["cursor"] == "7Cx7"
    assert "<h2>" not in following


def test_an_empty_page_with_a_cursor_is_not_the_end(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": [], "next_cursor": "7Cx7"}))

    rows = browser.get("/rows?status=PAUSED").text

    assert "No recordings" not in rows
    assert "cursor=7Cx7" in rows


def test_an_empty_catalogue_says_how_to_fill_it(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": []}))

    assert "realtimekit-recordings backfill" in browser.get("/rows").text


@pytest.mark.parametrize(
    ("answer", "status", "shown"),
    [
        (problem(400, "meeting_id is not a UUID."), 400, "meeting_id is not a UUID."),
        (problem(403, "not authorized."), 403, "Your AWS credentials are refused"),
        (Answer({"detail": "try again"}, 500), 500, "Try again"),
        (Answer("<html>", 200), 502, "is not the API"),
    ],
)
def test_the_apis_errors_are_shown_in_the_list(
    browser: Browser, outside: Outside, answer: Answer, status: int, shown: str
) -> None:
    outside.says("GET /recordings", answer)

    rows = browser.get("/rows", **{"X-Fragment": "html"})

    assert rows.status_code in (status, 502)
    assert shown in rows.text
    assert "<html" not in rows.text


def test_a_day_that_is_none_is_refused_before_the_api_is_asked(
    browser: Browser, outside: Outside
) -> None:
    rows = browser.get("/rows?since=yesterday", **{"X-Fragment": "html"})

    assert (rows.status_code, outside.calls) == (400, [])
    assert "2026-06-03" in rows.text


# A recording


def test_a_recording_shows_its_player_history_and_files(browser: Browser, outside: Outside) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row(start_reason={"reason": "API_CALL"})))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video", "transcript", "captions"))

    page = browser.get(ADDRESS).text

    assert outside.query(f"GET {ADDRESS}/links") == {
        "disposition": "inline",
        "expires_in": "3600",
    }
    assert f'src="{outside.url}/files/video?signature=canary"' in page
    assert f'<track kind="captions" label="Captions" src="{ADDRESS}/captions.vtt" default>' in page
    # S3's CRC-32 is in base64.
    for shown in (
        "Invoked",
        "Uploaded",
        "cbcccc7c",
        "API call",
        "s3://archive/app/2026/06/03/video",
    ):
        assert shown in page


def test_each_file_that_browsers_play_has_a_button_and_a_tar_has_none(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    answer = links(outside, "audio", "video")
    assert isinstance(answer.body, dict)
    template = answer.body["links"][0]
    names = ("track/default/ada.webm", "track/default/stream.tar")
    answer.body["links"] += [
        {**template, "name": name, "kind": "track", "file_name": name} for name in names
    ]
    outside.says(f"GET {ADDRESS}/links", answer)

    page = browser.get(ADDRESS).text

    assert page.index('data-name="video"') < page.index('data-name="audio"')
    assert 'data-name="track/default/ada.webm"' in page
    assert 'data-name="track/default/stream.tar"' not in page


def test_a_recording_without_a_link_says_why_there_is_nothing_to_play(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row(archived="no", artifacts={})))
    outside.says(f"GET {ADDRESS}/links", problem(409, "There is no file to link to: not_yet."))

    page = browser.get(ADDRESS).text

    assert "Nothing to play" in page
    assert "RealtimeKit deletes the files in 7 days." in page
    assert "<video" not in page


@pytest.mark.parametrize(
    ("status", "title"),
    [(404, "The catalogue does not have this recording"), (410, "This recording was erased")],
)
def test_a_recording_that_is_not_there_says_so(
    browser: Browser, outside: Outside, status: int, title: str
) -> None:
    outside.says(f"GET {ADDRESS}", problem(status, "not here"))
    outside.says(f"GET {ADDRESS}/links", problem(status, "not here"))

    answer = browser.get(ADDRESS)

    assert answer.status_code == status
    assert title in answer.text


def test_an_id_that_is_none_is_no_page_and_no_request(browser: Browser, outside: Outside) -> None:
    assert browser.get("/recordings/../health").status_code == 404
    assert browser.get("/recordings/e4b06ce6").status_code == 404
    assert outside.calls == []


# Texts of its session


def test_a_transcripts_places_count_from_the_recordings_start(
    browser: Browser, outside: Outside
) -> None:
    sentences = [
        {"startTime": 5500, "sentence": "Later.", "peerData": {"displayName": "Bob"}},
        {"startTime": 1000, "sentence": MARKUP, "peerData": {"displayName": MARKUP}},
    ]
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "transcript"))
    outside.says("GET /files/transcript", Answer(json.dumps(sentences)))

    lines = browser.get(f"{ADDRESS}/transcript").text

    # The recording began 4 s after the session.
    assert lines.index('data-t="-3.000"') < lines.index('data-t="1.500"')
    assert 'aria-label="Play from 0:01"' in lines
    assert lines.count("<button") == 1
    assert lines.count(ESCAPED) == 2
    assert "<img" not in lines


def test_captions_are_moved_to_the_recordings_start(browser: Browser, outside: Outside) -> None:
    captions = (
        "\ufeffWEBVTT - by somebody\r\n\r\nNOTE nothing\r\n\r\nSTYLE\n::cue { color: red }\n\n"
        "1\n00:00:01.000 --> 00:00:03.900\nAda: before\n\n"
        "2\n00:03.000 --> 00:06.000 align:left\nAda: <b>both</b>\n\n"
        "01:00:04.000 --> 01:00:05.500\nBob: late\nand more\n"
    )
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "captions"))
    outside.says("GET /files/captions", Answer(captions))

    answer = browser.get(f"{ADDRESS}/captions.vtt")

    assert answer.headers["Content-Type"] == "text/vtt; charset=utf-8"
    assert answer.text == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000 align:left\nAda: <b>both</b>\n\n"
        "01:00:00.000 --> 01:00:01.500\nBob: late\nand more\n"
    )


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("# Sync\n\n- **Ada**: agreed", "<h3>Sync</h3>"),
        (MARKUP, "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[a](javascript:alert(1))", "[a](javascript:alert(1))"),
        ("[a](data:text/html,x)", "[a](data:text/html,x)"),
        ("[a](/recordings)", "[a](/recordings)"),
        ("![a](https://evil.example/x.png)", 'href="https://evil.example/x.png"'),
        (
            "[a](https://example.com)",
            '<a href="https://example.com" rel="noopener noreferrer nofollow" target="_blank">a</a>',
        ),
    ],
)
def test_a_summary_is_markdown_without_anything_active(
    browser: Browser, outside: Outside, markdown: str, html: str
) -> None:
    outside.says(f"GET {ADDRESS}/links", links(outside, "summary"))
    outside.says("GET /files/summary", Answer(f"Begin\n\n{markdown}"))

    shown = browser.get(f"{ADDRESS}/summary").text

    assert html in shown
    assert "<img" not in shown
    assert "<script" not in shown


@pytest.mark.parametrize(
    "chat",
    [
        "id,participantId,displayName,payload,createdAt\n"
        f'1,p1,Ada,"{MARKUP.replace(chr(34), chr(34) * 2)}",2026-06-03T10:00:14.000Z\n',
        '[{"participantId": "p1", "displayName": "Ada", "createdAt": "2026-06-03T10:00:14.000Z",'
        ' "payload": "<img src=x onerror=\\"alert(1)\\">"}]',
    ],
    ids=["csv", "json"],
)
def test_a_chats_messages_have_their_places_and_are_text(
    browser: Browser, outside: Outside, chat: str
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "chat"))
    outside.says("GET /files/chat", Answer(chat))

    lines = browser.get(f"{ADDRESS}/chat").text

    assert 'data-t="10.000"' in lines
    assert ESCAPED in lines


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer(b""), "RealtimeKit&#39;s file is empty."),
        (Answer("{}"), "Download it to read it."),
        (Answer(b"\xff\xfe\x00"), "not UTF-8 text"),
        (Answer("<!doctype html><p>no", headers={"Content-Type": "text/html"}), "error page"),
        (Answer("", 404), "The storage has no file"),
        (Answer("", 500), "for now"),
    ],
)
def test_a_transcript_that_cannot_be_read_says_why_and_leaves_the_page_alone(
    browser: Browser, outside: Outside, answer: Answer, shown: str
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "transcript"))
    outside.says("GET /files/transcript", answer)

    fragment = browser.get(f"{ADDRESS}/transcript")

    assert fragment.status_code == 200
    assert shown in fragment.text
    assert "canary" not in fragment.text


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("no_file", "made none"), ("not_yet", "Not archived yet"), ("expired", "deleted it before")],
)
def test_a_text_without_a_link_says_why(
    browser: Browser, outside: Outside, reason: str, shown: str
) -> None:
    outside.says(f"GET {ADDRESS}/links", links(outside, "video", missing={"summary": reason}))

    assert shown in browser.get(f"{ADDRESS}/summary").text


def test_links_are_fetched_once_for_all_texts_and_anew_if_the_storage_refuses_one(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}/links", links(outside, "summary", "chat"))
    outside.says("GET /files/summary", Answer("old", 403), Answer("# Renewed"))

    shown = browser.get(f"{ADDRESS}/summary").text
    browser.get(f"{ADDRESS}/summary")

    assert "Renewed" in shown
    calls = [call for call in outside.calls if call.startswith(f"GET {ADDRESS}/links")]
    assert len(calls) == 2


# Links to hand on, and changes


def test_a_download_leads_to_a_link_that_saves_the_file(browser: Browser, outside: Outside) -> None:
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    answer = browser.get(f"{ADDRESS}/download?artifact=video")

    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{outside.url}/files/video?signature=canary"
    assert outside.query(f"GET {ADDRESS}/links") == {"artifact": "video", "expires_in": "300"}


def test_a_copied_link_lives_as_long_as_was_chosen(browser: Browser, outside: Outside) -> None:
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    copied = browser.post(f"{ADDRESS}/link", {"artifact": "video", "seconds": 300})
    refused = browser.post(f"{ADDRESS}/link", {"artifact": "video", "seconds": 86_400})

    assert copied.json
    assert copied.json["url"].endswith("/files/video?signature=canary")
    assert outside.query(f"GET {ADDRESS}/links")["expires_in"] == "300"
    assert refused.status_code == 400


def test_an_erasure_needs_the_beginning_of_the_id(browser: Browser, outside: Outside) -> None:
    erased = {"recording_id": "e4b06ce6", "erased_at": "2026-06-03T12:00:00.000Z"}
    outside.says(f"DELETE {ADDRESS}", Answer(erased))

    unconfirmed = browser.post(f"{ADDRESS}/erase", {"confirmation": "Weekly sync"})
    assert (unconfirmed.status_code, outside.calls) == (400, [])
    confirmed = browser.post(f"{ADDRESS}/erase", {"confirmation": "e4b06ce6"})

    assert confirmed.status_code == 200
    assert outside.calls == [f"DELETE {ADDRESS}"]


@pytest.mark.parametrize(
    ("path", "call", "right"),
    [
        ("/sync", f"POST {ADDRESS}/sync", "may not fetch recordings from RealtimeKit"),
        ("/erase", f"DELETE {ADDRESS}", "may not erase recordings"),
        ("/label", f"PATCH {ADDRESS}", "may not change labels and holds"),
        ("/hold", f"PATCH {ADDRESS}", "may not change labels and holds"),
    ],
)
def test_credentials_without_the_right_are_told_which_one_is_missing(
    browser: Browser, outside: Outside, path: str, call: str, right: str
) -> None:
    outside.says(call, problem(403, "not authorized"))

    answer = browser.post(f"{ADDRESS}{path}", {"confirmation": "e4b06ce6"})

    assert answer.status_code == 403
    assert answer.json
    assert right in answer.json["error"]
    assert "execute-api:Invoke" in answer.json["error"]


def test_a_sync_makes_the_next_page_fetch_its_links_anew(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"POST {ADDRESS}/sync", Answer(row()))
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    browser.get(ADDRESS)
    browser.post(f"{ADDRESS}/sync")
    browser.get(ADDRESS)

    assert len([call for call in outside.calls if "/links" in call]) == 2


# --- labels and holds ---

HOLD = {"reason": f"Case 12 {MARKUP}", "since": "2026-06-03T11:00:00.000Z"}


def test_labels_and_holds_are_shown_as_text_in_the_list_and_in_the_recording(
    browser: Browser, outside: Outside
) -> None:
    said = {"labels": {"order": "a&b  c", "customer": MARKUP}, "hold": HOLD}
    outside.says("GET /recordings", Answer({"recordings": [listed(**said), listed()]}))
    outside.says(f"GET {ADDRESS}", Answer(row(**said)))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    rows, page = browser.get("/rows").text, browser.get(ADDRESS).text

    for shown in (rows, page):
        assert f"customer={ESCAPED}" in shown
        assert "order=a&amp;b c" in shown
        assert "<img" not in shown
    assert rows.count("On hold") == 2  # the badge and its sentence, of one of two rows
    assert f": Case 12 {ESCAPED}" in page
    assert 'href="/?label=order%3Da%26b%20%20c"' in page
    assert "Release the hold to erase it." in page
    assert "Erase this recording" not in page


def test_a_recording_without_a_hold_offers_to_hold_and_to_erase_it(
    browser: Browser, outside: Outside
) -> None:
    outside.says(f"GET {ADDRESS}", Answer(row()))
    outside.says(f"GET {ADDRESS}/links", links(outside, "video"))

    page = browser.get(ADDRESS).text

    assert "On hold" not in page
    assert f'action="{ADDRESS}/hold"' in page
    assert "Erase this recording" in page


def test_the_list_is_filtered_by_a_label(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": [listed()], "next_cursor": "7Cx7"}))

    rows = browser.get("/rows?label=customer%3Da%3Db%3A1").text

    assert outside.query("GET /recordings")["label"] == "customer:a=b:1"
    assert "label=customer%3Da%3Db%3A1&amp;cursor=7Cx7" in rows


@pytest.mark.parametrize("label", ["customer", "=42"])
def test_a_label_that_is_none_is_refused_before_the_api_is_asked(
    browser: Browser, outside: Outside, label: str
) -> None:
    answer = browser.get(f"/rows?label={label}", **{"X-Fragment": "html"})

    assert answer.status_code == 400
    assert "A label must be written like customer=42." in answer.text
    assert outside.calls == []


@pytest.mark.parametrize(
    ("change", "given", "patch"),
    [
        ("label", {"name": "order", "text": "4711"}, {"labels": {"order": "4711"}}),
        ("label", {"name": "order"}, {"labels": {"order": None}}),
        ("hold", {"reason": "Case 12"}, {"hold": {"reason": "Case 12"}}),
        ("release", {}, {"hold": None}),
    ],
)
def test_a_label_a_hold_and_a_release_patch_only_what_they_name(
    browser: Browser,
    outside: Outside,
    change: str,
    given: dict[str, str],
    patch: dict[str, Any],
) -> None:
    outside.says(f"PATCH {ADDRESS}", Answer(row()))

    answer = browser.post(f"{ADDRESS}/{change}", given)

    assert answer.status_code == 200
    assert outside.calls == [f"PATCH {ADDRESS}"]
    assert json.loads(outside.bodies[-1]) == patch


@pytest.mark.parametrize(
    ("change", "call", "status", "detail"),
    [
        ("label", "PATCH", 400, "labels.Order is not a name."),
        ("hold", "PATCH", 409, "The erasure of the recording began before this hold."),
        (
            "erase",
            "DELETE",
            409,
            "The recording is on hold: Case 12. Release the hold to erase it.",
        ),
    ],
)
def test_a_change_that_the_api_refuses_says_why(
    browser: Browser, outside: Outside, change: str, call: str, status: int, detail: str
) -> None:
    outside.says(f"{call} {ADDRESS}", problem(status, detail))

    answer = browser.post(f"{ADDRESS}/{change}", {"confirmation": "e4b06ce6", "name": "Order"})

    assert answer.status_code == status
    assert answer.json
    assert detail in answer.json["error"]


# Operations


def test_a_part_that_fails_leads_to_the_runbook(browser: Browser, outside: Outside) -> None:
    parts = {
        "api_token": {"status": "ok"},
        "archive": {"status": "failing", "cause": "NoSuchBucket"},
        "work_table": {"status": "degraded", "seconds_overdue": 2000},
        "queues": {"status": "degraded", "messages": {"ingest": 2, "ingest_dead_letters": 3}},
    }
    outside.says("GET /health", Answer({"status": "failing", "parts": parts}, 503))

    page = browser.get("/operations/health").text

    assert "Something does not work" in page
    assert page.index("The bucket is gone.") < page.index("The secret has")
    assert 'href="/runbook#a-bucket-of-your-own"' in page
    assert 'href="/runbook#followupstoppedalarm"' in page
    assert 'href="/runbook#ingestdeadlettersalarm"' in page
    assert "2000 s" in page


def test_each_heading_that_the_page_leads_to_is_in_the_runbook() -> None:
    headings = {heading for _, _, heading in operations.PARTS.values()}
    headings |= {
        heading for _, heading in (*operations.CAUSES.values(), *operations.QUEUES.values())
    }
    headings |= {"recordingsatriskalarm", "artifactslostalarm", "artifactsgonealarm"}
    headings |= {"followupstoppedalarm", "dead-letters", "health"}

    html = runbook_html()

    assert [heading for heading in headings if f'id="{heading}"' not in html] == []


SWEEP = {
    "sweep_id": "6bbe634f-c0b3-4910-9d04-1802e7f775bf",
    "trigger": "hourly",
    "dry_run": False,
    "created_at": "2026-06-03T10:30:00.000Z",
    "state": "running",
    "from": "2026-06-01T00:00:00.000Z",
    "to": "2026-06-02T10:00:00.000Z",
    "fraction": 0.58,
    "counts": {"seen": 1204, "repaired": 3, "missing": 3, "at_risk": 0, "not_archived": 0},
    "examples": {},
}


def test_sweeps_show_their_progress_and_the_newest_completed_one_what_is_at_risk(
    browser: Browser, outside: Outside
) -> None:
    counts = {**SWEEP["counts"], "at_risk": 7}
    done = {**SWEEP, "state": "completed", "fraction": 1, "counts": counts}
    outside.says("GET /sweeps", Answer({"sweeps": [SWEEP, done]}))

    page = browser.get("/operations/sweeps").text

    assert '<progress value="0.58"' in page
    assert "1,204 seen, 3 repaired" in page
    assert '<strong>7</strong><span><a href="/runbook#recordingsatriskalarm">' in page


def test_the_plot_of_days_counts_each_day_of_this_machine(
    browser: Browser, outside: Outside
) -> None:
    rows = [listed(), listed(), listed(invoked_at="2026-06-01T12:00:00.000Z", file_size=0)]
    outside.says("GET /recordings", Answer({"recordings": rows}))

    page = browser.get("/operations/days").text

    assert "<title>3 Jun: 2</title>" in page
    assert "<title>1 Jun: 1</title>" in page
    assert "<title>2 Jun: 0</title>" in page
    assert "<title>3 Jun: 300.0 MB</title>" in page
    assert datetime.fromisoformat(outside.query("GET /recordings")["from"]) == (
        datetime(2026, 5, 21).astimezone()
    )


def test_the_plot_of_delays_shows_the_time_from_uploaded_to_archived(
    browser: Browser, outside: Outside
) -> None:
    outside.says("GET /recordings", Answer({"recordings": [listed(meeting_title=MARKUP)]}))
    outside.says(f"GET {ADDRESS}", Answer(row(meeting_title=MARKUP)))

    page = browser.get("/operations/delays").text

    # 10:30:30 to 10:31:12
    assert f"<title>{ESCAPED}: 42 s</title>" in page
    assert "<img" not in page


def test_plots_of_nothing_say_so(browser: Browser, outside: Outside) -> None:
    outside.says("GET /recordings", Answer({"recordings": []}))

    assert "0 recordings in 14 days" in browser.get("/operations/days").text
    assert "No recording has been archived yet." in browser.get("/operations/delays").text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (61.9, "1:01"), (3723, "1:02:03"), (-2.5, "−0:02")]
)
def test_a_length_is_shown_as_a_clock(seconds: float, shown: str) -> None:
    assert words.clock(seconds) == shown


def test_a_time_without_a_zone_or_a_form_is_none() -> None:
    assert words.parse("2026-06-03T10:00:00") is None
    assert words.parse("soon") is None
    assert words.parse(7) is None
    assert words.parse("2026-06-03T12:00:00+02:00") == datetime(2026, 6, 3, 10, tzinfo=UTC)
