"""The control API: what a test does to a simulator in its own process, over HTTP and in JSON.

For those who run the simulator beside the local stack. It asks for no token, and answers 400 with
`{"error": …}` to what it cannot do.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, abort, request

from .delivery import Delivery
from .envelopes import as_json
from .faults import EFFECTS, Effect, Fault, Faults
from .gateway import CONTROL_PATH, LoggedRequest, RateLimit, RequestLog, Tokens
from .media_faults import MEDIA_EFFECTS
from .media_files import MediaFile
from .meetings import Meeting, Recording, Session
from .options import Kind, RecordingOptions, Status
from .shapes import timestamp
from .webhooks import Webhooks
from .world import ALL_PARTICIPANTS_LEFT, ConflictError, TimelineEvent, UnknownError, World

ALL_EFFECTS: Mapping[str, Callable[..., Effect]] = {**EFFECTS, **MEDIA_EFFECTS}

CHECKSUMS: Mapping[str, Callable[[MediaFile], str]] = {
    "sha256": MediaFile.sha256,
    "crc32": MediaFile.crc32,
}

RECORDING_ACTIONS: Mapping[str, Callable[[World, Recording], None]] = {
    "pause": lambda world, recording: world.pause(recording),
    "resume": lambda world, recording: world.resume(recording),
    "stop": lambda world, recording: world.stop(recording),
    "finish-upload": lambda world, recording: world.finish_upload(recording),
    "fail": lambda world, recording: world.fail(recording),
}


class Control:
    """The control API's endpoints; the first line of each one's docstring is its own manual."""

    def __init__(
        self,
        world: World,
        *,
        faults: Faults,
        tokens: Tokens,
        rate_limit: RateLimit,
        requests: RequestLog,
        webhooks: Webhooks,
    ) -> None:
        self._world = world
        self._faults = faults
        self._tokens = tokens
        self._rate_limit = rate_limit
        self._requests = requests
        self._webhooks = webhooks

    def blueprint(self) -> Blueprint:
        """The routes under `/_simulator`."""
        routes = Blueprint("control", __name__, url_prefix=CONTROL_PATH)
        for method, rule, view in self._routes():
            routes.add_url_rule(rule, view_func=view, methods=[method])
        for error in (ConflictError, KeyError, TypeError, ValueError, re.error):
            routes.register_error_handler(error, _refused)
        routes.register_error_handler(UnknownError, _unknown)
        return routes

    def index(self) -> Response:
        """What this is and what can be asked of it."""
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
                "effects": {name: _manual(effect) for name, effect in ALL_EFFECTS.items()},
                "webhooks": [webhook.url for webhook in self._webhooks.registrations.all()],
                "routes": {
                    f"{method} {CONTROL_PATH}{rule}": _text(view)
                    for method, rule, view in self._routes()
                },
            },
        )

    def clock(self) -> Response:
        """The simulated time, and simulated seconds per real second."""
        return as_json(200, self._clock())

    def set_clock(self) -> Response:
        """{"advance": seconds, "speed": factor}: jump ahead, let time pass faster."""
        wanted = _body("advance", "speed")
        if "speed" in wanted:
            self._world.clock.speed = wanted["speed"]
        self._world.clock.advance(wanted.get("advance", 0))
        return self.clock()

    def create_meeting(self) -> Response:
        """{"title", "recording_config", "record_on_start", "keep_alive_seconds"}: make a room."""
        wanted = _body("title", "recording_config", "record_on_start", "keep_alive_seconds")
        return _created(_meeting(self._world.create_meeting(**wanted)))

    def start_session(self) -> Response:
        """{"meeting_id", "participants"}: people join a meeting."""
        wanted = _body("meeting_id", "participants")
        meeting = self._world.meeting(wanted.pop("meeting_id"))
        return _created(_session(self._world.start_session(meeting, **wanted)))

    def end_session(self, session_id: str) -> Response:
        """{"reason": "ALL_PARTICIPANTS_LEFT" or "HOST_ENDED_MEETING"}: people leave, or must."""
        session = self._world.session(session_id)
        self._world.end_session(
            session, reason=_body("reason").get("reason", ALL_PARTICIPANTS_LEFT)
        )
        return as_json(200, _session(session))

    def record_meetings(self) -> Response:
        """{"title", "status", "duration", "started_at", "options", "count", "every"}: make whole
        recorded meetings, in the past unless "started_at" (ISO 8601, or "now") says otherwise.
        """
        wanted = _body("title", "status", "duration", "started_at", "options", "count", "every")
        count, every = wanted.pop("count", 1), wanted.pop("every", 3600)
        if wanted.get("started_at"):
            wanted["started_at"] = self._time(wanted["started_at"])
        if "status" in wanted:
            wanted["status"] = Status(wanted["status"])
        wanted["options"] = self._options(wanted.get("options", {}))
        recordings = self._world.record_meetings(count, every=every, **wanted)
        return _created({"recordings": [self._recording(recording) for recording in recordings]})

    def act_on_recording(self, recording_id: str, action: str) -> Response:
        """pause, resume, stop, finish-upload or fail a recording."""
        recording = self._world.recording(recording_id)
        if action not in RECORDING_ACTIONS:
            raise ValueError(f"a recording cannot {action}")
        RECORDING_ACTIONS[action](self._world, recording)
        return as_json(200, self._recording(recording))

    def list_media(self, recording_id: str) -> Response:
        """?checksum=sha256 (in hexadecimal) or crc32 (in base64, as S3 has it), or several: a
        recording's files, each with its URL; checksums take seconds for each few gigabytes.
        """
        recording = self._world.recording(recording_id)
        checksums = {name: CHECKSUMS[name] for name in request.args.getlist("checksum")}
        files = [
            {
                "file_name": file.artifact.file_name,
                "kind": file.artifact.kind,
                "layer": file.artifact.layer,
                "size": file.size,
                "content_type": file.content_type,
                "etag": file.etag,
                "url": self._world.media_url(recording, file.artifact),
                **{name: checksum(file) for name, checksum in checksums.items()},
            }
            for file in self._world.media_files(recording)
        ]
        return as_json(200, {"files": files})

    def timeline(self) -> Response:
        """?since=&until= (ISO 8601): what takes place between these times; until now by default."""
        since = self._time(request.args.get("since", "1970-01-01T00:00:00Z"))
        until = self._time(request.args.get("until", "now"))
        events = self._world.timeline(since, until)
        return as_json(200, {"events": [_event(event) for event in events]})

    def list_faults(self) -> Response:
        """Faults that requests can still meet."""
        return as_json(200, {"faults": [_fault(fault) for fault in self._faults.pending()]})

    def add_fault(self) -> Response:
        """{"effects": [{"effect": "error", "status": 503}, …], "path", "method", "times",
        "probability", "seed"}: let requests fail whose path and method match these regular
        expressions ("^/media/" is downloads); the next one, or as many as "times" says, null for
        all. What each effect takes and does is told in this index.
        """
        wanted = _body("effects", "path", "method", "times", "probability", "seed")
        effects = [_effect(effect) for effect in wanted.pop("effects", [])]
        return _created(_fault(self._faults.add(*effects, **wanted)))

    def clear_faults(self) -> Response:
        """Let all go well again."""
        self._faults.clear()
        return _done()

    def remove_fault(self, fault_id: int) -> Response:
        """Take one fault away."""
        self._faults.remove(fault_id)
        return _done()

    def add_token(self) -> Response:
        """{"token", "has_realtime": true}: make an API token valid, or valid for other things."""
        wanted = _body("token", "has_realtime")
        self._tokens.add(str(wanted.pop("token")), **wanted)
        return _done()

    def revoke_token(self) -> Response:
        """{"token"}: make an API token invalid."""
        self._tokens.revoke(str(_body("token")["token"]))
        return _done()

    def set_rate_limit(self) -> Response:
        """{"quota": requests or null, "window": seconds, "block": seconds}: limit requests."""
        wanted = {"quota": None, "window": 300, "block": 300, **_body("quota", "window", "block")}
        self._rate_limit.set(**wanted)
        return _done()

    def set_settings(self) -> Response:
        """{"reveals_secrets": bool, "undocumented": {"first_page": 0, …}, "deliveries":
        {"retries": 0, …}}: how to answer, and to deliver webhooks.
        """
        wanted = _body("reveals_secrets", "undocumented", "deliveries")
        undocumented = replace(self._world.undocumented, **wanted.get("undocumented", {}))
        rules = replace(self._webhooks.rules, **wanted.get("deliveries", {}))
        self._world.undocumented, self._webhooks.rules = undocumented, rules
        self._world.reveals_secrets = wanted.get("reveals_secrets", self._world.reveals_secrets)
        settings = {
            "reveals_secrets": self._world.reveals_secrets,
            "undocumented": asdict(undocumented),
            "deliveries": asdict(rules),
        }
        return as_json(200, settings)

    def list_requests(self) -> Response:
        """?path=&method= (regular expressions): the requests that came, without tokens, but with
        whether they had an Authorization header.
        """
        found = self._requests.matching(
            request.args.get("path", ""), request.args.get("method", "")
        )
        return as_json(
            200, {"count": len(found), "requests": [_request(logged) for logged in found]}
        )

    def clear_requests(self) -> Response:
        """Forget the requests that came."""
        self._requests.clear()
        return _done()

    def list_deliveries(self) -> Response:
        """?event=&outcome=: the deliveries of webhooks, each with all its attempts."""
        event, outcome = request.args.get("event"), request.args.get("outcome")
        found = [
            delivery
            for delivery in self._webhooks.log.all()
            if event in (None, delivery.message.event) and outcome in (None, delivery.outcome)
        ]
        return as_json(200, _deliveries(found))

    def deliver(self) -> Response:
        """{"since", "until" (ISO 8601, or "now"), "order": "timeline", "reversed" or "shuffled",
        "seed", "duplicates", "lost", "concurrency"}: deliver to webhooks what takes place between
        these times, again if it has been; by default all up to now.
        """
        wanted = _body("since", "until", "order", "seed", "duplicates", "lost", "concurrency")
        since = self._time(wanted.pop("since", "1970-01-01T00:00:00Z"))
        until = self._time(wanted.pop("until", "now"))
        return as_json(200, _deliveries(self._webhooks.deliver(since, until, **wanted)))

    def clear_deliveries(self) -> Response:
        """Forget the deliveries."""
        self._webhooks.log.clear()
        return _done()

    def send_event(self) -> Response:
        """{"event", "session_id", "recording_id", "at", "fields": {"streamKey": …}, "duplicates",
        "concurrency"}: deliver to webhooks an event of any of the nine names, about the session
        that started last unless told.
        """
        wanted = _body(
            "event", "session_id", "recording_id", "at", "fields", "duplicates", "concurrency"
        )
        if "session_id" in wanted:
            wanted["session"] = self._world.session(wanted.pop("session_id"))
        if "recording_id" in wanted:
            wanted["recording"] = self._world.recording(wanted.pop("recording_id"))
        if "at" in wanted:
            wanted["at"] = self._time(wanted["at"])
        return as_json(200, _deliveries(self._webhooks.send(wanted.pop("event"), **wanted)))

    def rotate_key(self) -> Response:
        """Sign webhooks with a new key from now on, and publish it."""
        self._webhooks.rotate_key()
        return as_json(200, {"public_key": self._webhooks.key.public_pem})

    def _routes(self) -> tuple[tuple[str, str, Callable[..., Response]], ...]:
        return (
            ("GET", "", self.index),
            ("GET", "/clock", self.clock),
            ("POST", "/clock", self.set_clock),
            ("POST", "/meetings", self.create_meeting),
            ("POST", "/sessions", self.start_session),
            ("POST", "/sessions/<session_id>/end", self.end_session),
            ("POST", "/recordings", self.record_meetings),
            ("POST", "/recordings/<recording_id>/<action>", self.act_on_recording),
            ("GET", "/recordings/<recording_id>/media", self.list_media),
            ("GET", "/timeline", self.timeline),
            ("GET", "/faults", self.list_faults),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/<int:fault_id>", self.remove_fault),
            ("POST", "/tokens", self.add_token),
            ("DELETE", "/tokens", self.revoke_token),
            ("PUT", "/rate-limit", self.set_rate_limit),
            ("PUT", "/settings", self.set_settings),
            ("GET", "/requests", self.list_requests),
            ("DELETE", "/requests", self.clear_requests),
            ("GET", "/deliveries", self.list_deliveries),
            ("POST", "/deliveries", self.deliver),
            ("DELETE", "/deliveries", self.clear_deliveries),
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

    def _options(self, wanted: dict[str, Any]) -> RecordingOptions:
        options = replace(self._world.defaults, **wanted)
        return replace(
            options,
            kind=Kind(options.kind),
            outcome=Status(options.outcome),
            layers=tuple(options.layers),
            never_set=tuple(options.never_set),
        )

    def _recording(self, recording: Recording) -> dict[str, Any]:
        # What is planned for later is not there yet.
        now = self._world.clock.now()
        return {
            "recording_id": recording.id,
            "session_id": recording.session.id,
            "meeting_id": recording.meeting.id,
            "title": recording.meeting.title,
            "status": recording.at(now).status if recording.exists(now) else None,
            "steps": [{"at": timestamp(at), "status": status} for at, status in recording.steps],
        }


def _meeting(meeting: Meeting) -> dict[str, Any]:
    return {"meeting_id": meeting.id, "title": meeting.title}


def _session(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "meeting_id": session.meeting.id,
        "started_at": timestamp(session.started_at),
        "ended_at": timestamp(session.ended_at),
        "recording_ids": [recording.id for recording in session.recordings],
    }


def _event(event: TimelineEvent) -> dict[str, Any]:
    return {
        "at": timestamp(event.at),
        "name": event.name,
        "meeting_id": event.session.meeting.id,
        "session_id": event.session.id,
        "recording_id": event.recording.id if event.recording else None,
        "status": event.status,
        "reason": event.reason,
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
    return {"count": len(deliveries), "deliveries": [_delivery(one) for one in deliveries]}


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


def _effect(wanted: dict[str, Any]) -> Effect:
    arguments = dict(wanted)
    return ALL_EFFECTS[arguments.pop("effect")](**arguments)


def _manual(effect: Callable[..., Effect]) -> str:
    """What an effect takes, and does."""
    return f"({', '.join(inspect.signature(effect).parameters)}) {_text(effect)}"


def _text(documented: object) -> str:
    return " ".join((inspect.getdoc(documented) or "").split())


def _body(*names: str) -> dict[str, Any]:
    content = request.get_json() if request.data else {}
    if not isinstance(content, dict) or not set(content) <= set(names):
        abort(400, f"the body must be a JSON object of {', '.join(names)}")
    return content


def _created(content: dict[str, Any]) -> Response:
    return as_json(201, content)


def _done() -> Response:
    return Response(status=204)


def _refused(error: Exception) -> Response:
    return as_json(400, {"error": str(error) or type(error).__name__})


def _unknown(error: UnknownError) -> Response:
    return as_json(404, {"error": str(error)})
