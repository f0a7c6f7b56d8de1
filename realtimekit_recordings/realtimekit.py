"""A RealtimeKit app, by Cloudflare's SDK: its registered webhooks, and answers as they come.

Webhooks hold no secret, because RealtimeKit signs its posts with a key that it publishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import cloudflare
import httpx

from .webhooks import Settings, Webhook, differences

if TYPE_CHECKING:
    from .stack import Stack

TIMEOUT = cloudflare.Timeout(20, connect=5)
MAX_RETRIES = 2

# The code in Cloudflare's answer to a request whose token it refuses.
_AUTHENTICATION_ERROR = 10000


class RealtimeKitError(Exception):
    """Raised when a request to RealtimeKit failed. The text says what to do; it has no secret.

    `status` is the HTTP status of the answer, or None without one.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class TokenRefusedError(RealtimeKitError):
    """Raised when Cloudflare refuses the API token, or when it cannot be a token."""


class App:
    """One RealtimeKit app. Each method raises `RealtimeKitError`."""

    def __init__(self, client: cloudflare.Cloudflare, *, account_id: str, app_id: str) -> None:
        self._client = client
        self._account_id = account_id
        self._app_id = app_id

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """Return an answer's JSON object as it came.

        `path` follows the app's own, as in "/recordings".
        """
        url = f"/accounts/{self._account_id}/realtime/kit/{self._app_id}{path}"
        with _sdk_errors():
            response = self._client.get(
                url, cast_to=httpx.Response, options={"params": dict(query or {})}
            )
            answer = response.json()
        if not isinstance(answer, Mapping) or answer.get("success") is False:
            raise RealtimeKitError(
                f"RealtimeKit refused the request: {_error_message(answer)}.", response.status_code
            )
        return answer

    def webhooks(self) -> list[Webhook]:
        """Return all webhooks of the app, also those that others registered."""
        with _sdk_errors():
            answer = self._client.realtime_kit.webhooks.get_webhooks(
                self._app_id, account_id=self._account_id
            )
        data = _read_data(answer)
        if not isinstance(data, list):
            raise RealtimeKitError("RealtimeKit's list of webhooks cannot be read.")
        return [_read_webhook(item) for item in data]

    def create(self, wanted: Settings) -> Webhook:
        """Register a webhook in a single attempt, since a retry could register a second one."""
        client = _with_token_only(self._client.with_options(max_retries=0))
        with _sdk_errors():
            answer = client.realtime_kit.webhooks.create_webhook(
                self._app_id, account_id=self._account_id, **_request_body(wanted.by_name())
            )
        return _require_saved(answer, wanted)

    def correct(self, webhook: Webhook, wanted: Settings) -> Webhook:
        """Change the settings that differ, and leave the others."""
        different = differences(wanted, webhook.settings)
        changes = {difference.setting: difference.wanted for difference in different}
        with _sdk_errors():
            answer = self._client.realtime_kit.webhooks.edit_webhook(
                webhook.id,
                account_id=self._account_id,
                app_id=self._app_id,
                **_request_body(changes),
            )
        return _require_saved(answer, wanted)

    def remove(self, webhook: Webhook) -> None:
        """Unregister a webhook; it may be gone already."""
        with _sdk_errors(), suppress(cloudflare.NotFoundError):
            answer = self._client.realtime_kit.webhooks.delete_webhook(
                webhook.id, account_id=self._account_id, app_id=self._app_id
            )
            _require_success(answer)


@contextmanager
def open_app(stack: Stack, api_token: str) -> Iterator[App]:
    """Open the app whose recordings a stack catalogues.

    Raises `StackError` or `RealtimeKitError`.
    """
    account_id = stack.parameter("CloudflareAccountId")
    app_id = stack.parameter("RealtimeKitAppId")
    with connect(stack.parameter("RealtimeKitApiUrl"), api_token) as client:
        yield App(client, account_id=account_id, app_id=app_id)


@contextmanager
def connect(api_url: str, api_token: str) -> Iterator[cloudflare.Cloudflare]:
    """Open Cloudflare's SDK with this token and no other credentials. Raises `RealtimeKitError`."""
    # The HTTP library's exception would quote a token that no header can hold.
    if not re.fullmatch(r"[!-~]+", api_token):
        raise TokenRefusedError(
            "The API token is empty, or has characters that no token has. Correct "
            "CLOUDFLARE_API_TOKEN, or else the stack's secret."
        )
    try:
        client = cloudflare.Cloudflare(
            api_token=api_token, base_url=api_url, timeout=TIMEOUT, max_retries=MAX_RETRIES
        )
    # httpx raises these for a proxy with an unknown scheme, one that needs a package, or no URL.
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise RealtimeKitError(
            f"RealtimeKit cannot be reached: {error}. Check the proxy's environment variables."
        ) from error
    with client:
        yield _with_token_only(client)


