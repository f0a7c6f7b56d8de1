"""The webhooks that an app has registered with RealtimeKit: what is wanted, and what is there.

There is no secret in them: RealtimeKit signs what it posts with a key that it publishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Self, get_args

import cloudflare
import httpx

Event = Literal[
    "meeting.started",
    "meeting.ended",
    "meeting.participantJoined",
    "meeting.participantLeft",
    "meeting.chatSynced",
    "recording.statusUpdate",
    "livestreaming.statusUpdate",
    "meeting.transcript",
    "meeting.summary",
]
EVENTS: tuple[Event, ...] = get_args(Event)
"""All that a webhook can subscribe to (Cloudflare docs, RealtimeKit webhooks)."""

REQUIRED_EVENTS: tuple[Event, ...] = ("meeting.ended", "recording.statusUpdate")
"""Without them a recording would not be catalogued."""

TIMEOUT = cloudflare.Timeout(20, connect=5)
MAX_RETRIES = 2

_AUTHENTICATION_ERROR = 10000


class RealtimeKitError(Exception):
    """Raised when RealtimeKit did not do as it was asked; says what to do, and nothing secret."""


# What is wanted, and how it compares.


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that one can choose of a webhook."""

    name: str
    url: str
    events: frozenset[str]
    enabled: bool = True

    def by_name(self) -> dict[str, Any]:
        """The settings under RealtimeKit's names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A registered webhook."""

    id: str
    settings: Settings

    @classmethod
    def from_realtimekit(cls, data: object) -> Self:
        """Read the SDK's model, which is not validated. Raises `RealtimeKitError`."""
        webhook_id, url, events = (getattr(data, name, None) for name in ("id", "url", "events"))
        if not (
            isinstance(webhook_id, str)
            and webhook_id
            and isinstance(url, str)
            and isinstance(events, list)
        ):
            raise RealtimeKitError("RealtimeKit answered with a webhook that cannot be read.")
        settings = Settings(
            name=str(getattr(data, "name", None) or ""),
            url=url,
            events=frozenset(map(str, events)),
            enabled=getattr(data, "enabled", None) is True,
        )
        return cls(id=webhook_id, settings=settings)


class Difference(NamedTuple):
    """A setting that is not as it should be."""

    setting: str
    registered: Any
    wanted: Any

    def __str__(self) -> str:
        return f"{self.setting}: {shown(self.registered)} -> {shown(self.wanted)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far what is registered is what is wanted: one webhook, as it should be, and no other."""

    webhook: Webhook | None
    differences: Sequence[Difference] = ()
    surplus: Sequence[Webhook] = ()

    @property
    def is_right(self) -> bool:
        """Whether there is nothing to be done."""
        return self.webhook is not None and not self.differences and not self.surplus


def compare(wanted: Settings, registered: Iterable[Webhook]) -> Comparison:
    """Choose, of those that are ours, the one to keep: the one with the fewest differences."""
    candidates = ours(wanted, registered)
    if not candidates:
        return Comparison(webhook=None)
    kept = min(candidates, key=lambda webhook: len(differences(wanted, webhook.settings)))
    return Comparison(
        webhook=kept,
        differences=differences(wanted, kept.settings),
        surplus=[webhook for webhook in candidates if webhook is not kept],
    )


def ours(wanted: Settings, registered: Iterable[Webhook]) -> list[Webhook]:
    """Those that post to our URL; if none does, those of our name: the URL may have changed."""
    registered = list(registered)
    if by_url := [webhook for webhook in registered if webhook.settings.url == wanted.url]:
        return by_url
    by_name = [webhook for webhook in registered if webhook.settings.name == wanted.name]
    # Of several URLs nobody can tell which was ours, and somebody else's must not be lost.
    return by_name if len({webhook.settings.url for webhook in by_name}) == 1 else []


def differences(wanted: Settings, registered: Settings) -> list[Difference]:
    """The settings that differ. The name does, too: by it we are found when the URL changes."""
    is_now = registered.by_name()
    return [
        Difference(setting, is_now[setting], value)
        for setting, value in wanted.by_name().items()
        if is_now[setting] != value
    ]


