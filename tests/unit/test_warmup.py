from __future__ import annotations

import logging
import threading
import time

import boto3
import pytest

from recordings.warmup import warm_up


def test_a_step_that_fails_is_told_by_its_kind_and_the_next_is_taken() -> None:
    told: list[str] = []
    taken: list[str] = []

    def fail() -> None:
        raise ConnectionRefusedError("https://user:password@host")

    warm_up(told.append, fail, lambda: taken.append("next"))

    assert told == ["warm-up failed: ConnectionRefusedError"]
    assert taken == ["next"]


def test_a_step_that_hangs_is_not_waited_for() -> None:
    told: list[str] = []
    over = threading.Event()
    started = time.monotonic()

    warm_up(told.append, over.wait, patience=0.05)

    assert told == ["warm-up timed out"]
    assert not over.is_set()
    assert time.monotonic() - started < 30
    over.set()


def test_steps_are_over_when_the_function_is_initialised() -> None:
    told: list[str] = []
    taken: list[int] = []

    warm_up(told.append, *(lambda n=n: taken.append(n) for n in range(3)))

    assert (taken, told) == ([0, 1, 2], [])


def test_a_cold_start_does_not_log_where_the_credentials_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Lambda's root logger logs INFO."""
    caplog.set_level(logging.INFO)

    boto3.Session(region_name="eu-central-1").get_credentials()

    assert caplog.messages == []
