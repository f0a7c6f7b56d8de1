"""The cost of a million recordings' metadata, computed from one recording's life at list prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .life import Count, Function
from .units import Units

# US dollars in us-east-1; eu-central-1 is about a tenth higher (AWS price lists, November 2026).
API_REQUEST = 3.50e-6
LAMBDA_REQUEST = 0.20e-6
LAMBDA_GB_SECOND = 0.0000133334
WRITE_UNIT = 0.625e-6
READ_UNIT = 0.125e-6
SQS_CALL = 0.40e-6
EVENT = 1.00e-6
LOG_BYTE = 0.50e-9
RECORDINGS = 1_000_000
# Assumed seconds until AWS and RealtimeKit answer a call, because loopback answers at once.
AWS_SECONDS = 0.005
REALTIMEKIT_SECONDS = 0.1


def costs(
    count: Count,
    units: Units,
    functions: Mapping[str, Function],
    warm_seconds: Mapping[str, float],
) -> dict[str, tuple[str, float]]:
    """Return the cost by item of the bill.

    Each item has the amount for one recording as text, and US dollars for a million recordings.
    `warm_seconds` is the time of a warm invocation by function.
    """
    invocations = sum(count.invocations.values())
    writes = sum(write.total for write in units.writes)
    memory_gb = {name: functions[name].memory_mb / 1024 for name in count.invocations}
    working = {name: n * warm_seconds[name] for name, n in count.invocations.items()}
    waiting = {name: _waiting(calls) for name, calls in count.waits.items()}
    platform = (n * functions[name].platform_log_bytes for name, n in count.invocations.items())
    log_bytes = count.log_bytes + sum(platform)
    parts = {
        "DynamoDB writes": (f"{writes} units", writes * WRITE_UNIT),
        "DynamoDB reads": (f"{units.read:g} units", units.read * READ_UNIT),
        "SQS": (f"{count.calls['sqs']} calls", count.calls["sqs"] * SQS_CALL),
        "EventBridge": (f"{count.events} events", count.events * EVENT),
        "Lambda requests": (f"{invocations}", invocations * LAMBDA_REQUEST),
        "Lambda, working": (_ms(working), _gb_seconds(working, memory_gb) * LAMBDA_GB_SECOND),
        "Lambda, waiting": (_ms(waiting), _gb_seconds(waiting, memory_gb) * LAMBDA_GB_SECOND),
        "logs": (f"{log_bytes / 1000:.1f} KB", log_bytes * LOG_BYTE),
        "API Gateway": (f"{count.deliveries} requests", count.deliveries * API_REQUEST),
    }
    return {name: (amount, cost * RECORDINGS) for name, (amount, cost) in parts.items()}


def _waiting(calls: Counter[str]) -> float:
    realtimekit = sum(count for host, count in calls.items() if "cloudflare" in host)
    return realtimekit * REALTIMEKIT_SECONDS + (calls.total() - realtimekit) * AWS_SECONDS


def _ms(seconds: Mapping[str, float]) -> str:
    return f"{sum(seconds.values()) * 1000:.0f} ms"


def _gb_seconds(seconds: Mapping[str, float], memory_gb: Mapping[str, float]) -> float:
    return sum(total * memory_gb[name] for name, total in seconds.items())
