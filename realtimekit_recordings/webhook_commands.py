"""`webhook`: the registration of a stack's webhook with RealtimeKit."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from urllib.parse import urlsplit

import click

from . import webhooks
from .options import with_stack, with_yes
from .output import Failure, confirm
from .realtimekit import App, open_app
from .stack import Stack
from .webhooks import Comparison, Settings, Webhook

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# RealtimeKit posts presigned URLs, so only an address on this machine may be unencrypted.
_POSTABLE_URL = r"https://\S+|http://(127\.0\.0\.1|localhost)[:/]\S*"

_MORE_EVENTS = [event for event in webhooks.EVENTS if event not in webhooks.REQUIRED_EVENTS]


def _checked_url(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None and not re.fullmatch(_POSTABLE_URL, url):
        raise click.BadParameter("The URL must begin with https://.")
    return url


with_url = click.option(
    "--url",
    callback=_checked_url,
    help="Use this URL for the webhook, such as a custom domain's, instead of the stack's output "
    "WebhookUrl.",
)
with_name = click.option(
    "--name",
    help="Use this name for the webhook, instead of the stack's. The name identifies it after a "
    "change of its URL, so stacks that share an app need different names.",
)
with_events = click.option(
    "--event",
    "more_events",
    multiple=True,
    type=click.Choice(_MORE_EVENTS),
    metavar="EVENT",
    help=f"Subscribe to this event too, besides {' and '.join(webhooks.REQUIRED_EVENTS)} and the "
    "events that announce the files in the stack's parameter SessionFiles. The option may be "
    f"repeated. EVENT is one of {', '.join(_MORE_EVENTS)}.",
)


@click.group("webhook")
def webhook_group() -> None:
    """Register the webhook by which RealtimeKit posts its events to the stack.

    The commands need the app's API token, which they read from the environment's
    CLOUDFLARE_API_TOKEN, or else from the stack's secret. They leave webhooks of others alone.
    """


@webhook_group.command()
@with_stack
@with_url
@with_name
@with_events
def register(stack: Stack, url: str | None, name: str | None, more_events: tuple[str, ...]) -> None:
    """Create the stack's webhook, or correct its settings.

    The command prints each change, and removes duplicates of the webhook. It may be repeated.
    """
    register_webhook(stack, url, name, more_events)


def register_webhook(
    stack: Stack, url: str | None, name: str | None, more_events: Sequence[str]
) -> None:
    """Create or correct the stack's webhook, and print each change.

    Raises `StackError`, `RealtimeKitError` or `Failure`.
    """
    wanted = _wanted_settings(stack, url, name, more_events)
    if url is None:
        _require_reachable(stack, wanted.url)
    with _open_app(stack) as app:
        comparison = webhooks.compare(wanted, app.webhooks())
        if comparison.webhook is None:
            _print(f"Created {app.create(wanted).id}:", _setting_lines(wanted))
        elif comparison.differences:
            app.correct(comparison.webhook, wanted)
            _print(f"Corrected {comparison.webhook.id}:", map(str, comparison.differences))
        for surplus in comparison.surplus:
            app.remove(surplus)
            _print(f"Removed {surplus.id}, a duplicate.")
    if comparison.is_right:
        _print("Nothing to do: the webhook is registered, and its settings are right.")


@webhook_group.command()
@with_stack
@with_url
@with_name
@with_events
def check(stack: Stack, url: str | None, name: str | None, more_events: tuple[str, ...]) -> None:
    """Show the changes that `register` would make, and make none.

    Exit code 1 if there are any.
    """
    wanted = _wanted_settings(stack, url, name, more_events)
    with _open_app(stack) as app:
        comparison = webhooks.compare(wanted, app.webhooks())
    if comparison.is_right:
        _print("The webhook is registered, and its settings are right.")
        return
    if comparison.webhook is None:
        _print(f"There is no webhook for {wanted.url}")
    elif comparison.differences:
        _print(f"{comparison.webhook.id} has other settings:", map(str, comparison.differences))
    for surplus in comparison.surplus:
        _print(f"{surplus.id} is a duplicate.")
    if lacking := _lacking_announcements(wanted, comparison):
        _print(f"Without {', '.join(lacking)}, files of sessions are found up to a day later.")
    _print("To correct this, run `webhook register` with the same options.")
    sys.exit(1)


def _lacking_announcements(wanted: Settings, comparison: Comparison) -> list[str]:
    """Return the wanted events about a session's files that the registered webhook lacks."""
    if comparison.webhook is None:
        return []
    lacking = wanted.events - comparison.webhook.settings.events
    return sorted(lacking.intersection(webhooks.SESSION_FILE_EVENTS.values()))


