"""Control API under `/_simulator`: what Python does with a `Simulator`, over HTTP in JSON.

It needs no token. An invalid request is answered with 400 and `{"error": …}`.
"""

import base64
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, abort, request

from .clock import timestamp
from .delivery import Delivery
from .envelopes import as_json
from .faults import EFFECTS, Effect, Fault, Faults
from .gateway import CONTROL_PATH, LoggedRequest, RateLimit, RequestLog
from .media_faults import MEDIA_EFFECTS
from .media_files import StoredFile
from .meetings import Recording, Session
from .options import FilesOrder, Kind, RecordingOptions, SessionFileOptions, Status
from .session_files import SessionFile
from .webhooks import Webhooks
from .world import ALL_PARTICIPANTS_LEFT, ConflictError, UnknownError, World

ALL_EFFECTS: Mapping[str, Callable[..., Effect]] = {**EFFECTS, **MEDIA_EFFECTS}

CHECKSUMS: Mapping[str, Callable[[StoredFile], str]] = {
    "sha256": StoredFile.sha256,
    "crc32": StoredFile.crc32,
}


class Control:
    """Endpoints of the control API; the index shows their docstrings as the manual."""

    def __init__(
        self,
        world: World,
        *,
        faults: Faults,
        rate_limit: RateLimit,
        requests: RequestLog,
        webhooks: Webhooks,
    ) -> None:
        self._world = world
        self._faults = faults
        self._rate_limit = rate_limit
        self._requests = requests
        self._webhooks = webhooks

    def blueprint(self) -> Blueprint:
        """Return the routes under `/_simulator`."""
        routes = Blueprint("control", __name__, url_prefix=CONTROL_PATH)
        for method, rule, view in self._routes():
            routes.add_url_rule(rule, view_func=view, methods=[method])
        for error in (ConflictError, KeyError, TypeError, ValueError, re.error):
            routes.register_error_handler(error, _answer_invalid)
        routes.register_error_handler(UnknownError, _answer_unknown)
        return routes

    def index(self) -> Response:
        """Describe the simulator, its routes, and the effects that faults can have."""
        return as_json(
            200,
            {
                "simulator": "Cloudflare RealtimeKit",
                "account_id": self._world.account_id,
                "app_id": self._world.app_id,
                **self._clock(),
                "meetings": len(self._world.meetings()),
                "recordings": len(self._world.recordings()),
                "media": self._world.media_base_url,
                "effects": {name: _describe_effect(effect) for name, effect in ALL_EFFECTS.items()},
                "webhooks": [webhook.url for webhook in self._webhooks.registrations.all()],
                "routes": {
                    f"{method} {CONTROL_PATH}{rule}": _manual(view)
                    for method, rule, view in self._routes()
                },
            },
        )

    def clock(self) -> Response:
        """Return the simulated time, and the simulated seconds per real second."""
        return as_json(200, self._clock())

    def set_clock(self) -> Response:
        """Jump ahead, or change the speed: {"advance": seconds, "speed": factor}."""
        fields = _read_body("advance", "speed")
        if "speed" in fields:
            self._world.clock.speed = fields["speed"]
        self._world.clock.advance(fields.get("advance", 0))
        return self.clock()

    def start_session(self) -> Response:
        """Start a session of a meeting: {"meeting_id", "participants": 2, "session_files"}.

        "session_files" are as for POST /recordings; without them the meeting's flags count.
        """
        fields = _read_body("meeting_id", "participants", "session_files")
        meeting = self._world.meeting(fields.pop("meeting_id"))
        fields["session_files"] = _files_order(fields.get("session_files"))
        return _created(_session(self._world.start_session(meeting, **fields)))

    def end_session(self, session_id: str) -> Response:
        """End a session: {"reason": "ALL_PARTICIPANTS_LEFT" or "HOST_ENDED_MEETING"}."""
        session = self._world.session(session_id)
        self._world.end_session(
            session, reason=_read_body("reason").get("reason", ALL_PARTICIPANTS_LEFT)
        )
        return as_json(200, _session(session))

    def record_meetings(self) -> Response:
        """Make recorded meetings, in the past or from "started_at" (ISO 8601 or "now") on.

        Fields: {"title", "status", "duration", "started_at", "options", "playable", "count",
        "every", "session_files", "ai_config"}. With "playable": true browsers play the files, which
        have 20 seconds, the default "duration" then. "session_files" names each session's files:
        ["transcript", "summary", "chat"], or options by kind such as {"chat": {"available_after":
        3600, "announced_after": 10, "is_announced": false, "expires_after": 86400, "outcome":
        "file", "empty", "shared", "no file" or "no url", "content": "text"}}, with "content_base64"
        for bytes. Times are seconds after the session's end. "ai_config" shapes the summary.
        """
        fields = _read_body(
            "title",
            "status",
            "duration",
            "started_at",
            "options",
            "playable",
            "count",
            "every",
            "session_files",
            "ai_config",
        )
        count, every = fields.pop("count", 1), fields.pop("every", 3600)
        if fields.get("started_at"):
            fields["started_at"] = self._time(fields["started_at"])
        if "status" in fields:
            fields["status"] = Status(fields["status"])
        fields["options"] = self._options(fields.get("options", {}))
        fields["session_files"] = _files_order(fields.get("session_files"))
        recordings = self._world.record_meetings(count, every=every, **fields)
        return _created({"recordings": [self._recording(recording) for recording in recordings]})

    def list_media(self, recording_id: str) -> Response:
        """List a recording's files and their URLs, with ?checksum=sha256 or crc32 their checksums.

        SHA-256 is in hexadecimal, CRC-32 in base64 as in S3. Each takes seconds per gigabyte.
        """
        recording = self._world.recording(recording_id)
        files = [
            {
                "file_name": file.artifact.file_name,
                "kind": file.artifact.kind,
                "layer": file.artifact.layer,
                **_stored(file),
                "url": self._world.media_url(recording, file.artifact),
            }
            for file in self._world.media_files(recording)
        ]
        return as_json(200, {"files": files})

    def list_session_files(self, session_id: str) -> Response:
        """List the files that an ended session leaves, with their times and URLs; ?checksum= too.

        A file that comes in several formats is listed once for each.
        """
        session = self._world.session(session_id)
        if session.is_live(self._world.clock.now()):
            raise ConflictError("the session has not ended")
        return as_json(
            200,
            {"files": [self._session_file(file) for file in self._world.session_files(session)]},
        )

    def list_faults(self) -> Response:
        """List the faults that requests can still meet."""
        return as_json(200, {"faults": [_fault(fault) for fault in self._faults.pending()]})

    def add_fault(self) -> Response:
        """Let requests fail whose path and method match these regular expressions.

        Fields: {"effects": [{"effect": "error", "status": 503}, …], "path", "method", "times",
        "probability", "seed"}. "times" is 1 by default; null means all. The path "^/media/" means
        downloads. This index describes each effect.
        """
        fields = _read_body("effects", "path", "method", "times", "probability", "seed")
        effects = [_effect(effect) for effect in fields.pop("effects", [])]
        return _created(_fault(self._faults.add(*effects, **fields)))

    def clear_faults(self) -> Response:
        """Remove all faults."""
        self._faults.clear()
        return _done()

    def set_rate_limit(self) -> Response:
        """Limit requests: {"quota": requests or null, "window": seconds, "block": seconds}."""
        fields = {
            "quota": None,
            "window": 300,
            "block": 300,
            **_read_body("quota", "window", "block"),
        }
        self._rate_limit.set(**fields)
        return _done()

    def set_settings(self) -> Response:
        """Change how the API answers and how webhooks are delivered; return all settings.

        Fields: {"reveals_secrets": bool, "undocumented": {"first_page": 0, …}, "deliveries":
        {"retries": 0, …}}.
        """
        fields = _read_body("reveals_secrets", "undocumented", "deliveries")
        undocumented = replace(self._world.undocumented, **fields.get("undocumented", {}))
        rules = replace(self._webhooks.rules, **fields.get("deliveries", {}))
        self._world.undocumented, self._webhooks.rules = undocumented, rules
        self._world.reveals_secrets = fields.get("reveals_secrets", self._world.reveals_secrets)
        settings = {
            "reveals_secrets": self._world.reveals_secrets,
            "undocumented": asdict(undocumented),
            "deliveries": asdict(rules),
        }
        return as_json(200, settings)

    def list_requests(self) -> Response:
        """List the requests that arrived; ?path= and ?method= filter by regular expressions.

        A request's token is left out; "has_authorization" says whether the header was there.
        """
        logged_requests = self._requests.matching(
            request.args.get("path", ""), request.args.get("method", "")
        )
        return as_json(
            200,
            {
                "count": len(logged_requests),
                "requests": [_request(logged) for logged in logged_requests],
            },
        )

    def list_deliveries(self) -> Response:
        """List webhook deliveries with all their attempts; ?event= and ?outcome= filter."""
        event, outcome = request.args.get("event"), request.args.get("outcome")
        deliveries = [
            delivery
            for delivery in self._webhooks.log.all()
            if event in (None, delivery.message.event) and outcome in (None, delivery.outcome)
        ]
        return as_json(200, _deliveries(deliveries))

    def deliver(self) -> Response:
        """Deliver the events between two times to webhooks, even if delivered before.

        Fields: {"since", "until" (ISO 8601 or "now"), "order": "timeline", "reversed" or
        "shuffled", "seed", "duplicates", "lost", "concurrency"}. The default is everything so far.
        """
        fields = _read_body("since", "until", "order", "seed", "duplicates", "lost", "concurrency")
        since = self._time(fields.pop("since", "1970-01-01T00:00:00Z"))
        until = self._time(fields.pop("until", "now"))
        return as_json(200, _deliveries(self._webhooks.deliver(since, until, **fields)))

    def send_event(self) -> Response:
        """Deliver an event of any of the nine names to webhooks.

        Fields: {"event", "session_id", "recording_id", "at", "fields": {"streamKey": …},
        "duplicates", "concurrency"}. The default session is the last one that started.
        """
        fields = _read_body(
            "event", "session_id", "recording_id", "at", "fields", "duplicates", "concurrency"
        )
        if "session_id" in fields:
            fields["session"] = self._world.session(fields.pop("session_id"))
        if "recording_id" in fields:
            fields["recording"] = self._world.recording(fields.pop("recording_id"))
        if "at" in fields:
            fields["at"] = self._time(fields["at"])
        return as_json(200, _deliveries(self._webhooks.send(fields.pop("event"), **fields)))

    def rotate_key(self) -> Response:
        """Replace the key that signs webhooks; publish and return the new one."""
        self._webhooks.rotate_key()
        return as_json(200, {"public_key": self._webhooks.key.public_pem})

    def _routes(self) -> tuple[tuple[str, str, Callable[..., Response]], ...]:
        return (
            ("GET", "", self.index),
            ("GET", "/clock", self.clock),
            ("POST", "/clock", self.set_clock),
            ("POST", "/sessions", self.start_session),
            ("POST", "/sessions/<session_id>/end", self.end_session),
            ("GET", "/sessions/<session_id>/files", self.list_session_files),
            ("POST", "/recordings", self.record_meetings),
            ("GET", "/recordings/<recording_id>/media", self.list_media),
            ("GET", "/faults", self.list_faults),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("PUT", "/rate-limit", self.set_rate_limit),
            ("PUT", "/settings", self.set_settings),
            ("GET", "/requests", self.list_requests),
            ("GET", "/deliveries", self.list_deliveries),
            ("POST", "/deliveries", self.deliver),
            ("POST", "/events", self.send_event),
            ("POST", "/webhook-key", self.rotate_key),
        )

    def _clock(self) -> dict[str, Any]:
        return {"now": timestamp(self._world.clock.now()), "speed": self._world.clock.speed}

    def _time(self, text: str) -> datetime:
        if text == "now":
            return self._world.clock.now()
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def _options(self, fields: dict[str, Any]) -> RecordingOptions:
        options = replace(self._world.defaults, **fields)
        return replace(
            options,
            kind=Kind(options.kind),
            outcome=Status(options.outcome),
            layers=tuple(options.layers),
            never_set=tuple(options.never_set),
        )

    def _recording(self, recording: Recording) -> dict[str, Any]:
        # A recording that begins later has no status yet.
        now = self._world.clock.now()
        return {
            "recording_id": recording.id,
            "session_id": recording.session.id,
            "meeting_id": recording.meeting.id,
            "title": recording.meeting.title,
            "status": recording.at(now).status if recording.exists(now) else None,
            "steps": [{"at": timestamp(at), "status": status} for at, status in recording.steps],
        }

    def _session_file(self, file: SessionFile) -> dict[str, Any]:
        return {
            "kind": file.kind,
            "format": file.suffix,
            **_stored(file),
            "url": self._world.session_file_url(file),
            "available_at": timestamp(file.available_at),
            "announced_at": timestamp(file.announced_at),
            "is_stored": file.is_stored(self._world.clock.now()),
        }


