"""The webhooks that are registered with the app."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any, get_args

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from .world import ConflictError, EventName, UnknownError, World

EVENTS: tuple[EventName, ...] = get_args(EventName)
"""All that a webhook can subscribe to (OpenAPI `realtimekit_WebhookRequest`)."""


class InvalidWebhookError(ValueError):
    """Raised for a field that RealtimeKit would refuse; says so in RealtimeKit's manner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One registration: post these events to this URL, while it is enabled."""

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    created_at: datetime
    updated_at: datetime


class Registrations:
    """The app's webhooks in order of creation. Safe to use from several threads.

    No two have the same URL: so it was with Dyte; RealtimeKit's documentation does not say.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = Lock()
        self._webhooks: dict[str, Webhook] = {}

    def all(self) -> list[Webhook]:
        """Every one, enabled or not."""
        with self._lock:
            return list(self._webhooks.values())

    def subscribed(self, event: str) -> list[Webhook]:
        """Those that an event is posted to."""
        return [webhook for webhook in self.all() if webhook.enabled and event in webhook.events]

    def get(self, webhook_id: str) -> Webhook:
        """The one of that id; UnknownError if there is none."""
        with self._lock:
            return self._known(webhook_id)

    def add(
        self,
        url: str,
        *,
        events: Sequence[str] = EVENTS,
        name: str = "Webhook",
        enabled: bool = True,
    ) -> Webhook:
        """Register one; InvalidWebhookError, or ConflictError if another has this URL."""
        checked = _checked({"name": name, "url": url, "events": events, "enabled": enabled})
        now = self._world.clock.now()
        webhook = Webhook(id=str(uuid.uuid4()), created_at=now, updated_at=now, **checked)
        with self._lock:
            return self._keep(webhook)

    def change(self, webhook_id: str, changes: Mapping[str, Any]) -> Webhook:
        """Change what `changes` says of name, url, events and enabled; raises as `add` does."""
        checked = _checked(changes)
        now = self._world.clock.now()
        with self._lock:
            return self._keep(replace(self._known(webhook_id), updated_at=now, **checked))

    def remove(self, webhook_id: str) -> Webhook:
        """Take one away; UnknownError if there is none."""
        with self._lock:
            webhook = self._known(webhook_id)
            del self._webhooks[webhook_id]
            return webhook

    def _known(self, webhook_id: str) -> Webhook:
        if webhook_id not in self._webhooks:
            raise UnknownError(f"no webhook {webhook_id}")
        return self._webhooks[webhook_id]

    def _keep(self, webhook: Webhook) -> Webhook:
        others = (other for other in self._webhooks.values() if other.id != webhook.id)
        if webhook.url in (other.url for other in others):
            raise ConflictError("a webhook with this URL exists already")
        self._webhooks[webhook.id] = webhook
        return webhook


def required(content: Mapping[str, Any]) -> dict[str, Any]:
    """A whole webhook's fields; InvalidWebhookError if one without a default is missing."""
    for name in ("name", "url", "events"):
        if name not in content:
            raise InvalidWebhookError(f'"{name}" is required')
    return {"enabled": True, **content}


def _checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a webhook that are there; others are left out without a word."""
    for name, (is_valid, rule) in _RULES.items():
        if name in content and not is_valid(content[name]):
            raise InvalidWebhookError(f'"{name}" must be {rule}')
    checked = {name: content[name] for name in _RULES if name in content}
    return {**checked, "events": tuple(checked["events"])} if "events" in checked else checked


def _is_url(value: Any) -> bool:
    try:
        url = parse_url(value) if isinstance(value, str) else None
    except LocationParseError:
        return False
    return url is not None and url.scheme in ("http", "https") and bool(url.host)


def _are_events(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(event in EVENTS for event in value)


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a string that is not empty"),
    "url": (_is_url, "a valid uri"),
    "events": (_are_events, f"an array of {', '.join(EVENTS)}"),
    "enabled": (lambda value: isinstance(value, bool), "a boolean"),
}
