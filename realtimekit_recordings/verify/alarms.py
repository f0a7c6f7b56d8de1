"""Checks of the alarms: whether one is on, and whether each notifies somebody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, cannot_tell, ok, wrong
from .headings import UNDO, UNDO_CHANGE

HEADING = "Alarms"


def heading(logical_id: str) -> str:
    """Return the runbook's heading about an alarm, which the alarm's own text ends with."""
    if logical_id.endswith("ThrottledAlarm"):
        return "ThrottledAlarm"
    return "RealtimeKit is down" if logical_id.startswith("RealtimeKit") else logical_id


def check_alarms(deployment: Deployment) -> Iterator[Finding]:
    """Yield the alarms that are on or have no action, and whether the topic has subscribers."""
    yield from attempt("alarms", _alarms, deployment)
    yield from attempt("subscribers", _subscribers, deployment)


def _alarms(check: str, deployment: Deployment) -> Iterator[Finding]:
    by_name = {
        name: logical_id
        for logical_id, name in deployment.resources.items()
        if logical_id.endswith("Alarm")
    }
    found = _describe(deployment, list(by_name))
    trouble = [
        *(_missing(by_name[name]) for name in sorted(by_name.keys() - found.keys())),
        *(
            finding
            for name, alarm in sorted(found.items())
            for finding in _judge(by_name[name], alarm, deployment)
        ),
    ]
    yield from trouble or [ok(check, f"{len(found)} alarms, none is on, and each has an action")]


def _describe(deployment: Deployment, names: list[str]) -> dict[str, Any]:
    pages = deployment.client("cloudwatch").get_paginator("describe_alarms")
    return {
        alarm["AlarmName"]: alarm
        for first in range(0, len(names), 100)  # CloudWatch takes at most 100 names.
        for page in pages.paginate(AlarmNames=names[first : first + 100])
        for alarm in page["MetricAlarms"]
    }


def _missing(logical_id: str) -> Finding:
    return wrong(logical_id, "The alarm was deleted.", action=UNDO_CHANGE, heading=UNDO)


def _judge(logical_id: str, alarm: Any, deployment: Deployment) -> Iterator[Finding]:
    topic = deployment.stack.output("AlarmTopicArn")
    if alarm["StateValue"] == "ALARM" and _is_new(alarm):
        yield cannot_tell(
            logical_id,
            "The alarm is on, as it is after its deployment until the first data. Verify again in "
            "a quarter of an hour.",
        )
    elif alarm["StateValue"] == "ALARM":
        yield wrong(
            logical_id,
            f"The alarm has been on since {alarm['StateUpdatedTimestamp']:%Y-%m-%d %H:%M}: "
            f"{alarm['AlarmDescription'].partition(' Runbook: ')[0]}",
            action="Follow the runbook.",
            heading=heading(logical_id),
        )
    if not alarm["ActionsEnabled"] or topic not in alarm["AlarmActions"]:
        yield wrong(
            logical_id,
            "The alarm notifies no one, because its action is disabled or missing.",
            action="Enable its actions; if it names no topic, undo the change: "
            f"aws cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}",
            heading=HEADING,
        )


def _is_new(alarm: Any) -> bool:
    """Return True if an alarm that treats missing data as breaching is younger than its period."""
    watched = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
    age = datetime.now(UTC) - alarm["AlarmConfigurationUpdatedTimestamp"]
    return alarm.get("TreatMissingData") == "breaching" and bool(age < watched)


def _subscribers(check: str, deployment: Deployment) -> Iterator[Finding]:
    topic = deployment.stack.output("AlarmTopicArn")
    attributes = deployment.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    confirmed = int(attributes.get("SubscriptionsConfirmed", 0))
    pending = int(attributes.get("SubscriptionsPending", 0))
    if confirmed:
        yield ok(check, f"{confirmed} confirmed")
    else:
        yield wrong(
            check,
            "The alarms' topic has no confirmed subscriber"
            + (f"; {pending} did not confirm yet." if pending else "."),
            action="Subscribe an address, and follow the link in the mail that it gets: "
            f"aws sns subscribe --topic-arn {topic} --protocol email "
            "--notification-endpoint ADDRESS",
            heading=HEADING,
        )
