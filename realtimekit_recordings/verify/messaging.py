"""Checks of the queues, rules, schedules and event sources that bring work to the functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, cannot_tell, ok, wrong
from .functions import module_name, report_lines
from .headings import UNDO, UNDO_CHANGE

REDRIVES: Mapping[str, str] = {
    "IngestQueue": "IngestDeadLetterQueue",
    "ArchiveQueue": "ArchiveDeadLetterQueue",
    "UrgentArchiveQueue": "ArchiveDeadLetterQueue",
}
"""The dead-letter queue of each queue that a function reads."""

DEAD_LETTERS: Mapping[str, str] = {
    "IngestDeadLetterQueue": "IngestDeadLettersAlarm",
    "EventRuleDeadLetterQueue": "EventRuleDeadLettersAlarm",
    "PublishDeadLetterQueue": "PublishDeadLettersAlarm",
    "ArchiveDeadLetterQueue": "ArchiveDeadLettersAlarm",
}
"""The runbook's heading about each dead-letter queue."""

RULES: Mapping[str, str] = {
    "MeetingEndedRule": "meeting.ended",
    "RecordingStatusUpdateRule": "recording.statusUpdate",
}
"""The detail type of the events that each rule of the stack's bus queues."""

RULE_QUEUES = ("IngestQueue", "EventRuleDeadLetterQueue")
"""The queues to which the rules send: events, and events that the first queue did not take."""

SCHEDULES: Mapping[str, str] = {
    "FollowUpFunctionEveryMinute": "FollowUpFunction",
    "SweepRecordingsFunctionEveryMinute": "SweepRecordingsFunction",
    "SweepRecordingsFunctionHourly": "SweepRecordingsFunction",
    "SweepRecordingsFunctionDaily": "SweepRecordingsFunction",
}
"""The function that each schedule invokes."""

STOPPED: Mapping[str, str] = {
    "FollowUpFunction": "FollowUpStoppedAlarm",
    "SweepRecordingsFunction": "SweepsStoppedAlarm",
}
"""The runbook's heading about each scheduled function that does not run."""

SOURCES: Mapping[str, str] = {
    "IngestRecordingFunctionIngestQueue": "IngestDelayedAlarm",
    "ArchiveRecordingFunctionArchiveQueue": "ArchiveDeadLettersAlarm",
    "ArchiveRecordingFunctionUrgentArchiveQueue": "RecordingsAtRiskAlarm",
    "PublishChangesFunctionChanges": "PublishDelayedAlarm",
}
"""The runbook's heading about each event source mapping."""

# FollowUpStoppedAlarm and SweepsStoppedAlarm wait as long.
MAX_SILENCE = timedelta(minutes=15)


def check_messaging(deployment: Deployment) -> Iterator[Finding]:
    """Yield the state of queues, rules, schedules, event sources, and the last ticks."""
    for queue in _existing(deployment, REDRIVES):
        yield from attempt(queue, _redrive, deployment, queue)
    for queue in _existing(deployment, DEAD_LETTERS):
        yield from attempt(queue, _dead_letters, deployment, queue)
    for queue in RULE_QUEUES:
        yield from attempt(f"policy of {queue}", _policy, deployment, queue)
    for rule in RULES:
        yield from attempt(rule, _rule, deployment, rule)
    for schedule in SCHEDULES:
        yield from attempt(schedule, _schedule, deployment, schedule)
    for source in _existing(deployment, SOURCES):
        yield from attempt(source, _source, deployment, source)
    for function in STOPPED:
        key = function.removesuffix("Function")
        yield from attempt(f"ticks of {module_name(key)}", _ticks, deployment, function)


def _existing(deployment: Deployment, logical_ids: Iterable[str]) -> Iterator[str]:
    """Yield the ids without those of the archive, if the stack does not archive."""
    return (name for name in logical_ids if deployment.is_archiving or "Archive" not in name)


def _attributes(deployment: Deployment, queue: str) -> Mapping[str, str]:
    answer = deployment.client("sqs").get_queue_attributes(
        QueueUrl=deployment.resource(queue), AttributeNames=["All"]
    )
    found: Mapping[str, str] = answer["Attributes"]
    return found


