"""RealtimeKit's REST API for webhooks, after Cloudflare's OpenAPI 4.0.0.

The OpenAPI names 400 for an invalid body, and 401. This API also answers 404 to an unknown id, and
409 to a URL that another webhook has.
"""

from typing import Any

from flask import Blueprint, Response

from .api import app_routes
from .clock import timestamp
from .envelopes import realtimekit_error, success
from .query import parse_identifier, read_body
from .registrations import EVENTS, InvalidWebhookError, Registrations, Webhook, require_fields
from .world import World


class WebhookApi:
    """Endpoints: each public method is one, and reads its parameters from the request."""

    def __init__(self, world: World, registrations: Registrations) -> None:
        self._world = world
        self._registrations = registrations

    def blueprint(self) -> Blueprint:
        """Return the routes below the world's account and app."""
        routes = app_routes("webhooks", self._world)
        for rule, method, view in (
            ("", "GET", self.list_webhooks),
            ("", "POST", self.create_webhook),
            ("/all", "GET", self.list_events),
            ("/<webhook_id>", "GET", self.get_webhook),
            ("/<webhook_id>", "PATCH", self.edit_webhook),
            ("/<webhook_id>", "PUT", self.replace_webhook),
            ("/<webhook_id>", "DELETE", self.delete_webhook),
        ):
            routes.add_url_rule(f"/<app_id>/webhooks{rule}", view_func=view, methods=[method])
        routes.register_error_handler(InvalidWebhookError, _invalid)
        return routes

    def list_webhooks(self) -> Response:
        """Answer GET /webhooks."""
        return success([_shape(webhook) for webhook in self._registrations.all()])

    def create_webhook(self) -> Response:
        """Answer POST /webhooks."""
        content = require_fields(read_body())
        webhook = self._registrations.add(
            content["url"],
            name=content["name"],
            events=content["events"],
            enabled=content["enabled"],
        )
        return success(_shape(webhook), status=201)

    def list_events(self) -> Response:
        """Answer GET /webhooks/all, which lists the names of all events."""
        return success(list(EVENTS))

    def get_webhook(self, webhook_id: str) -> Response:
        """Answer GET /webhooks/{webhook_id}."""
        return success(_shape(self._registrations.get(_identifier(webhook_id))))

    def edit_webhook(self, webhook_id: str) -> Response:
        """Answer PATCH /webhooks/{webhook_id}: change the fields in the body."""
        return success(_shape(self._registrations.change(_identifier(webhook_id), read_body())))

    def replace_webhook(self, webhook_id: str) -> Response:
        """Answer PUT /webhooks/{webhook_id}: the body has all fields; `enabled` is optional."""
        content = require_fields(read_body())
        return success(_shape(self._registrations.change(_identifier(webhook_id), content)))

    def delete_webhook(self, webhook_id: str) -> Response:
        """Answer DELETE /webhooks/{webhook_id} with the deleted webhook."""
        return success(_shape(self._registrations.remove(_identifier(webhook_id))))


def _identifier(webhook_id: str) -> str:
    return parse_identifier(webhook_id, "id")


def _shape(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": list(webhook.events),
        "enabled": webhook.enabled,
        "created_at": timestamp(webhook.created_at),
        "updated_at": timestamp(webhook.updated_at),
    }


def _invalid(error: InvalidWebhookError) -> Response:
    return realtimekit_error(400, f"BAD_REQUEST: {error}")
