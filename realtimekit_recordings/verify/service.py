"""Read-only checks of the running service: its API, its webhook, and RealtimeKit behind it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from .. import webhooks
from ..api import TIMEOUT, Api, ApiError
from ..connections import Connections
from ..output import printable
from ..realtimekit import RealtimeKitError, TokenRefusedError, open_app
from ..stack import StackError, aws_reason
from ..webhooks import Comparison, Settings
from .deployment import Deployment
from .finding import Finding, cannot_tell, ok, wrong

_API = "The API's answers"
_ALL_METHODS = "*/*"
_PROBLEM = "application/problem+json"
_UNDO = "Undo the change of the API, or deploy the stack of this version."
_EMULATED = "The emulator takes neither gateway responses nor method settings from the template."
# Problem documents, RealtimeKit's key, and a page with one recording are smaller.
_MAX_BYTES = 65_536
# The OBJECT IDENTIFIER of an RSA public key, 1.2.840.113549.1.1.1, in DER.
_RSA = bytes.fromhex("06092a864886f70d010101")
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")


def check_service(deployment: Deployment) -> Iterator[Finding]:
    """Check the API's answers, the API token, and RealtimeKit's webhook and key.

    The check of the webhook's route leaves one line in its function's log, `webhook refused`.
    """
    for check, look in _CHECKS.items():
        yield guarded(check, partial(look, deployment, check))


def api_url(deployment: Deployment) -> str:
    """Return the address of the stack's API. Raises `StackError`.

    AWS serves the API at the output ApiUrl, an emulator at an address that the environment names.
    """
    if not deployment.is_emulated:
        return deployment.stack.output("ApiUrl")
    given = os.environ.get("REALTIMEKIT_RECORDINGS_API_URL", "").rstrip("/")
    if deployment.stack.output("ApiId") not in given:
        raise StackError(
            "The emulator does not serve the output ApiUrl. Set REALTIMEKIT_RECORDINGS_API_URL as "
            "`make up` prints it."
        )
    return given


def webhook_url(deployment: Deployment) -> str:
    """Return the address of the stack's webhook route. Raises `StackError`."""
    return f"{api_url(deployment)}/webhooks/realtimekit"


def guarded(check: str, look: Callable[[], Finding]) -> Finding:
    """Return what a check found, or *cannot tell* with the error that stopped it."""
    try:
        return look()
    except (StackError, ApiError, RealtimeKitError) as error:
        return cannot_tell(check, str(error))
    except (ClientError, BotoCoreError) as error:
        return cannot_tell(check, f"AWS request failed: {aws_reason(error)}.")
    except urllib3.exceptions.HTTPError as error:
        return cannot_tell(check, f"No answer was received: {type(error).__name__}.")
    except Exception as error:
        # The error's text may hold a secret; its type does not.
        return cannot_tell(check, f"The check itself failed: {type(error).__name__}.")


def _unsigned_request(deployment: Deployment, check: str) -> Finding:
    """Check that a stranger is refused, in the form that the API documents."""
    if deployment.is_emulated:
        return cannot_tell(check, _EMULATED)
    response = _request(deployment, "GET", f"{api_url(deployment)}/recordings?limit=1")
    if isinstance(response, str):
        return _no_answer(check, response)
    if response.status == 200:
        detail = "The API answers a request without a signature: anybody can read the catalogue."
        return wrong(check, detail, action=_UNDO, heading=_API)
    if response.status != 403 or not response.is_problem(403):
        detail = f"An unsigned request is answered with {response}, not a problem of 403."
        return wrong(check, detail, action=_UNDO, heading=_API)
    return ok(check, "Refused with 403, as a problem document.")


def _signed_request(deployment: Deployment, check: str) -> Finding:
    """Check that the operator's own request is answered."""
    api = Api(api_url(deployment), deployment.stack.session, deployment.stack.place)
    try:
        page = api.recordings_page({"limit": "1"})
    except ApiError as error:
        return _api_trouble(check, error)
    if not isinstance(page.get("recordings"), list):
        detail = "The API's answer is not a list of recordings."
        return wrong(check, detail, action=_UNDO, heading=_API)
    return ok(check, "The API lists recordings.")


def _health(deployment: Deployment, check: str) -> Finding:
    """Check that the service can reach each part it depends on."""
    api = Api(api_url(deployment), deployment.stack.session, deployment.stack.place)
    try:
        report = api.health()
    except ApiError as error:
        return _api_trouble(check, error)
    unwell = [
        f"{name} is {part.get('status')}{_cause(part)}"
        for name, part in report["parts"].items()
        if part.get("status") != "ok"
    ]
    if unwell:
        detail = printable(f"{'; '.join(unwell)}.")
        action = "Run `realtimekit-recordings health`, and look the cause up."
        return wrong(check, detail, action=action, heading="Health")
    return ok(check, f"All {len(report['parts'])} parts are ok.")


def _cause(part: Mapping[str, Any]) -> str:
    return f" ({part['cause']})" if "cause" in part else ""


