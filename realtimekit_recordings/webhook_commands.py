"""`webhook`: the registration, with RealtimeKit, of the URL where a stack receives events."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import click

from . import webhooks
from .options import with_stack, with_yes
from .output import Failure, confirm
from .stack import Stack
from .webhooks import App, Settings, Webhook

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Presigned URLs are posted to it; only on this very machine may they go unencrypted.
_POSTABLE_URL = r"https://\S+|http://(127\.0\.0\.1|localhost)[:/]\S*"

_MORE_EVENTS = [event for event in webhooks.EVENTS if event not in webhooks.REQUIRED_EVENTS]


def _checked_url(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None and not re.fullmatch(_POSTABLE_URL, url):
        raise click.BadParameter("it must begin with https://")
    return url


with_url = click.option(
    "--url",
    callback=_checked_url,
    help="Where the stack receives webhooks, if not at its output WebhookUrl: a custom domain.",
)
with_name = click.option(
    "--name",
    help="The webhook's name, by which it is found once its URL has changed; by default, the "
    "stack's name. Stacks that share an app need different ones.",
)
with_events = click.option(
    "--event",
    "more_events",
    multiple=True,
    type=click.Choice(_MORE_EVENTS),
    metavar="EVENT",
    help=f"Besides {' and '.join(webhooks.REQUIRED_EVENTS)}, an event to subscribe to; repeatable. "
    f"One of {', '.join(_MORE_EVENTS)}.",
)


@click.group()
def webhook() -> None:
    """Have RealtimeKit post its events to the stack.

    The API token is read from the stack's secret, unless CLOUDFLARE_API_TOKEN is set. RealtimeKit's
    webhooks have no secret of their own. Those of others are left alone.
    """


@webhook.command()
@with_stack
@with_url
@with_name
@with_events
def register(stack: Stack, url: str | None, name: str | None, more_events: tuple[str, ...]) -> None:
    """Create the stack's webhook, or correct what differs."""
    wanted = _wanted(stack, url, name, more_events)
    if url is None:
        _require_reachable(stack, wanted.url)
    with _app(stack) as app:
        found = webhooks.compare(wanted, app.webhooks())
        if found.webhook is None:
            _tell(f"Created {app.create(wanted).id}:", _settings(wanted))
        elif found.differences:
            app.correct(found.webhook, wanted)
            _tell(f"Corrected {found.webhook.id}:", map(str, found.differences))
        for surplus in found.surplus:
            app.remove(surplus)
            _tell(f"Removed a duplicate, {surplus.id}.")
    if found.is_right:
        _tell("Nothing to do: the webhook is as it should be.")


@webhook.command()
@with_stack
@with_url
@with_name
@with_events
def check(stack: Stack, url: str | None, name: str | None, more_events: tuple[str, ...]) -> None:
    """Say what `register` would change; exit code 1 if anything."""
    wanted = _wanted(stack, url, name, more_events)
    with _app(stack) as app:
        found = webhooks.compare(wanted, app.webhooks())
    if found.is_right:
        _tell("The webhook is as it should be.")
        return
    if found.webhook is None:
        _tell(f"There is no webhook for {wanted.url}")
    elif found.differences:
        _tell(f"{found.webhook.id} is not as it should be:", map(str, found.differences))
    for surplus in found.surplus:
        _tell(f"{surplus.id} is a duplicate.")
    sys.exit(1)


@webhook.command()
@with_stack
@with_url
@with_name
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def show(stack: Stack, url: str | None, name: str | None, *, as_json: bool) -> None:
    """List all webhooks of the app, and say which is the stack's."""
    wanted = _wanted(stack, url, name)
    with _app(stack) as app:
        registered = app.webhooks()
    ours = webhooks.ours(wanted, registered)
    if as_json:
        _tell(json.dumps([_document(one, is_ours=one in ours) for one in registered], indent=2))
        return
    for one in registered:
        _tell(f"{one.id} (the stack's)" if one in ours else one.id, _settings(one.settings))
    if not registered:
        _tell("The app has no webhooks.")


@webhook.command()
@with_stack
@with_url
@with_name
@with_yes
def unregister(stack: Stack, url: str | None, name: str | None, *, yes: bool) -> None:
    """Remove the stack's webhook. To be done before the stack is deleted."""
    wanted = _wanted(stack, url, name)
    with _app(stack) as app:
        ours = webhooks.ours(wanted, app.webhooks())
        if not ours:
            _tell("Nothing to do: the stack has no webhook.")
        for one in ours:
            if not yes:
                confirm(f"Remove {one.id}, which posts to {one.settings.url}?")
            app.remove(one)
            _tell(f"Removed {one.id}.")


def _wanted(
    stack: Stack, url: str | None, name: str | None, more_events: Sequence[str] = ()
) -> Settings:
    return Settings(
        name=name or stack.name,
        url=url or stack.output("WebhookUrl"),
        events=frozenset((*webhooks.REQUIRED_EVENTS, *more_events)),
    )


def _require_reachable(stack: Stack, url: str) -> None:
    """Raise `Failure` for AWS's address where RealtimeKit is a simulator on this machine."""
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


@contextmanager
def _app(stack: Stack) -> Iterator[App]:
    """The app whose recordings the stack catalogues."""
    api_url = stack.parameter("RealtimeKitApiUrl")
    account_id = stack.parameter("CloudflareAccountId")
    app_id = stack.parameter("RealtimeKitAppId")
    token = os.environ.get("CLOUDFLARE_API_TOKEN") or stack.api_token()
    with webhooks.connect(api_url, token) as client:
        yield App(client, account_id=account_id, app_id=app_id)


def _tell(headline: str, details: Iterable[str] = ()) -> None:
    click.echo("\n  ".join((headline, *details)))


def _settings(settings: Settings) -> Iterator[str]:
    return (f"{name}: {webhooks.shown(value)}" for name, value in settings.by_name().items())


def _document(one: Webhook, *, is_ours: bool) -> dict[str, object]:
    settings = one.settings.by_name()
    return {"id": one.id, **settings, "events": sorted(one.settings.events), "ours": is_ours}