def shown(value: str | bool | frozenset[str]) -> str:
    """A setting's value, as operators read it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case frozenset():
            return ", ".join(sorted(value)) or "none"
        case _:
            return value


# What is registered.


class App:
    """The webhooks of one RealtimeKit app. Whatever goes wrong is a `RealtimeKitError`."""

    def __init__(self, client: cloudflare.Cloudflare, *, account_id: str, app_id: str) -> None:
        self._client = client
        self._account_id = account_id
        self._app_id = app_id

    def webhooks(self) -> list[Webhook]:
        """All of them, whoever registered them."""
        with _explained():
            answer = self._client.realtime_kit.webhooks.get_webhooks(
                self._app_id, account_id=self._account_id
            )
        data = _data(answer)
        if not isinstance(data, list):
            raise RealtimeKitError("RealtimeKit answered with a list that cannot be read.")
        return [Webhook.from_realtimekit(item) for item in data]

    def create(self, wanted: Settings) -> Webhook:
        """Register one; in a single try, since one whose answer was lost would leave two."""
        once = _with_token_only(self._client.with_options(max_retries=0))
        with _explained():
            answer = once.realtime_kit.webhooks.create_webhook(
                self._app_id, account_id=self._account_id, **_body(wanted.by_name())
            )
        return _saved(answer, wanted)

    def correct(self, webhook: Webhook, wanted: Settings) -> Webhook:
        """Change what differs, and only that."""
        different = differences(wanted, webhook.settings)
        changes = {difference.setting: difference.wanted for difference in different}
        with _explained():
            answer = self._client.realtime_kit.webhooks.edit_webhook(
                webhook.id, account_id=self._account_id, app_id=self._app_id, **_body(changes)
            )
        return _saved(answer, wanted)

    def remove(self, webhook: Webhook) -> None:
        """Unregister it; no matter if somebody has already."""
        with _explained(), suppress(cloudflare.NotFoundError):
            answer = self._client.realtime_kit.webhooks.delete_webhook(
                webhook.id, account_id=self._account_id, app_id=self._app_id
            )
            _check(answer)


@contextmanager
def connect(api_url: str, api_token: str) -> Iterator[cloudflare.Cloudflare]:
    """Cloudflare's SDK, with this token and no other credentials."""
    # What no header can hold would be shown in the HTTP library's exception.
    if not re.fullmatch(r"[!-~]+", api_token):
        raise RealtimeKitError("The API token is empty, or has characters that no token has.")
    try:
        client = cloudflare.Cloudflare(
            api_token=api_token, base_url=api_url, timeout=TIMEOUT, max_retries=MAX_RETRIES
        )
    # httpx reads the proxies: of an unknown scheme, one that needs a package, or no URL at all.
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise RealtimeKitError(f"RealtimeKit cannot be reached: {error}.") from error
    with client:
        yield _with_token_only(client)


def _with_token_only(client: cloudflare.Cloudflare) -> cloudflare.Cloudflare:
    """The SDK takes more from the environment, and prefers a key and an e-mail address."""
    client.api_key = client.api_email = client.user_service_key = None
    return client


def _body(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in settings.items()
    }


def _saved(answer: object, wanted: Settings) -> Webhook:
    """The webhook as RealtimeKit has it now, which must be as it was told."""
    webhook = Webhook.from_realtimekit(_data(answer))
    if ignored := differences(wanted, webhook.settings):
        listed = "; ".join(map(str, ignored))
        raise RealtimeKitError(f"RealtimeKit has not done all that it was told: {listed}.")
    return webhook


def _data(answer: object) -> object:
    _check(answer)
    return getattr(answer, "data", None)


def _check(answer: object) -> None:
    """A 200 may say `success: false`, or be no JSON object: the SDK lets both pass."""
    if getattr(answer, "success", None) is not True:
        body = answer.to_dict() if isinstance(answer, cloudflare.BaseModel) else answer
        raise RealtimeKitError(f"RealtimeKit answered without success: {_message(body)}.")


# Errors.


@contextmanager
def _explained() -> Iterator[None]:
    """The SDK's errors, as what an operator can do about them."""
    try:
        yield
    except cloudflare.APIStatusError as error:
        raise RealtimeKitError(_advice(error)) from error
    except cloudflare.APIError as error:
        raise RealtimeKitError(
            f"RealtimeKit cannot be reached at {error.request.url.host}: "
            f"{error.__cause__ or error.message}. Try again later."
        ) from error
    except ValueError as error:
        raise RealtimeKitError("RealtimeKit answered with JSON that cannot be read.") from error


def _advice(error: cloudflare.APIStatusError) -> str:
    status, said = error.status_code, f"(HTTP {error.status_code}: {_message(error.body)})"
    if status in (401, 403) or _first_error(error.body).get("code") == _AUTHENTICATION_ERROR:
        return (
            f"Cloudflare refuses the API token {said}. It must be valid, and have the permission "
            "Realtime in this account; it is taken from the environment's CLOUDFLARE_API_TOKEN, or "
            "else from the stack's secret."
        )
    if status == 404:
        return (
            f"RealtimeKit does not know the app, or the webhook is gone {said}. Are the stack's "
            "parameters CloudflareAccountId and RealtimeKitAppId right? Then try again."
        )
    if status == 429:
        seconds = error.response.headers.get("retry-after", "300")
        return f"Cloudflare takes no more requests for now {said}. Try again in {seconds} seconds."
    if status == 408 or status >= 500:
        return f"RealtimeKit is in trouble {said}. Try again later."
    return f"RealtimeKit refuses that {said}."


def _message(body: object) -> str:
    message = _first_error(body).get("message")
    return message[:200] if isinstance(message, str) and message else "no reason given"


def _first_error(body: object) -> Mapping[str, Any]:
    """RealtimeKit says `error: {…}`, Cloudflare's gateway `errors: [{…}]`."""
    envelope = body if isinstance(body, Mapping) else {}
    errors = envelope.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else envelope.get("error")
    return error if isinstance(error, Mapping) else {}
