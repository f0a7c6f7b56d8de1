"""The checks of the running service: each part is broken in turn, and only its check fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from doubles import API_TOKEN, ROOT, Answer, Upstream
from realtimekit_recordings.stack import Stack
from realtimekit_recordings.verify.deployment import Deployment
from realtimekit_recordings.verify.finding import Finding
from realtimekit_recordings.verify.service import check_service
from realtimekit_simulator import Simulator, error, html

EVENTS = ["meeting.ended", "recording.statusUpdate", "meeting.chatSynced", "meeting.started"]
OTHER_URL = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/v1/webhooks/realtimekit"
PROBLEM = {"Content-Type": "application/problem+json"}
FORBIDDEN = Answer({"title": "Forbidden", "status": 403}, 403, PROBLEM)
PAGE = Answer({"recordings": []})
WELL = Answer({"status": "ok", "parts": {"api_token": {"status": "ok"}}})
UNAUTHORIZED = Answer({"title": "Unauthorized", "status": 401}, 401, PROBLEM)
HEADINGS = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)

Change = Callable[["Service"], object]


class Service:
    """A healthy stack, until a test changes a part of it."""

    def __init__(self, api: Upstream, realtimekit: Simulator) -> None:
        self.api = api
        self.realtimekit = realtimekit
        self.answers = [FORBIDDEN, PAGE, WELL, UNAUTHORIZED]
        self.gateway = boto3.client("apigateway")
        self.api_id = self._create_api()
        self.secrets = boto3.client("secretsmanager")
        self.secret = self._create_secret(json.dumps({"api_token": API_TOKEN}))
        self.parameters = {
            "CloudflareAccountId": realtimekit.world.account_id,
            "RealtimeKitAppId": realtimekit.world.app_id,
            "RealtimeKitApiUrl": realtimekit.api_url,
            "WebhookKeyUrl": realtimekit.webhook_key_url,
            "WebhookPublicKey": "",
            "SessionFiles": "chat",
            "ApiRateLimit": "1000",
            "ApiBurstLimit": "2000",
        }
        self.outputs = {"ApiUrl": f"{api.url}/v1", "ApiId": self.api_id}
        self.registrations = realtimekit.webhooks.registrations
        self.webhook = self.registrations.add(
            f"{api.url}/v1/webhooks/realtimekit", name="realtimekit-recordings", events=EVENTS
        )

    def _create_api(self) -> str:
        client = self.gateway
        api_id: str = client.create_rest_api(name="realtimekit-recordings")["id"]
        [root] = client.get_resources(restApiId=api_id)["items"]
        method = {"restApiId": api_id, "resourceId": root["id"], "httpMethod": "GET"}
        client.put_method(**method, authorizationType="AWS_IAM")
        client.put_integration(**method, type="MOCK")
        client.create_deployment(restApiId=api_id, stageName="v1")
        self.limit(api_id, "1000")
        client.put_gateway_response(
            restApiId=api_id,
            responseType="THROTTLED",
            statusCode="503",
            responseParameters={
                "gatewayresponse.header.Content-Type": "'application/problem+json'"
            },
        )
        return api_id

    def limit(self, api_id: str, rate: str) -> None:
        values = {"rateLimit": rate, "burstLimit": "2000"}
        self.gateway.update_stage(
            restApiId=api_id,
            stageName="v1",
            patchOperations=[
                {"op": "replace", "path": f"/*/*/throttling/{name}", "value": value}
                for name, value in values.items()
            ],
        )

    def _create_secret(self, text: str | None) -> str:
        value: Any = {} if text is None else {"SecretString": text}
        arn: str = self.secrets.create_secret(Name=f"token-{text is None}", **value)["ARN"]
        return arn

    def empty_secret(self) -> None:
        self.secret = self._create_secret(None)

    def put_secret(self, text: str) -> None:
        self.secrets.put_secret_value(SecretId=self.secret, SecretString=text)

    def pin_key(self) -> None:
        pem = self.realtimekit.webhooks.key.public_pem
        self.parameters["WebhookPublicKey"] = pem.replace("\n", "\\n")

    def findings(self) -> dict[str, Finding]:
        self.api.says(*self.answers)
        stack = Stack(
            name="realtimekit-recordings",
            status="CREATE_COMPLETE",
            parameters=self.parameters,
            outputs={**self.outputs, "ApiTokenSecretArn": self.secret},
            session=boto3.Session(region_name="eu-central-1"),
        )
        found = {finding.check: finding for finding in check_service(Deployment(stack, {}))}
        for finding in found.values():
            assert "canary" not in f"{finding.detail} {finding.action}"
            assert (finding.verdict == "wrong") == bool(finding.action)
            assert finding.heading in (*HEADINGS, "")
        return found


@pytest.fixture
def service(
    upstream: Upstream, realtimekit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "REALTIMEKIT_RECORDINGS_API_URL"):
        monkeypatch.delenv(name, raising=False)
    # A session reads AWS's service models once: moto would have a new one for each test.
    with mock_aws(config={"core": {"reset_boto3_session": False}}):
        yield Service(upstream, realtimekit)


def test_a_service_as_it_should_be_is_ok_in_all_parts(service):
    found = service.findings()

    assert {check: (one.verdict, one.detail) for check, one in found.items()} == {
        "API: unsigned request": ("ok", "Refused with 403, as a problem document."),
        "API: signed request": ("ok", "The API lists recordings."),
        "API: health": ("ok", "All 1 parts are ok."),
        "API: throttling": ("ok", "Above 1000 requests/s the answer is a 503, a problem document."),
        "webhook route": ("ok", "A body without a signature is refused with 401."),
        "API token: secret": ("ok", "The secret has an API token."),
        "API token: accepted": (
            "ok",
            "RealtimeKit accepts the token, and lists the app's recordings.",
        ),
        "RealtimeKit's key": (
            "ok",
            f"{service.realtimekit.url.removeprefix('http://')} publishes a public RSA key.",
        ),
        "webhook": (
            "ok",
            "Registered for meeting.chatSynced, meeting.ended, meeting.started, "
            "recording.statusUpdate.",
        ),
    }
    calls = [(method, path) for method, path, _ in service.api.calls]
    assert calls == [
        ("GET", "/v1/recordings?limit=1"),
        ("GET", "/v1/recordings?limit=1"),
        ("GET", "/v1/health"),
        ("POST", "/v1/webhooks/realtimekit"),
    ]
    unsigned, signed, *_ = (headers for _, headers in service.api.requests)
    assert "Authorization" not in unsigned
    assert "/eu-central-1/execute-api/aws4_request" in signed["Authorization"]
    assert {request.method for request in service.realtimekit.requests} == {"GET"}


def changed(**settings: Any) -> Change:
    return lambda service: service.registrations.change(service.webhook.id, settings)


def answered(number: int, body: dict[str, Any], status: int = 200) -> Change:
    """Let the API answer its request of this number otherwise."""
    return lambda service: service.answers.__setitem__(number, Answer(body, status))


def parameter(name: str, value: str) -> Change:
    return lambda service: service.parameters.update({name: value})


UNWELL = {"archive": {"status": "failing", "cause": "NoSuchBucket"}}
NO_KEY = "http://127.0.0.1:9/key"
# Each round breaks several parts at once; each is reported by its own check only.
ROUNDS: dict[str, tuple[list[Change], dict[str, str]]] = {
    "secret emptied, anybody may read, another rate": (
        [
            lambda service: service.empty_secret(),
            answered(0, {"recordings": []}),
            lambda service: service.limit(service.api_id, "5"),
        ],
        {
            "API: unsigned request": "wrong: The API's answers",
            "API: throttling": "wrong: The API's answers",
            "API token: secret": "wrong: The API token",
            "API token: accepted": "cannot tell",
            "webhook": "cannot tell",
        },
    ),
    "secret without a token, refusal in another form, 429, pinned key is none": (
        [
            lambda service: service.put_secret("canary"),
            answered(0, {"message": "Forbidden"}, 403),
            lambda service: service.gateway.put_gateway_response(
                restApiId=service.api_id, responseType="THROTTLED", statusCode="429"
            ),
            parameter("WebhookPublicKey", "canary"),
        ],
        {
            "API: unsigned request": "wrong: The API's answers",
            "API: throttling": "wrong: The API's answers",
            "API token: secret": "wrong: The API token",
            "API token: accepted": "cannot tell",
            "RealtimeKit's key": "wrong: Webhooks",
            "webhook": "cannot tell",
        },
    ),
    "token refused, credentials refused, key unreachable": (
        [
            lambda service: service.put_secret('{"api_token": "canary-revoked"}'),
            answered(1, {"message": "Forbidden"}, 403),
            parameter("WebhookKeyUrl", NO_KEY),
        ],
        {
            "API: signed request": "cannot tell",
            "API token: accepted": "wrong: TokenRefusedAlarm",
            "RealtimeKit's key": "wrong: Webhooks",
            "webhook": "cannot tell",
        },
    ),
    "no such app, list broken, webhook route wants a signature": (
        [
            lambda service: service.realtimekit.faults.add(error(404), path="kit", times=None),
            answered(1, {"message": "Internal server error"}, 500),
            answered(3, {"message": "Missing Authentication Token"}, 403),
        ],
        {
            "API: signed request": "wrong: ApiErrorsAlarm",
            "webhook route": "wrong: The API's answers",
            "API token: accepted": "wrong: Another app, another account",
            "webhook": "cannot tell",
        },
    ),
    "RealtimeKit down, a part unwell, no such API, webhook route broken": (
        [
            lambda service: service.realtimekit.faults.add(html(502), times=None),
            answered(2, {"status": "failing", "parts": UNWELL}, 503),
            answered(3, {"message": "Internal server error"}, 502),
            lambda service: service.outputs.update(ApiId="unknown"),
        ],
        {
            "API: health": "wrong: Health",
            "API: throttling": "cannot tell",
            "webhook route": "wrong: ReceiveWebhookErrorsAlarm",
            "API token: accepted": "cannot tell",
            "RealtimeKit's key": "wrong: Webhooks",
            "webhook": "cannot tell",
        },
    ),
    "webhook deleted": (
        [lambda service: service.registrations.remove(service.webhook.id)],
        {"webhook": "wrong: Webhooks"},
    ),
    "webhook of a custom domain": (
        [changed(url="https://recordings.example.com/hook")],
        {"webhook": "cannot tell"},
    ),
    "webhook by another name, pinned key": (
        [
            changed(name="by hand"),
            parameter("WebhookKeyUrl", NO_KEY),
            lambda service: service.pin_key(),
        ],
        {},
    ),
}


@pytest.mark.parametrize("broken", ROUNDS)
def test_what_is_broken_is_named_and_all_else_is_still_ok(service, broken):
    changes, expected = ROUNDS[broken]
    for change in changes:
        change(service)

    found = {
        finding.check: f"{finding.verdict}: {finding.heading}".removesuffix(": ")
        for finding in service.findings().values()
        if finding.verdict != "ok"
    }

    assert found == expected


def test_all_that_is_wrong_with_a_webhook_is_in_one_finding(service):
    changed(enabled=False, events=EVENTS[:2], url=OTHER_URL)(service)

    finding = service.findings()["webhook"]

    assert finding.detail == (
        "The webhook is disabled, and lacks the events meeting.chatSynced, "
        f"and posts to another API, {OTHER_URL}."
    )
    assert finding.action == "Run `realtimekit-recordings webhook register`."


def test_an_api_that_does_not_answer_is_named(service):
    service.outputs["ApiUrl"] = "http://127.0.0.1:9/v1"
    service.registrations.change(
        service.webhook.id, {"url": "http://127.0.0.1:9/v1/webhooks/realtimekit"}
    )

    found = service.findings()

    unwell = {check: one.verdict for check, one in found.items() if one.verdict != "ok"}
    assert unwell == dict.fromkeys(
        ("API: unsigned request", "API: signed request", "API: health", "webhook route"), "wrong"
    )
    assert found["webhook route"].detail == "The API does not answer: NewConnectionError."


def test_on_an_emulator_nothing_is_said_of_the_gateway(service, monkeypatch):
    address = f"{service.api.url}/restapis/{service.api_id}/v1/_user_request_"
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:9")
    monkeypatch.setenv("REALTIMEKIT_RECORDINGS_API_URL", address)
    service.registrations.change(service.webhook.id, {"url": f"{address}/webhooks/realtimekit"})
    service.answers = [PAGE, WELL, UNAUTHORIZED]

    found = service.findings()

    unwell = {check: one.verdict for check, one in found.items() if one.verdict != "ok"}
    assert unwell == dict.fromkeys(("API: unsigned request", "API: throttling"), "cannot tell")

    monkeypatch.delenv("REALTIMEKIT_RECORDINGS_API_URL")
    without = service.findings()["API: signed request"]
    assert (without.verdict, "REALTIMEKIT_RECORDINGS_API_URL" in without.detail) == (
        "cannot tell",
        True,
    )
