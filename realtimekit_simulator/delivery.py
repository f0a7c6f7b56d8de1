"""Delivery of one event to one webhook: signed, retried as RealtimeKit does, and logged.

RealtimeKit may reduce its attempts to a URL that keeps failing; this is not simulated.
"""

import ipaddress
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from threading import Event, Lock
from typing import Literal

import urllib3

from .options import Status
from .registrations import Webhook
from .signing import SigningKey

MAX_ANSWER_BYTES = 65_536
"""Bytes that are read of a receiver's answer; the rest is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """Rules of delivery that RealtimeKit's documentation leaves open.

    A first try that meets a 5xx or no answer within `timeout` seconds is followed by `retries`
    more, `retry_delay` seconds apart (real seconds; the defaults are Dyte's documentation).
    `statuses` are the recording statuses that cause an event; Dyte documented INVOKED, and PAUSED
    is undocumented. `header_prefixes` ("rtk", "dyte") sends the old header names too. `bodies`
    follow RealtimeKit's or Dyte's documentation. Posts stay on loopback unless `beyond_loopback`.
    """

    retries: int = 3
    retry_delay: float = 1.0
    timeout: float = 3.0
    statuses: tuple[Status, ...] = (
        Status.RECORDING,
        Status.UPLOADING,
        Status.UPLOADED,
        Status.ERRORED,
    )
    header_prefixes: tuple[str, ...] = ("rtk",)
    bodies: Literal["realtimekit", "dyte"] = "realtimekit"
    beyond_loopback: bool = False

    def __post_init__(self) -> None:
        if self.retries < 0 or self.retry_delay < 0 or self.timeout <= 0:
            raise ValueError("retries and retry_delay must be 0 or more, timeout above 0")
        if self.bodies not in ("realtimekit", "dyte"):
            raise ValueError(f"{self.bodies!r} is neither realtimekit nor dyte")
        object.__setattr__(self, "statuses", tuple(map(Status, self.statuses)))
        object.__setattr__(self, "header_prefixes", tuple(self.header_prefixes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Event as it is posted; `occurred_at` is simulated time."""

    event: str
    occurred_at: datetime
    recording_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One POST with the status of its answer or the name of its error; times are real time."""

    number: int
    uuid: str
    started_at: datetime
    ended_at: datetime
    status: int | None
    error: str | None

    @property
    def is_success(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_retried(self) -> bool:
        """Whether another try follows: after a 5xx or a network error, never after a 4xx."""
        return self.status is None or self.status >= 500


class Outcome(StrEnum):
    """Final state of a delivery."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The answer was neither 2xx nor 5xx, so the delivery is not tried again."""
    GIVEN_UP = "given_up"
    """All tries met a 5xx or no answer, or the simulator stopped in between."""
    LOST = "lost"
    """The delivery was left out on demand."""
    BLOCKED = "blocked"
    """The URL is beyond loopback, so the delivery was not posted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one webhook, with all attempts to post it."""

    message: Message
    webhook: Webhook
    outcome: Outcome
    attempts: tuple[Attempt, ...] = ()


class DeliveryLog:
    """Finished deliveries, in the order in which they finished."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._deliveries: list[Delivery] = []

    def append(self, delivery: Delivery) -> None:
        """Add a finished delivery."""
        with self._lock:
            self._deliveries.append(delivery)

    def all(self) -> list[Delivery]:
        """Return all finished deliveries."""
        with self._lock:
            return list(self._deliveries)


class Courier:
    """Poster of messages to webhooks, until `stopped` is set."""

    def __init__(self, key: SigningKey, rules: DeliveryRules, stopped: Event) -> None:
        self._key = key
        self._rules = rules
        self._stopped = stopped

    def deliver(self, message: Message, webhook: Webhook) -> Delivery:
        """Post a message until it succeeds or is given up; return the delivery. Never raises."""
        delivery = Delivery(message=message, webhook=webhook, outcome=Outcome.BLOCKED)
        if not (self._rules.beyond_loopback or is_loopback(webhook.url)):
            return delivery
        attempts = tuple(self._attempts(message, webhook))
        return replace(delivery, outcome=_outcome(attempts), attempts=attempts)

    def headers(self, message: Message, webhook: Webhook, delivery_uuid: str) -> dict[str, str]:
        """Return the headers of a post; the signature covers the body only."""
        headers = {"content-type": "application/json"}
        for prefix in self._rules.header_prefixes:
            headers[f"{prefix}-signature"] = self._key.sign(message.body)
            headers[f"{prefix}-uuid"] = delivery_uuid
            headers[f"{prefix}-webhook-id"] = webhook.id
        return headers

    def _attempts(self, message: Message, webhook: Webhook) -> Iterator[Attempt]:
        for number in range(1, self._rules.retries + 2):
            if self._stopped.wait(self._rules.retry_delay if number > 1 else 0):
                return
            attempt = self._attempt(number, message, webhook)
            yield attempt
            if not attempt.is_retried:
                return

    def _attempt(self, number: int, message: Message, webhook: Webhook) -> Attempt:
        started_at, delivery_uuid = datetime.now(UTC), str(uuid.uuid4())
        status = error = None
        try:
            status = self._post(message, webhook, delivery_uuid)
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            error = type(failure).__name__
        return Attempt(
            number=number,
            uuid=delivery_uuid,
            started_at=started_at,
            ended_at=datetime.now(UTC),
            status=status,
            error=error,
        )

    def _post(self, message: Message, webhook: Webhook, delivery_uuid: str) -> int:
        # A new connection each time, so that a stale kept one never causes a retry.
        timeout = urllib3.Timeout(total=self._rules.timeout)
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            response = pool.request(
                "POST",
                webhook.url,
                body=message.body,
                headers=self.headers(message, webhook, delivery_uuid),
                redirect=False,
                preload_content=False,
            )
            # Only the status counts; reading the body avoids a reset at the receiver.
            with closing(response), suppress(urllib3.exceptions.HTTPError):
                response.read(MAX_ANSWER_BYTES)
            return response.status


def is_loopback(url: str) -> bool:
    """Return True if a URL leads to this machine's loopback."""
    host = urllib3.util.parse_url(url).host or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _outcome(attempts: tuple[Attempt, ...]) -> Outcome:
    if not attempts or attempts[-1].is_retried:
        return Outcome.GIVEN_UP
    return Outcome.DELIVERED if attempts[-1].is_success else Outcome.REFUSED
