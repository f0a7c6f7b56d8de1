"""RealtimeKit's REST API for webhooks, as Cloudflare's OpenAPI 4.0.0 has it.

It names 400 for what does not validate, and no other status than that and 401; here 404 answers an
id that is not there, and 409 a URL that another webhook has.
"""

from typing import Any

from flask import Blueprint, Response

from .api import app_routes
from .envelopes import realtimekit_error, success
from .query import body, identifier
from .registrations import EVENTS, InvalidWebhookError, Registrations, Webhook, required
from .shapes import timestamp
from .world import World


class WebhookApi:
    """The endpoints; each public method is one, and reads its parameters from the request."""

    def __init__(self, world: World, registrations: Registrations) -> None:
        self._world = world
        self._registrations = registrations

    def blueprint(self) -> Blueprint:
        """The routes, below the account and the app that the world is."""
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
        """GET /webhooks."""
        return success([_shape(webhook) for webhook in self._registrations.all()])

    def create_webhook(self) -> Response:
        """POST /webhooks."""
        content = required(body())
        webhook = self._registrations.add(
            content["url"],
            name=content["name"],
            events=content["events"],
            enabled=content["enabled"],
        )
        return success(_shape(webhook), status=201)

    def list_events(self) -> Response:
        """GET /webhooks/all: not the webhooks, but all events that there are."""
        return success(list(EVENTS))

    def get_webhook(self, webhook_id: str) -> Response:
        """GET /webhooks/{webhook_id}."""
        return success(_shape(self._registrations.get(_identifier(webhook_id))))

    def edit_webhook(self, webhook_id: str) -> Response:
        """PATCH /webhooks/{webhook_id}: change what is in the body."""
        return success(_shape(self._registrations.change(_identifier(webhook_id), body())))

    def replace_webhook(self, webhook_id: str) -> Response:
        """PUT /webhooks/{webhook_id}: all must be in the body, but `enabled`."""
        content = required(body())
        return success(_shape(self._registrations.change(_identifier(webhook_id), content)))

    def delete_webhook(self, webhook_id: str) -> Response:
        """DELETE /webhooks/{webhook_id}: answers with what it was."""
        return success(_shape(self._registrations.remove(_identifier(webhook_id))))


def _identifier(webhook_id: str) -> str:
    return identifier(webhook_id, "id")


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
