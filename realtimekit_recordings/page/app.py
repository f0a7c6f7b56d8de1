"""The routes of the page: pages, fragments that its scripts put into them, and changes.

A page is there at once; what needs the API comes in fragments, each with its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any
from uuid import UUID

from flask import Flask, Response, g, redirect, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from .. import session_files
from ..api import Api, ApiError
from ..catalogue_commands import STATUSES
from ..output import printable
from ..transcripts import TranscriptError
from . import operations, plots, recording, texts, words
from .files import Files, NoTextError
from .filters import Filters
from .gate import Gate
from .runbook import runbook_html

# Browsers name a script's own requests so, unlike a visit to the address.
FRAGMENT_HEADER = "X-Fragment"
CONFIRM_CHARACTERS = 8
COPIED_LINK_SECONDS = (300, 900, 3600)
DOWNLOAD_SECONDS = 300
MAX_SWEEPS = 20
# The plots show at most so many of the newest recordings.
MAX_PLOTTED = 1000
MAX_DELAYS = 24
# The API's functions share the account's concurrency with all others.
MAX_CALLS_AT_ONCE = 4

Page = str | tuple[str, int] | AnyResponse


def create_app(
    api: Api, gate: Gate, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Flask:
    """Return the page of an API as a WSGI application, with all requests checked by the gate."""
    app = Flask(__name__)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals |= {"words": words, "place": printable(api.place), "files": session_files}
    gate.guard(app)
    files = Files(api, now)
    _add_list(app, api, now)
    _add_recording(app, api, files, now)
    _add_texts(app, api, files)
    _add_links(app, files)
    _add_changes(app, api, files)
    _add_annotations(app, api)
    _add_operations(app, api, now)
    _add_errors(app)
    return app


def _add_list(app: Flask, api: Api, now: Callable[[], datetime]) -> None:
    @app.get("/")
    def show_list() -> Page:
        filters = Filters.read(request.args)
        return render_template("list.html", filters=filters, statuses=STATUSES)

    @app.get("/rows")
    def show_rows() -> Page:
        filters = Filters.read(request.args)
        try:
            query = filters.query(request.args.get("cursor", ""))
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        answer = api.recordings_page(query)
        return render_template(
            "rows.html",
            rows=answer["recordings"],
            cursor=answer.get("next_cursor"),
            filters=filters,
            is_first="cursor" not in query,
            after_day=request.args.get("after_day", ""),
            now=now(),
        )

    @app.get("/recordings/<uuid:recording_id>/glance")
    def glance(recording_id: UUID) -> dict[str, Any]:
        """Return what a row of the list does not say: the files there are, and their state."""
        row = api.recording(str(recording_id))
        return {"state": words.archive_state(row, now())._asdict(), "kinds": words.kinds(row)}


def _add_recording(app: Flask, api: Api, files: Files, now: Callable[[], datetime]) -> None:
    @app.get("/recordings/<uuid:recording_id>")
    def show_recording(recording_id: UUID) -> Page:
        identifier = str(recording_id)
        with ThreadPoolExecutor(1) as threads:
            links = threads.submit(files.linked, identifier)
            row = api.recording(identifier)
            linked = links.result()
        g.media_origins = linked.origins
        offset = texts.offset_seconds(row)
        return render_template(
            "recording.html",
            row=row,
            linked=linked,
            state=words.archive_state(row, now()),
            facts=list(recording.facts(row)),
            steps=recording.timeline(row),
            stored=recording.files(row, linked, now()),
            label_of=recording.label_of,
            offset=offset,
            confirmation=identifier[:CONFIRM_CHARACTERS],
            link_seconds=COPIED_LINK_SECONDS,
        )


def _add_texts(app: Flask, api: Api, files: Files) -> None:
    @app.get("/recordings/<uuid:recording_id>/transcript")
    def show_transcript(recording_id: UUID) -> Page:
        lines = _sentences(api, files, str(recording_id))
        return render_template("lines.html", lines=lines, kind="sentences")

    @app.get("/recordings/<uuid:recording_id>/captions.vtt")
    def show_captions(recording_id: UUID) -> Page:
        captions = _captions(api, files, str(recording_id))
        return Response(captions, content_type="text/vtt; charset=utf-8")

    @app.get("/recordings/<uuid:recording_id>/summary")
    def show_summary(recording_id: UUID) -> Page:
        html = texts.summary_html(files.text(str(recording_id), "summary"))
        return render_template("summary.html", html=html)

    @app.get("/recordings/<uuid:recording_id>/chat")
    def show_chat(recording_id: UUID) -> Page:
        lines = _messages(api, files, str(recording_id))
        return render_template("lines.html", lines=lines, kind="messages")

    @app.errorhandler(NoTextError)
    def explain(error: NoTextError) -> Page:
        return render_template("no_text.html", reason=str(error), is_normal=error.is_normal)


def _sentences(api: Api, files: Files, recording_id: str) -> list[texts.Line]:
    """Return the sentences of a transcript. Raises `NoTextError` and `ApiError`."""
    source = files.text(recording_id, "transcript")
    try:
        lines = texts.transcript_lines(source, _offset(api, recording_id))
    except TranscriptError as error:
        raise NoTextError(f"{error} Download it to read it.") from None
    if not lines:
        raise NoTextError("The transcript has no sentences.", is_normal=True)
    return lines


def _captions(api: Api, files: Files, recording_id: str) -> str:
    """Return the captions, without a cue if there are none. Raises `ApiError`."""
    try:
        source = files.text(recording_id, "captions")
    except NoTextError:
        return "WEBVTT\n"
    return texts.shifted_captions(source, _offset(api, recording_id))


def _messages(api: Api, files: Files, recording_id: str) -> list[texts.Line]:
    """Return the messages of a chat. Raises `NoTextError` and `ApiError`."""
    source = files.text(recording_id, "chat")
    try:
        lines = texts.chat_lines(source, words.parse(api.recording(recording_id).get("started_at")))
    except ValueError:
        raise NoTextError("The chat has an unknown form. Download it to read it.") from None
    if not lines:
        raise NoTextError("Nobody wrote in the chat.", is_normal=True)
    return lines


def _offset(api: Api, recording_id: str) -> float:
    return texts.offset_seconds(api.recording(recording_id)) or 0


def _add_links(app: Flask, files: Files) -> None:
    @app.get("/recordings/<uuid:recording_id>/links")
    def renew_links(recording_id: UUID) -> dict[str, Any]:
        """Return new inline links for the player, with their hosts and the end of the first."""
        identifier = str(recording_id)
        artifact = request.args.get("artifact")
        if artifact is None:
            found = files.linked(identifier, renew=True).played
        else:
            found = [files.link(identifier, artifact, COPIED_LINK_SECONDS[-1], inline=True)]
        return {
            "links": [
                {name: link.get(name) for name in ("name", "url", "expires_at", "content_type")}
                for link in found
            ]
        }

    @app.get("/recordings/<uuid:recording_id>/download")
    def download(recording_id: UUID) -> Page:
        artifact = request.args.get("artifact", "")
        link = files.link(str(recording_id), artifact, DOWNLOAD_SECONDS, inline=False)
        return redirect(link["url"], HTTPStatus.SEE_OTHER)

    @app.post("/recordings/<uuid:recording_id>/link")
    def copy_link(recording_id: UUID) -> dict[str, str]:
        """Return a link to hand on. A POST, because the link is a credential."""
        given = _body()
        seconds = given.get("seconds")
        if seconds not in COPIED_LINK_SECONDS:
            raise ApiError(400, "A link lives 300, 900 or 3600 seconds.")
        artifact = str(given.get("artifact", ""))
        link = files.link(str(recording_id), artifact, seconds, inline=False)
        ends = words.parse(link["expires_at"])
        return {"url": link["url"], "until": words.minute(ends) if ends else ""}


def _add_changes(app: Flask, api: Api, files: Files) -> None:
    @app.post("/recordings/<uuid:recording_id>/sync")
    def sync(recording_id: UUID) -> dict[str, str]:
        try:
            api.sync(str(recording_id))
        except ApiError as error:
            raise _explained(error, "fetch recordings from RealtimeKit", "POST") from None
        files.forget(str(recording_id))
        return {"done": "The recording was fetched from RealtimeKit."}

    @app.post("/recordings/<uuid:recording_id>/erase")
    def erase(recording_id: UUID) -> dict[str, str]:
        identifier = str(recording_id)
        if _body().get("confirmation") != identifier[:CONFIRM_CHARACTERS]:
            raise ApiError(400, f"Type {identifier[:CONFIRM_CHARACTERS]} to erase this recording.")
        try:
            state = api.erase(identifier)
        except ApiError as error:
            raise _explained(error, "erase recordings", "DELETE") from None
        files.forget(identifier)
        if "erased_at" in state:
            return {"done": "The recording was erased, with all versions of its files."}
        return {"done": "The recording will be erased once its files have been archived."}


def _add_annotations(app: Flask, api: Api) -> None:
    @app.post("/recordings/<uuid:recording_id>/label")
    def label(recording_id: UUID) -> dict[str, str]:
        """Set a label, or remove it if its text is empty."""
        given = _body()
        name, value = str(given.get("name", "")), str(given.get("text", ""))
        _annotate(recording_id, {"labels": {name: value or None}})
        return {"done": f"The label {printable(name)} was {'set' if value else 'removed'}."}

    @app.post("/recordings/<uuid:recording_id>/hold")
    def hold(recording_id: UUID) -> dict[str, str]:
        _annotate(recording_id, {"hold": {"reason": str(_body().get("reason", ""))}})
        return {"done": "The recording is on hold, and cannot be erased until it is released."}

    @app.post("/recordings/<uuid:recording_id>/release")
    def release(recording_id: UUID) -> dict[str, str]:
        _annotate(recording_id, {"hold": None})
        return {"done": "The recording was released."}

    def _annotate(recording_id: UUID, patch: Mapping[str, Any]) -> None:
        try:
            api.annotate(str(recording_id), patch)
        except ApiError as error:
            raise _explained(error, "change labels and holds", "PATCH") from None


def _explained(error: ApiError, what: str, method: str) -> ApiError:
    """Return the error of a change, with the missing right if that is the reason."""
    if error.status != HTTPStatus.FORBIDDEN:
        return error
    return ApiError(
        error.status,
        f"Your AWS credentials may not {what}. They need the right execute-api:Invoke on {method} "
        "/recordings/*.",
    )


def _body() -> Mapping[str, Any]:
    body = request.get_json(silent=True)
    return body if isinstance(body, Mapping) else {}


def _add_operations(app: Flask, api: Api, now: Callable[[], datetime]) -> None:
    @app.get("/operations")
    def show_operations() -> Page:
        return render_template("operations.html")

    @app.get("/operations/health")
    def show_health() -> Page:
        health = api.health()
        return render_template(
            "health.html",
            word=operations.HEALTH[health["status"]],
            parts=operations.parts(health),
            queues=operations.queues(health),
            overdue=operations.overdue_seconds(health),
        )

    @app.get("/operations/sweeps")
    def show_sweeps() -> Page:
        reports = list(api.sweeps(MAX_SWEEPS))
        sweeps = [operations.sweep(report) for report in reports]
        waiting = operations.waiting(reports)
        return render_template("sweeps.html", sweeps=sweeps, waiting=waiting)

    @app.get("/operations/days")
    def show_days() -> Page:
        since = plots.days_until(now())[0].isoformat()
        rows = list(api.recordings(Filters(since=since).query(""), MAX_PLOTTED))
        counts, sizes = plots.by_day(rows, now())
        is_cut = len(rows) == MAX_PLOTTED
        return render_template("days.html", counts=counts, sizes=sizes, is_cut=is_cut, plots=plots)

    @app.get("/operations/delays")
    def show_delays() -> Page:
        newest = api.recordings_page({"archived": "yes", "limit": str(MAX_DELAYS)})["recordings"]
        with ThreadPoolExecutor(MAX_CALLS_AT_ONCE) as threads:
            rows = list(threads.map(_row_of(api), islice(newest, MAX_DELAYS)))
        plot = plots.archive_delays([row for row in rows if row])
        return render_template("delays.html", plot=plot, plots=plots)

    @app.get("/runbook")
    def show_runbook() -> Page:
        return render_template("runbook.html", html=runbook_html())


def _row_of(api: Api) -> Callable[[Mapping[str, Any]], Mapping[str, Any] | None]:
    """Return a function that fetches the whole row of a row of the list."""

    def fetch(listed: Mapping[str, Any]) -> Mapping[str, Any] | None:
        try:
            return api.recording(listed["recording_id"])
        except ApiError as error:
            # Erased since it was listed, which is no reason to show none of the others.
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                return None
            raise

    return fetch


TITLES = {
    0: "The API does not answer",
    400: "This was not understood",
    403: "Your AWS credentials are refused",
    404: "The catalogue does not have this recording",
    409: "There is no file to link to",
    410: "This recording was erased",
    503: "The service is busy",
}


def _add_errors(app: Flask) -> None:
    @app.errorhandler(ApiError)
    def explain(error: ApiError) -> tuple[Any, int]:
        status = error.status if error.status >= 400 else HTTPStatus.BAD_GATEWAY
        title = TITLES.get(error.status, "The API failed")
        return _error(title, str(error), status, can_retry=error.transient)

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Any, int]:
        status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
        if status == HTTPStatus.NOT_FOUND:
            return _error("There is no such page", "Go to the list of recordings.", status)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            reason = "This is a fault of ours; the terminal shows what happened."
            return _error("The page failed", reason, status)
        return _error("This was not understood", text_of(error), status)


def text_of(error: HTTPException) -> str:
    """Return the description of an error of HTTP."""
    return words.text(error.description)


def _error(title: str, reason: str, status: int, *, can_retry: bool = False) -> tuple[Any, int]:
    """Return an error in the form that the request expects: JSON, a fragment, or a page."""
    if request.method != "GET" or request.headers.get(FRAGMENT_HEADER) == "json":
        return {"error": printable(reason), "title": title}, status
    template = "error_fragment.html" if FRAGMENT_HEADER in request.headers else "error.html"
    page = render_template(template, title=title, reason=printable(reason), can_retry=can_retry)
    return page, status