def _redrive(check: str, deployment: Deployment, queue: str) -> Iterator[Finding]:
    dead_letters = _queue_arn(deployment, REDRIVES[queue])
    found = _attributes(deployment, queue)
    redrive = json.loads(found.get("RedrivePolicy", "{}"))
    if redrive.get("deadLetterTargetArn") != dead_letters:
        yield wrong(
            check,
            f"Failed messages do not go to {REDRIVES[queue]}, but are retried until they are lost.",
            action=UNDO_CHANGE,
            heading=DEAD_LETTERS[REDRIVES[queue]],
        )
    else:
        waiting = int(found["ApproximateNumberOfMessages"])
        receives = redrive["maxReceiveCount"]
        yield ok(check, f"{waiting:,} waiting; to {REDRIVES[queue]} after {receives} receives")


def _dead_letters(check: str, deployment: Deployment, queue: str) -> Iterator[Finding]:
    waiting = int(_attributes(deployment, queue)["ApproximateNumberOfMessages"])
    if waiting:
        yield wrong(
            check,
            f"{waiting:,} messages could not be processed.",
            action="See what they are about: realtimekit-recordings dead-letters list",
            heading=DEAD_LETTERS[queue],
        )
    else:
        yield ok(check, "empty")


def _queue_arn(deployment: Deployment, queue: str) -> str:
    # Asking SQS for the ARN would fail if the queue is gone, and hide which queue needs it.
    return deployment.arn("sqs", deployment.resource(queue).rpartition("/")[2])


def _policy(check: str, deployment: Deployment, queue: str) -> Iterator[Finding]:
    """Look for statements that let EventBridge send from each of the rules."""
    policy = json.loads(_attributes(deployment, queue).get("Policy", "{}"))
    allowed = {rule for part in policy.get("Statement", ()) for rule in _allowed_rules(part)}
    refused = [
        rule
        for rule in RULES
        if not any(fnmatchcase(_rule_arn(deployment, rule), pattern) for pattern in allowed)
    ]
    if refused:
        yield wrong(
            check,
            f"The queue's policy does not let EventBridge send from {' and '.join(refused)}, so "
            "events from your backend do not arrive.",
            action=UNDO_CHANGE,
            heading="EventRuleDeadLettersAlarm",
        )
    else:
        yield ok(check, "EventBridge may send from both rules")


