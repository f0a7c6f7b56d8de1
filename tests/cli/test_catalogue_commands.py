"""The catalogue's commands: the choice of a stack, many recordings, and many files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from doubles import Answer, Upstream

RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
OTHER_ID = "2f1c8d43-3fd9-43a5-b6d8-5f4a0e5d9e0c"
MEETING_ID = "50c8940e-1b97-402a-97d6-2708b7feca41"
Run = Callable[..., Result]

ERASED = Answer({"recording_id": RECORDING_ID, "erased_at": "2026-06-03T10:30:00.000Z"})


def row(recording_id: str, title: str) -> dict[str, Any]:
    invoked_at = "2026-06-03T10:00:00.000Z"
    return {"recording_id": recording_id, "invoked_at": invoked_at, "meeting_title": title}


def problem(status: int, detail: str) -> Answer:
    return Answer({"status": status, "detail": detail}, status)


# The choice of a stack


@pytest.fixture
def stack_api(aws: Any, upstream: Upstream) -> Upstream:
    """Serve the API of the stack."""
    aws.outputs["ApiUrl"] = upstream.url
    return upstream


def test_a_stack_that_is_named_outweighs_an_address_in_the_environment(
    run: Run, stack_api: Upstream
) -> None:
    stack_api.says(Answer({"recordings": []}))
    elsewhere = {"REALTIMEKIT_RECORDINGS_API_URL": "http://127.0.0.1:9"}

    named = run("list", "--stack-name", "realtimekit-recordings", **elsewhere)
    unnamed = run("list", **elsewhere)

    assert (named.exit_code, named.stdout) == (0, "No recordings.\n")
    assert "127.0.0.1:9 does not answer" in unnamed.stderr


def test_a_stack_and_an_address_are_not_both_named(run: Run, stack_api: Upstream) -> None:
    both = ("--stack-name", "realtimekit-recordings", "--api-url", stack_api.url)

    result = run("erase", RECORDING_ID, "--yes", *both)

    assert result.exit_code == 2
    assert "Give --stack-name or --api-url, not both." in result.stderr
    assert stack_api.requests == []


def test_an_erasure_names_what_it_acts_on(run: Run, stack_api: Upstream) -> None:
    of_stack = run("erase", RECORDING_ID, answer="n\n")
    of_address = run("erase", RECORDING_ID, "--api-url", stack_api.url, answer="n\n")

    assert (of_stack.exit_code, of_address.exit_code) == (1, 1)
    question = f"Erase {RECORDING_ID} with all files, for good, from"
    assert f"{question} the stack realtimekit-recordings in eu-central-1? " in of_stack.stderr
    assert f"{question} {stack_api.url}? " in of_address.stderr
    assert stack_api.requests == []


# Recordings of a meeting


def test_recordings_are_found_by_a_part_of_their_title(run: Run, stack_api: Upstream) -> None:
    first = [row(OTHER_ID, "Planning"), row(RECORDING_ID, "The WEEKLY sync")]
    stack_api.says(
        Answer({"recordings": first, "next_cursor": "c"}),
        Answer({"recordings": [{**row(OTHER_ID, ""), "meeting_title": "weekly"}]}),
    )

    result = run("list", "--title", "Weekly", "--limit", "2", "--meeting", MEETING_ID)

    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [RECORDING_ID, OTHER_ID]
    assert stack_api.paths[0] == f"/recordings?meeting_id={MEETING_ID}&limit=100"


def test_a_title_is_looked_for_only_until_there_are_enough(run: Run, stack_api: Upstream) -> None:
    page = {"recordings": [row(RECORDING_ID, "weekly")] * 3, "next_cursor": "c"}
    stack_api.says(Answer(page))

    assert run("list", "--title", "weekly", "--limit", "3", "--json").stdout.count("\n") == 3
    assert len(stack_api.requests) == 1


def test_a_whole_meeting_is_erased_whatever_becomes_of_one_recording(
    run: Run, stack_api: Upstream
) -> None:
    found = [row(RECORDING_ID, "weekly"), row(OTHER_ID, "weekly")]
    stack_api.says(Answer({"recordings": found}), problem(409, "Files are out of reach."), ERASED)

    result = run("erase", "--meeting", MEETING_ID, answer="y\n")

    assert result.exit_code == 2
    assert result.stdout == f"{OTHER_ID}: erased at 2026-06-03T10:30:00.000Z.\n"
    assert result.stderr.startswith(
        f"{RECORDING_ID}\n{OTHER_ID}\nErase 2 recordings with all files, for good, from "
    )
    assert f"Error: {RECORDING_ID}: Files are out of reach. (HTTP 409)\n" in result.stderr
    assert [method for method, _, _ in stack_api.calls] == ["GET", "DELETE", "DELETE"]


def test_a_meeting_without_recordings_needs_no_question(run: Run, stack_api: Upstream) -> None:
    stack_api.says(Answer({"recordings": []}))

    result = run("erase", "--meeting", MEETING_ID)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing to do")


@pytest.mark.parametrize("words", [(), (RECORDING_ID, "--meeting", MEETING_ID)])
def test_an_erasure_is_of_a_recording_or_of_a_meeting(run: Run, aws: Any, words: Any) -> None:
    aws.outputs["ApiUrl"] = "http://127.0.0.1:9"

    result = run("erase", *words, "--yes")

    assert result.exit_code == 2
    assert "Give either a RECORDING_ID or --meeting-id." in result.stderr


def test_health_marks_what_is_wrong_and_shows_only_queues_with_messages(
    run: Run, stack_api: Upstream
) -> None:
    parts = {
        "table": {"status": "ok"},
        "queues": {"status": "degraded", "messages": {"ingest": 2, "archive": 0}},
        "quiet": {"status": "ok", "messages": {"ingest": 0}},
    }
    stack_api.says(Answer({"status": "degraded", "parts": parts}))

    result = run("health")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        "   table   ok",
        "!  queues  degraded  messages: ingest 2",
        "   quiet   ok        messages: none",
    ]


def test_show_lists_a_sessions_files_with_their_kinds_and_states(
    run: Run, stack_api: Upstream
) -> None:
    archive = {
        "state": "archived",
        "bucket": "archive",
        "key": f"app/2026/06/03/{RECORDING_ID}/transcript/transcript.json",
        "size": 512,
        "archived_at": "2026-06-03T11:40:00.000Z",
    }
    artifacts = {
        "transcript": {"kind": "transcript", "archive": archive},
        "chat": {
            "kind": "chat",
            "archive": {"state": "none", "noted_at": "2026-06-04T11:40:00.000Z"},
        },
        "summary": {"kind": "summary"},
    }
    stack_api.says(Answer({**row(RECORDING_ID, "Weekly"), "artifacts": artifacts}))

    result = run("show", RECORDING_ID)

    assert result.exit_code == 0
    assert json.loads(result.stdout)["artifacts"] == artifacts
    assert '"state": "none"' in result.stdout


# Many files


def link(url: str, name: str) -> dict[str, str]:
    return {"name": name, "url": f"{url}/media/{name}", "file_name": f"{name}.webm"}


@pytest.fixture
def download(run: Run, stack_api: Upstream, tmp_path: Path) -> Run:
    def download(*answers: Answer, names: tuple[str, ...] = ()) -> Result:
        stack_api.says(*answers)
        chosen = [word for name in names for word in ("--artifact", name)]
        return run("download", RECORDING_ID, "--output", str(tmp_path), *chosen)

    return download


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob(f"{RECORDING_ID}/*/*.webm"))


ROW = Answer({"artifacts": {}})


def test_a_file_that_is_gone_does_not_stop_the_others(
    download: Run, stack_api: Upstream, tmp_path: Path
) -> None:
    links = [link(stack_api.url, name) for name in ("a", "b", "c")]

    result = download(
        Answer({"links": links, "missing": []}), ROW, Answer("A"), Answer("", 404), Answer("C")
    )

    assert result.exit_code == 1
    assert files(tmp_path) == ["a.webm", "c.webm"]
    assert result.stderr.endswith("The storage has no file b.webm (HTTP 404).\n")


def test_a_file_that_does_not_come_is_2_and_does_not_stop_the_others(
    download: Run, stack_api: Upstream, tmp_path: Path
) -> None:
    links = [link(stack_api.url, name) for name in ("a", "b")]
    missing = [{"name": "c", "reason": "expired"}]

    result = download(
        Answer({"links": links, "missing": missing}), ROW, Answer("<html>"), Answer("B")
    )

    assert result.exit_code == 2
    assert files(tmp_path) == ["b.webm"]
    assert result.stderr.endswith("c: expired\nThe storage sent an error page instead of a.webm.\n")


def test_files_that_do_not_fit_one_answer_are_asked_for_by_name(
    download: Run, stack_api: Upstream, tmp_path: Path
) -> None:
    more = [{"name": name, "reason": "ask_by_name"} for name in ("track/b", "c", "d")]
    result = download(
        Answer({"links": [link(stack_api.url, "a")], "missing": more}),
        ROW,
        Answer("A"),
        Answer({"links": [link(stack_api.url, "b")], "missing": []}),
        Answer("B"),
        Answer({"links": [], "missing": [{"name": "c", "reason": "expired"}]}),
        problem(410, "There is no file any more: expired."),
    )

    assert result.exit_code == 1
    assert files(tmp_path) == ["a.webm", "b.webm"]
    assert stack_api.paths[3] == (
        f"/recordings/{RECORDING_ID}/links?expires_in=3600&artifact=track%2Fb"
    )
    assert result.stderr.endswith("c: expired\nd: There is no file any more: expired. (HTTP 410)\n")


def test_only_the_files_named_are_asked_for(
    download: Run, stack_api: Upstream, tmp_path: Path
) -> None:
    more = [{"name": name, "reason": "ask_by_name"} for name in ("b", "c")]

    result = download(
        Answer({"links": [link(stack_api.url, "a")], "missing": more}),
        ROW,
        Answer({"links": [link(stack_api.url, "c")], "missing": []}),
        Answer("C"),
        names=("c",),
    )

    assert (result.exit_code, files(tmp_path)) == (0, ["c.webm"])


def test_a_link_that_expired_meanwhile_is_replaced(
    download: Run, stack_api: Upstream, tmp_path: Path
) -> None:
    links = Answer({"links": [link(stack_api.url, "a")], "missing": []})

    result = download(links, ROW, Answer("<Error/>", 403), links, Answer("A"))

    assert (result.exit_code, files(tmp_path)) == (0, ["a.webm"])


def test_a_recording_without_any_link_is_1(download: Run) -> None:
    result = download(problem(409, "There is no file to link to: not_yet."))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "There is no file to link to: not_yet. (HTTP 409)\n"


def test_a_name_that_no_file_has_is_2(download: Run, stack_api: Upstream) -> None:
    answer = Answer({"links": [link(stack_api.url, "a")], "missing": []})

    result = download(answer, names=("b",))

    assert (result.exit_code, result.stderr) == (2, "Error: The recording has no file b.\n")


def test_links_show_what_must_be_asked_for_by_name(run: Run, stack_api: Upstream) -> None:
    missing = [{"name": "track/b", "reason": "ask_by_name"}]
    stack_api.says(Answer({"links": [], "missing": missing}))

    result = run("links", RECORDING_ID, "--artifact", "track/b")

    assert (result.exit_code, result.stderr) == (0, "track/b: ask_by_name\n")
    assert stack_api.paths == [
        f"/recordings/{RECORDING_ID}/links?expires_in=900&artifact=track%2Fb"
    ]


def test_links_that_a_browser_plays_are_asked_for_with_inline(
    run: Run, stack_api: Upstream
) -> None:
    stack_api.says(Answer({"links": [], "missing": []}))

    result = run("links", RECORDING_ID, "--inline", "--artifact", "video")

    assert result.exit_code == 0
    assert stack_api.paths == [
        f"/recordings/{RECORDING_ID}/links?expires_in=900&artifact=video&disposition=inline"
    ]


def test_an_api_that_knows_no_inline_links_says_so(run: Run, stack_api: Upstream) -> None:
    detail = "disposition is not a parameter of this request; the parameters are: artifact."
    stack_api.says(problem(400, detail))

    result = run("links", RECORDING_ID, "--inline")

    assert (result.exit_code, result.stderr) == (2, f"Error: {detail} (HTTP 400)\n")


# Labels and holds

HELD = {"reason": "case 12", "since": "2026-06-03T10:30:00.000Z"}


def test_labels_are_set_and_removed_and_then_printed(run: Run, stack_api: Upstream) -> None:
    stack_api.says(Answer({"recording_id": RECORDING_ID, "labels": {"b": "x=y", "a": "1"}}))

    result = run("label", RECORDING_ID, "a=1", "b=x=y", "c=")

    assert (result.exit_code, result.stdout) == (0, "a=1\nb=x=y\n")
    [(method, path, body)] = stack_api.calls
    assert (method, path) == ("PATCH", f"/recordings/{RECORDING_ID}")
    assert json.loads(body) == {"labels": {"a": "1", "b": "x=y", "c": None}}


@pytest.mark.parametrize("words", [(), ("a",), ("=1",), ("a=1", "a=2")])
def test_what_is_no_label_is_refused_before_anything_is_sent(
    run: Run, stack_api: Upstream, words: tuple[str, ...]
) -> None:
    assert run("label", RECORDING_ID, *words).exit_code == 2
    assert run("list", "--label", "a").exit_code == 2
    assert stack_api.requests == []


def test_a_recording_is_held_with_a_reason_and_released(run: Run, stack_api: Upstream) -> None:
    released = Answer({"recording_id": RECORDING_ID})
    stack_api.says(Answer({"recording_id": RECORDING_ID, "hold": HELD}), released)

    held = run("hold", RECORDING_ID, "--reason", "case 12")
    free = run("release", RECORDING_ID)

    since = "on hold since 2026-06-03T10:30:00.000Z: case 12"
    assert held.stdout == f"{RECORDING_ID}: {since}\n"
    assert free.stdout == f"{RECORDING_ID}: not on hold.\n"
    bodies = [json.loads(body) for _, _, body in stack_api.calls]
    assert bodies == [{"hold": {"reason": "case 12"}}, {"hold": None}]
    assert run("hold", RECORDING_ID).exit_code == 2


def test_the_list_marks_holds_and_shows_labels_and_filters_by_one(
    run: Run, stack_api: Upstream
) -> None:
    marked = {**row(RECORDING_ID, "Weekly"), "labels": {"order": "4711", "a": "1"}, "hold": HELD}
    stack_api.says(Answer({"recordings": [marked, row(OTHER_ID, "Planning")]}))

    result = run("list", "--label", "order=47:11")

    ends = [line[-37:] for line in result.stdout.splitlines()[1:]]
    assert ends[0].endswith("(held) Weekly [a=1, order=4711]")
    assert ends[1].endswith(" Planning")
    assert stack_api.paths == ["/recordings?label=order%3A47%3A11&limit=20"]


def test_a_recording_on_hold_is_not_erased_and_the_command_says_why(
    run: Run, stack_api: Upstream
) -> None:
    stack_api.says(problem(409, "The recording is on hold since 2026: case 12."))

    result = run("erase", RECORDING_ID, "--yes")

    assert result.exit_code == 2
    assert "is on hold since 2026: case 12. (HTTP 409)" in result.stderr
