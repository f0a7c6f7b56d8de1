"""`setup`: from a deployed stack to a running service, step by step, and a second time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import pytest
from click.testing import Result
from openapi_schema_validator import OAS31Validator

from doubles import ROOT, Answer, Upstream
from realtimekit_recordings import api as api_module
from realtimekit_simulator import rate_limited

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"
ADDRESS = "ops@example.com"
API_TOKEN = "canary-token-6d0f"
SWEEP_ID = "4dd3a0ff-19cc-4f3b-8a6c-6c2f4f1f4f10"
DOCUMENT = json.loads((ROOT / "functions/openapi.json").read_text())
STEPS = [
    "1. Read the API token from the stack's secret.",
    "2. Register the webhook with RealtimeKit.",
    "3. Subscribe to the alarms.",
    "4. Start the first backfill.",
    "5. Verify the stack.",
]


@dataclass
class Topic:
    """The stack's topic in SNS, with as many subscriptions on a page as a test wants."""

    subscriptions: list[tuple[str, str]] = field(default_factory=list)
    """The endpoint and the ARN of each, or what SNS shows in place of the ARN."""
    on_a_page: int = 100
    refused: str | None = None
    calls: list[str] = field(default_factory=list)

    def answer(self, form: dict[str, str]) -> tuple[int, str]:
        operation = form["Action"]
        self.calls.append(operation)
        assert form["TopicArn"] == TOPIC
        if operation == self.refused:
            return refused()
        result = self._list(int(form.get("NextToken", 0)))
        if operation == "Subscribe":
            assert form["Protocol"] == "email"
            self.subscriptions.append((form["Endpoint"], "PendingConfirmation"))
            result = "<SubscriptionArn>pending confirmation</SubscriptionArn>"
        return 200, f"<Response><{operation}Result>{result}</{operation}Result></Response>"

    def _list(self, start: int) -> str:
        end = start + self.on_a_page
        members = "".join(
            f"<member><Endpoint>{escape(endpoint)}</Endpoint><Protocol>email</Protocol>"
            f"<SubscriptionArn>{arn}</SubscriptionArn></member>"
            for endpoint, arn in self.subscriptions[start:end]
        )
        more = f"<NextToken>{end}</NextToken>" if end < len(self.subscriptions) else ""
        return f"<Subscriptions>{members}</Subscriptions>{more}"


def refused() -> tuple[int, str]:
    error = "<Type>Sender</Type><Code>AuthorizationError</Code><Message>no</Message>"
    return 403, f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"


@pytest.fixture
def topic(aws: Any) -> Topic:
    topic = Topic()
    aws.outputs["AlarmTopicArn"] = TOPIC
    aws.queries = {
        "Subscribe": topic.answer,
        "ListSubscriptionsByTopic": topic.answer,
        # So `verify`, which has tests of its own, ends at once.
        "ListStackResources": lambda _form: refused(),
    }
    return topic