@webhook_group.command()
@with_stack
@with_url
@with_name
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, for programs.")
def show(stack: Stack, url: str | None, name: str | None, *, as_json: bool) -> None:
    """List all webhooks of the app, and mark the stack's."""
    wanted = _wanted_settings(stack, url, name)
    with _open_app(stack) as app:
        registered = app.webhooks()
    own = webhooks.find_own(wanted, registered)
    if as_json:
        documents = [_document(webhook, is_ours=webhook in own) for webhook in registered]
        _print(json.dumps(documents, indent=2))
        return
    for webhook in registered:
        headline = f"{webhook.id} (the stack's)" if webhook in own else webhook.id
        _print(headline, _setting_lines(webhook.settings))
    if not registered:
        _print("The app has no webhooks.")


@webhook_group.command()
@with_stack
@with_url
@with_name
@with_yes
def unregister(stack: Stack, url: str | None, name: str | None, *, yes: bool) -> None:
    """Remove the stack's webhook; do so before you delete the stack."""
    wanted = _wanted_settings(stack, url, name)
    with _open_app(stack) as app:
        own = webhooks.find_own(wanted, app.webhooks())
        if not own:
            _print("Nothing to do: the stack has no webhook.")
        for webhook in own:
            if not yes:
                confirm(f"Remove {webhook.id}, which posts to {webhook.settings.url}?")
            app.remove(webhook)
            _print(f"Removed {webhook.id}.")


def _wanted_settings(
    stack: Stack, url: str | None, name: str | None, more_events: Sequence[str] = ()
) -> Settings:
    return Settings(
        name=name or stack.name,
        url=url or stack.output("WebhookUrl"),
        events=webhooks.wanted_events(stack) | frozenset(more_events),
    )


def _require_reachable(stack: Stack, url: str) -> None:
    """Raise `Failure` if a simulator on this machine would post to an address of AWS."""
    api_url = stack.parameter("RealtimeKitApiUrl")
    if _is_local(api_url) and not _is_local(url):
        raise Failure(
            f"RealtimeKit is simulated at {api_url}, and must not post to {url}, which is not on "
            "this machine. Give --url with the address of the local stack's own receiver."
        )


def _is_local(url: str) -> bool:
    with suppress(ValueError):
        return urlsplit(url).hostname in _LOOPBACK
    return False


def _open_app(stack: Stack) -> AbstractContextManager[App]:
    """Open the app whose recordings the stack catalogues."""
    return open_app(stack, os.environ.get("CLOUDFLARE_API_TOKEN") or stack.api_token())


def _print(headline: str, details: Iterable[str] = ()) -> None:
    click.echo("\n  ".join((headline, *details)))


def _setting_lines(settings: Settings) -> Iterator[str]:
    return (f"{name}: {webhooks.setting_text(value)}" for name, value in settings.by_name().items())


def _document(webhook: Webhook, *, is_ours: bool) -> dict[str, object]:
    settings = webhook.settings.by_name()
    events = sorted(webhook.settings.events)
    return {"id": webhook.id, **settings, "events": events, "ours": is_ours}
