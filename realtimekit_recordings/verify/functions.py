"""Checks of the functions: whether they start, what they need, and how their last day went."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, cannot_tell, ok, wrong
from .headings import VERIFY

HEADINGS: Mapping[str, str] = {
    "receive_webhook": "ReceiveWebhookErrorsAlarm",
    "ingest_recording": "IngestDeadLettersAlarm",
    "follow_up": "FollowUpErrorsAlarm",
    "publish_changes": "PublishDelayedAlarm",
    "archive_recording": "ArchiveDeadLettersAlarm",
    "serve_catalogue": "ApiErrorsAlarm",
    "sweep_recordings": "SweepErrorsAlarm",
}
"""The runbook's heading about the failures of each function."""

# `follow_up`, `sweep_recordings` and `publish_changes` run one execution each, and one is left for
# webhooks and the API (docs/operations.md, Concurrency).
OTHER_EXECUTIONS = 4
# Lambda ends an initialisation after 10 s (Lambda guide, "Lambda execution environment").
MAX_INIT_MS = 9000
# Lambda kills a function that needs more memory than it has.
MAX_MEMORY_FRACTION = 0.9
# A page of log lines holds up to 10,000, so this is a bound for very busy stacks.
MAX_LOG_PAGES = 10
DAY = timedelta(days=1)

_REPORT = re.compile(
    r"Memory Size: (?P<size>\d+) MB\s+Max Memory Used: (?P<used>\d+) MB"
    r"(?:\s+Init Duration: (?P<init>[\d.]+) ms)?"
)


def names(deployment: Deployment) -> dict[str, str]:
    """Return the names of the deployed functions by the names of their modules ("follow_up")."""
    return {
        module_name(key): name for key, name in deployment.named_outputs("FunctionName").items()
    }


def module_name(key: str) -> str:
    """Return "follow_up" for "FollowUp"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()


def check_functions(deployment: Deployment) -> Iterator[Finding]:
    """Yield the state of each function, its last day, and the account's concurrency."""
    for module, name in names(deployment).items():
        yield from attempt(module, _state, deployment, name)
    yield from attempt("runtime", _runtime, deployment)
    yield from attempt("concurrency", _concurrency, deployment)
    yield from attempt("errors", _errors, deployment)
    for key, group in deployment.named_outputs("LogGroupName").items():
        yield from attempt(f"starts of {module_name(key)}", _starts, deployment, group)


def _state(check: str, deployment: Deployment, name: str) -> Iterator[Finding]:
    functions = deployment.client("lambda")
    found = functions.get_function_configuration(FunctionName=name)
    reserved = functions.get_function_concurrency(FunctionName=name)
    states = (found["State"], found["LastUpdateStatus"])
    if "Failed" in states:
        reason = found.get("StateReason") or found.get("LastUpdateStatusReason") or "no reason"
        yield wrong(
            check,
            f"Lambda cannot run the function: {reason}.",
            action="Deploy the stack again.",
            heading=HEADINGS[check],
        )
    elif "Pending" in states or "InProgress" in states:
        yield cannot_tell(check, "Lambda is making the function ready. Verify again in a minute.")
    elif reserved.get("ReservedConcurrentExecutions") == 0:
        yield wrong(
            check,
            "Its reserved concurrency is 0, so Lambda never runs it.",
            action="Remove the reservation: "
            f"aws lambda delete-function-concurrency --function-name {name}",
            heading="FollowUpStoppedAlarm",
        )
    else:
        # Lambda makes an idle function inactive, and active again by its first event.
        yield ok(check, f"{found['State'].lower()}, {found['MemorySize']} MB")


def _runtime(check: str, deployment: Deployment) -> Iterator[Finding]:
    """Compare the parameters Runtime and Architecture, which `make deploy` built for."""
    wanted = (deployment.stack.parameter("Runtime"), deployment.stack.parameter("Architecture"))
    differing = []
    for module, name in names(deployment).items():
        found = deployment.client("lambda").get_function_configuration(FunctionName=name)
        deployed = (found["Runtime"], *found.get("Architectures", ["x86_64"]))
        if deployed != wanted:
            differing.append(f"{module} ({', '.join(deployed)})")
    if differing:
        yield wrong(
            check,
            f"Built for {', '.join(wanted)}, but deployed otherwise: {', '.join(differing)}. "
            "The package's binaries do not load there.",
            action="Build and deploy again: make deploy",
            heading=VERIFY,
        )
    else:
        yield ok(check, ", ".join(wanted))