def _allowed_rules(statement: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ARNs, perhaps with wildcards, of the rules from which EventBridge may send."""
    principal = statement.get("Principal", {})
    services = _listed(principal.get("Service", ())) if isinstance(principal, dict) else ["*"]
    actions = [action.lower() for action in _listed(statement.get("Action", ()))]
    if statement.get("Effect") != "Allow" or not {"sqs:sendmessage", "sqs:*", "*"} & {*actions}:
        return
    if "events.amazonaws.com" not in services and "*" not in services:
        return
    arns = [
        arn
        for condition in statement.get("Condition", {}).values()
        for key, value in condition.items()
        if key.lower() == "aws:sourcearn"
        for arn in _listed(value)
    ]
    yield from arns if statement.get("Condition") else ["*"]


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _rule_name(deployment: Deployment, rule: str) -> str:
    # The physical id of a rule on a bus of its own is "bus|name".
    return deployment.resource(rule).rpartition("|")[2]


def _rule_arn(deployment: Deployment, rule: str) -> str:
    bus = deployment.stack.output("EventBusName")
    return deployment.arn("events", f"rule/{bus}/{_rule_name(deployment, rule)}")


def _rule(check: str, deployment: Deployment, rule: str) -> Iterator[Finding]:
    events = deployment.client("events")
    place = {"EventBusName": deployment.stack.output("EventBusName")}
    name = _rule_name(deployment, rule)
    found = events.describe_rule(Name=name, **place)
    pattern = json.loads(found.get("EventPattern", "{}"))
    targets = events.list_targets_by_rule(Rule=name, **place)["Targets"]
    queue, dead_letters = (_queue_arn(deployment, queue) for queue in RULE_QUEUES)
    trouble = ""
    action = UNDO_CHANGE
    if found["State"] != "ENABLED":
        trouble = f"The rule is disabled, so events {RULES[rule]} on the bus are not queued."
        action = (
            f"Enable it: aws events enable-rule --name {name} "
            f"--event-bus-name {place['EventBusName']}"
        )
    elif pattern.get("detail-type") != [RULES[rule]] or pattern.get("source") != ["realtimekit"]:
        trouble = f"The rule does not match the events {RULES[rule]} of the source realtimekit."
    elif queue not in [target["Arn"] for target in targets]:
        trouble = "The ingest queue is not the rule's target."
    elif dead_letters not in [target.get("DeadLetterConfig", {}).get("Arn") for target in targets]:
        trouble = "Events that cannot be delivered do not go to EventRuleDeadLetterQueue."
    if trouble:
        yield wrong(check, trouble, action=action, heading=UNDO)
    else:
        yield ok(check, f"enabled, and queues {RULES[rule]}")


def _schedule(check: str, deployment: Deployment, schedule: str) -> Iterator[Finding]:
    events = deployment.client("events")
    name, function = deployment.resource(schedule), SCHEDULES[schedule]
    found = events.describe_rule(Name=name)
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    function_arn = deployment.arn("lambda", f"function:{deployment.resource(function)}")
    trouble = ""
    action = UNDO_CHANGE
    if found["State"] != "ENABLED":
        trouble = "The schedule is disabled."
        action = f"Enable it: aws events enable-rule --name {name}"
    elif function_arn not in [target["Arn"] for target in targets]:
        trouble = f"{function} is not the schedule's target."
    elif not _may_invoke(deployment, function, found["Arn"]):
        trouble = f"{function} does not let EventBridge invoke it for this schedule."
    if trouble:
        yield wrong(check, trouble, action=action, heading=STOPPED[function])
    else:
        yield ok(check, f"enabled, {found['ScheduleExpression']}")


def _may_invoke(deployment: Deployment, function: str, rule_arn: str) -> bool:
    """Return True if the function's policy has a statement for the rule."""
    functions = deployment.client("lambda")
    try:
        policy = functions.get_policy(FunctionName=deployment.resource(function))["Policy"]
    except functions.exceptions.ResourceNotFoundException:
        return False
    # SAM writes one statement for each rule, which names the rule's ARN.
    return any(rule_arn in json.dumps(part) for part in json.loads(policy)["Statement"])


def _source(check: str, deployment: Deployment, source: str) -> Iterator[Finding]:
    found = deployment.client("lambda").get_event_source_mapping(UUID=deployment.resource(source))
    result = found.get("LastProcessingResult", "")
    if found["State"] in ("Disabled", "Disabling"):
        yield wrong(
            check,
            "Lambda does not read the source, because the event source mapping is disabled.",
            action="Enable it: "
            f"aws lambda update-event-source-mapping --uuid {found['UUID']} --enabled",
            heading=SOURCES[source],
        )
    elif result.startswith("PROBLEM"):
        yield wrong(
            check,
            f"Lambda cannot read the source: {result.removeprefix('PROBLEM:').strip()}",
            action="If access is denied, see the finding about the function's role.",
            heading=SOURCES[source],
        )
    else:
        yield ok(check, found["State"].lower())


def _ticks(check: str, deployment: Deployment, function: str) -> Iterator[Finding]:
    """Look for a run within the last minutes; the function's log has a line of each."""
    key = function.removesuffix("Function")
    group = deployment.stack.output(f"{key}LogGroupName")
    times = [line["timestamp"] for line in report_lines(deployment, group, MAX_SILENCE)]
    now = datetime.now(UTC)
    minutes = MAX_SILENCE // timedelta(minutes=1)
    if times:
        seconds = max(0, now.timestamp() - max(times) / 1000)
        yield ok(check, f"{len(times)} in {minutes} minutes, the last {seconds:,.0f} s ago")
    elif now - _created(deployment, group) < MAX_SILENCE:
        yield cannot_tell(check, f"The function is younger than {minutes} minutes. Verify again.")
    else:
        yield wrong(
            check,
            f"The function, which runs every minute, did not run in the last {minutes} minutes.",
            action="Look whether its schedule is enabled, and whether Lambda throttles it.",
            heading=STOPPED[function],
        )


def _created(deployment: Deployment, group: str) -> datetime:
    pages = deployment.client("logs").get_paginator("describe_log_groups")
    [created] = [
        found["creationTime"]
        for page in pages.paginate(logGroupNamePrefix=group)
        for found in page["logGroups"]
        if found["logGroupName"] == group
    ]
    return datetime.fromtimestamp(created / 1000, UTC)
