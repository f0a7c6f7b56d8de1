"""Gateway before RealtimeKit: the request log, Cloudflare's rate limit, faults and tokens."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock

from flask import Flask, Response, g, request

from .envelopes import authentication_error, too_many_requests
from .faults import Fault, Faults
from .world import World

API_PATH = "/client/v4/"
CONTROL_PATH = "/_simulator"


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """Request that arrived, without its token.

    `range` is the Range header. `status` is None until the answer, and stays None if the
    connection was dropped.
    """

    method: str
    path: str
    query: str
    has_authorization: bool
    range: str | None
    simulated_at: datetime
    real_at: datetime
    status: int | None = None
    fault_id: int | None = None


class RequestLog:
    """Requests in order of arrival, except those to the control API."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: list[LoggedRequest] = []

    def append(self, logged: LoggedRequest) -> None:
        """Add a request; its status may follow later."""
        with self._lock:
            self._requests.append(logged)

    def matching(self, path: str = "", method: str = "") -> list[LoggedRequest]:
        """Return copies of the requests whose path and method match these regular expressions."""
        with self._lock:
            return [
                replace(logged)
                for logged in self._requests
                if re.search(path, logged.path) and re.search(method, logged.method)
            ]

    def clear(self) -> None:
        """Remove all requests."""
        with self._lock:
            self._requests.clear()


class Tokens:
    """API tokens that are valid; only their digests are kept."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._has_realtime: dict[bytes, bool] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: str, *, has_realtime: bool = True) -> None:
        """Make a token valid, with or without the Realtime permission."""
        self._has_realtime[_digest(token)] = has_realtime

    def revoke(self, token: str) -> None:
        """Make a token invalid; an unknown token is ignored."""
        self._has_realtime.pop(_digest(token), None)

    def refusal(self, authorization: str) -> Response | None:
        """Return Cloudflare's refusal of an Authorization header, or None if it gives access.

        An invalid token is a 401, a missing permission a 403, both with code 10000. Cloudflare
        documents the code only; the SDK distinguishes the two statuses.
        """
        scheme, _, token = authorization.partition(" ")
        has_realtime = self._has_realtime.get(_digest(token.strip()))
        if scheme.lower() != "bearer" or has_realtime is None:
            return authentication_error(401)
        return None if has_realtime else authentication_error(403)


@dataclass(kw_only=True)
class RateLimit:
    """Cloudflare's limit: `quota` requests in `window` seconds, then a block of `block` seconds.

    Cloudflare's figures are 1,200, 300 and 300 (docs, fundamentals/api/reference/limits). Seconds
    are real, because the client's real pace is limited. A quota of None means no limit and no
    headers. The window begins with its first request.
    """

    quota: int | None = None
    window: float = 300
    block: float = 300
    now: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)
    _window_ends: float = field(default=0, init=False, repr=False)
    _blocked_until: float = field(default=0, init=False, repr=False)
    _used: int = field(default=0, init=False, repr=False)

    def take(self) -> float | None:
        """Count a request; return the seconds until the block ends, or None if it is allowed."""
        with self._lock:
            now = self.now()
            if self.quota is None:
                return None
            if now < self._blocked_until:
                return self._blocked_until - now
            if now >= self._window_ends:
                self._window_ends, self._used = now + self.window, 0
            self._used += 1
            if self._used <= self.quota:
                return None
            # The window ends with the block, so that the count starts afresh.
            self._blocked_until = self._window_ends = now + self.block
            return self.block

    def set(self, quota: int | None, window: float, block: float) -> None:
        """Change the limit and reset the count."""
        with self._lock:
            if window <= 0 or block <= 0 or (quota is not None and quota < 0):
                raise ValueError(
                    "quota must be None or 0 or more, window and block above 0 seconds"
                )
            self.quota, self.window, self.block = quota, window, block
            self._window_ends = self._blocked_until = 0

    def headers(self) -> dict[str, str]:
        """Return `Ratelimit` and `Ratelimit-Policy` (Cloudflare changelog, 2025-09-03)."""
        with self._lock:
            if self.quota is None:
                return {}
            remaining = max(self.quota - self._used, 0)
            reset = math.ceil(max(self._window_ends - self.now(), 0))
            return {
                "Ratelimit": f'"default";r={remaining};t={reset}',
                "Ratelimit-Policy": f'"default";q={self.quota};w={math.ceil(self.window)}',
            }


class Gateway:
    """Chain that every request passes: log, rate limit, faults, tokens."""

    def __init__(
        self,
        world: World,
        *,
        tokens: Tokens,
        rate_limit: RateLimit,
        faults: Faults,
        requests: RequestLog,
    ) -> None:
        self._world = world
        self._tokens = tokens
        self._rate_limit = rate_limit
        self._faults = faults
        self._requests = requests

    def guard(self, app: Flask) -> None:
        """Put the gateway before all routes of the app except the control API's."""
        app.before_request(self._admit)
        app.after_request(self._complete)

    def _admit(self) -> Response | None:
        if request.path.startswith(CONTROL_PATH):
            return None
        g.logged = self._log()
        return self._limited() or self._faulty() or self._refused()

    def _log(self) -> LoggedRequest:
        logged = LoggedRequest(
            method=request.method,
            path=request.path,
            query=request.query_string.decode(errors="replace"),
            has_authorization="Authorization" in request.headers,
            range=request.headers.get("Range"),
            simulated_at=self._world.clock.now(),
            real_at=datetime.now(UTC),
        )
        self._requests.append(logged)
        return logged

    def _limited(self) -> Response | None:
        if not request.path.startswith(API_PATH):
            return None
        wait = self._rate_limit.take()
        if wait is None:
            return None
        return too_many_requests(math.ceil(wait))

    def _faulty(self) -> Response | None:
        fault = self._faults.take(request.method, request.path)
        if fault is None:
            return None
        g.fault, g.logged.fault_id = fault, fault.id
        return fault.before()

    def _refused(self) -> Response | None:
        if not request.path.startswith(API_PATH):
            return None
        refusal = self._tokens.refusal(request.headers.get("Authorization", ""))
        if refusal is None and self._is_other_account():
            return authentication_error(403)
        return refusal

    def _is_other_account(self) -> bool:
        match = re.match(r"/client/v4/accounts/([^/]+)", request.path)
        return match is not None and match[1] != self._world.account_id

    def _complete(self, response: Response) -> Response:
        logged: LoggedRequest | None = g.get("logged")
        if logged is None:
            return response
        if request.path.startswith(API_PATH):
            response.headers.update(self._rate_limit.headers())
        fault: Fault | None = g.get("fault")
        if fault is not None:
            response = fault.after(response)
        logged.status = None if g.get("dropped") else response.status_code
        return response


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