def _api_trouble(check: str, error: ApiError) -> Finding:
    """Return the finding about an API error: a 403 is the caller's, other errors the stack's."""
    if error.status == 403 or (error.status == 0 and not error.transient):
        return cannot_tell(check, str(error))
    action = "Look at the function's log, and at the network if nothing answers."
    return wrong(check, printable(str(error)), action=action, heading="ApiErrorsAlarm")


def _throttling(deployment: Deployment, check: str) -> Finding:
    """Check the limits of the API, and that a throttled webhook would be repeated.

    RealtimeKit gives an event up after a 429, which is API Gateway's own answer.
    """
    if deployment.is_emulated:
        return cannot_tell(check, _EMULATED)
    if fault := _throttled_answer_fault(deployment) or _limits_fault(deployment):
        return wrong(check, fault, action=_UNDO, heading=_API)
    rate = float(deployment.stack.parameter("ApiRateLimit"))
    return ok(check, f"Above {rate:g} requests/s the answer is a 503, a problem document.")


def _throttled_answer_fault(deployment: Deployment) -> str | None:
    response = deployment.client("apigateway").get_gateway_response(
        restApiId=deployment.stack.output("ApiId"), responseType="THROTTLED"
    )
    status = response.get("statusCode")
    headers = response.get("responseParameters", {})
    content_type = headers.get("gatewayresponse.header.Content-Type", "").strip("'")
    if (status, content_type) == ("503", _PROBLEM):
        return None
    return (
        f"A throttled request is answered with {status} ({content_type or 'no own type'}), and "
        "RealtimeKit repeats an event only after a 5xx."
    )


def _limits_fault(deployment: Deployment) -> str | None:
    stack = deployment.stack
    stage = deployment.client("apigateway").get_stage(
        restApiId=stack.output("ApiId"), stageName=api_url(deployment).rpartition("/")[2]
    )
    limits = stage.get("methodSettings", {}).get(_ALL_METHODS, {})
    rate, burst = limits.get("throttlingRateLimit"), limits.get("throttlingBurstLimit")
    wanted_rate = float(stack.parameter("ApiRateLimit"))
    wanted_burst = int(stack.parameter("ApiBurstLimit"))
    if (rate, burst) == (wanted_rate, wanted_burst):
        return None
    return (
        f"The API's rate and burst are {rate} and {burst}, but the stack's parameters are "
        f"{wanted_rate:g} and {wanted_burst}."
    )


def _webhook_route(deployment: Deployment, check: str) -> Finding:
    """Check that the route of webhooks is open, and refuses a body without a signature."""
    response = _request(deployment, "POST", webhook_url(deployment), b"{}")
    if isinstance(response, str):
        return _no_answer(check, response)
    if response.status == 401 and response.is_problem(401):
        return ok(check, "A body without a signature is refused with 401.")
    if response.status == 403:
        detail = "API Gateway refuses the webhook's route (403), so RealtimeKit gives events up."
        return wrong(check, detail, action=_UNDO, heading=_API)
    detail = f"A body without a signature is answered with {response}, not a problem of 401."
    action = "Look at the log of receive_webhook."
    return wrong(check, detail, action=action, heading="ReceiveWebhookErrorsAlarm")


def _secret(deployment: Deployment, check: str) -> Finding:
    """Check that the stack's secret has a token."""
    try:
        deployment.stack.api_token()
    except StackError as error:
        # An error of AWS says nothing about what is in the secret.
        if error.__cause__ is not None:
            return cannot_tell(check, str(error))
        detail, _, action = str(error).partition(". ")
        return wrong(check, f"{detail}.", action=action, heading="The API token")
    return ok(check, "The secret has an API token.")


def _token(deployment: Deployment, check: str) -> Finding:
    """Check that RealtimeKit accepts the secret's token, for the stack's app."""
    try:
        with open_app(deployment.stack, deployment.stack.api_token()) as app:
            app.get("/recordings", {"page_no": "1", "per_page": "1"})
    except TokenRefusedError as error:
        refusal = f" (HTTP {error.status})" if error.status else ""
        detail = f"Cloudflare refuses the secret's API token{refusal}."
        action = "Put a token with the permission Realtime into the secret."
        return wrong(check, detail, action=action, heading="TokenRefusedAlarm")
    except RealtimeKitError as error:
        if error.status == 404:
            detail = "RealtimeKit does not know the app in this account."
            action = "Compare CloudflareAccountId and RealtimeKitAppId with Cloudflare's dashboard."
            return wrong(check, detail, action=action, heading="Another app, another account")
        return cannot_tell(check, str(error))
    return ok(check, "RealtimeKit accepts the token, and lists the app's recordings.")


