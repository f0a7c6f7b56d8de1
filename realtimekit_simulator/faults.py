"""Faults on demand: what goes wrong between a client and an API, and how often.

An effect is one thing that goes wrong; a fault is effects upon certain requests. Effects see the
request that Flask is handling, before it is answered and after.
"""

import itertools
import json
import random
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from flask import Response, g, request

from .envelopes import bare_error, cloudflare_error, realtimekit_error, too_many_requests
from .options import Status
from .streams import broken_after, hung_up


class Effect:
    """One thing that goes wrong; by itself, nothing."""

    def is_met(self) -> bool:
        """Say whether it can befall this request; if not, the fault waits for another."""
        return True

    def before(self) -> Response | None:
        """Called first; an answer given here is the answer, and the API is not asked."""
        return None

    def after(self, response: Response) -> Response:
        """Called with the answer; what is returned is sent."""
        return response


@dataclass(frozen=True, slots=True)
class Delay(Effect):
    """Wait for some real seconds before anything else, or until the client hangs up."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= 3600:
            raise ValueError("a delay is from 0 to 3600 seconds")

    def before(self) -> Response | None:
        hung_up(connection(), self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class Drop(Effect):
    """Close the connection before a byte of an answer."""

    def before(self) -> Response | None:
        connection().shutdown(socket.SHUT_RDWR)
        g.dropped = True
        return Response(status=500)


@dataclass(frozen=True, slots=True)
class DropKept(Drop):
    """Do so only to a connection that was kept from an earlier request: it had been closed.

    So a freeze of the client looks, which saw nothing of the closing.
    """

    def is_met(self) -> bool:
        """Say whether the connection has brought a request before."""
        return bool(request.environ["simulator.kept"])


@dataclass(frozen=True, slots=True)
class Truncate(Effect):
    """Promise the whole body, send a part of it, or `size` bytes, and close the connection."""

    part: float = 0.5
    size: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.part < 1:
            raise ValueError("a part is from 0 to less than 1")
        checked_size(self.size or 0)

    def after(self, response: Response) -> Response:
        part = int((response.content_length or 0) * self.part)
        size = part if self.size is None else self.size
        response.response = broken_after(response.iter_encoded(), size)
        return response


@dataclass(frozen=True, slots=True)
class Answer(Effect):
    """Answer this instead of asking the API."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError("a status is from 200 to 599")

    def before(self) -> Response | None:
        return Response(self.body, status=self.status, headers=dict(self.headers))


@dataclass(frozen=True, slots=True)
class Stale(Effect):
    """Show recordings as they were when they last had that status; others as they are."""

    status: str

    def __post_init__(self) -> None:
        Status(self.status)

    def before(self) -> Response | None:
        g.stale = Status(self.status)
        return None


@dataclass(frozen=True, slots=True)
class Overlay(Effect):
    """Put these fields over those of `data`, or of each item if it is a list."""

    fields: Mapping[str, Any]

    def after(self, response: Response) -> Response:
        body = response.get_json(silent=True)
        if not isinstance(body, dict):
            return response
        data = body.get("data")
        for item in data if isinstance(data, list) else [data]:
            if isinstance(item, dict):
                item.update(self.fields)
        response.set_data(json.dumps(body))
        return response


def error(status: int, message: str = "simulated fault") -> Answer:
    """RealtimeKit's own error envelope."""
    return answer_of(realtimekit_error(status, message))


def gateway_error(status: int, code: int = 10000, message: str = "simulated fault") -> Answer:
    """Cloudflare's v4 error envelope."""
    return answer_of(cloudflare_error(status, code, message))


def message_only(status: int = 401, message: str = "Unauthorized") -> Answer:
    """An error that is a message and nothing else."""
    return answer_of(bare_error(status, message))


def html(status: int = 502) -> Answer:
    """An error page, as proxies send."""
    page = f"<html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"
    return Answer(status, page, {"Content-Type": "text/html; charset=UTF-8"})


def empty(status: int = 520) -> Answer:
    """No body at all."""
    return Answer(status)


