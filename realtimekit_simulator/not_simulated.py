"""RealtimeKit's documented routes and parameters that are not simulated: they answer 501.

A 404 would look like an unknown id, and the client's developer would search in the wrong place. A
test that needs an answer of such a route orders it as a fault.
"""

from flask import Blueprint, Response, request

from .envelopes import realtimekit_error

STATUS = 501
"""RealtimeKit documents no 501, so a client cannot mistake this answer for one of its own."""

ROUTES = (
    ("POST", "/apps"),
    ("GET", "/<app_id>/analytics/daywise"),
    ("GET", "/<app_id>/analytics/livestreams/daywise"),
    ("GET", "/<app_id>/analytics/livestreams/overall"),
    ("GET POST", "/<app_id>/livestreams"),
    ("GET", "/<app_id>/livestreams/sessions/<id>"),
    ("GET", "/<app_id>/livestreams/<id>"),
    ("GET", "/<app_id>/livestreams/<id>/active-livestream-session"),
    ("PATCH PUT", "/<app_id>/meetings/<id>"),
    ("GET", "/<app_id>/meetings/<id>/active-livestream"),
    ("POST", "/<app_id>/meetings/<id>/active-livestream/stop"),
    ("GET", "/<app_id>/meetings/<id>/active-session"),
    ("POST", "/<app_id>/meetings/<id>/active-session/kick"),
    ("POST", "/<app_id>/meetings/<id>/active-session/kick-all"),
    ("POST", "/<app_id>/meetings/<id>/active-session/poll"),
    ("POST", "/<app_id>/meetings/<id>/livestreams"),
    ("GET POST", "/<app_id>/meetings/<id>/participants"),
    ("GET PATCH DELETE", "/<app_id>/meetings/<id>/participants/<participant_id>"),
    ("POST", "/<app_id>/meetings/<id>/participants/<participant_id>/token"),
    ("GET POST", "/<app_id>/presets"),
    ("GET PATCH PUT DELETE", "/<app_id>/presets/<id>"),
    ("GET", "/<app_id>/sessions/peer-report/<id>"),
    ("GET", "/<app_id>/sessions/<id>/participants"),
    ("GET", "/<app_id>/sessions/<id>/participants/<participant_id>"),
    ("POST", "/<app_id>/sessions/<id>/summary"),
)
"""Methods and paths of Cloudflare's OpenAPI 4.0.0 (SDK 5.9.0, `resources/realtime_kit`)."""


class NotSimulatedError(Exception):
    """Raised for a documented route or parameter that is not simulated; its text names it."""


def add_routes(blueprint: Blueprint) -> None:
    """Let the documented routes and parameters that are not simulated answer so."""
    blueprint.register_error_handler(NotSimulatedError, answer)
    for number, (methods, rule) in enumerate(ROUTES):
        blueprint.add_url_rule(
            rule, endpoint=f"not_simulated_{number}", view_func=_refuse, methods=methods.split()
        )


def answer(error: NotSimulatedError) -> Response:
    """Return the answer to a request for a documented route or parameter that is not simulated."""
    return realtimekit_error(
        STATUS,
        f"not simulated: {error}. RealtimeKit documents it, this simulator lacks it. "
        "Order its answer as a fault: POST /_simulator/faults.",
    )


def _refuse(**_identifiers: str) -> Response:
    raise NotSimulatedError(f"{request.method} {request.path.partition('/realtime/kit')[2]}")
