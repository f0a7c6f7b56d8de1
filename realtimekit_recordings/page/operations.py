"""The state of the stack in words: its health, its queues, and its sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import sweep_report
from . import words
from .words import text

Report = Mapping[str, Any]

HEALTH = {
    "ok": ("All is well", "ok"),
    "degraded": ("Something needs attention", "risk"),
    "failing": ("Something does not work", "bad"),
}
WORDS = {"ok": ("Works", "ok"), "degraded": ("Look at it", "risk"), "failing": ("Fails", "bad")}
PARTS = {
    "api_token": ("API token", "The secret has RealtimeKit's token.", "the-api-token"),
    "realtimekit": ("RealtimeKit", "It answers with this token.", "realtimekit-is-down"),
    "recordings_table": ("Catalogue table", "Rows can be read.", "restore-the-table"),
    "work_table": ("Checks", "Due checks are handled in time.", "waiting-checks"),
    "queues": ("Queues", "No message was given up.", "dead-letters"),
    "archive": ("Archive", "The bucket can be reached.", "a-bucket-of-your-own"),
}
"""For each part of the health report: its name, a sentence if it works, the runbook's heading."""
CAUSES = {
    "unauthorized": ("The token is missing or refused.", "the-api-token"),
    "unavailable": ("RealtimeKit does not answer, or answers 5xx.", "realtimekit-is-down"),
    "throttled": ("RealtimeKit refuses more requests for now.", "throughput"),
    "budget_spent": ("The budget of requests is used up for now.", "throughput"),
    "not_found": ("The account's id or the app's is wrong.", "health"),
    "unintelligible": ("The answer is not RealtimeKit's list.", "health"),
    "NoSuchBucket": ("The bucket is gone.", "a-bucket-of-your-own"),
    "AccessDenied": ("The bucket refuses the stack.", "a-bucket-of-your-own"),
    "other_region": ("The bucket is in another region.", "a-bucket-of-your-own"),
    "ResourceNotFoundException": ("The table is gone.", "restore-the-table"),
}
QUEUES = {
    "ingest": ("To be catalogued", "ingestdelayedalarm"),
    "archive": ("To be archived", "archive-throughput"),
    "urgent_archive": ("To be archived, urgent", "recordingsatriskalarm"),
    "ingest_dead_letters": ("Given up: catalogue", "ingestdeadlettersalarm"),
    "archive_dead_letters": ("Given up: archive", "archivedeadlettersalarm"),
    "event_rule_dead_letters": ("Given up: event rules", "eventruledeadlettersalarm"),
    "publish_dead_letters": ("Given up: events", "publishdeadlettersalarm"),
}


class Part(NamedTuple):
    """A part of the stack: its name, a word with its tone, a sentence, the runbook's heading."""

    name: str
    word: str
    tone: str
    sentence: str
    heading: str


class Queue(NamedTuple):
    """A queue: its name, the messages that wait, the tone, the runbook's heading."""

    name: str
    messages: int
    tone: str
    heading: str


class Sweep(NamedTuple):
    """A sweep: what started it and when, its window, how far it is, and its findings."""

    sweep_id: str
    trigger: str
    state: str
    tone: str
    created: str
    window: str
    fraction: float
    percent: str
    seen: int
    repaired: int
    findings: list[str]


def parts(health: Report) -> list[Part]:
    """Return the parts of a health report, the worst first."""
    order = list(WORDS)[::-1]
    found = sorted(health["parts"].items(), key=lambda item: order.index(item[1]["status"]))
    return [_part(name, part) for name, part in found]


def _part(name: str, part: Report) -> Part:
    label, works, heading = PARTS.get(name, (name.replace("_", " "), "", "health"))
    word, tone = WORDS[part["status"]]
    cause = str(part.get("cause", ""))
    if cause:
        works, heading = CAUSES.get(cause, (f"AWS answers {text(cause)}.", "health"))
    elif part["status"] != "ok" and "seconds_overdue" in part:
        works, heading = "A check has been due for long.", "followupstoppedalarm"
    elif part["status"] != "ok" and "messages" in part:
        works = "Messages were given up: see the queues."
    return Part(label, word, tone, works, heading)


def overdue_seconds(health: Report) -> int | None:
    """Return for how many seconds the oldest due check has waited, `None` if it is unknown."""
    seconds: int | None = health["parts"].get("work_table", {}).get("seconds_overdue")
    return seconds


def queues(health: Report) -> list[Queue]:
    """Return the queues with their counts, as the health report knows them."""
    found = []
    for name, count in health["parts"].get("queues", {}).get("messages", {}).items():
        label, heading = QUEUES.get(name, (name.replace("_", " "), "dead-letters"))
        is_bad = count > 0 and name.endswith("letters")
        found.append(Queue(label, count, "bad" if is_bad else "plain", heading))
    return found


def sweep(report: dict[str, Any]) -> Sweep:
    """Return a sweep's report for people."""
    counts = report["counts"]
    state = report["state"]
    created, since, until = (
        words.minute(time) if (time := words.parse(report.get(name))) else ""
        for name in ("created_at", "from", "to")
    )
    tones = {"completed": "ok", "failed": "bad", "running": "live", "queued": "wait"}
    return Sweep(
        sweep_id=text(report["sweep_id"]),
        trigger=text(report["trigger"]),
        state=text(sweep_report.state(report)),
        tone=tones.get(state, "plain"),
        created=created,
        window=f"{since} to {until}",
        fraction=report["fraction"],
        percent=sweep_report.percent(report),
        seen=counts["seen"],
        repaired=counts["repaired"],
        findings=[
            f"{counts[name]:,} {name.replace('_', ' ')}"
            for name in ("missing", "behind", "at_risk", "expired", "gone", "unwritable")
            if counts.get(name)
        ],
    )


def waiting(reports: Iterable[Report]) -> Report | None:
    """Return the counts of the newest sweep that was completed, `None` if there is none."""
    return next((report for report in reports if report["state"] == "completed"), None)