def _with_token_only(client: cloudflare.Cloudflare) -> cloudflare.Cloudflare:
    """Remove the API key and e-mail address that the SDK takes from the environment and prefers."""
    client.api_key = client.api_email = client.user_service_key = None
    return client


def _request_body(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in settings.items()
    }


def _require_saved(answer: object, wanted: Settings) -> Webhook:
    """Return the webhook of an answer, which must have the wanted settings."""
    webhook = _read_webhook(_read_data(answer))
    if ignored := differences(wanted, webhook.settings):
        listed = "; ".join(map(str, ignored))
        raise RealtimeKitError(f"RealtimeKit did not save these settings: {listed}. Try again.")
    return webhook


def _read_webhook(data: object) -> Webhook:
    """Read the SDK's model, which the SDK does not validate. Raises `RealtimeKitError`."""
    webhook_id, url, events = (getattr(data, name, None) for name in ("id", "url", "events"))
    if not (
        isinstance(webhook_id, str)
        and webhook_id
        and isinstance(url, str)
        and isinstance(events, list)
    ):
        raise RealtimeKitError("A webhook in RealtimeKit's answer cannot be read.")
    settings = Settings(
        name=str(getattr(data, "name", None) or ""),
        url=url,
        events=frozenset(map(str, events)),
        enabled=getattr(data, "enabled", None) is True,
    )
    return Webhook(id=webhook_id, settings=settings)


def _read_data(answer: object) -> object:
    _require_success(answer)
    return getattr(answer, "data", None)


def _require_success(answer: object) -> None:
    """Raise `RealtimeKitError` for a 200 with `success: false`, or without a JSON object."""
    if getattr(answer, "success", None) is not True:
        body = answer.to_dict() if isinstance(answer, cloudflare.BaseModel) else answer
        raise RealtimeKitError(f"RealtimeKit refused the request: {_error_message(body)}.")


@contextmanager
def _sdk_errors() -> Iterator[None]:
    """Raise `RealtimeKitError` for any error of the SDK."""
    try:
        yield
    except cloudflare.APIStatusError as error:
        raise _explain(error) from error
    except cloudflare.APIError as error:
        raise RealtimeKitError(
            f"RealtimeKit cannot be reached at {error.request.url.host}: "
            f"{error.__cause__ or error.message}. Try again later."
        ) from error
    except ValueError as error:
        raise RealtimeKitError("RealtimeKit's answer is not JSON. Try again later.") from error


def _explain(error: cloudflare.APIStatusError) -> RealtimeKitError:
    status, answer = error.status_code, f"(HTTP {error.status_code}: {_error_message(error.body)})"
    if status in (401, 403) or _first_error(error.body).get("code") == _AUTHENTICATION_ERROR:
        return TokenRefusedError(
            f"Cloudflare refuses the API token {answer}. It must be valid, and have the permission "
            "Realtime in this account. The command reads it from the environment's "
            "CLOUDFLARE_API_TOKEN, or else from the stack's secret.",
            status,
        )
    return RealtimeKitError(_text(error, answer), status)


def _text(error: cloudflare.APIStatusError, answer: str) -> str:
    status = error.status_code
    if status == 404:
        return (
            f"RealtimeKit does not know the app, or the webhook is gone {answer}. Check the "
            "stack's parameters CloudflareAccountId and RealtimeKitAppId, and try again."
        )
    if status == 429:
        seconds = error.response.headers.get("retry-after", "300")
        return f"Cloudflare limits the rate of requests {answer}. Try again in {seconds} seconds."
    if status == 408 or status >= 500:
        return f"RealtimeKit has an outage {answer}. Try again later."
    return f"RealtimeKit refuses the request {answer}."


def _error_message(body: object) -> str:
    message = _first_error(body).get("message")
    return message[:200] if isinstance(message, str) and message else "no reason given"


def _first_error(body: object) -> Mapping[str, Any]:
    """Return the first error of an answer: RealtimeKit's `error`, or the gateway's `errors`."""
    envelope = body if isinstance(body, Mapping) else {}
    errors = envelope.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else envelope.get("error")
    return error if isinstance(error, Mapping) else {}
