"""RealtimeKit's REST API over a world, as far as recordings go.

Paths, parameters and shapes are those of Cloudflare's OpenAPI 4.0.0. Where it names no status this
API answers: 400 to an id or parameter that cannot be read, 404 to what does not exist (another app
included), 409 to an action that the state does not allow, 422 to a body that does not validate.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, abort, g, request

from . import shapes
from .envelopes import realtimekit_error, success
from .meetings import Meeting, Recording, Session
from .options import Kind, RecordingOptions, Status
from .query import Query, body, identifier, validated_config
from .world import ConflictError, UnknownError, World

ACCOUNT_PATH = "/client/v4/accounts/<account_id>/realtime/kit"
APP_PATH = f"{ACCOUNT_PATH}/<app_id>"

TIME_RANGES: Mapping[str, Callable[[Recording], datetime]] = {
    "recording": lambda recording: recording.invoked_at,
    "session": lambda recording: recording.session.started_at,
    "meeting": lambda recording: recording.meeting.created_at,
}


def app_routes(name: str, world: World) -> Blueprint:
    """A blueprint of what is below the account: for the world's app, with RealtimeKit's errors."""
    routes = Blueprint(name, __name__, url_prefix=ACCOUNT_PATH)

    @routes.before_request
    def in_this_app() -> None:
        """Take the account and app out of the path, so that views need not ask for them."""
        path = request.view_args or {}
        path.pop("account_id", None)
        if path.pop("app_id", world.app_id) != world.app_id:
            raise UnknownError("no such app")

    routes.register_error_handler(UnknownError, _not_found)
    routes.register_error_handler(ConflictError, _conflict)
    return routes


class Api:
    """The endpoints; each public method is one, and reads its parameters from the request."""

    def __init__(self, world: World) -> None:
        self._world = world

    def blueprint(self) -> Blueprint:
        """The routes, below the account and the app that the world is."""
        routes = app_routes("realtimekit", self._world)
        for rule, method, view in (
            ("/apps", "GET", self.list_apps),
            ("/<app_id>/recordings", "GET", self.list_recordings),
            ("/<app_id>/recordings", "POST", self.start_recording),
            ("/<app_id>/recordings/track", "POST", self.start_track_recording),
            ("/<app_id>/recordings/active-recording/<meeting_id>", "GET", self.active_recording),
            ("/<app_id>/recordings/<recording_id>", "GET", self.get_recording),
            ("/<app_id>/recordings/<recording_id>", "PUT", self.change_recording),
            ("/<app_id>/sessions", "GET", self.list_sessions),
            ("/<app_id>/sessions/<session_id>", "GET", self.get_session),
            ("/<app_id>/meetings", "GET", self.list_meetings),
            ("/<app_id>/meetings", "POST", self.create_meeting),
            ("/<app_id>/meetings/<meeting_id>", "GET", self.get_meeting),
        ):
            routes.add_url_rule(rule, view_func=view, methods=[method])
        return routes

    def list_apps(self) -> Response:
        """GET /apps."""
        paging = {"total_count": 1, "start_offset": 1, "end_offset": 1}
        return success([shapes.app(self._world)], paging=paging)

    def list_recordings(self) -> Response:
        """GET /recordings."""
        query, now = Query(request.args), self._world.clock.now()
        query.choice("sort_by", ("invokedTime",))
        order = query.choice("sort_order", ("ASC", "DESC")) or self._world.undocumented.default_sort
        found = list(filter(self._recording_filter(query, now), self._world.recordings()))
        found.sort(key=lambda recording: recording.invoked_at, reverse=order == "DESC")
        page, paging = query.page(found, self._world.undocumented)
        items = [shapes.recording_item(self._world, rec, _seen_at(rec, now)) for rec in page]
        return success(items, paging=paging)

    def start_recording(self) -> Response:
        """POST /recordings."""
        content = validated_config(body())
        meeting = self._meeting_to_record(content)
        config = {**meeting.recording_config, **content}
        options = RecordingOptions.from_config(config, self._world.defaults)
        allow_multiple = bool(content.get("allow_multiple_recordings"))
        return self._details(self._start(meeting, options, allow_multiple=allow_multiple))

    def start_track_recording(self) -> Response:
        """POST /recordings/track, as documented: layers are optional, answer in `data.recording`.

        The real one has been seen to require layers and to put the recording in `data` itself
        (github.com/collectivewinca/ve-rooom, docs/CLOUDFLARE-REALTIMEKIT.md).
        """
        content = body()
        meeting = self._meeting_to_record(content)
        layers, user_ids = content.get("layers") or {"default": {}}, content.get("user_ids") or []
        if not isinstance(layers, dict) or not isinstance(user_ids, list):
            abort(422, '"layers" must be an object and "user_ids" an array')
        options = replace(
            self._world.defaults,
            kind=Kind.TRACK,
            layers=tuple(layers),
            participants=len(user_ids) or self._world.defaults.participants,
        )
        recording = self._start(meeting, options, allow_multiple=True)
        shape = shapes.recording(self._world, recording, self._world.clock.now())
        return success({"recording": {**shape, "type": "TRACK"}})

    def active_recording(self, meeting_id: str) -> Response:
        """GET /recordings/active-recording/{meeting_id}: the newest one that is not stopped."""
        now = self._world.clock.now()
        active = self._world.meeting(identifier(meeting_id, "meeting_id")).active_recordings(now)
        if not active:
            abort(404, "no active recording")
        return success(shapes.recording(self._world, active[-1], _seen_at(active[-1], now)))

    def get_recording(self, recording_id: str) -> Response:
        """GET /recordings/{recording_id}."""
        recording = self._world.recording(identifier(recording_id, "recording_id"))
        shape = self._shape(recording)
        return success({"recording": shape} if self._world.undocumented.wraps_recording else shape)

    def change_recording(self, recording_id: str) -> Response:
        """PUT /recordings/{recording_id}: stop, pause or resume."""
        recording = self._world.recording(identifier(recording_id, "recording_id"))
        match body().get("action"):
            case "stop":
                self._world.stop(recording)
            case "pause":
                self._world.pause(recording)
            case "resume":
                self._world.resume(recording)
            case _:
                abort(422, '"action" must be one of stop, pause, resume')
        return self._details(recording)

    def list_sessions(self) -> Response:
        """GET /sessions."""
        query, now = Query(request.args), self._world.clock.now()
        order = query.choice("sort_order", ("ASC", "DESC")) or self._world.undocumented.default_sort
        found = list(filter(_session_filter(query, now), self._world.sessions()))
        by_minutes = query.choice("sort_by", ("minutesConsumed", "createdAt")) == "minutesConsumed"
        found.sort(
            key=lambda one: (one.minutes_consumed(now) if by_minutes else 0, one.started_at),
            reverse=order == "DESC",
        )
        page, paging = query.page(found, self._world.undocumented)
        sessions = [shapes.session(self._world, one, now) for one in page]
        return success({"sessions": sessions}, paging=paging)

    def get_session(self, session_id: str) -> Response:
        """GET /sessions/{session_id}."""
        session = self._world.session(identifier(session_id, "session_id"))
        shape = shapes.session(self._world, session, self._world.clock.now())
        return success({"session": shape} if self._world.undocumented.wraps_session else shape)

    def list_meetings(self) -> Response:
        """GET /meetings."""
        query = Query(request.args)
        within, search = _time_range(query), query.text("search")
        found = [
            meeting
            for meeting in self._world.meetings()
            if _found(search, meeting.id, meeting.title) and within(meeting.created_at)
        ]
        page, paging = query.page(found, self._world.undocumented)
        return success([shapes.meeting(self._world, meeting) for meeting in page], paging=paging)

    def create_meeting(self) -> Response:
        """POST /meetings."""
        content = body()
        meeting = self._world.create_meeting(
            title=str(content.get("title") or ""),
            recording_config=validated_config(content.get("recording_config") or {}),
            record_on_start=bool(content.get("record_on_start")),
            keep_alive_seconds=_keep_alive(content),
        )
        return success(shapes.meeting(self._world, meeting), status=201)

    def get_meeting(self, meeting_id: str) -> Response:
        """GET /meetings/{meeting_id}."""
        meeting = self._world.meeting(identifier(meeting_id, "meeting_id"))
        return success(shapes.meeting(self._world, meeting))

    def _start(
        self, meeting: Meeting, options: RecordingOptions, *, allow_multiple: bool
    ) -> Recording:
        session = meeting.live_session(self._world.clock.now())
        if session is None:
            raise ConflictError("the meeting has no active session")
        return self._world.start_recording(session, options, allow_multiple=allow_multiple)

    def _meeting_to_record(self, content: Mapping[str, Any]) -> Meeting:
        meeting_id = content.get("meeting_id")
        if not isinstance(meeting_id, str):
            abort(422, '"meeting_id" is required')
        return self._world.meeting(identifier(meeting_id, "meeting_id"))

    def _details(self, recording: Recording) -> Response:
        return success(self._shape(recording))

    def _shape(self, recording: Recording) -> dict[str, Any]:
        at = _seen_at(recording, self._world.clock.now())
        return shapes.recording_details(self._world, recording, at)

    def _recording_filter(self, query: Query, now: datetime) -> Callable[[Recording], bool]:
        meeting_id, expired = query.identifier("meeting_id"), query.flag("expired")
        if not self._world.undocumented.filters_by_meeting:
            meeting_id = None
        statuses, search = query.choices("status", tuple(Status)), query.text("search")
        within, ranged_at = _time_range(query), TIME_RANGES[self._world.undocumented.time_range]

        def is_so_far(recording: Recording) -> bool:
            seen = recording.at(_seen_at(recording, now))
            gone = seen.expires_at is not None and seen.expires_at <= now
            return expired in (None, gone) and (not statuses or seen.status in statuses)

        def matches(recording: Recording) -> bool:
            return (
                meeting_id in (None, recording.meeting.id)
                and _found(search, recording.meeting.id, recording.meeting.title)
                and within(ranged_at(recording))
                # Of a long list it takes most of the time: only where it is asked for.
                and ((expired is None and not statuses) or is_so_far(recording))
            )

        return matches


def _seen_at(recording: Recording, now: datetime) -> datetime:
    """The moment to show it at: the present, unless a fault makes this answer a stale one."""
    stale: Status | None = g.get("stale")
    return recording.last_moment_as(stale, now) if stale else now


def _session_filter(query: Query, now: datetime) -> Callable[[Session], bool]:
    status, search = query.choice("status", ("LIVE", "ENDED")), query.text("search")
    associated_id, within = query.text("associated_id"), _time_range(query)

    def matches(session: Session) -> bool:
        return (
            associated_id in ("", session.meeting.id)
            and status in (None, "LIVE" if session.is_live(now) else "ENDED")
            and _found(search, session.id, session.meeting.id, session.meeting.title)
            and within(session.started_at)
        )

    return matches


def _found(search: str, *texts: str) -> bool:
    return not search or any(search.lower() in text.lower() for text in texts)


def _time_range(query: Query) -> Callable[[datetime], bool]:
    start, end = query.time("start_time"), query.time("end_time")
    return lambda at: (start is None or start <= at) and (end is None or at <= end)


def _keep_alive(content: Mapping[str, Any]) -> float:
    seconds = content.get("session_keep_alive_time_in_secs", 60)
    if not isinstance(seconds, int | float) or not 60 <= seconds <= 600:
        abort(422, '"session_keep_alive_time_in_secs" must be from 60 to 600')
    return seconds


def _not_found(error: UnknownError) -> Response:
    return realtimekit_error(404, str(error))


def _conflict(error: ConflictError) -> Response:
    return realtimekit_error(409, str(error))