def _concurrency(check: str, deployment: Deployment) -> Iterator[Finding]:
    limit = deployment.client("lambda").get_account_settings()["AccountLimit"]
    available = limit["UnreservedConcurrentExecutions"]
    needed = int(deployment.stack.parameter("IngestConcurrency")) + OTHER_EXECUTIONS
    if deployment.is_archiving:
        needed += 2 * int(deployment.stack.parameter("ArchiveConcurrency"))
    if available < needed:
        yield wrong(
            check,
            f"The account has {available} executions at once, and the stack needs up to {needed}. "
            "At the limit, webhooks are refused.",
            action="Request a higher limit, or lower IngestConcurrency and ArchiveConcurrency.",
            heading="Concurrency",
        )
    else:
        yield ok(check, f"{available} executions at once, and the stack needs up to {needed}")


def _errors(check: str, deployment: Deployment) -> Iterator[Finding]:
    """Yield each function's errors of the last day; one finding if there are none."""
    counted = _sums(deployment, ("Errors", "Invocations"))
    failing = {module: sums for module, sums in counted.items() if sums["Errors"]}
    for module, sums in failing.items():
        yield wrong(
            f"{check} of {module}",
            f"{sums['Errors']:,.0f} of {sums['Invocations']:,.0f} invocations failed in the last "
            "24 h.",
            action="Look at its log.",
            heading=HEADINGS[module],
        )
    invocations = sum(sums["Invocations"] for sums in counted.values())
    if not failing and invocations:
        yield ok(check, f"none in the {invocations:,.0f} invocations of the last 24 h")
    elif not failing:
        yield cannot_tell(check, "CloudWatch counts no invocation in the last 24 h.")


def _sums(deployment: Deployment, metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the sums of Lambda's metrics over the last day, by function and metric."""
    functions = names(deployment)
    keys = [(module, metric) for module in functions for metric in metrics]
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/Lambda",
                    "MetricName": metric,
                    "Dimensions": [{"Name": "FunctionName", "Value": functions[module]}],
                },
                "Period": 3600,
                "Stat": "Sum",
            },
        }
        for number, (module, metric) in enumerate(keys)
    ]
    now = datetime.now(UTC)
    pages = deployment.client("cloudwatch").get_paginator("get_metric_data")
    sums = {module: dict.fromkeys(metrics, 0.0) for module in functions}
    for page in pages.paginate(MetricDataQueries=queries, StartTime=now - DAY, EndTime=now):
        for result in page["MetricDataResults"]:
            module, metric = keys[int(result["Id"][1:])]
            sums[module][metric] += sum(result["Values"])
    return sums


@dataclass(slots=True)
class _Runs:
    """The REPORT lines of a function's runs."""

    count: int = 0
    size: int = 0
    used: int = 0
    inits: tuple[float, ...] = ()


def _starts(check: str, deployment: Deployment, group: str) -> Iterator[Finding]:
    runs = _read_runs(deployment, group)
    module = check.removeprefix("starts of ")
    slowest = max(runs.inits, default=0)
    memory = f"{runs.used} of {runs.size} MB used at most, runs: {runs.count:,}"
    starts = f"{slowest:,.0f} ms at most, starts: {len(runs.inits):,}" if runs.inits else "no start"
    if not runs.count:
        yield cannot_tell(
            check,
            "Its log has no REPORT line of the last 24 h: it did not run, or its log leaves these "
            "lines out, as template.yaml sets for the three busiest functions.",
        )
    elif not runs.used:
        yield cannot_tell(check, "The log's REPORT lines say nothing of memory or initialisation.")
    elif runs.used >= MAX_MEMORY_FRACTION * runs.size:
        yield wrong(
            check,
            f"{memory}: Lambda kills the function when it needs more.",
            action="Raise the function's MemorySize in template.yaml, and deploy.",
            heading=HEADINGS[module],
        )
    elif slowest >= MAX_INIT_MS:
        yield wrong(
            check,
            f"{starts}: Lambda ends an initialisation after 10 s.",
            action="Look in its log for the reason, such as RealtimeKit or AWS out of reach.",
            heading=HEADINGS[module],
        )
    else:
        yield ok(check, f"{starts}; {memory}")


def _read_runs(deployment: Deployment, group: str) -> _Runs:
    runs = _Runs()
    for line in report_lines(deployment, group, DAY):
        if found := _REPORT.search(line["message"]):
            runs.count += 1
            runs.size = int(found["size"])
            runs.used = max(runs.used, int(found["used"]))
            if found["init"]:
                runs.inits = (*runs.inits, float(found["init"]))
    return runs


def report_lines(deployment: Deployment, group: str, age: timedelta) -> Iterator[Any]:
    """Yield the log's lines about runs that are younger than `age`."""
    pages = deployment.client("logs").get_paginator("filter_log_events")
    since = datetime.now(UTC) - age
    for number, page in enumerate(
        pages.paginate(
            logGroupName=group,
            filterPattern='"REPORT RequestId"',
            startTime=int(since.timestamp() * 1000),
        ),
        start=1,
    ):
        yield from page["events"]
        if number == MAX_LOG_PAGES:
            return
