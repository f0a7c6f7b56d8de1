"""A webhook's settings, and the comparison of registered webhooks with the wanted one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from .stack import Stack

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
"""All events that a webhook can subscribe to (Cloudflare docs, RealtimeKit webhooks)."""

REQUIRED_EVENTS: tuple[Event, ...] = ("meeting.ended", "recording.statusUpdate")
"""The events without which recordings would not be catalogued."""

SESSION_FILE_EVENTS: Mapping[str, Event] = {
    "transcript": "meeting.transcript",
    "captions": "meeting.transcript",
    "summary": "meeting.summary",
    "chat": "meeting.chatSynced",
}
"""The event that announces each file of a session, by the names in the parameter SessionFiles."""


def wanted_events(stack: Stack) -> frozenset[str]:
    """Return the events that a stack needs, which depend on its parameter SessionFiles."""
    # A stack of an older version lacks the parameter, and keeps no files of sessions.
    session_files = stack.parameters.get("SessionFiles", "")
    kinds = {kind.strip() for kind in session_files.split(",")}
    announcing = (event for kind, event in SESSION_FILE_EVENTS.items() if kind in kinds)
    return frozenset((*REQUIRED_EVENTS, *announcing))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a webhook that its owner chooses."""

    name: str
    url: str
    events: frozenset[str]
    enabled: bool = True

    def by_name(self) -> dict[str, Any]:
        """Return the settings by RealtimeKit's names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A registered webhook."""

    id: str
    settings: Settings


class Difference(NamedTuple):
    """A setting that differs from the wanted one."""

    setting: str
    registered: Any
    wanted: Any

    def __str__(self) -> str:
        return f"{self.setting}: {setting_text(self.registered)} -> {setting_text(self.wanted)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The stack's registered webhook, its wrong settings, and its surplus duplicates."""

    webhook: Webhook | None
    differences: Sequence[Difference] = ()
    surplus: Sequence[Webhook] = ()

    @property
    def is_right(self) -> bool:
        """True if one webhook is registered, with the wanted settings."""
        return self.webhook is not None and not self.differences and not self.surplus


def compare(wanted: Settings, registered: Iterable[Webhook]) -> Comparison:
    """Compare the stack's webhooks with the wanted one, and keep the one that differs least."""
    candidates = find_own(wanted, registered)
    if not candidates:
        return Comparison(webhook=None)
    kept = min(candidates, key=lambda webhook: len(differences(wanted, webhook.settings)))
    return Comparison(
        webhook=kept,
        differences=differences(wanted, kept.settings),
        surplus=[webhook for webhook in candidates if webhook is not kept],
    )


def find_own(wanted: Settings, registered: Iterable[Webhook]) -> list[Webhook]:
    """Return the webhooks with the wanted URL or else, as the URL may have changed, name."""
    registered = list(registered)
    if by_url := [webhook for webhook in registered if webhook.settings.url == wanted.url]:
        return by_url
    by_name = [webhook for webhook in registered if webhook.settings.name == wanted.name]
    # If they have several URLs, some belong to another stack, and must not be removed.
    return by_name if len({webhook.settings.url for webhook in by_name}) == 1 else []


def differences(wanted: Settings, registered: Settings) -> list[Difference]:
    """Return the settings that differ.

    The name counts, because it identifies the webhook after a change of its URL.
    """
    current = registered.by_name()
    return [
        Difference(setting, current[setting], value)
        for setting, value in wanted.by_name().items()
        if current[setting] != value
    ]


def setting_text(value: str | bool | frozenset[str]) -> str:
    """Return a setting's value as text for operators."""
    match value:
        case bool():
            return "yes" if value else "no"
        case frozenset():
            return ", ".join(sorted(value)) or "none"
        case _:
            return value
