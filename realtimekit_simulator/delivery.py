"""Posting one event to one webhook: signed, retried as RealtimeKit does, and told what came of it.

That RealtimeKit may for a while reduce its attempts to a URL that keeps failing is not simulated.
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

ANSWER_BYTES = 65_536
"""No more of an answer is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """How webhooks are delivered, where RealtimeKit's documentation leaves it open.

    `retries` after a first try that met a 5xx or no answer, `retry_delay` real seconds apart, each
    given up after `timeout`: by default as Dyte documented it. `statuses` are those that a
    recording.statusUpdate is sent for: INVOKED was documented by Dyte, PAUSED by nobody. The
    headers are those of each of `header_prefixes`: ("rtk", "dyte") sends the old names too.
    `bodies` are as RealtimeKit or as Dyte documented them. A simulator posts to this machine's
    loopback only, unless it may go `beyond_loopback`.
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
            raise ValueError("retries and their delay are 0 or more, a timeout is more")
        if self.bodies not in ("realtimekit", "dyte"):
            raise ValueError(f"{self.bodies!r} is neither realtimekit nor dyte")
        object.__setattr__(self, "statuses", tuple(map(Status, self.statuses)))
        object.__setattr__(self, "header_prefixes", tuple(self.header_prefixes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event as it is posted. `occurred_at` is simulated time."""

    event: str
    occurred_at: datetime
    recording_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One POST: the status that answered it, or the name of the error. Times are real ones."""

    number: int
    uuid: str
    started_at: datetime
    ended_at: datetime
    status: int | None
    error: str | None

    @property
    def is_success(self) -> bool:
        """Any 2xx is one."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_retried(self) -> bool:
        """A 5xx and a network error are; all else below 500, even a 429, is the end of it."""
        return self.status is None or self.status >= 500


class Outcome(StrEnum):
    """What became of a delivery."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """It met an answer that is neither 2xx nor 5xx, and is not tried again."""
    GIVEN_UP = "given_up"
    """All tries met a 5xx or no answer, or the simulator was stopped in between."""
    LOST = "lost"
    """It was never posted, on demand."""
    BLOCKED = "blocked"
    """It was never posted, its URL being beyond loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message and a webhook, and all attempts to bring them together."""

    message: Message
    webhook: Webhook
    outcome: Outcome
    attempts: tuple[Attempt, ...] = ()


class DeliveryLog:
    """All deliveries, in order of their end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._deliveries: list[Delivery] = []

    def append(self, delivery: Delivery) -> None:
        """Log one that is over."""
        with self._lock:
            self._deliveries.append(delivery)

    def all(self) -> list[Delivery]:
        """Those that are over."""
        with self._lock:
            return list(self._deliveries)

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._deliveries.clear()


class Courier:
    """Takes messages to webhooks until it is `stopped`."""

    def __init__(self, key: SigningKey, rules: DeliveryRules, stopped: Event) -> None:
        self._key = key
        self._rules = rules
        self._stopped = stopped

    def deliver(self, message: Message, webhook: Webhook) -> Delivery:
        """Returns when it has succeeded, or will be tried no more; raises nothing."""
        delivery = Delivery(message=message, webhook=webhook, outcome=Outcome.BLOCKED)
        if not (self._rules.beyond_loopback or is_loopback(webhook.url)):
            return delivery
        attempts = tuple(self._attempts(message, webhook))
        return replace(delivery, outcome=_outcome(attempts), attempts=attempts)

    def headers(self, message: Message, webhook: Webhook, delivery_uuid: str) -> dict[str, str]:
        """What goes with the body; only the body is signed."""
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
        # A connection of its own, so that a retry is never the fault of a kept one.
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
            # The status is the answer; what follows is only read so as not to hang up on it.
            with closing(response), suppress(urllib3.exceptions.HTTPError):
                response.read(ANSWER_BYTES)
            return response.status


def is_loopback(url: str) -> bool:
    """Whether a URL can lead nowhere but to this machine."""
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
