"""Simulator: a world behind an HTTP server."""

from collections.abc import Callable
from typing import Self

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from .api import Api
from .control import Control
from .delivery import DeliveryRules
from .envelopes import as_json, cloudflare_error, realtimekit_error
from .faults import Faults
from .gateway import API_PATH, Gateway, LoggedRequest, RateLimit, RequestLog, Tokens
from .media import MEDIA_PATH, Media
from .server import Server
from .signing import KEY_PATH, SigningKey
from .webhook_api import WebhookApi
from .webhooks import Webhooks
from .world import DEFAULT_TOKEN, World

LOOPBACK = "127.0.0.1"


class Simulator:
    """RealtimeKit's API and media over HTTP on loopback, from `start` to `stop`; a context manager.

    The next request sees every change of `world`, `faults`, `tokens` and `rate_limit`. Download
    URLs lead to this server, below `/media`, unless the world has a `media_base_url`;
    `world.media_files` describes their files. `webhooks` are delivered on demand, and also as
    events happen if `delivers_live`. Port 0 takes any free port. A stopped simulator leaves no
    thread and cannot be started again.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        port: int = 0,
        signing_key: SigningKey | None = None,
        delivery_rules: DeliveryRules | None = None,
        delivers_live: bool = False,
    ) -> None:
        self.world = world or World()
        self.webhooks = Webhooks(self.world, key=signing_key, rules=delivery_rules)
        self._delivers_live = delivers_live
        self.faults = Faults()
        self.tokens = Tokens([DEFAULT_TOKEN])
        self.rate_limit = RateLimit()
        self.request_log = RequestLog()
        self._server = Server(LOOPBACK, port, self._app())
        if self.world.media_base_url is None:
            self.world.media_base_url = f"{self.url}{MEDIA_PATH}"

    @property
    def url(self) -> str:
        """Origin of the server, such as http://127.0.0.1:8787."""
        return f"http://{LOOPBACK}:{self._server.port}"

    @property
    def api_url(self) -> str:
        """Counterpart of https://api.cloudflare.com/client/v4; the SDK's `base_url`."""
        return f"{self.url}{API_PATH}".rstrip("/")

    @property
    def app_url(self) -> str:
        """Base URL of the app's endpoints, up to and including the app's id."""
        account, app = self.world.account_id, self.world.app_id
        return f"{self.api_url}/accounts/{account}/realtime/kit/{app}"

    @property
    def webhook_key_url(self) -> str:
        """Counterpart of https://api.realtime.cloudflare.com/.well-known/webhooks.json."""
        return f"{self.url}{KEY_PATH}"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Requests that arrived, except those to the control API."""
        return self.request_log.matching()

    def start(self) -> Self:
        """Start to answer requests, and to deliver webhooks if live."""
        self._server.start()
        if self._delivers_live:
            self.webhooks.start()
        return self

    def stop(self) -> None:
        """Cut all connections; return when all threads have ended."""
        # A receiver may call this server while it handles the last webhook.
        self.webhooks.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _app(self) -> Flask:
        app = Flask("simulator", static_folder=None)
        app.url_rule_class = _Route
        gateway = Gateway(
            self.world,
            tokens=self.tokens,
            rate_limit=self.rate_limit,
            faults=self.faults,
            requests=self.request_log,
        )
        gateway.guard(app)
        app.register_blueprint(Api(self.world).blueprint())
        app.register_blueprint(WebhookApi(self.world, self.webhooks.registrations).blueprint())
        app.register_blueprint(Media(self.world).blueprint())
        app.add_url_rule(KEY_PATH, view_func=self._publish_key)
        control = Control(
            self.world,
            rate_limit=self.rate_limit,
            faults=self.faults,
            requests=self.request_log,
            webhooks=self.webhooks,
        )
        app.register_blueprint(control.blueprint())
        app.register_error_handler(HTTPException, _error)
        return app

    def _publish_key(self) -> Response:
        content = {"publicKey": self.webhooks.key.public_pem}
        return as_json(200, {"success": True, "data": content, "message": ""})


class _Route(Rule):
    """A route that matches requests, but cannot build its own URL.

    The simulator never builds a route's URL, and compiling werkzeug's builder would take nine
    tenths of the simulator's start.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _build_no_url


def _build_no_url(*_: object) -> tuple[str, str]:
    raise RuntimeError("the simulator's routes have no URL builder")


def _error(error: HTTPException) -> Response:
    """Return the error in the envelope of RealtimeKit, Cloudflare or the simulator, by path."""
    status, message = error.code or 500, error.description or ""
    if "/realtime/kit/" in request.path:
        return realtimekit_error(status, message)
    if request.path.startswith(API_PATH):
        return cloudflare_error(status, 7000, "No route for that URI")
    return as_json(status, {"error": message})
