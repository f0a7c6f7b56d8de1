"""The gate of the page: only the browser that was given the address gets in, and only from itself.

The server listens on loopback, where every program of this machine, and every web page in its
browsers, can reach it. docs/security.md lists what each check stops.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, g, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 32
# Each browser that was let in has one session; the oldest is dropped.
MAX_SESSIONS = 32
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = ("GET", "HEAD")
# Browsers say so of requests from the page itself, and from the address bar (W3C Fetch Metadata).
_OWN_SITES = ("same-origin", "none")

Announce = Callable[[str], None]


class Gate:
    """Checks of every request to one server on a port of loopback.

    `announce` is called with the next address after one was used, because each is good once.
    """

    def __init__(self, port: int, announce: Announce | None = None) -> None:
        self._origins = tuple(f"http://{host}:{port}" for host in (LOOPBACK, "localhost"))
        # Cookies are shared by all ports of a host, so another server's must have another name.
        self._cookie = f"realtimekit-recordings-{port}"
        self._announce = announce
        self._lock = threading.Lock()
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions: dict[str, str] = {}

    @property
    def address(self) -> str:
        """The address that lets one browser in; the next one is another."""
        return f"{self._origins[0]}/enter?token={self._token}"

    def guard(self, app: Flask) -> None:
        """Check every request to an app, and add the headers to every answer."""
        app.before_request(self._check)
        app.after_request(_add_headers)
        app.add_url_rule("/enter", "enter", self._enter)

    def _check(self) -> tuple[str, int] | None:
        """Return the page that refuses the request, or `None` if the request may go on."""
        if f"http://{request.host}" not in self._origins:
            return _refuse("another_host")
        if request.endpoint == "enter":
            return None
        if self._is_foreign():
            return _refuse("another_site")
        if request.endpoint == "static":
            return None
        csrf_token = self._sessions.get(request.cookies.get(self._cookie, ""))
        if csrf_token is None:
            return _refuse("no_session")
        given = request.headers.get(CSRF_HEADER, "")
        if request.method not in _SAFE_METHODS and not _is_equal(given, csrf_token):
            return _refuse("no_csrf_token")
        g.csrf_token = csrf_token
        return None

    def _is_foreign(self) -> bool:
        """Return True for a request from another site's page, or from another port's."""
        own = f"http://{request.host}"
        is_change = request.method not in _SAFE_METHODS
        origin = request.headers.get("Origin", "" if is_change else own)
        site = request.headers.get("Sec-Fetch-Site", "none")
        return origin != own or site not in _OWN_SITES

    def _enter(self) -> AnyResponse | tuple[str, int]:
        """Exchange the token for a cookie, and lead to the list."""
        if request.cookies.get(self._cookie, "") in self._sessions:
            return redirect("/", HTTPStatus.SEE_OTHER)
        with self._lock:
            if not _is_equal(request.args.get("token", ""), self._token):
                return _refuse("no_session")
            self._token = secrets.token_urlsafe(TOKEN_BYTES)
            session = secrets.token_urlsafe(TOKEN_BYTES)
            self._sessions[session] = secrets.token_urlsafe(TOKEN_BYTES)
            while len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        if self._announce:
            self._announce(self.address)
        # A page, not a redirect: if the address was a link on another site, such as a terminal in
        # the browser, the redirect would count as that site's, and come without the cookie.
        answer = Response(render_template("enter.html"))
        answer.set_cookie(self._cookie, session, httponly=True, samesite="Strict")
        return answer


def _refuse(reason: str) -> tuple[str, int]:
    return render_template("refused.html", reason=reason), HTTPStatus.FORBIDDEN


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _add_headers(answer: Response) -> Response:
    """Add the headers that keep other sites out, and every script, style and host but our own.

    `g.media_origins` are the hosts of the files that the page plays.
    """
    media = " ".join(("'self'", *g.get("media_origins", ())))
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'; media-src {media}; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        # Pages have links to files, and what was said in meetings.
        answer.headers["Cache-Control"] = "no-store"
    return answer
