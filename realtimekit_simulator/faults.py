"""Faults on demand: errors, delays, broken connections, and wrong data.

A fault applies effects to certain requests. An effect acts before a request is answered or on the
answer, in the context of the Flask request.
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
from .streams import break_after, wait_for_hang_up


class Effect:
    """Base of all effects; it changes nothing."""

    def is_met(self) -> bool:
        """Return True if the effect applies to this request; otherwise the fault waits."""
        return True

    def before(self) -> Response | None:
        """Act before the request is handled; a returned answer replaces the API's."""
        return None

    def after(self, response: Response) -> Response:
        """Act on the answer; return the answer to send."""
        return response


@dataclass(frozen=True, slots=True)
class Delay(Effect):
    """Wait for some real seconds, or until the client hangs up."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= 3600:
            raise ValueError("a delay is from 0 to 3600 seconds")

    def before(self) -> Response | None:
        """Wait, and leave the answer to the API."""
        wait_for_hang_up(connection(), self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class Drop(Effect):
    """Close the connection before the first byte of an answer."""

    def before(self) -> Response | None:
        """Shut the connection down; the returned answer reaches no client."""
        connection().shutdown(socket.SHUT_RDWR)
        g.dropped = True
        return Response(status=500)


@dataclass(frozen=True, slots=True)
class DropKept(Drop):
    """Close the connection only if it was kept from an earlier request.

    A client that was frozen meets this: it did not see the server close the connection.
    """

    def is_met(self) -> bool:
        """Return True if the connection has carried a request before."""
        return bool(request.environ["simulator.kept"])


@dataclass(frozen=True, slots=True)
class Truncate(Effect):
    """Promise the whole body, send a part of it or `size` bytes, and close the connection."""

    part: float = 0.5
    size: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.part < 1:
            raise ValueError("a part is from 0 to less than 1")
        require_size(self.size or 0)

    def after(self, response: Response) -> Response:
        """Cut the body, but keep its Content-Length."""
        part = int((response.content_length or 0) * self.part)
        size = part if self.size is None else self.size
        response.response = break_after(response.iter_encoded(), size)
        return response


@dataclass(frozen=True, slots=True)
class Answer(Effect):
    """Answer this instead of the API's answer."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError("a status is from 200 to 599")

    def before(self) -> Response | None:
        """Return this answer."""
        return Response(self.body, status=self.status, headers=dict(self.headers))


@dataclass(frozen=True, slots=True)
class Stale(Effect):
    """Show each recording as it was when it last had this status, if it ever had."""

    status: str

    def __post_init__(self) -> None:
        Status(self.status)

    def before(self) -> Response | None:
        """Leave a note for the API, which shows the older state."""
        g.stale = Status(self.status)
        return None


@dataclass(frozen=True, slots=True)
class Overlay(Effect):
    """Replace these fields in `data`, or in each item if `data` is a list."""

    fields: Mapping[str, Any]

    def after(self, response: Response) -> Response:
        """Replace the fields; an answer that is not a JSON object stays as it is."""
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
    """Answer with RealtimeKit's own error envelope."""
    return answer_with(realtimekit_error(status, message))


def gateway_error(status: int, code: int = 10000, message: str = "simulated fault") -> Answer:
    """Answer with Cloudflare's v4 error envelope."""
    return answer_with(cloudflare_error(status, code, message))


def message_only(status: int = 401, message: str = "Unauthorized") -> Answer:
    """Answer with an error that has a message only."""
    return answer_with(bare_error(status, message))


def html(status: int = 502) -> Answer:
    """Answer with an HTML error page, as proxies send."""
    page = f"<html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"
    return Answer(status, page, {"Content-Type": "text/html; charset=UTF-8"})


def empty(status: int = 520) -> Answer:
    """Answer without a body."""
    return Answer(status)


def garbage() -> Answer:
    """Answer 200 with a body that is cut-off JSON."""
    return Answer(200, '{"success": true, "data": {"id": ', {"Content-Type": "application/json"})


def unsuccessful(message: str = "simulated fault") -> Answer:
    """Answer 200 with a body that reports a failure."""
    content = {"success": False, "error": {"code": 500, "message": message}}
    return Answer(200, json.dumps(content), {"Content-Type": "application/json"})


def rate_limited(retry_after: float | str | None = 300) -> Answer:
    """Answer 429; `retry_after` is seconds, an HTTP date, or None for no header."""
    return answer_with(too_many_requests(retry_after))


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
"""Effects by their names in the control API."""


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """Effects on certain requests, made by `Faults.add`; `times` counts down."""

    id: int
    effects: tuple[Effect, ...]
    path: re.Pattern[str]
    method: re.Pattern[str]
    times: int | None
    probability: float
    random: random.Random

    def take(self, method: str, path: str) -> bool:
        """Return True if this request meets the fault, and count it."""
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
        """Apply the effects in order, up to the first that answers."""
        return next(filter(None, (effect.before() for effect in self.effects)), None)

    def after(self, response: Response) -> Response:
        """Let the effects change the answer, in order."""
        for effect in self.effects:
            response = effect.after(response)
        return response


class Faults:
    """Pending faults; a request meets only the first that matches."""

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
        """Let requests fail whose path and method match these regular expressions.

        The next `times` requests meet the fault, or all if None, each with this probability. A
        seed makes the choice the same in every run. Raises ValueError or re.error if invalid.
        """
        if not effects or not 0 < probability <= 1 or (times is not None and times < 1):
            raise ValueError(
                "a fault needs effects, a probability above 0 and up to 1, and times of 1 or more"
            )
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
        """Return the fault that a request meets, or None, and count it."""
        with self._lock:
            return next((fault for fault in self._faults if fault.take(method, path)), None)

    def pending(self) -> list[Fault]:
        """Return the faults that requests can still meet."""
        with self._lock:
            return [fault for fault in self._faults if fault.times != 0]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()


def answer_with(response: Response) -> Answer:
    """Return the effect that answers with this response."""
    return Answer(
        response.status_code,
        response.get_data(as_text=True),
        {name: value for name, value in response.headers.items() if name != "Content-Length"},
    )


def require_size(size: int) -> None:
    """Raise ValueError if a number of bytes is negative."""
    if size < 0:
        raise ValueError("a size is from 0 bytes")


def connection() -> socket.socket:
    """Return the socket of the current request."""
    client: socket.socket = request.environ["werkzeug.socket"]
    return client
