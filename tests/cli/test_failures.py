"""Failures: one line on stderr that says what to do, and exit code 2."""

from __future__ import annotations

import pytest

from realtimekit_simulator import (
    Answer,
    Drop,
    Overlay,
    Truncate,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    rate_limited,
    unsuccessful,
)

COMMANDS = [("register",), ("check",), ("show",), ("unregister", "--yes")]


@pytest.fixture
def failure(run):
    """Return the line of stderr of a command that failed."""

    def failure(*arguments: str, **environment: str) -> str:
        result = run("webhook", *(arguments or ("check",)), **environment)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        return str(result.stderr).removeprefix("Error: ").rstrip("\n")

    return failure


# AWS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stack_that_does_not_exist(failure, command):
    assert failure(*command, "--stack-name", "another") == (
        "CloudFormation request failed: An error occurred (ValidationError) when calling the "
        "DescribeStacks operation: Stack with id another does not exist. "
        "Check the stack's name, the region, the profile and the credentials."
    )


@pytest.mark.parametrize(
    ("operation", "service"),
    [("DescribeStacks", "CloudFormation"), ("GetSecretValue", "Secrets Manager")],
)
@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (400, "ExpiredToken"), (400, "Throttling"), (500, "InternalFailure")],
)
def test_an_operation_that_aws_refuses(failure, aws, operation, service, status, code):
    aws.errors[operation] = (status, code, "for this reason.\nAnd that.")
    said = failure()

    assert said.startswith(f"{service} request failed: An error occurred ({code})")
    assert said.endswith(
        "for this reason. And that. Check the stack's name, the region, the profile and the "
        "credentials."
    )


def test_aws_that_cannot_be_reached(failure):
    assert failure(AWS_ENDPOINT_URL="http://127.0.0.1:9") == (
        'CloudFormation request failed: Could not connect to the endpoint URL: "http://127.0.0.1:9/". '
        "Check the stack's name, the region, the profile and the credentials."
    )


def test_no_credentials(failure):
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    assert failure(**none).startswith(
        "CloudFormation request failed: Unable to locate credentials."
    )


def test_no_region(failure):
    said = failure(AWS_DEFAULT_REGION=None)
    assert said.startswith("CloudFormation request failed: You must specify a region.")


def test_a_profile_that_does_not_exist(failure):
    assert failure("check", "--profile", "another").startswith(
        "Reading the AWS configuration failed: The config profile (another) could not be found."
    )


@pytest.mark.parametrize(
    "parameter", ["CloudflareAccountId", "RealtimeKitAppId", "RealtimeKitApiUrl"]
)
def test_a_stack_without_a_parameter(failure, aws, parameter):
    del aws.parameters[parameter]
    assert failure() == (
        f"The stack realtimekit-recordings (CREATE_COMPLETE) has no parameter {parameter}. "
        "Check --stack-name, or deploy the stack again from this version of the project."
    )


@pytest.mark.parametrize("output", ["WebhookUrl", "ApiTokenSecretArn"])
def test_a_stack_without_an_output(failure, aws, output):
    del aws.outputs[output]
    assert failure() == (
        f"The stack realtimekit-recordings (CREATE_COMPLETE) has no output {output}. "
        "Check --stack-name, or deploy the stack again from this version of the project."
    )


def test_a_secret_without_a_value(failure, aws):
    aws.secret = None
    assert failure() == (
        "The stack's secret is empty. Put the API token there: aws secretsmanager put-secret-value "
        "--region eu-central-1 --secret-id arn:aws:secretsmanager:eu-central-1:123456789012:secret:realtimekit-api-token-x7Gh1k "
        """--secret-string '{"api_token": "…"}'"""
    )


@pytest.mark.parametrize(
    "secret", ["canary", '"canary"', "[]", '{"token": "canary"}', '{"api_token": ["canary"]}', ""]
)
def test_a_secret_that_is_not_the_token(failure, aws, secret):
    aws.secret = secret
    assert failure().startswith(
        'The stack\'s secret is not {"api_token": "…"}. Put the API token there: aws '
    )


@pytest.mark.parametrize("token", ["canary token", "canary\n", "canary…"])
def test_a_token_that_no_header_can_hold(failure, token):
    assert failure(CLOUDFLARE_API_TOKEN=token) == (
        "The API token is empty, or has characters that no token has. Correct "
        "CLOUDFLARE_API_TOKEN, or else the stack's secret."
    )


def test_an_empty_token(failure, aws):
    aws.secret = '{"api_token": ""}'
    assert failure().startswith("The API token is empty, or has characters that no token has.")


# RealtimeKit


@pytest.mark.parametrize("command", COMMANDS)
def test_a_token_that_cloudflare_does_not_know(failure, command):
    assert failure(*command, CLOUDFLARE_API_TOKEN="canary-revoked") == (
        "Cloudflare refuses the API token (HTTP 401: Authentication error). It must be valid, and "
        "have the permission Realtime in this account. The command reads it from the environment's "
        "CLOUDFLARE_API_TOKEN, or else from the stack's secret."
    )


def test_a_token_without_the_permission(failure, realtimekit):
    realtimekit.tokens.add("canary-other", has_realtime=False)
    assert failure(CLOUDFLARE_API_TOKEN="canary-other").startswith(
        "Cloudflare refuses the API token (HTTP 403: Authentication error)."
    )


