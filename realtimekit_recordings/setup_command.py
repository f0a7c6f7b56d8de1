"""`setup`: the steps from a deployed stack to a running service."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import click

from .api import Api
from .options import is_stack_named_instead, with_api_url, with_stack
from .stack import TIMEOUTS, Stack, aws_errors
from .sweep_commands import follow_up_hint, start
from .sweep_report import UNFINISHED, Report, state
from .timestamps import minute
from .verify_command import verify
from .webhook_commands import register_webhook, with_events, with_name, with_url

# Neither RealtimeKit nor its predecessor Dyte existed before.
FIRST_DATE = "2015-01-01"
# SNS shows these words in place of the ARN of a subscription (SNS API, ListSubscriptionsByTopic).
PENDING, DELETED = "PendingConfirmation", "Deleted"


def _checked_address(
    _context: click.Context, _option: click.Parameter, address: str | None
) -> str | None:
    if address is not None and not re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", address):
        raise click.BadParameter("An e-mail address has the form name@example.com.")
    return address


@click.command()
@with_stack
@with_api_url
@click.option(
    "--alarm-email",
    metavar="ADDRESS",
    callback=_checked_address,
    help="Send the alarms to this e-mail address. AWS asks its owner to confirm.",
)
@click.option(
    "--from",
    "from_",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    default=FIRST_DATE,
    help="Start of the backfill (UTC). The default is before RealtimeKit existed.",
)
@click.option(
    "--webhook/--no-webhook",
    "is_webhook_wanted",
    default=True,
    help="Register the webhook. Use --no-webhook if your own backend puts RealtimeKit's events on "
    "the stack's event bus; the last step then reports that the webhook is missing.",
)
@with_url
@with_name
@with_events
@click.pass_context
def setup(
    context: click.Context,
    stack: Stack,
    api_url: str | None,
    alarm_email: str | None,
    from_: datetime,
    is_webhook_wanted: bool,
    url: str | None,
    name: str | None,
    more_events: tuple[str, ...],
) -> None:
    """Bring a deployed stack into service.

    Run it after the deployment, when the API token is in the stack's secret:

    \b
      1. Read the API token from the stack's secret.
      2. Register the webhook with RealtimeKit, as `webhook register` does.
      3. Subscribe --alarm-email to the alarms.
      4. Start a backfill, as `backfill` does, and do not wait for its end.
      5. Verify the stack, as `verify` does.

    The command may be repeated at any time: a step that is done already is only reported. A step
    that fails ends the command, and says what to do. If you registered the webhook with --url,
    --name or --event, give the same options here.

    It needs the rights cloudformation:DescribeStacks, secretsmanager:GetSecretValue,
    sns:ListSubscriptionsByTopic, sns:Subscribe and execute-api:Invoke, and those of `verify`. Its
    exit codes are those of `verify`, too.
    """
    api_url = None if is_stack_named_instead() else api_url
    api = Api(api_url, stack.session) if api_url else Api.of(stack)
    _begin("1. Read the API token from the stack's secret.")
    stack.api_token()
    click.echo("The secret has a token.")
    _begin("2. Register the webhook with RealtimeKit.")
    if is_webhook_wanted:
        register_webhook(stack, url, name, more_events)
    else:
        click.echo("Skipped, because of --no-webhook.")
    _begin("3. Subscribe to the alarms.")
    _subscribe(stack, alarm_email)
    _begin("4. Start the first backfill.")
    _start_backfill(api, from_.replace(tzinfo=UTC))
    _begin("5. Verify the stack.")
    _verify(context)


def _begin(step: str) -> None:
    """Print a step's heading, after an empty line unless it is the first."""
    click.secho(step if step.startswith("1.") else f"\n{step}", bold=True)


def _subscribe(stack: Stack, address: str | None) -> None:
    """Subscribe an address to the stack's alarms unless it is subscribed; print the outcome.

    Raises `StackError`.
    """
    topic = stack.output("AlarmTopicArn")
    with aws_errors("SNS request"), closing(stack.session.client("sns", config=TIMEOUTS)) as sns:
        subscriptions = _subscriptions(sns, topic)
        if address is None:
            click.echo(_subscribers(subscriptions.values()))
            return
        known = subscriptions.get(address.casefold())
        if known is None:
            sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
    if known is None or known == PENDING:
        asked = "now asks" if known is None else "has asked"
        click.echo(f"AWS {asked} {address} to confirm. Alarms arrive after that.")
    else:
        click.echo(f"Nothing to do: {address} is subscribed, and confirmed.")


def _subscriptions(sns: Any, topic: str) -> dict[str, str]:
    """Return the ARN of each subscription by its endpoint, or `PENDING` in place of the ARN."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return {
        subscription["Endpoint"].casefold(): subscription["SubscriptionArn"]
        for page in pages
        for subscription in page["Subscriptions"]
        if subscription["SubscriptionArn"] != DELETED
    }


def _subscribers(arns: Collection[str]) -> str:
    confirmed = sum(arn != PENDING for arn in arns)
    if confirmed:
        return f"The topic has {confirmed} confirmed subscriptions; --alarm-email adds an address."
    return "Alarms reach no one: the topic has no confirmed subscription. Give --alarm-email."


def _start_backfill(api: Api, since: datetime) -> None:
    """Start a backfill, unless a backfill since that time or before is under way or done.

    Raises `ApiError`.
    """
    known = next((sweep for sweep in api.sweeps(None) if _is_backfill(sweep, since)), None)
    if known:
        click.echo(
            f"Nothing to do: the backfill {known['sweep_id']} of all recordings since "
            f"{minute(known['from'])} is {state(known)}."
        )
        return
    sweep = start(api, since.strftime("%Y-%m-%d"), None, dry_run=False)
    click.echo(f"Started {sweep['sweep_id']}, of all recordings since {minute(sweep['from'])}.")
    click.echo(follow_up_hint(sweep))


def _is_backfill(sweep: Report, since: datetime) -> bool:
    """Return True if a sweep has read, or is to read, all recordings since a time.

    A completed sweep that saw fewer recordings than the list counts has not. Recordings of the
    sweep's last day are left to the scheduled sweeps.
    """
    is_whole = sweep["state"] == "completed" and sweep.get("complete") is not False
    return (
        sweep["trigger"] == "request"
        and not sweep["dry_run"]
        and (is_whole or sweep["state"] in UNFINISHED)
        and datetime.fromisoformat(sweep["from"]) <= since
        and sweep["to"][:10] >= sweep["created_at"][:10]
    )


def _verify(context: click.Context) -> None:
    """Run `verify` on the same stack, and exit with its code."""
    place = {name: context.params[name] for name in ("stack_name", "region", "profile")}
    context.invoke(verify, **place, with_probes=False, as_json=False)
