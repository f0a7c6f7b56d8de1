"""Every minute: work on sweeps, and on the day's run of the retention policy.

Every hour and every day: begin a sweep of the last hours or days.

Promise: when a sweep is completed, the catalogue has every recording of RealtimeKit's list in the
sweep's window, however many ticks that takes and whichever of them die. One tick works at a time,
on at most half of the budget of requests. A dry run changes no row of the catalogue.

With `RETENTION_DAYS`, recordings of that age are erased once a day, some in each tick, unless they
are on hold. The first day's run announces what the second day's erases. An error of retention does
not stop sweeps.
"""

from __future__ import annotations

import functools
import os
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import urllib3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from recordings import __version__, retention
from recordings.archive import Archive
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.dynamodb import Table
from recordings.erasure import Erasure
from recordings.events import EVENT_SOURCE, EventType
from recordings.ingestion import Ingestion
from recordings.realtimekit import (
    ApiToken,
    NotFoundError,
    RealtimeKit,
    UnavailableError,
    UnintelligibleError,
)
from recordings.retention import Kind, Retention, Run, Runs, RunTakenError
from recordings.sweeper import Sweeper
from recordings.sweeps import State, Sweep, Sweeps, Trigger
from recordings.warmup import connect, warm_up
from recordings.worklist import Worklist, utcnow

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

APP_ID = os.environ["APP_ID"]
APP_URL = os.environ["REALTIMEKIT_APP_URL"]
API_TOKEN_SECRET_ARN = os.environ["API_TOKEN_SECRET_ARN"]
RECORDINGS_TABLE = os.environ["RECORDINGS_TABLE"]
WORK_TABLE = os.environ["WORK_TABLE"]
REQUESTS_PER_5_MINUTES = int(os.environ["UPSTREAM_REQUESTS_PER_5_MINUTES"])
# Empty if archiving is switched off.
ARCHIVE_BUCKET = os.environ["ARCHIVE_BUCKET"]
# The kinds of a session's files that are kept; empty where archiving is switched off.
SESSION_FILES = tuple(filter(None, os.environ["SESSION_FILES"].split(",")))

EVENT_BUS_NAME = os.environ["EVENT_BUS_NAME"]
# 0 where recordings are kept for ever.
RETENTION_DAYS = int(os.environ["RETENTION_DAYS"])

# RealtimeKit keeps files for 7 days; the daily sweep covers a day more.
WINDOWS = {Trigger.HOURLY: timedelta(hours=6), Trigger.DAILY: timedelta(days=8)}
HALF = 0.5
# 20 s: the request of a page takes up to 14 s (recordings.realtimekit), and then its rows.
MARGIN_MS = 20_000
# Retention leaves at least 10 s of a tick to sweeps; an erasure takes S3 up to 20 s.
RETENTION_MARGIN_MS = 30_000
# The lease outlasts the invocation by this.
LEASE_MARGIN_SECONDS = 2

logger = Logger(service="sweep_recordings", version=__version__, xray_trace_id=None)
metrics = Metrics(service="recordings")

quick = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
dynamodb = boto3.client("dynamodb", config=quick)
work_table = Table(dynamodb, WORK_TABLE)
sweeps = Sweeps(work_table, APP_ID)
archive = Archive(boto3.client("s3", config=quick), ARCHIVE_BUCKET) if ARCHIVE_BUCKET else None
sweeper = Sweeper(
    ingestion=Ingestion(
        realtimekit=RealtimeKit(
            APP_URL,
            ApiToken(boto3.client("secretsmanager", config=quick), API_TOKEN_SECRET_ARN),
            UpstreamBudget(work_table, APP_ID, REQUESTS_PER_5_MINUTES, share=HALF),
            urllib3.PoolManager(ssl_context=ssl.create_default_context()),
            observe=metrics.add_metric,
        ),
        catalogue=Catalogue(Table(dynamodb, RECORDINGS_TABLE), APP_ID),
        worklist=Worklist(work_table),
        session_files=SESSION_FILES,
    ),
    sweeps=sweeps,
    archive=archive,
    now=utcnow,
)


class NotAnnouncedError(Exception):
    """Raised when EventBridge refuses the announcement; the text is its error code."""


@functools.cache
def eventbridge() -> EventBridgeClient:
    """Return the client of EventBridge, made on first use because few stacks need it."""
    return boto3.client("events", config=quick)


