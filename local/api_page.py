"""A page to read the API's document and to try it on the local stack, by Swagger UI.

A browser cannot sign requests, so this server signs them for it. It listens on loopback, and to
pages of its own only: no other site's may call the API through it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from flask import Flask, Response, request
from flask_swagger_ui import get_swaggerui_blueprint  # type: ignore[import-untyped]
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from . import stack
from .aws import LOOPBACK

DOCUMENT = stack.ROOT / "functions" / "openapi.json"
PAGE, API = "/api-docs", "/api"
_DESCRIPTION = (
    "This page signs your requests with the local stack's AWS credentials. The callers of a "
    "deployed stack sign theirs with AWS Signature Version 4, for the service execute-api. Errors "
    "are RFC 9457 problems."
)
_PASSED_ON = ("Content-Type", "ETag", "Retry-After", "Cache-Control")


class ApiPage:
    """The page from entering the context to leaving it; `description` is the stack's."""

    def __init__(self, description: Mapping[str, Any], document: Path = DOCUMENT) -> None:
        self._server: BaseWSGIServer = make_server(
            LOOPBACK, 0, _app(description, document), threaded=True, request_handler=_Quiet
        )
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{LOOPBACK}:{self._server.server_port}{PAGE}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the terminal is the stack's."""


def _app(description: Mapping[str, Any], document: Path) -> Flask:
    app = Flask(__name__)
    config = {"app_name": "RealtimeKit recordings", "validatorUrl": None}
    app.register_blueprint(get_swaggerui_blueprint(PAGE, "/openapi.json", config=config))

    @app.before_request
    def refuse_strangers() -> tuple[str, int] | None:
        """Whose Host is another's name came by DNS; whose Origin is, from another site's page."""
        host = request.host.rpartition(":")[0]
        origin = request.headers.get("Origin", f"http://{request.host}")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        is_own = origin == f"http://{request.host}" and site in ("same-origin", "none")
        return None if host in (LOOPBACK, "localhost") and is_own else ("Not from here.", 403)

    @app.get("/openapi.json")
    def describe() -> dict[str, Any]:
        """Return the document of what can be tried here.

        Without the webhook, which only RealtimeKit can sign, and without the dialogue that asks for
        a signature, which the page makes itself.
        """
        found: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
        del found["paths"]["/webhooks/realtimekit"], found["security"]
        del found["components"]["securitySchemes"]
        tags = [tag for tag in found["tags"] if tag["name"] != "webhooks"]
        info = {**found["info"], "description": _DESCRIPTION}
        servers = [{"url": API, "description": "The local stack."}]
        return {**found, "info": info, "tags": tags, "servers": servers}

    @app.route(f"{API}/<path:path>", methods=["GET", "POST", "DELETE"])
    def call(path: str) -> Response:
        query = request.query_string.decode()
        headers = {"If-None-Match": tag} if (tag := request.headers.get("If-None-Match")) else {}
        answer = stack.request(
            description, request.method, f"/{path}" + (f"?{query}" if query else ""), headers
        )
        passed_on = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.data, answer.status, passed_on)

    return app