def _stored(file: StoredFile) -> dict[str, Any]:
    """Return the description of a file, with the checksums that the request wants."""
    checksums = {name: CHECKSUMS[name] for name in request.args.getlist("checksum")}
    return {
        "size": file.size,
        "content_type": file.content_type,
        "etag": file.etag,
        **{name: checksum(file) for name, checksum in checksums.items()},
    }


def _files_order(order: Any) -> FilesOrder | None:
    """Return the files that a session is to leave, or None for those of its meeting."""
    if order is None:
        return None
    if not isinstance(order, dict):
        return list(order)
    return {kind: _file_options(dict(fields)) for kind, fields in order.items()}


def _file_options(fields: dict[str, Any]) -> SessionFileOptions:
    """Return a file's options; `content` is text, `content_base64` any bytes."""
    if "content" in fields:
        fields["content"] = bytes(fields["content"], "utf-8")
    if "content_base64" in fields:
        fields["content"] = base64.b64decode(fields.pop("content_base64"), validate=True)
    return SessionFileOptions(**fields)


def _session(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "meeting_id": session.meeting.id,
        "started_at": timestamp(session.started_at),
        "ended_at": timestamp(session.ended_at),
        "recording_ids": [recording.id for recording in session.recordings],
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "id": fault.id,
        "path": fault.path.pattern,
        "method": fault.method.pattern,
        "times": fault.times,
        "effects": [repr(effect) for effect in fault.effects],
    }