def announce(run: Run) -> None:
    """Publish what the next run of the retention policy will erase."""
    answer = eventbridge().put_events(
        Entries=[
            {
                "EventBusName": EVENT_BUS_NAME,
                "Source": EVENT_SOURCE,
                "DetailType": EventType.RETENTION_ANNOUNCED,
                "Detail": retention.announcement(run, APP_ID),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        raise NotAnnouncedError(answer["Entries"][0].get("ErrorCode", "unknown"))


def report_erasure(recording_id: str, outcome: str) -> None:
    """Log the outcome of one erasure by the retention policy."""
    message = "recording erased" if outcome == "erased" else "recording not erased"
    logger.info(
        message,
        correlation_id=recording_id,
        recording_id=recording_id,
        reason="retention",
        outcome=outcome,
    )


policy = Retention(
    erasure=Erasure(
        catalogue=sweeper.ingestion.catalogue,
        worklist=sweeper.ingestion.worklist,
        archive=archive,
    ),
    runs=Runs(work_table),
    days=RETENTION_DAYS,
    announce=announce,
    report=report_erasure,
)

if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    warm_up(logger.warning, connect(dynamodb))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Run a tick; `{"sweep": "hourly"}` and `{"sweep": "daily"}` begin a sweep first."""
    for trigger, length in WINDOWS.items():
        if event.get("sweep") == trigger:
            begun = sweeps.schedule(trigger, length)
            message = "sweep begun" if begun else "sweep not begun: the one before is unfinished"
            logger.info(message, trigger=trigger)
    interruptions: list[Exception] = []
    open_sweeps, run = sweeps.unfinished(), due_run(interruptions)
    if not open_sweeps and run is None:
        return finish(interruptions)
    remaining = context.get_remaining_time_in_millis
    lease = sweeps.claim(remaining() / 1000 + LEASE_MARGIN_SECONDS)
    if lease is None:
        logger.info("sweeps left to the tick that holds the lease")
        return finish(interruptions)
    try:
        if run:
            interruptions += retain(run, context)
        interruptions += work(open_sweeps, context)
    finally:
        sweeps.release(lease)
    return finish(interruptions)


def finish(interruptions: list[Exception]) -> None:
    """Raise the tick's first error, if there is one, after all its work."""
    if interruptions:
        raise interruptions[0]


def due_run(interruptions: list[Exception]) -> Run | None:
    """Return the retention policy's run that has work left, or None; add an error to the list."""
    try:
        return policy.due() if policy.days else None
    except Exception as error:
        logger.exception("retention interrupted")
        interruptions.append(error)
        return None


def retain(run: Run, context: LambdaContext) -> list[Exception]:
    """Work on a run of the retention policy. Return the error that interrupted it, if any."""
    try:
        worked = policy.work(
            run, lambda: context.get_remaining_time_in_millis() < RETENTION_MARGIN_MS
        )
    except RunTakenError:
        logger.info("retention left to another tick", on=run.on)
        return []
    except Exception as error:
        logger.exception("retention interrupted", on=run.on)
        return [error]
    logger.info(f"retention {worked.state}", **worked.report())
    if not worked.is_running:
        metrics.add_metric("RetentionErased", MetricUnit.Count, worked.counts.get("erased", 0))
        # A run that stopped because the policy changed has announced nothing.
        announced = int(worked.kind is Kind.ANNOUNCEMENT and worked.cause is None)
        metrics.add_metric("RetentionAnnounced", MetricUnit.Count, announced)
    return []


# These causes concern one sweep's page, so the next sweep may still get its own.
OF_ONE_SWEEP = (UnavailableError.cause, UnintelligibleError.cause, NotFoundError.cause)


def work(open_sweeps: list[Sweep], context: LambdaContext) -> list[Exception]:
    """Work on one sweep after the other, until time runs out or RealtimeKit takes no requests.

    Return the errors that interrupted a sweep; they do not stop the others.
    """
    interruptions: list[Exception] = []

    def out_of_time() -> bool:
        return context.get_remaining_time_in_millis() < MARGIN_MS

    for sweep in open_sweeps:
        if sweep.not_before and utcnow() < sweep.not_before:
            continue
        if out_of_time():
            break
        try:
            worked = sweeper.sweep(sweep, out_of_time)
        except Exception as error:
            logger.exception("sweep interrupted", sweep_id=sweep.sweep_id)
            interruptions.append(error)
            continue
        log(worked)
        if not worked.is_open:
            emit_metrics(worked)
        elif worked.cause not in OF_ONE_SWEEP:
            break
    return interruptions


def log(sweep: Sweep) -> None:
    """Log the sweep's state and counts."""
    logger.info(
        f"sweep {sweep.state}",
        sweep_id=sweep.sweep_id,
        trigger=sweep.trigger,
        dry_run=sweep.dry_run,
        complete=sweep.complete,
        cause=sweep.cause,
        counts=sweep.counts.fields(),
        examples=dict(sweep.examples),
    )
    if sweep.state is State.FAILED:
        logger.error("sweep failed", sweep_id=sweep.sweep_id, reason=sweep.reason)
    if sweep.complete is False:
        logger.warning("list incomplete", sweep_id=sweep.sweep_id)


def emit_metrics(sweep: Sweep) -> None:
    """Emit the metrics of a sweep that has ended."""
    for metric, counted in (
        ("RecordingRepaired", sweep.counts.repaired),
        ("WebhookLost", sweep.counts.lost_webhooks),
        ("ArtifactGone", sweep.counts.gone),
        ("SessionFileOverlooked", sweep.counts.session_files_missing),
        ("RecordingUnwritable", sweep.counts.unwritable),
        ("SweepFailed", sweep.state is State.FAILED),
        ("SweepIncomplete", sweep.complete is False),
    ):
        metrics.add_metric(metric, MetricUnit.Count, int(counted))
