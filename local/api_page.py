"""Swagger UI page on which to read the API's document and to call the local stack's API.

A browser cannot sign requests, so this server signs them. The server listens on loopback and serves
requests from its own page only, so that another site cannot call the API through it.
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
_SENT_ON = ("If-None-Match", "If-Match", "Content-Type")
_PASSED_ON = ("Content-Type", "ETag", "Retry-After", "Cache-Control")


class ApiPage:
    """Context manager that serves the page.

    `description` is `LocalStack.description`; `document` is the OpenAPI file to show.
    """

    def __init__(self, description: Mapping[str, Any], document: Path = DOCUMENT) -> None:
        self._server: BaseWSGIServer = make_server(
            LOOPBACK, 0, _app(description, document), threaded=True, request_handler=_Quiet
        )
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Address to open in a browser."""
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
        """Suppress the server's log, because the terminal shows the stack's messages."""


def _app(description: Mapping[str, Any], document: Path) -> Flask:
    app = Flask(__name__)
    config = {"app_name": "RealtimeKit recordings", "validatorUrl": None}
    app.register_blueprint(get_swaggerui_blueprint(PAGE, "/openapi.json", config=config))

    @app.before_request
    def refuse_other_sites() -> tuple[str, int] | None:
        """Answer 403 to requests that another site's page sent.

        A foreign Host header shows DNS rebinding; a foreign Origin shows a cross-site request.
        """
        host = request.host.rpartition(":")[0]
        origin = request.headers.get("Origin", f"http://{request.host}")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        is_own = origin == f"http://{request.host}" and site in ("same-origin", "none")
        if host in (LOOPBACK, "localhost") and is_own:
            return None
        return "Refused: this server answers its own page only. Open that page on loopback.", 403

    @app.get("/openapi.json")
    def describe() -> dict[str, Any]:
        """Return the API's document for this page."""
        return _local_document(document)

    @app.route(f"{API}/<path:path>", methods=["GET", "POST", "PATCH", "DELETE"])
    def call(path: str) -> Response:
        query = request.query_string.decode()
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        answer = stack.request(
            description,
            request.method,
            f"/{path}" + (f"?{query}" if query else ""),
            headers,
            body=request.get_data(as_text=True) or None,
        )
        passed_on = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.data, answer.status, passed_on)

    return app


def _local_document(document: Path) -> dict[str, Any]:
    """Return the API's document with only what can be tried here.

    It lacks the webhook, which only RealtimeKit can sign, and the dialogue that asks for a
    signature, which the page makes itself.
    """
    described: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
    del described["paths"]["/webhooks/realtimekit"], described["security"]
    del described["components"]["securitySchemes"]
    tags = [tag for tag in described["tags"] if tag["name"] != "webhooks"]
    info = {**described["info"], "description": _DESCRIPTION}
    servers = [{"url": API, "description": "The local stack."}]
    return {**described, "info": info, "tags": tags, "servers": servers}