def test_a_refused_token_is_known_by_its_code_whatever_the_status(failure, realtimekit):
    realtimekit.faults.add(gateway_error(400, 10000, "Authentication error"))
    assert failure().startswith("Cloudflare refuses the API token (HTTP 400: Authentication error)")


def test_an_app_that_does_not_exist(failure, aws):
    aws.parameters["RealtimeKitAppId"] = "00000000-0000-4000-8000-000000000000"
    assert failure() == (
        "RealtimeKit does not know the app, or the webhook is gone (HTTP 404: no such app). "
        "Check the stack's parameters CloudflareAccountId and RealtimeKitAppId, and try again."
    )


def test_realtimekit_that_cannot_be_reached(failure, aws):
    aws.parameters["RealtimeKitApiUrl"] = "http://127.0.0.1:9/client/v4"
    said = failure()

    assert said.startswith("RealtimeKit cannot be reached at 127.0.0.1: ")
    assert said.endswith("Connection refused. Try again later.")


def test_too_many_requests_with_the_time_to_wait(failure, realtimekit):
    realtimekit.faults.add(rate_limited(270), times=None)
    said = "Please wait and consider throttling your request speed"
    assert failure() == (
        f"Cloudflare limits the rate of requests (HTTP 429: {said}). Try again in 270 seconds."
    )


def test_too_many_requests_without_the_time_to_wait(failure, realtimekit):
    realtimekit.faults.add(rate_limited(None), times=None)
    assert failure().endswith("Try again in 300 seconds.")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(500, "out of order"), "HTTP 500: out of order"),
        (error(503, ""), "HTTP 503: no reason given"),
        (html(502), "HTTP 502: no reason given"),
        (empty(520), "HTTP 520: no reason given"),
    ],
)
def test_realtimekit_in_trouble(failure, realtimekit, answer, said):
    realtimekit.faults.add(answer, times=3)
    assert failure() == f"RealtimeKit has an outage ({said}). Try again later."


def test_a_short_trouble_is_not_told_of(run, existing, realtimekit):
    existing()
    realtimekit.faults.add(error(503), times=2)
    assert run("webhook", "check").exit_code == 0


def test_a_refusal_of_realtimekits_own(failure, realtimekit):
    realtimekit.faults.add(error(400, 'BAD_REQUEST: "url" must be a valid uri'), method="POST")
    assert failure("register") == (
        'RealtimeKit refuses the request (HTTP 400: BAD_REQUEST: "url" must be a valid uri).'
    )


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (unsuccessful("no luck"), "RealtimeKit refused the request: no luck."),
        (html(200), "RealtimeKit refused the request: no reason given."),
        (
            Answer(200, "[]", {"Content-Type": "application/json"}),
            "RealtimeKit refused the request: no reason given.",
        ),
        (garbage(), "RealtimeKit's answer is not JSON. Try again later."),
        (
            Answer(200, '{"success": true, "data": null}', {"Content-Type": "application/json"}),
            "RealtimeKit's list of webhooks cannot be read.",
        ),
        (
            Answer(200, '{"success": true, "data": [7]}', {"Content-Type": "application/json"}),
            "A webhook in RealtimeKit's answer cannot be read.",
        ),
        (Overlay({"url": None}), "A webhook in RealtimeKit's answer cannot be read."),
        (Overlay({"id": ""}), "A webhook in RealtimeKit's answer cannot be read."),
        (Overlay({"events": 7}), "A webhook in RealtimeKit's answer cannot be read."),
    ],
)
def test_an_answer_that_is_none(failure, existing, realtimekit, effect, said):
    existing()
    realtimekit.faults.add(effect)
    assert failure() == said


@pytest.mark.parametrize("effect", [Drop(), Truncate()])
def test_a_connection_that_breaks(failure, existing, realtimekit, effect):
    existing()
    realtimekit.faults.add(effect, times=3)
    assert failure().startswith("RealtimeKit cannot be reached at 127.0.0.1: ")


@pytest.mark.parametrize(
    ("method", "registered", "command"),
    [
        ("POST", None, ("register",)),
        ("PATCH", {"enabled": False}, ("register",)),
        ("DELETE", {}, ("unregister", "--yes")),
    ],
)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(503, "down"), "RealtimeKit has an outage (HTTP 503: down). Try again later."),
        (unsuccessful("no luck"), "RealtimeKit refused the request: no luck."),
    ],
)
def test_a_change_that_fails(
    failure, existing, realtimekit, method, registered, command, answer, said
):
    if registered is not None:
        existing(**registered)
    realtimekit.faults.add(answer, method=method, times=3)
    assert failure(*command) == said


def test_a_webhook_that_is_gone_before_it_is_removed_is_as_good_as_removed(
    run, existing, realtimekit
):
    existing()
    realtimekit.faults.add(error(404), method="DELETE")
    assert run("webhook", "unregister", "--yes").exit_code == 0


def test_a_webhook_that_is_gone_before_it_is_corrected_is_told_of(failure, existing, realtimekit):
    existing(enabled=False)
    realtimekit.faults.add(error(404, "no webhook"), method="PATCH")
    assert failure("register").startswith(
        "RealtimeKit does not know the app, or the webhook is gone (HTTP 404: no webhook)."
    )