def garbage() -> Answer:
    """A 200 that says it is JSON and is not."""
    return Answer(200, '{"success": true, "data": {"id": ', {"Content-Type": "application/json"})


def unsuccessful(message: str = "simulated fault") -> Answer:
    """A 200 whose body says that it failed."""
    content = {"success": False, "error": {"code": 500, "message": message}}
    return Answer(200, json.dumps(content), {"Content-Type": "application/json"})


def rate_limited(retry_after: float | str | None = 300) -> Answer:
    """A 429; `retry_after` is seconds, an HTTP date, or None for no such header."""
    return answer_of(too_many_requests(retry_after))


EFFECTS: Mapping[str, Callable[..., Effect]] = {
    "delay": Delay,
    "drop": Drop,
    "drop_kept": DropKept,
    "truncate": Truncate,
    "answer": Answer,
    "stale": Stale,
    "overlay": Overlay,
    "error": error,
    "gateway_error": gateway_error,
    "message_only": message_only,
    "html": html,
    "empty": empty,
    "garbage": garbage,
    "unsuccessful": unsuccessful,
    "rate_limited": rate_limited,
}
"""Effects by the names that the control API knows them by."""


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """Effects upon certain requests; made by `Faults.add`. `times` is what is left of them."""

    id: int
    effects: tuple[Effect, ...]
    path: re.Pattern[str]
    method: re.Pattern[str]
    times: int | None
    probability: float
    random: random.Random

    def take(self, method: str, path: str) -> bool:
        """Whether this request meets the fault; one of its times is used up if so."""
        if self.times == 0 or not (self.path.search(path) and self.method.search(method)):
            return False
        if not all(effect.is_met() for effect in self.effects):
            return False
        if self.random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def before(self) -> Response | None:
        """Let the effects act in their order, up to the first that answers."""
        return next(filter(None, (effect.before() for effect in self.effects)), None)

    def after(self, response: Response) -> Response:
        """Let the effects change the answer in their order."""
        for effect in self.effects:
            response = effect.after(response)
        return response


class Faults:
    """The faults to come. A request meets the first that matches, and only that one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ids = itertools.count(1)
        self._faults: list[Fault] = []

    def add(
        self,
        *effects: Effect,
        path: str = "",
        method: str = "",
        times: int | None = 1,
        probability: float = 1,
        seed: int | None = None,
    ) -> Fault:
        """Let requests fail whose path and method have a match of these regular expressions.

        The next `times` of them, or all if None; each with this probability, and the same ones in
        every run if there is a seed. ValueError or re.error if that makes no sense.
        """
        if not effects or not 0 < probability <= 1 or (times is not None and times < 1):
            raise ValueError("a fault has effects, a probability above 0, and at least one time")
        with self._lock:
            fault = Fault(
                id=next(self._ids),
                effects=effects,
                path=re.compile(path),
                method=re.compile(method),
                times=times,
                probability=probability,
                random=random.Random(seed),  # noqa: S311
            )
            self._faults.append(fault)
            return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, if any."""
        with self._lock:
            return next((fault for fault in self._faults if fault.take(method, path)), None)

    def pending(self) -> list[Fault]:
        """Those that can still be met."""
        with self._lock:
            return [fault for fault in self._faults if fault.times != 0]

    def remove(self, fault_id: int) -> None:
        """Take one away; no matter if it is gone."""
        with self._lock:
            self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def clear(self) -> None:
        """Take all away."""
        with self._lock:
            self._faults.clear()


def answer_of(response: Response) -> Answer:
    """The effect of answering this."""
    return Answer(
        response.status_code,
        response.get_data(as_text=True),
        {name: value for name, value in response.headers.items() if name != "Content-Length"},
    )


def checked_size(size: int) -> None:
    """ValueError if there can be no such number of bytes."""
    if size < 0:
        raise ValueError("a size is from 0 bytes")


def connection() -> socket.socket:
    """The socket that the request came by."""
    client: socket.socket = request.environ["werkzeug.socket"]
    return client