@pytest.fixture
def api(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    # The retries are real, but do not wait.
    monkeypatch.setattr(api_module, "RETRIES", api_module.RETRIES.new(backoff_factor=0, total=1))
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", upstream.url)
    upstream.says(sweeps(), Answer(sweep("queued"), 202))
    return upstream


@pytest.fixture
def setup(run: Callable[..., Result], topic: Topic, api: Upstream) -> Callable[..., Result]:
    return lambda *options: run("setup", *options)


def sweep(state: str = "completed", **more: Any) -> dict[str, Any]:
    counts = DOCUMENT["components"]["schemas"]["SweepCounts"]["required"]
    return {
        "sweep_id": SWEEP_ID,
        "trigger": "request",
        "state": state,
        "from": "2015-01-01T00:00:00.000Z",
        "to": "2026-06-03T10:30:00.000Z",
        "dry_run": False,
        "created_at": "2026-06-03T10:30:00.000Z",
        "fraction": 0,
        "examples": {},
        "counts": dict.fromkeys(counts, 0),
        **more,
    }


def sweeps(*known: dict[str, Any]) -> Answer:
    """Return the API's list, which is valid by the OpenAPI document, as the fake must be."""
    schema = {"$ref": "#/components/schemas/SweepPage", "components": DOCUMENT["components"]}
    OAS31Validator(schema).validate({"sweeps": list(known)})
    return Answer({"sweeps": list(known)})


def asked(api: Upstream) -> list[tuple[str, str]]:
    return [(method, path.partition("?")[0]) for method, path, _ in api.calls]


def steps(result: Result) -> list[str]:
    return [line for line in result.stdout.splitlines() if line[:1].isdigit()]


def test_a_deployed_stack_is_brought_into_service(setup, topic, api, registered):
    result = setup("--alarm-email", ADDRESS)

    assert steps(result) == STEPS
    [webhook] = registered()
    assert f"Created {webhook.id}:\n" in result.stdout
    assert topic.subscriptions == [(ADDRESS, "PendingConfirmation")]

    assert f"AWS now asks {ADDRESS} to confirm. Alarms arrive after that.\n" in result.stdout
    assert json.loads(api.calls[1][2]) == {"from": "2015-01-01", "dry_run": False}
    assert f"Started {SWEEP_ID}, of all recordings since 2015-01-01 00:00 UTC.\n" in result.stdout
    assert f"To watch it: realtimekit-recordings sweeps show {SWEEP_ID} --watch" in result.stdout


def test_the_second_time_nothing_is_repeated(setup, topic, api, registered, changes):
    setup("--alarm-email", ADDRESS)
    api.says(sweeps(sweep("running")))
    result = setup("--alarm-email", ADDRESS.upper())

    assert steps(result) == STEPS
    assert changes() == ["POST"]
    assert topic.calls.count("Subscribe") == 1
    assert asked(api)[2:] == [("GET", "/sweeps")]
    assert "the webhook is registered, and its settings are right." in result.stdout
    assert f"AWS has asked {ADDRESS.upper()} to confirm." in result.stdout
    assert (
        f"the backfill {SWEEP_ID} of all recordings since 2015-01-01 00:00 UTC is running.\n"
        in result.stdout
    )


def test_a_confirmed_address_is_found_on_any_page_and_not_asked_again(setup, topic):
    topic.on_a_page = 1
    topic.subscriptions = [("other@example.com", "PendingConfirmation"), (ADDRESS, f"{TOPIC}:1")]
    result = setup("--alarm-email", ADDRESS)

    assert f"Nothing to do: {ADDRESS} is subscribed, and confirmed.\n" in result.stdout
    assert topic.calls == ["ListSubscriptionsByTopic"] * 2


@pytest.mark.parametrize(
    ("subscriptions", "said"),
    [
        ([], "Alarms reach no one: the topic has no confirmed subscription. Give --alarm-email."),
        ([(ADDRESS, "PendingConfirmation"), (ADDRESS, "Deleted")], "Alarms reach no one: "),
        ([(ADDRESS, f"{TOPIC}:1")], "The topic has 1 confirmed subscriptions; "),
    ],
)
def test_without_an_address_the_subscribers_are_counted(setup, topic, subscriptions, said):
    topic.subscriptions = subscriptions

    result = setup()

    assert said in result.stdout
    assert topic.calls == ["ListSubscriptionsByTopic"]


def test_a_sweep_that_is_no_whole_backfill_does_not_count_as_one(setup, api):
    others = [
        sweep(trigger="hourly"),
        sweep(dry_run=True),
        sweep("failed"),
        sweep("cancelled"),
        sweep(complete=False),
        sweep(**{"from": "2015-01-02T00:00:00.000Z"}),
        sweep(to="2026-06-02T23:59:59.999Z"),
    ]
    api.says(sweeps(*others), Answer(sweep("queued"), 202))

    assert steps(setup()) == STEPS
    assert asked(api) == [("GET", "/sweeps"), ("POST", "/sweeps")]


def test_an_earlier_or_equal_backfill_counts(setup, api):
    api.says(sweeps(sweep(complete=True)))

    assert "is completed.\n" in setup("--from", "2026-01-01").stdout
    assert asked(api) == [("GET", "/sweeps")]


def test_the_webhook_is_left_out_for_those_who_have_their_own_receiver(setup, realtimekit):
    result = setup("--no-webhook")

    assert steps(result) == STEPS
    assert "with RealtimeKit.\nSkipped, because of --no-webhook.\n" in result.stdout
    assert realtimekit.requests == []


# Each step that fails ends the command, with one line that helps.


def ended_in(result: Result, step: int) -> str:
    assert result.exit_code == 2
    assert steps(result) == STEPS[:step]
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_an_empty_secret_is_told_with_the_command_that_fills_it(setup, aws, changes):
    aws.secret = None

    assert ended_in(setup("--alarm-email", ADDRESS), 1) == (
        "Error: The stack's secret is empty. Put the API token there: aws secretsmanager "
        "put-secret-value --region eu-central-1 --secret-id arn:aws:secretsmanager:eu-central-1:"
        "123456789012:secret:realtimekit-api-token-x7Gh1k --secret-string "
        """'{"api_token": "…"}'\n"""
    )
    assert changes() == []


def test_a_refused_token_ends_it_before_the_alarms(setup, realtimekit, topic):
    realtimekit.tokens.revoke(API_TOKEN)

    assert "Cloudflare refuses the API token" in ended_in(setup(), 2)
    assert topic.calls == []


def test_a_webhook_that_is_not_created_ends_it(setup, realtimekit, api):
    realtimekit.faults.add(rate_limited(0.01), method="POST")

    assert "Cloudflare limits the rate of requests" in ended_in(setup(), 2)
    assert api.calls == []


@pytest.mark.parametrize("operation", ["ListSubscriptionsByTopic", "Subscribe"])
def test_a_topic_that_refuses_ends_it_with_the_right_that_is_missing(setup, topic, api, operation):
    topic.refused = operation

    said = ended_in(setup("--alarm-email", ADDRESS), 3)

    assert "SNS request failed: An error occurred (AuthorizationError)" in said
    assert operation in said
    assert api.calls == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([Answer({"detail": "no"}, 403)], "need the right execute-api:Invoke"),
        ([sweeps(), Answer({"detail": "Too many sweeps."}, 409)], "Too many sweeps."),
    ],
    ids=["list", "start"],
)
def test_an_api_that_refuses_ends_it(setup, api, answers, said):
    api.says(*answers)

    assert said in ended_in(setup(), 4)


def test_a_stack_that_cannot_be_verified_is_told(setup):
    assert "CloudFormation request failed: An error occurred (AuthorizationError)" in ended_in(
        setup("--alarm-email", ADDRESS), 5
    )


def test_a_stack_that_does_not_exist_is_told_before_the_first_step(setup, aws):
    assert "Stack with id other does not exist" in ended_in(setup("--stack-name", "other"), 0)


@pytest.mark.parametrize("address", ["ops", "ops@", "a b@example.com", "\x1b[2J@example.com"])
def test_an_address_that_is_none_is_refused_before_anything_happens(setup, aws, address):
    result = setup("--alarm-email", address)

    assert result.exit_code == 2
    assert "has the form name@example.com" in result.stderr
    assert aws.calls == []