def _request(logged: LoggedRequest) -> dict[str, Any]:
    times = {name: timestamp(getattr(logged, name)) for name in ("simulated_at", "real_at")}
    return {**asdict(logged), **times}


def _deliveries(deliveries: list[Delivery]) -> dict[str, Any]:
    return {
        "count": len(deliveries),
        "deliveries": [_delivery(delivery) for delivery in deliveries],
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    message, webhook = delivery.message, delivery.webhook
    return {
        "event": message.event,
        "occurred_at": timestamp(message.occurred_at),
        "recording_id": message.recording_id,
        "webhook_id": webhook.id,
        "url": webhook.url,
        "outcome": delivery.outcome,
        "attempts": [
            {
                **asdict(attempt),
                "started_at": timestamp(attempt.started_at),
                "ended_at": timestamp(attempt.ended_at),
            }
            for attempt in delivery.attempts
        ],
    }


def _effect(fields: dict[str, Any]) -> Effect:
    arguments = dict(fields)
    return ALL_EFFECTS[arguments.pop("effect")](**arguments)


def _describe_effect(effect: Callable[..., Effect]) -> str:
    """Return an effect's parameters and its description."""
    return f"({', '.join(inspect.signature(effect).parameters)}) {_manual(effect)}"


def _manual(documented: object) -> str:
    return " ".join((inspect.getdoc(documented) or "").split())


def _read_body(*names: str) -> dict[str, Any]:
    content = request.get_json() if request.data else {}
    if not isinstance(content, dict) or not set(content) <= set(names):
        abort(400, f"the body must be a JSON object of {', '.join(names)}")
    return content


def _created(content: dict[str, Any]) -> Response:
    return as_json(201, content)


def _done() -> Response:
    return Response(status=204)


def _answer_invalid(error: Exception) -> Response:
    return as_json(400, {"error": str(error) or type(error).__name__})


def _answer_unknown(error: UnknownError) -> Response:
    return as_json(404, {"error": str(error)})
