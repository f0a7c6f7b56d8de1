"""RealtimeKit's REST API for apps, meetings, sessions and recordings.

Paths, parameters and shapes are those of Cloudflare's OpenAPI 4.0.0. Where it names no status, this
API answers 400 to a malformed id or parameter and 404 to an unknown id or another app. An action
that the state forbids is a 409, an invalid body a 422.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, abort, g, request

from . import not_simulated, shapes
from .envelopes import realtimekit_error, success
from .meetings import Meeting, Recording
from .not_simulated import NotSimulatedError
from .options import FileKind, Kind, RecordingOptions, Status
from .query import Query, parse_ai_config, parse_config, parse_identifier, read_body
from .world import ConflictError, UnknownError, World

ACCOUNT_PATH = "/client/v4/accounts/<account_id>/realtime/kit"
APP_PATH = f"{ACCOUNT_PATH}/<app_id>"

TRANSCRIPT_FORMATS = ("CSV", "JSON", "SRT", "VTT")


def app_routes(name: str, world: World) -> Blueprint:
    """Return a blueprint below the account: for the world's app only, with RealtimeKit's errors."""
    routes = Blueprint(name, __name__, url_prefix=ACCOUNT_PATH)

    @routes.before_request
    def in_this_app() -> None:
        """Remove account and app from the path, so that views do not take them as arguments."""
        path = request.view_args or {}
        path.pop("account_id", None)
        if path.pop("app_id", world.app_id) != world.app_id:
            raise UnknownError("no such app")

    routes.register_error_handler(UnknownError, _not_found)
    routes.register_error_handler(ConflictError, _conflict)
    return routes


class Api:
    """Endpoints: each public method is one, and reads its parameters from the request."""

    def __init__(self, world: World) -> None:
        self._world = world

    def blueprint(self) -> Blueprint:
        """Return the routes below the world's account and app."""
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
            ("/<app_id>/sessions/<session_id>/transcript", "GET", self.get_transcript),
            ("/<app_id>/sessions/<session_id>/summary", "GET", self.get_summary),
            ("/<app_id>/sessions/<session_id>/chat", "GET", self.get_chat),
            ("/<app_id>/meetings", "GET", self.list_meetings),
            ("/<app_id>/meetings", "POST", self.create_meeting),
            ("/<app_id>/meetings/<meeting_id>", "GET", self.get_meeting),
        ):
            routes.add_url_rule(rule, view_func=view, methods=[method])
        not_simulated.add_routes(routes)
        return routes

    def list_apps(self) -> Response:
        """Answer GET /apps."""
        paging = {"total_count": 1, "start_offset": 1, "end_offset": 1}
        return success([shapes.app(self._world)], paging=paging)

    def list_recordings(self) -> Response:
        """Answer GET /recordings."""
        query, now = Query(request.args), self._world.clock.now()
        query.refuse("expired", "search", "status", "start_time", "end_time")
        query.choice("sort_by", ("invokedTime",))
        recordings = self._recordings_of(query.identifier("meeting_id"))
        recordings.sort(key=lambda rec: rec.invoked_at, reverse=self._is_descending(query))
        page, paging = query.page(recordings, self._world.undocumented)
        items = [shapes.recording_item(self._world, rec, _shown_at(rec, now)) for rec in page]
        return success(items, paging=paging)

    def start_recording(self) -> Response:
        """Answer POST /recordings."""
        content = parse_config(read_body())
        meeting = self._meeting_to_record(content)
        config = {**meeting.recording_config, **content}
        options = RecordingOptions.from_config(config, self._world.defaults)
        allow_multiple = bool(content.get("allow_multiple_recordings"))
        return self._details(self._start(meeting, options, allow_multiple=allow_multiple))

    def start_track_recording(self) -> Response:
        """Answer POST /recordings/track as documented: layers are optional.

        RealtimeKit was seen to require layers, and to answer in `data` instead of `data.recording`
        (github.com/collectivewinca/ve-rooom, docs/CLOUDFLARE-REALTIMEKIT.md).
        """
        content = read_body()
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
        """Answer GET /recordings/active-recording/{meeting_id} with the newest that runs."""
        now = self._world.clock.now()
        active = self._world.meeting(parse_identifier(meeting_id, "meeting_id")).active_recordings(
            now
        )
        if not active:
            abort(404, "no active recording")
        return success(shapes.recording(self._world, active[-1], _shown_at(active[-1], now)))

    def get_recording(self, recording_id: str) -> Response:
        """Answer GET /recordings/{recording_id}."""
        recording = self._world.recording(parse_identifier(recording_id, "recording_id"))
        shape = self._shape(recording)
        return success({"recording": shape} if self._world.undocumented.wraps_recording else shape)

    def change_recording(self, recording_id: str) -> Response:
        """Answer PUT /recordings/{recording_id}: stop, pause or resume."""
        recording = self._world.recording(parse_identifier(recording_id, "recording_id"))
        match read_body().get("action"):
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
        """Answer GET /sessions."""
        query, now = Query(request.args), self._world.clock.now()
        query.refuse("search", "status", "start_time", "end_time", "participants")
        if query.choice("sort_by", ("createdAt", "minutesConsumed")) == "minutesConsumed":
            raise NotSimulatedError("the order by minutesConsumed")
        meeting_id = query.text("associated_id")
        sessions = [
            session for session in self._world.sessions() if meeting_id in ("", session.meeting.id)
        ]
        sessions.sort(key=lambda session: session.started_at, reverse=self._is_descending(query))
        page, paging = query.page(sessions, self._world.undocumented)
        shown = [shapes.session(self._world, session, now) for session in page]
        return success({"sessions": shown}, paging=paging)

    def get_session(self, session_id: str) -> Response:
        """Answer GET /sessions/{session_id}."""
        session = self._world.session(parse_identifier(session_id, "session_id"))
        shape = shapes.session(self._world, session, self._world.clock.now())
        return success({"session": shape} if self._world.undocumented.wraps_session else shape)

    def get_transcript(self, session_id: str) -> Response:
        """Answer GET /sessions/{session_id}/transcript."""
        chosen = Query(request.args).choice("format", TRANSCRIPT_FORMATS)
        return self._session_file(session_id, FileKind.TRANSCRIPT, chosen and chosen.lower())

    def get_summary(self, session_id: str) -> Response:
        """Answer GET /sessions/{session_id}/summary."""
        return self._session_file(session_id, FileKind.SUMMARY)

    def get_chat(self, session_id: str) -> Response:
        """Answer GET /sessions/{session_id}/chat."""
        return self._session_file(session_id, FileKind.CHAT)

    def list_meetings(self) -> Response:
        """Answer GET /meetings."""
        query = Query(request.args)
        query.refuse("search", "start_time", "end_time", "status")
        page, paging = query.page(self._world.meetings(), self._world.undocumented)
        return success([shapes.meeting(self._world, meeting) for meeting in page], paging=paging)

    def create_meeting(self) -> Response:
        """Answer POST /meetings."""
        content = read_body()
        meeting = self._world.create_meeting(
            title=str(content.get("title") or ""),
            recording_config=parse_config(content.get("recording_config") or {}),
            ai_config=parse_ai_config(content.get("ai_config") or {}),
            record_on_start=bool(content.get("record_on_start")),
            persist_chat=bool(content.get("persist_chat")),
            transcribe_on_end=bool(content.get("transcribe_on_end")),
            summarize_on_end=bool(content.get("summarize_on_end")),
            keep_alive_seconds=_keep_alive_seconds(content),
        )
        return success(shapes.meeting(self._world, meeting), status=201)

    def get_meeting(self, meeting_id: str) -> Response:
        """Answer GET /meetings/{meeting_id}."""
        meeting = self._world.meeting(parse_identifier(meeting_id, "meeting_id"))
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
        return self._world.meeting(parse_identifier(meeting_id, "meeting_id"))

    def _details(self, recording: Recording) -> Response:
        return success(self._shape(recording))

    def _shape(self, recording: Recording) -> dict[str, Any]:
        at = _shown_at(recording, self._world.clock.now())
        return shapes.recording_details(self._world, recording, at)

    def _session_file(self, session_id: str, kind: FileKind, suffix: str | None = None) -> Response:
        session = self._world.session(parse_identifier(session_id, "session_id"))
        file = self._world.session_file(session, kind, suffix)
        return success(shapes.session_file(self._world, file, self._world.clock.now()))

    def _recordings_of(self, meeting_id: str | None) -> list[Recording]:
        if meeting_id is None or not self._world.undocumented.filters_by_meeting:
            return self._world.recordings()
        return [rec for rec in self._world.recordings() if rec.meeting.id == meeting_id]

    def _is_descending(self, query: Query) -> bool:
        order = query.choice("sort_order", ("ASC", "DESC"))
        return (order or self._world.undocumented.default_sort) == "DESC"


def _shown_at(recording: Recording, now: datetime) -> datetime:
    """Return the moment at which to show a recording: an earlier one if a fault asks for it."""
    stale: Status | None = g.get("stale")
    return recording.last_moment_as(stale, now) if stale else now


def _keep_alive_seconds(content: Mapping[str, Any]) -> float:
    seconds = content.get("session_keep_alive_time_in_secs", 60)
    if not isinstance(seconds, int | float) or not 60 <= seconds <= 600:
        abort(422, '"session_keep_alive_time_in_secs" must be from 60 to 600')
    return seconds


def _not_found(error: UnknownError) -> Response:
    return realtimekit_error(404, str(error))


def _conflict(error: ConflictError) -> Response:
    return realtimekit_error(409, str(error))
