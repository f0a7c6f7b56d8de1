"""What stands before RealtimeKit: the request log, Cloudflare's rate limit, faults, tokens."""

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
    """A request that arrived; never its token, but whether it had an Authorization header.

    `range` is the Range header. `status` is None until answered, or if dropped.
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
    """Every request but those to the control API, in order of arrival."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: list[LoggedRequest] = []

    def append(self, logged: LoggedRequest) -> None:
        """Log a request; it may be completed later."""
        with self._lock:
            self._requests.append(logged)

    def matching(self, path: str = "", method: str = "") -> list[LoggedRequest]:
        """Copies of those whose path and method have a match of these regular expressions."""
        with self._lock:
            return [
                replace(logged)
                for logged in self._requests
                if re.search(path, logged.path) and re.search(method, logged.method)
            ]

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._requests.clear()


class Tokens:
    """The API tokens that Cloudflare knows; only their digests are kept."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._has_realtime: dict[bytes, bool] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: str, *, has_realtime: bool = True) -> None:
        """Make a token valid; without the Realtime permission if so told."""
        self._has_realtime[_digest(token)] = has_realtime

    def revoke(self, token: str) -> None:
        """Make a token invalid; no matter if it was."""
        self._has_realtime.pop(_digest(token), None)

    def refusal(self, authorization: str) -> Response | None:
        """Cloudflare's answer to an Authorization header that does not give access.

        401 if there is no valid token in it, 403 if the token lacks the permission, each with code
        10000. (Cloudflare documents the code, and the SDK tells the two statuses apart; which is
        sent when is not documented.)
        """
        scheme, _, token = authorization.partition(" ")
        has_realtime = self._has_realtime.get(_digest(token.strip()))
        if scheme.lower() != "bearer" or has_realtime is None:
            return authentication_error(401)
        return None if has_realtime else authentication_error(403)


@dataclass(kw_only=True)
class RateLimit:
    """Cloudflare's limit: `quota` requests in `window` seconds, then a block.

    Really 1,200 in 300 and a block of 300 (Cloudflare docs, fundamentals/api/reference/limits).

    Seconds are real ones, of `now`, since it is a client's real pace that is limited. A quota of
    None is no limit, and no headers. The window begins with the first request in it; a request
    above the quota is refused, and all are for `block` seconds from then.
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
        """Count a request; seconds until the end of the block if it is above the limit."""
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
            # The block outlasts the window, so that what follows it starts afresh.
            self._blocked_until = self._window_ends = now + self.block
            return self.block

    def set(self, quota: int | None, window: float, block: float) -> None:
        """Change the limit and forget what was counted."""
        with self._lock:
            if window <= 0 or block <= 0 or (quota is not None and quota < 0):
                raise ValueError("a limit is of 0 or more requests in seconds above 0")
            self.quota, self.window, self.block = quota, window, block
            self._window_ends = self._blocked_until = 0

    def headers(self) -> dict[str, str]:
        """`Ratelimit` and `Ratelimit-Policy` (Cloudflare changelog, 2025-09-03)."""
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
    """Passes a request through log, rate limit, faults and tokens, in this order."""

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
        """Stand before every route of the app but the control API's."""
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
