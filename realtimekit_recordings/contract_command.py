"""`probe-realtimekit`: a comparison of RealtimeKit's answers with the forms that are known."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

from .contract import Comparison, Field, Verdict, faults
from .options import with_json, with_stack
from .output import Failure, print_json, print_rows
from .realtimekit import App, RealtimeKitError, TokenRefusedError, open_app
from .realtimekit_answers import ANSWERS, SESSION_FILES
from .stack import Stack

# A small page, since RealtimeKit documents no maximum.
MAX_LISTED = 25
MAX_RECORDINGS = 5
MAX_SESSIONS = 5

COLUMNS = ("", "Answer", "Field", "Form", "Verdict")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# The statuses of RealtimeKit's answers about an id for which it has nothing.
_NOTHING = (400, 404, 410, 422)


@click.command("probe-realtimekit")
@with_stack
@with_json
@click.pass_context
def probe_realtimekit(context: click.Context, stack: Stack, *, as_json: bool) -> None:
    """Compare RealtimeKit's answers with the forms that the service knows.

    The command only reads: the newest 25 recordings, up to five of them one by one, a session, and
    the files of up to five sessions. It sends at most 26 requests, and opens no file. The report
    names fields, their forms and verdicts, and shows no value, so it can be attached to an issue. A
    field that is unknown, missing or of another form is marked with !.

    The API token is read from the environment's CLOUDFLARE_API_TOKEN, or else from the stack's
    secret.

    \b
    Exit codes:
      0  All fields are known.
      1  A field is unknown, missing, or has another form.
      2  RealtimeKit did not answer, or refused a request.
    """
    token = os.environ.get("CLOUDFLARE_API_TOKEN") or stack.api_token()
    try:
        with open_app(stack, token) as app:
            report = Report()
            report.ask(app)
    except RealtimeKitError as error:
        raise Failure(_could_not_ask(error)) from None
    print_json(report.document()) if as_json else report.print()
    context.exit(1 if report.has_faults else 0)


class Report:
    """The comparisons of RealtimeKit's answers, by the names of `ANSWERS`."""

    def __init__(self) -> None:
        self.comparisons: dict[str, Comparison] = {}

    def ask(self, app: App) -> None:
        """Fetch and compare answers of each kind. Raises `RealtimeKitError`."""
        paging = {"page_no": "1", "per_page": str(MAX_LISTED)}
        sorting = {"sort_by": "invokedTime", "sort_order": "DESC"}
        listed = self._add("list", app.get("/recordings", {**paging, **sorting})).get("data")
        items = listed if isinstance(listed, list) else []
        recordings = [item for item in items if isinstance(item, Mapping)]
        for recording_id in itertools.islice(_different(recordings), MAX_RECORDINGS):
            self._fetch(app, "recording", f"/recordings/{recording_id}")
        sessions = list(dict.fromkeys(filter(None, map(_session_id, recordings))))[:MAX_SESSIONS]
        for session_id in sessions:
            if self._fetch(app, "session", f"/sessions/{session_id}"):
                break
        for name in SESSION_FILES:
            for session_id in sessions:
                answer = self._fetch(app, name, f"/sessions/{session_id}/{name}")
                if answer and self._has_url(name):
                    break

    def _fetch(self, app: App, name: str, path: str) -> Mapping[str, Any] | None:
        """Fetch an answer and compare it; return None if RealtimeKit has nothing there."""
        try:
            answer = app.get(path)
        except RealtimeKitError as error:
            if error.status in _NOTHING and not isinstance(error, TokenRefusedError):
                return None
            raise
        return self._add(name, answer)

    def _add(self, name: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        self.comparisons.setdefault(name, Comparison(ANSWERS[name])).add(answer)
        return answer

    def _has_url(self, name: str) -> bool:
        """Return True if a field of these answers was seen with a URL."""
        rows = self.comparisons[name].fields.values()
        return any("URL" in form for row in rows for form in row.forms)

    @property
    def not_seen(self) -> list[str]:
        """The kinds of answers of which RealtimeKit has none."""
        return [name for name in ANSWERS if name not in self.comparisons]

    @property
    def has_faults(self) -> bool:
        """True if a field is unknown, missing or of another form."""
        return any(any(faults(found.fields)) for found in self.comparisons.values())

    def document(self) -> dict[str, Any]:
        """Return the report as JSON."""
        fields = [
            {"answer": name, "field": path, "forms": sorted(row.forms), "verdict": row.verdict}
            | ({"known": row.known} if row.known else {})
            for name, path, row in self._rows()
        ]
        return {"known": not self.has_faults, "fields": fields, "not_seen": self.not_seen}

    def print(self) -> None:
        """Print the report as a table."""
        print_rows(COLUMNS, [_cells(*row) for row in self._rows()], ())
        if self.not_seen:
            click.echo(f"Not seen, because RealtimeKit has none: {', '.join(self.not_seen)}.")
        rows = [row for *_, row in self._rows()]
        different = sum(row.verdict is not Verdict.KNOWN for row in rows)
        click.echo(
            f"Unknown, missing or different: {different} of {len(rows)} fields. Open an issue, and "
            "attach this report, which shows no value."
            if different
            else "All fields are known."
        )

    def _rows(self) -> Iterator[tuple[str, str, Field]]:
        for name, comparison in self.comparisons.items():
            for path, row in comparison.fields.items():
                yield name, path, row


def _cells(name: str, path: str, row: Field) -> tuple[str, ...]:
    mark = "" if row.verdict is Verdict.KNOWN else "!"
    known = f" (known: {row.known})" if row.known else ""
    return mark, name, path, ", ".join(sorted(row.forms)), f"{row.verdict}{known}"


def _different(recordings: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the ids of recordings that may differ in form: by status, and by kind of URL."""
    seen = set()
    for recording in recordings:
        look = (str(recording.get("status")), type(recording.get("download_url")))
        recording_id = recording.get("id")
        if look not in seen and isinstance(recording_id, str) and _UUID.fullmatch(recording_id):
            seen.add(look)
            yield recording_id


def _session_id(recording: Mapping[str, Any]) -> str | None:
    session_id = recording.get("session_id") or recording.get("sessionId")
    is_id = isinstance(session_id, str) and _UUID.fullmatch(session_id)
    return session_id if is_id else None


def _could_not_ask(error: RealtimeKitError) -> str:
    """Return why a request failed, without RealtimeKit's own words, which may hold anything."""
    answer = f" (HTTP {error.status})" if error.status else ""
    if isinstance(error, TokenRefusedError):
        return (
            f"The API token is refused{answer}. It must be valid, and have the permission Realtime "
            "in this account."
        )
    if error.status == 404:
        return (
            "RealtimeKit does not know the app (HTTP 404). Check the stack's parameters "
            "CloudflareAccountId and RealtimeKitAppId."
        )
    if error.status == 429:
        return "Cloudflare limits the rate of requests (HTTP 429). Try again in five minutes."
    if error.status is None:
        return "RealtimeKit does not answer, or not with JSON. Try again later."
    return f"RealtimeKit cannot answer{answer}. Try again later."
