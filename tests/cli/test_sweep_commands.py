"""Commands for sweeps: how they are started and watched, and their exit codes."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from openapi_schema_validator import OAS31Validator

from doubles import ROOT, Answer, Upstream
from realtimekit_recordings import api as api_module

SWEEP_ID = "4dd3a0ff-19cc-4f3b-8a6c-6c2f4f1f4f10"
PATH = f"/sweeps/{SWEEP_ID}"
RECORDING_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
DOCUMENT = json.loads((ROOT / "functions/openapi.json").read_text())
NOTHING = dict.fromkeys(DOCUMENT["components"]["schemas"]["SweepCounts"]["required"], 0)
HINT = (
    "The sweep goes on without this command.\n"
    f"To watch it: realtimekit-recordings sweeps show {SWEEP_ID} --watch{{0}}\n"
    f"To cancel it: realtimekit-recordings sweeps cancel {SWEEP_ID}{{0}}\n"
)
Run = Callable[..., Result]


def documented(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that is valid by the OpenAPI document, so that the fake is like the API."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    OAS31Validator(schema).validate(body)
    return body


def report(state: str = "completed", **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "sweep_id": SWEEP_ID,
        "trigger": "request",
        "state": state,
        "from": "2026-05-26T10:30:00.000Z",
        "to": "2026-06-03T10:30:00.000Z",
        "dry_run": False,
        "created_at": "2026-06-03T10:30:00.000Z",
        "fraction": {"queued": 0, "completed": 1}.get(state, 0.5),
        "examples": {},
        **({"complete": True} if state == "completed" else {}),
        **more,
        "counts": {**NOTHING, **more.get("counts", {})},
    }
    return documented("Sweep", {name: value for name, value in body.items() if value is not None})


def says(state: str = "completed", status: int = 200, **more: Any) -> Answer:
    return Answer(report(state, **more), status)


def problem(status: int, detail: str, **more: str) -> Answer:
    body = {"type": "about:blank", "title": "Title", "status": status, "detail": detail, **more}
    return Answer(documented("Problem", body), status)


QUEUED = says("queued", 202)


@pytest.fixture
def sweep_api(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    # The retries are real, but do not wait.
    monkeypatch.setattr(api_module, "RETRIES", api_module.RETRIES.new(backoff_factor=0, total=1))
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", upstream.url)
    return upstream


@pytest.fixture
def backfill(run: Run, sweep_api: Upstream) -> Run:
    return lambda *more, **env: run("backfill", "--from", "2026-05-26", *WAITLESS, *more, **env)


@pytest.fixture
def reconcile(run: Run, sweep_api: Upstream) -> Run:
    return lambda *more: run("reconcile", *WAITLESS, *more)


WAITLESS = ("--interval", "0")


def asked(api: Upstream) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in api.calls]


# backfill


def test_a_backfill_is_asked_for_and_watched_to_its_end(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says("queued"), says("running"), says())

    result = backfill("--to", "2026-06-03T10:30:00Z")

    assert result.exit_code == 0
    assert asked(sweep_api) == [("POST", "/sweeps"), *[("GET", PATH)] * 3]
    assert json.loads(sweep_api.calls[0][2]) == {
        "from": "2026-05-26",
        "to": "2026-06-03T10:30:00Z",
        "dry_run": False,
    }


def test_a_dry_run_is_asked_for_as_one(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says(dry_run=True))

    assert "Dry run 4dd3a0ff" in backfill("--dry-run").stdout
    assert json.loads(sweep_api.calls[0][2]) == {"from": "2026-05-26", "dry_run": True}


def test_the_report_says_what_each_of_the_three_has(backfill: Run, sweep_api: Upstream) -> None:
    counts = {
        "seen": 1204,
        "missing": 10,
        "behind": 2,
        "repaired": 12,
        "erased": 3,
        "catalogued": 1201,
        "archived": 1100,
        "not_archived": 96,
        "at_risk": 4,
        "expired": 5,
        "gone": 1,
    }
    sweep_api.says(QUEUED, says(counts=counts, examples={"gone": [RECORDING_ID]}))

    assert backfill().stdout == (
        "Sweep 4dd3a0ff-19cc-4f3b-8a6c-6c2f4f1f4f10: completed\n"
        "Recordings invoked from 2026-05-26 10:30 UTC to before 2026-06-03 10:30 UTC\n"
        "\n"
        "seen             1,204  in RealtimeKit's list\n"
        "catalogued       1,201  in the table\n"
        "archived         1,100  in the bucket, with all their files\n"
        "complete: as many as the list itself counts\n"
        "\n"
        "missing             10  in the list, and not in the table\n"
        "behind               2  in the table, which says less than the list\n"
        "repaired            12  of these, written to the table\n"
        "not archived        96  RealtimeKit still has files that are not in the bucket\n"
        "at risk              4  of these, RealtimeKit deletes files in less than 48 hours\n"
        "expired              5  RealtimeKit deleted files before they were copied\n"
        "gone                 1  the bucket lacks files that the table says it has\n"
        "erased               3  erased here, and left so\n"
        "unreadable           0  items of the list that are no recordings\n"
        "unwritable           0  DynamoDB refuses their rows\n"
        "texts unseen         0  their session's transcript, summary or chat was not looked for\n"
        "\n"
        "gone, for example:\n"
        "  97cb480d-5840-4528-ace3-919b5e386c68\n"
    )


def test_the_report_can_be_json(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says("running"), says(counts={"seen": 7}))

    result = backfill("--json")

    assert json.loads(result.stdout) == report(counts={"seen": 7})
    assert result.stderr.splitlines()[0].startswith("queued, 0%: ")


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (
            says("failed", cause="unauthorized", reason="RealtimeKit refuses the token."),
            "The sweep failed: RealtimeKit refuses the token.\n",
        ),
        (says("failed", cause="unavailable"), "The sweep failed: unavailable.\n"),
        (says("cancelled"), "The sweep was cancelled.\n"),
        (
            says(complete=False),
            "The sweep saw fewer recordings than RealtimeKit's list counts. Start it again.\n",
        ),
        (
            says(counts={"unreadable": 2}),
            "2 items of RealtimeKit's list could not be read.\n",
        ),
    ],
)
def test_a_sweep_that_may_not_have_seen_everything_is_1(
    backfill: Run, sweep_api: Upstream, ending: Answer, said: str
) -> None:
    sweep_api.says(QUEUED, ending)

    result = backfill()

    assert result.exit_code == 1
    assert result.stderr.endswith(said)


@pytest.mark.parametrize("kind", ["missing", "behind", "gone", "expired", "not_archived", "erased"])
def test_what_a_backfill_found_is_no_failure_of_it(
    backfill: Run, sweep_api: Upstream, kind: str
) -> None:
    sweep_api.says(QUEUED, says(counts={kind: 3}))

    assert backfill().exit_code == 0


def test_a_list_that_does_not_count_is_taken_as_it_is(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says(complete=None))

    result = backfill()

    assert result.exit_code == 0
    assert "complete: the list does not say how many there are\n" in result.stdout


def test_detached_it_is_not_waited_for(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED)

    result = backfill("--detach")
    as_json = backfill("--detach", "--json")

    assert (result.exit_code, result.stdout) == (0, f"{SWEEP_ID}\n")
    assert result.stderr == HINT.format("")
    assert json.loads(as_json.stdout) == report("queued")
    assert asked(sweep_api) == [("POST", "/sweeps")] * 2


def test_what_is_under_way_already_is_watched(backfill: Run, sweep_api: Upstream) -> None:
    taken = problem(409, "An unfinished sweep has the same window.", instance=PATH)
    sweep_api.says(taken, says("running"), says())

    result = backfill()

    assert result.exit_code == 0
    assert result.stderr.startswith("The sweep has started already.\n")
    assert asked(sweep_api) == [("POST", "/sweeps"), ("GET", PATH), ("GET", PATH)]


def test_too_many_sweeps_are_told_of(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(problem(409, "There are 20 unfinished sweeps; cancel some, or wait."))

    result = backfill()

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: There are 20 unfinished sweeps; cancel some, or wait. (HTTP 409)\n"
    )


@pytest.mark.parametrize("command", ["backfill", "reconcile"])
def test_a_window_that_makes_no_sense_is_one_line(
    run: Run, sweep_api: Upstream, command: str
) -> None:
    sweep_api.says(problem(400, "to is in the future.", parameter="to"))

    result = run(command, "--from", "2026-05-26", "--to", "2031-01-01")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: to is in the future. (HTTP 400)\n"
    assert len(sweep_api.calls) == 1


def test_a_request_whose_answer_is_lost_is_not_sent_again(
    backfill: Run, sweep_api: Upstream
) -> None:
    sweep_api.says(problem(503, "Try again."))

    result = backfill()

    assert result.exit_code == 2
    assert result.stderr == (
        "The sweep may have started. See: realtimekit-recordings sweeps list\n"
        "Error: Try again. (HTTP 503)\n"
    )
    assert asked(sweep_api) == [("POST", "/sweeps")]


# Watching


def test_each_line_says_something_new(backfill: Run, sweep_api: Upstream) -> None:
    moving: dict[str, Any] = {
        "counts": {"seen": 1500, "missing": 2, "repaired": 2},
        "fraction": 0.25,
    }
    pace: dict[str, Any] = {
        "recordings_per_minute": 3000,
        "estimated_end_at": "2026-06-03T10:42:10.000Z",
    }
    waiting: dict[str, Any] = {"cause": "budget_spent", "not_before": "2026-06-03T10:32:00.000Z"}
    sweep_api.says(
        QUEUED,
        says("queued"),
        says("running", **moving, **pace),
        says("running", **{**moving, "fraction": 0.251}, **pace),
        says("running", **moving, **waiting),
        says("running", **moving, **waiting),
        says(counts={"seen": 6000}),
    )

    assert backfill().stderr.splitlines() == [
        "queued, 0%: it begins within a minute, unless others are before it",
        "running, 25%: 1,500 seen, 2 missing, 2 repaired, 3,000 per minute, "
        "ends about 2026-06-03 10:42 UTC",
        "running, 25%: 1,500 seen, 2 missing, 2 repaired, "
        "waits until 2026-06-03 10:32 UTC: budget spent",
        "completed, 100%: 6,000 seen, 0 missing, 0 repaired",
    ]


def test_a_dry_run_repairs_nothing_and_does_not_say_so(backfill: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says("running", dry_run=True, cause="unavailable"), says())

    assert "running, 50%: 0 seen, 0 missing, waits: unavailable\n" in backfill("--dry-run").stderr


def test_on_a_terminal_there_is_a_bar_and_stdout_is_the_report_alone(
    backfill: Run, sweep_api: Upstream
) -> None:
    sweep_api.says(QUEUED, says("running", counts={"seen": 40}), says())

    result = backfill("--json", FORCE_COLOR="1", TERM="xterm", COLUMNS="100")

    assert result.exit_code == 0
    assert "━" in result.stderr
    assert "\x1b[" in result.stderr
    assert "completed" in result.stderr
    assert "100%" in result.stderr
    assert "0 seen, 0 missing, 0 repaired" in result.stderr
    assert json.loads(result.stdout)["state"] == "completed"


@pytest.mark.parametrize(
    "fault", [problem(503, "Try again."), problem(500, "No."), Answer("", 200)], ids=repr
)
def test_a_short_trouble_of_the_api_does_not_end_the_watching(
    backfill: Run, sweep_api: Upstream, fault: Answer
) -> None:
    if fault.status == 200:
        # The answer is cut off.
        fault.headers["Content-Length"] = "1000"
    sweep_api.says(QUEUED, *[fault] * 6, says("running"), says())

    result = backfill()

    assert result.exit_code == 0
    assert result.stderr.count("The command tries again.") == 1
    assert result.stderr.splitlines()[-1].startswith("completed, 100%")


def test_an_api_that_stays_away_is_given_up_and_the_sweep_goes_on(
    backfill: Run, sweep_api: Upstream
) -> None:
    sweep_api.says(QUEUED, problem(500, "No."))

    result = backfill()

    assert result.exit_code == 2
    assert len(sweep_api.calls) == 31
    assert result.stderr.endswith(HINT.format("") + "Error: No. (HTTP 500)\n")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_ends_the_watching(backfill: Run, sweep_api: Upstream, status: int) -> None:
    sweep_api.says(QUEUED, problem(status, "No."))

    result = backfill()

    assert result.exit_code == 2
    assert len(sweep_api.calls) == 2
    assert HINT.format("") in result.stderr


@pytest.fixture
def interrupted(sweep_api: Upstream) -> Iterator[None]:
    """Ctrl-C comes while the command waits for the third answer."""
    # A process that a shell starts in the background ignores SIGINT, and so may this suite.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed = threading.Event()
    waiting = replace(says("running"), held=pressed)
    sweep_api.says(QUEUED, says("running"), waiting, says())

    def press() -> None:
        while len(sweep_api.calls) < 3:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        pressed.set()

    fingers = threading.Thread(target=press, daemon=True)
    fingers.start()
    yield
    fingers.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_leaves_it_running_and_says_how_to_go_on(
    run: Run, sweep_api: Upstream, tmp_path: Path
) -> None:
    config = tmp_path / "other-config"
    config.write_text('[profile "second one"]\naws_access_key_id = a\naws_secret_access_key = s\n')
    place = ("--profile", "second one", "--region", "eu-west-1")

    result = run("backfill", "--from", "2026-05-26", *WAITLESS, *place, AWS_CONFIG_FILE=str(config))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(HINT.format(" --region=eu-west-1 '--profile=second one'"))
    assert asked(sweep_api) == [("POST", "/sweeps"), *[("GET", PATH)] * 2]


# reconcile


def test_it_is_a_dry_run_of_the_last_eight_days(reconcile: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says(dry_run=True))

    assert reconcile().exit_code == 0
    wanted = json.loads(sweep_api.calls[0][2])
    since = datetime.fromisoformat(wanted.pop("from"))
    assert wanted == {"dry_run": True}
    assert abs(datetime.now(UTC) - timedelta(days=8) - since) < timedelta(minutes=5)


def test_its_window_can_be_chosen(reconcile: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says(dry_run=True))

    reconcile("--from", "2026-05-26", "--to", "2026-05-27")

    assert json.loads(sweep_api.calls[0][2]) == {
        "from": "2026-05-26",
        "to": "2026-05-27",
        "dry_run": True,
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", 1),
        ("behind", 1),
        ("gone", 1),
        ("expired", 1),
        ("not_archived", 0),
        ("at_risk", 0),
        ("erased", 0),
        ("lost_webhooks", 0),
    ],
)
def test_what_is_missing_is_an_exit_code(
    reconcile: Run, sweep_api: Upstream, kind: str, code: int
) -> None:
    sweep_api.says(QUEUED, says(dry_run=True, counts={kind: 1}))

    assert reconcile().exit_code == code


def test_files_that_expired_can_be_left_out(reconcile: Run, sweep_api: Upstream) -> None:
    sweep_api.says(QUEUED, says(counts={"expired": 1}))
    assert reconcile("--ignore-expired").exit_code == 0

    sweep_api.says(QUEUED, says(counts={"expired": 1, "gone": 1}))
    assert reconcile("--ignore-expired").exit_code == 1


@pytest.mark.parametrize(
    "ending",
    [
        says("failed", cause="unavailable"),
        says("cancelled"),
        says(complete=False),
        says(counts={"unreadable": 1}),
        says(counts={"unwritable": 1}),
    ],
    ids=["failed", "cancelled", "incomplete", "unreadable", "unwritable"],
)
def test_what_could_not_be_found_out_is_2(
    reconcile: Run, sweep_api: Upstream, ending: Answer
) -> None:
    sweep_api.says(QUEUED, ending)

    assert reconcile().exit_code == 2


def test_what_is_missing_for_certain_is_1_whatever_else_is_not_known(
    reconcile: Run, sweep_api: Upstream
) -> None:
    sweep_api.says(QUEUED, says("failed", cause="unavailable", counts={"missing": 1}))

    result = reconcile()

    assert result.exit_code == 1
    assert result.stderr.endswith("The sweep failed: unavailable.\n")
    assert "complete:" not in result.stdout


def test_it_names_what_repairs_each_kind(reconcile: Run, sweep_api: Upstream) -> None:
    counts = {"missing": 1, "behind": 2, "gone": 3, "expired": 4}
    sweep_api.says(QUEUED, says(dry_run=True, counts=counts))

    assert reconcile().stderr.splitlines()[-3:] == [
        "To repair missing and behind: realtimekit-recordings backfill "
        "--from=2026-05-26T10:30:00.000Z --to=2026-06-03T10:30:00.000Z",
        "To repair gone: files were deleted from the bucket; see ArtifactsGoneAlarm in "
        "docs/operations.md",
        "To repair expired: these files are lost; --ignore-expired leaves them out",
    ]


# sweeps


def test_a_list_of_sweeps_marks_dry_runs_and_why_one_waits_or_failed(
    run: Run, sweep_api: Upstream
) -> None:
    listed = [
        report("running", dry_run=True, cause="rate_limited"),
        report("failed", cause="unauthorized"),
    ]
    sweep_api.says(Answer({"sweeps": listed}))

    waiting, failed = run("sweeps", "list").stdout.splitlines()[1:]

    assert waiting.endswith("  running, dry run, waits: rate limited")
    assert failed.endswith("  failed: unauthorized")


def test_whole_ids_of_sweeps_are_shown_on_a_narrow_terminal(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(Answer({"sweeps": [report("running", dry_run=True, cause="rate_limited")]}))

    shown = run("sweeps", "list", FORCE_COLOR="1", COLUMNS="80").stdout.splitlines()

    assert [line.split()[0] for line in shown] == ["Sweep", SWEEP_ID]
    assert max(map(len, shown)) <= 80
    assert "running," in shown[1]


def test_a_request_that_was_never_sent_is_not_under_way(run: Run, aws: Any) -> None:
    result = run("backfill", "--from", "2026-05-26", "--api-url", "http://127.0.0.1:9")

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: The API at 127.0.0.1:9 does not answer: NewConnectionError. "
        "Check the address and the network.\n",
    )


def test_sweeps_are_listed(run: Run, sweep_api: Upstream) -> None:
    hourly = report(trigger="hourly", counts={"seen": 1204, "missing": 3})
    page = documented("SweepPage", {"sweeps": [report("running")], "next_cursor": "eA-_" * 20})
    sweep_api.says(Answer(page), Answer({"sweeps": [hourly]}))

    running, completed = run("sweeps", "list").stdout.splitlines()[1:]

    assert running.split()[:6] == [SWEEP_ID, "2026-06-03", "10:30", "UTC", "request", "50%"]
    assert running.endswith("running")
    assert completed.split()[4:6] == ["hourly", "100%"]
    assert completed.split()[-3:] == ["1,204", "3", "completed"]
    assert asked(sweep_api) == [
        ("GET", "/sweeps?limit=20"),
        ("GET", "/sweeps?limit=19&cursor=" + "eA-_" * 20),
    ]


def test_no_sweeps_are_told_of(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(Answer({"sweeps": []}))

    assert run("sweeps", "list").stdout == "No sweeps.\n"


def test_sweeps_are_listed_as_lines_of_json(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(Answer({"sweeps": [report("running"), report()]}))

    lines = run("sweeps", "list", "--json").stdout.splitlines()

    assert [json.loads(line)["state"] for line in lines] == ["running", "completed"]


def test_a_sweep_is_shown_as_far_as_it_is(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(says("running", counts={"seen": 600}))

    shown = run("sweeps", "show", SWEEP_ID)
    as_json = run("sweeps", "show", SWEEP_ID, "--json")

    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Sweep {SWEEP_ID}: running, 50%\n")
    assert "seen               600  in RealtimeKit's list\n" in shown.stdout
    assert "complete:" not in shown.stdout
    assert json.loads(as_json.stdout) == report("running", counts={"seen": 600})


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1)])
def test_a_sweep_can_be_watched_again(run: Run, sweep_api: Upstream, state: str, code: int) -> None:
    sweep_api.says(says("running"), says(state))

    assert run("sweeps", "show", SWEEP_ID, "--watch", *WAITLESS).exit_code == code
    assert run("sweeps", "show", SWEEP_ID).exit_code == 0


def test_a_sweep_is_cancelled(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(says("cancelled", counts={"repaired": 1200}))

    result = run("sweeps", "cancel", SWEEP_ID)

    assert (result.exit_code, result.stdout) == (0, "Cancelled at 50%; 1,200 repaired.\n")
    assert asked(sweep_api) == [("DELETE", PATH)]


def test_a_sweep_that_has_ended_cannot_be_cancelled(run: Run, sweep_api: Upstream) -> None:
    sweep_api.says(problem(409, "The sweep has completed already."))

    result = run("sweeps", "cancel", SWEEP_ID)

    assert result.exit_code == 2
    assert result.stderr == "Error: The sweep has completed already. (HTTP 409)\n"