def _key(deployment: Deployment, check: str) -> Finding:
    """Check that RealtimeKit publishes the key of its signatures, as seen from this machine."""
    if pinned := deployment.stack.parameters.get("WebhookPublicKey"):
        if _is_key(pinned.replace("\\n", "\n")):
            return ok(check, "The key is pinned by WebhookPublicKey, and is never fetched.")
        detail = (
            "The parameter WebhookPublicKey holds no public RSA key, so no webhook is accepted."
        )
        action = "Correct it, or leave it empty so that the key is fetched."
        return wrong(check, detail, action=action, heading="Webhooks")
    url = deployment.stack.parameter("WebhookKeyUrl")
    host = urlsplit(url).netloc
    response = _request(deployment, "GET", url)
    action = f"Open {url}. If the functions cannot reach it either, pin the key."
    if isinstance(response, str):
        detail = f"{host} does not answer this machine: {response}. Without the key, webhooks wait."
        return wrong(check, detail, action=action, heading="Webhooks")
    if response.status != 200 or not _publishes_key(response.body):
        detail = f"{host} answers with HTTP {response.status}, without a public RSA key."
        return wrong(check, detail, action=action, heading="Webhooks")
    return ok(check, f"{host} publishes a public RSA key.")


def _publishes_key(body: bytes) -> bool:
    """Return True if a body has a key where RealtimeKit publishes it, or several."""
    try:
        published = json.loads(body)["data"]["publicKey"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
    return any(map(_is_key, published if isinstance(published, list) else [published]))


def _is_key(pem: object) -> bool:
    match = _PEM.search(pem) if isinstance(pem, str) else None
    try:
        return match is not None and _RSA in base64.b64decode(match[1])[:32]
    except binascii.Error:
        return False


def _webhook(deployment: Deployment, check: str) -> Finding:
    """Check that RealtimeKit posts the events that the stack needs to its address."""
    stack = deployment.stack
    events = webhooks.wanted_events(stack)
    wanted = Settings(name=stack.name, url=webhook_url(deployment), events=events)
    with open_app(stack, stack.api_token()) as app:
        comparison = webhooks.compare(wanted, app.webhooks())
    register = "Run `realtimekit-recordings webhook register`."
    if comparison.webhook is None:
        detail = "RealtimeKit has no webhook for this stack, so only sweeps find recordings."
        return wrong(check, detail, action=register, heading="Webhooks")
    if faults := list(_webhook_faults(wanted, comparison)):
        detail = f"The webhook {', and '.join(faults)}."
        return wrong(check, detail, action=register, heading="Webhooks")
    url = comparison.webhook.settings.url
    if url != wanted.url:
        reason = (
            f"The webhook posts to {printable(url)}, not to the stack's own address. If that is a "
            "custom domain of the stack, `webhook check --url` says whether all is right."
        )
        return cannot_tell(check, reason)
    return ok(check, f"Registered for {', '.join(sorted(comparison.webhook.settings.events))}.")


def _webhook_faults(wanted: Settings, comparison: Comparison) -> Iterator[str]:
    """Yield what is wrong with the stack's webhook; more events than wanted do no harm."""
    if comparison.webhook is None:
        return
    settings = comparison.webhook.settings
    if not settings.enabled:
        yield "is disabled"
    if lacking := wanted.events - settings.events:
        yield f"lacks the events {', '.join(sorted(lacking))}"
    if settings.url != wanted.url and ".execute-api." in settings.url:
        yield f"posts to another API, {printable(settings.url)}"
    if comparison.surplus:
        yield f"is registered {1 + len(comparison.surplus)} times"


_CHECKS: Mapping[str, Callable[[Deployment, str], Finding]] = {
    "API: unsigned request": _unsigned_request,
    "API: signed request": _signed_request,
    "API: health": _health,
    "API: throttling": _throttling,
    "webhook route": _webhook_route,
    "API token: secret": _secret,
    "API token: accepted": _token,
    "RealtimeKit's key": _key,
    "webhook": _webhook,
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer to a request without a signature, its body up to `_MAX_BYTES`."""

    status: int
    content_type: str
    body: bytes

    def is_problem(self, status: int) -> bool:
        """Return True for an RFC 9457 document about this status."""
        try:
            problem = json.loads(self.body)
        except ValueError:
            return False
        is_object = isinstance(problem, dict)
        return self.content_type == _PROBLEM and is_object and problem.get("status") == status

    def __str__(self) -> str:
        kind = self.content_type[:50] or "no content type"
        return printable(f"HTTP {self.status} ({kind})")


def _request(
    deployment: Deployment, method: str, url: str, body: bytes | None = None
) -> _Answer | str:
    """Return the answer to a request without a signature, or why there is none."""
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        response = (
            Connections(deployment.stack.session)
            .to(url)
            .request(
                method,
                url,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=TIMEOUT,
                preload_content=False,
            )
        )
        with closing(response):
            content_type = response.headers.get("Content-Type", "").partition(";")[0]
            return _Answer(response.status, content_type, response.read(_MAX_BYTES))
    except urllib3.exceptions.HTTPError as error:
        return type(getattr(error, "reason", None) or error).__name__


def _no_answer(check: str, reason: str) -> Finding:
    detail = f"The API does not answer: {reason}."
    action = "Check the network of this machine, then the API in the AWS console."
    return wrong(check, detail, action=action, heading=_API)
