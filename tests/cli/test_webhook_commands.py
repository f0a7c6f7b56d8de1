"""The webhook commands: RealtimeKit's registrations, the output, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from realtimekit_simulator import DEFAULT_TOKEN, Overlay, rate_limited

URL = "http://127.0.0.1:8787/v1/webhooks/realtimekit"
OLD_URL = "https://f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com/v1/webhooks/realtimekit"
OTHERS = {"name": "Chat export", "url": "https://other.example/hook"}


TO_DO = "To correct this, run `webhook register` with the same options.\n"


def settings(webhook):
    return (webhook.name, webhook.url, sorted(webhook.events), webhook.enabled)


RIGHT = ("realtimekit-recordings", URL, ["meeting.ended", "recording.statusUpdate"], True)


# register


def test_register_creates_the_webhook(run, registered):
    result = run("webhook", "register")

    [webhook] = registered()
    assert settings(webhook) == RIGHT
    assert result.exit_code == 0
    assert result.stdout == (
        f"Created {webhook.id}:\n"
        "  name: realtimekit-recordings\n"
        f"  url: {URL}\n"
        "  events: meeting.ended, recording.statusUpdate\n"
        "  enabled: yes\n"
    )


def test_register_changes_nothing_the_second_time(run, registered, changes):
    run("webhook", "register")
    result = run("webhook", "register")

    assert result.exit_code == 0
    assert (
        result.stdout == "Nothing to do: the webhook is registered, and its settings are right.\n"
    )
    assert changes() == ["POST"]
    assert len(registered()) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": OLD_URL}, f"url: {OLD_URL} -> {URL}"),
        ({"name": "by hand"}, "name: by hand -> realtimekit-recordings"),
        ({"enabled": False}, "enabled: no -> yes"),
        (
            {"events": ["recording.statusUpdate", "meeting.chatSynced"]},
            "events: meeting.chatSynced, recording.statusUpdate"
            " -> meeting.ended, recording.statusUpdate",
        ),
    ],
)
def test_register_corrects_what_differs(run, existing, registered, changes, wrong, said):
    webhook_id = existing(**wrong)
    result = run("webhook", "register")

    [webhook] = registered()
    assert webhook.id == webhook_id
    assert settings(webhook) == RIGHT
    assert result.exit_code == 0
    assert result.stdout == f"Corrected {webhook_id}:\n  {said}\n"
    assert changes() == ["PATCH"]


def test_register_removes_duplicates(run, existing, registered, realtimekit):
    kept, surplus = existing(), existing(url=OLD_URL)
    realtimekit.faults.add(Overlay({"url": URL}), method="GET")
    result = run("webhook", "register")

    assert [webhook.id for webhook in registered()] == [kept]
    assert result.exit_code == 0
    assert result.stdout == f"Removed {surplus}, a duplicate.\n"


def test_register_leaves_the_webhooks_of_others_alone(run, existing, registered):
    existing(**OTHERS, enabled=False, events=["meeting.chatSynced"])
    [before] = registered()
    run("webhook", "register")

    assert before in registered()
    assert len(registered()) == 2


def test_register_subscribes_to_more_events_if_told_to(run, registered):
    more = ("--event", "meeting.transcript", "--event", "meeting.summary")
    result = run("webhook", "register", *more)

    [webhook] = registered()
    assert sorted(webhook.events) == [
        "meeting.ended",
        "meeting.summary",
        "meeting.transcript",
        "recording.statusUpdate",
    ]
    assert result.exit_code == 0
    assert run("webhook", "check", *more).exit_code == 0
    assert run("webhook", "check").exit_code == 1


def test_register_takes_a_custom_domain_and_a_name(run, registered, aws):
    del aws.outputs["WebhookUrl"]
    custom = ("--url", "https://hooks.example.com/realtimekit", "--name", "staging")
    assert run("webhook", "register", *custom).exit_code == 0

    [webhook] = registered()
    assert (webhook.name, webhook.url) == ("staging", "https://hooks.example.com/realtimekit")


def test_register_does_not_register_an_address_of_aws_with_a_simulator(run, registered, aws):
    address = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1/webhooks/realtimekit"
    aws.outputs["WebhookUrl"] = address

    result = run("webhook", "register")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert f"must not post to {address}, which is not on this machine" in result.stderr
    assert registered() == []


def test_register_creates_one_in_a_single_try(run, registered, realtimekit):
    """A retry would register a second webhook if only the answer was lost."""
    realtimekit.faults.add(rate_limited(0.01), method="POST")
    result = run("webhook", "register")

    assert result.exit_code == 2
    assert registered() == []


def test_register_fails_if_a_setting_was_not_taken_over(run, existing, realtimekit):
    existing(enabled=False)
    realtimekit.faults.add(Overlay({"enabled": False}), method="PATCH")
    result = run("webhook", "register")

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: RealtimeKit did not save these settings: enabled: no -> yes. Try again.\n"
    )


# check


def test_check_is_content_with_a_webhook_as_it_should_be(run, existing):
    existing(**OTHERS)
    existing()
    result = run("webhook", "check")

    assert result.exit_code == 0
    assert result.stdout == "The webhook is registered, and its settings are right.\n"


def test_check_tells_of_a_webhook_that_is_missing(run, existing, changes):
    existing(**OTHERS)
    result = run("webhook", "check")

    assert result.exit_code == 1
    assert result.stdout == f"There is no webhook for {URL}\n{TO_DO}"
    assert changes() == []


def test_check_tells_of_each_difference_and_changes_nothing(run, existing, registered, changes):
    webhook_id = existing(url=OLD_URL, events=["meeting.ended"], enabled=False)
    before = registered()
    result = run("webhook", "check")

    assert result.exit_code == 1
    assert result.stdout == (
        f"{webhook_id} has other settings:\n"
        f"  url: {OLD_URL} -> {URL}\n"
        "  events: meeting.ended -> meeting.ended, recording.statusUpdate\n"
        "  enabled: no -> yes\n"
        f"{TO_DO}"
    )
    assert changes() == []
    assert registered() == before


def test_check_tells_of_a_duplicate(run, existing, realtimekit, changes):
    existing()
    surplus = existing(url=OLD_URL)
    realtimekit.faults.add(Overlay({"url": URL}), method="GET")
    result = run("webhook", "check")

    assert result.exit_code == 1
    assert result.stdout == f"{surplus} is a duplicate.\n{TO_DO}"
    assert changes() == []


# Files of a session


@pytest.mark.parametrize(
    ("session_files", "events"),
    [
        (
            "transcript,captions,summary,chat",
            [
                *("meeting.chatSynced", "meeting.ended", "meeting.summary", "meeting.transcript"),
                "recording.statusUpdate",
            ],
        ),
        ("captions", ["meeting.ended", "meeting.transcript", "recording.statusUpdate"]),
        ("transcript", ["meeting.ended", "meeting.transcript", "recording.statusUpdate"]),
        (
            " summary , chat ",
            [*("meeting.chatSynced", "meeting.ended", "meeting.summary", "recording.statusUpdate")],
        ),
        ("", ["meeting.ended", "recording.statusUpdate"]),
        ("whiteboard", ["meeting.ended", "recording.statusUpdate"]),
        (None, ["meeting.ended", "recording.statusUpdate"]),
    ],
)
def test_register_subscribes_to_the_events_of_the_files_that_the_stack_keeps(
    run, registered, aws, session_files, events
):
    if session_files is not None:
        aws.parameters["SessionFiles"] = session_files

    assert run("webhook", "register").exit_code == 0

    [webhook] = registered()
    assert sorted(webhook.events) == events


def test_check_says_what_an_older_registration_lacks_until_register_adds_it(
    run, existing, registered, aws
):
    webhook_id = existing()
    aws.parameters["SessionFiles"] = "transcript,captions,chat"

    before = run("webhook", "check")
    corrected = run("webhook", "register")
    after = run("webhook", "check")

    change = (
        "  events: meeting.ended, recording.statusUpdate"
        " -> meeting.chatSynced, meeting.ended, meeting.transcript, recording.statusUpdate\n"
    )
    assert before.exit_code == 1
    assert before.stdout == (
        f"{webhook_id} has other settings:\n{change}"
        "Without meeting.chatSynced, meeting.transcript, files of sessions are found up to a day"
        f" later.\n{TO_DO}"
    )
    assert (corrected.exit_code, corrected.stdout) == (0, f"Corrected {webhook_id}:\n{change}")
    assert [webhook.id for webhook in registered()] == [webhook_id]
    assert after.exit_code == 0


def test_register_removes_events_of_files_that_the_stack_no_longer_keeps(
    run, existing, registered, aws
):
    existing(events=["meeting.ended", "meeting.summary", "recording.statusUpdate"])
    aws.parameters["SessionFiles"] = ""

    assert run("webhook", "register").exit_code == 0

    [webhook] = registered()
    assert sorted(webhook.events) == ["meeting.ended", "recording.statusUpdate"]


def test_register_fails_if_realtimekit_did_not_subscribe_the_webhook_to_an_event(
    run, existing, realtimekit, aws
):
    existing()
    aws.parameters["SessionFiles"] = "summary"
    lacking = ["meeting.ended", "recording.statusUpdate"]
    realtimekit.faults.add(Overlay({"events": lacking}), method="PATCH")

    result = run("webhook", "register")

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: RealtimeKit did not save these settings: events: meeting.ended, "
        "recording.statusUpdate -> meeting.ended, meeting.summary, recording.statusUpdate. "
        "Try again.\n"
    )


# show


def test_show_lists_all_webhooks_and_marks_the_stacks(run, existing):
    others = existing(**OTHERS, events=["meeting.chatSynced"], enabled=False)
    our_own = existing()
    result = run("webhook", "show")

    assert result.exit_code == 0
    assert result.stdout == (
        f"{others}\n"
        "  name: Chat export\n"
        "  url: https://other.example/hook\n"
        "  events: meeting.chatSynced\n"
        "  enabled: no\n"
        f"{our_own} (the stack's)\n"
        "  name: realtimekit-recordings\n"
        f"  url: {URL}\n"
        "  events: meeting.ended, recording.statusUpdate\n"
        "  enabled: yes\n"
    )


def test_show_says_the_same_in_json(run, existing):
    others = existing(**OTHERS, events=["meeting.chatSynced"], enabled=False)
    our_own = existing()
    result = run("webhook", "show", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "id": others,
            "name": "Chat export",
            "url": "https://other.example/hook",
            "events": ["meeting.chatSynced"],
            "enabled": False,
            "ours": False,
        },
        {
            "id": our_own,
            "name": "realtimekit-recordings",
            "url": URL,
            "events": ["meeting.ended", "recording.statusUpdate"],
            "enabled": True,
            "ours": True,
        },
    ]


def test_show_of_no_webhooks_says_so_in_words_and_is_an_empty_array_in_json(run):
    assert run("webhook", "show").stdout == "The app has no webhooks.\n"
    assert run("webhook", "show", "--json").stdout == "[]\n"


# unregister


def test_unregister_removes_only_ours_once_it_is_confirmed(run, existing, registered):
    others = existing(**OTHERS)
    our_own = existing()
    result = run("webhook", "unregister", answer="y\n")

    assert [webhook.id for webhook in registered()] == [others]
    assert result.exit_code == 0
    assert f"Remove {our_own}, which posts to {URL}? [y/N]" in result.stderr
    assert f"Removed {our_own}.\n" in result.stdout


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("", 2)])
def test_unregister_removes_nothing_unless_it_is_confirmed(run, existing, changes, answer, code):
    existing()
    assert run("webhook", "unregister", answer=answer).exit_code == code
    assert changes() == []


def test_unregister_does_not_ask_if_told_so(run, existing, registered):
    our_own = existing()
    result = run("webhook", "unregister", "--yes")

    assert registered() == []
    assert result.stdout == f"Removed {our_own}.\n"


def test_unregister_does_nothing_if_nothing_of_ours_is_there(run, existing, changes):
    existing(**OTHERS)
    result = run("webhook", "unregister", "--yes")

    assert result.exit_code == 0
    assert result.stdout == "Nothing to do: the stack has no webhook.\n"
    assert changes() == []


# The token and the region


def test_the_token_may_come_from_the_environment_instead_of_the_secret(run, existing, aws):
    existing()
    aws.secret = None
    result = run("webhook", "check", CLOUDFLARE_API_TOKEN=DEFAULT_TOKEN)

    assert result.exit_code == 0
    assert aws.calls == ["DescribeStacks"]


@pytest.mark.parametrize("command", ["register", "check"])
def test_other_credentials_of_the_environment_are_not_used(run, existing, command):
    """The SDK would send the other credentials instead of the token."""
    existing()
    other = {"CLOUDFLARE_EMAIL": "someone@example.com", "CLOUDFLARE_API_KEY": "canary-key"}
    assert run("webhook", command, **other).exit_code == 0


def test_creating_does_not_use_other_credentials_of_the_environment_either(run, registered):
    other = {"CLOUDFLARE_EMAIL": "someone@example.com", "CLOUDFLARE_API_KEY": "canary-key"}
    assert run("webhook", "register", **other).exit_code == 0
    assert len(registered()) == 1


def test_the_region_may_come_from_the_variable_that_boto3_does_not_read(run, existing):
    existing()
    assert run("webhook", "check", AWS_REGION="eu-west-1", AWS_DEFAULT_REGION=None).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://hooks.example.com/realtimekit"),
        ("--url", "http://localhost.example.com/realtimekit"),
        ("--url", "hooks.example.com"),
        ("--event", "recording.ready"),
        ("--api-token", "canary"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(run, aws, arguments):
    result = run("webhook", "register", *arguments)

    assert result.exit_code == 2
    assert aws.calls == []


def test_webhooks_may_go_unencrypted_on_this_machine(run, registered):
    assert run("webhook", "register", "--url", "http://127.0.0.1:8000/hook").exit_code == 0
    assert [webhook.url for webhook in registered()] == ["http://127.0.0.1:8000/hook"]


def test_the_package_can_be_run_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "realtimekit_recordings", "webhook", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        check=True,
    )
    assert result.stdout.startswith("Usage: realtimekit-recordings webhook [OPTIONS] COMMAND")
