"""RealtimeKit's REST API for recordings and sessions, over urllib3.

The client does not wait. It repeats a request only with a renewed token, or if a kept connection
was dead; the caller decides when to try again. Each failure is a `RealtimeKitError`:

    RealtimeKitError
    ├── NotFoundError         RealtimeKit does not know the id (404, 410), or refuses it (400, 422)
    ├── UnauthorizedError     the API token is refused, or missing
    ├── ThrottledError        429: try again after `retry_after` seconds
    │   └── BudgetSpentError  our own budget is spent: the request was not sent
    ├── UnavailableError      network trouble, a time-out, 5xx
    └── UnintelligibleError   an answer that the documentation does not allow
        └── RefusedError      400, 422: RealtimeKit refuses the request
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from recordings.bounded_http import Answer, AnswerTooLargeError, fetch
from recordings.model import (
    Artifact,
    MalformedRecordingError,
    Recording,
    load_json,
    session_file,
    text,
    time_of,
    uuid,
)

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# 2 s + 6 s: three unanswered requests (two with a refused token, one for the session) fit API
# Gateway's limit of 29 s.
TIMEOUT = urllib3.Timeout(connect=2, read=6)
# 8 s: an answer whose packets all come within TIMEOUT. Its last packet may add 6 s.
MAX_ANSWER_SECONDS = 8
# 16 MiB hold a page of a hundred TRACK recordings with a hundred URLs of 1 KB each, and also one
# recording of 5,000 files with URLs of 2 KB.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

PAGE_SIZE = 100
# RealtimeKit documents no maximum. If it refuses a page of a hundred, this size is requested.
SMALLER_PAGE_SIZE = 25
MAX_PAGES = 100
MAX_LIST_SECONDS = 20

# For a 429 without Retry-After: "blocked for the next five minutes" (Cloudflare docs, API rate
# limits).
PENALTY_SECONDS = 300
MAX_RETRY_AFTER_SECONDS = 3600
REREAD_SECONDS = 30

_AUTHENTICATION_ERROR = 10000

# A summary is only ever read: a POST would create one, and costs money.
_SESSION_FILE_ROUTES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "transcript": ("transcript", {"format": "JSON"}),
    "captions": ("transcript", {"format": "VTT"}),
    "summary": ("summary", {}),
    "chat": ("chat", {}),
}


class RealtimeKitError(Exception):
    """Raised when a request to RealtimeKit fails.

    `cause` names the kind in one word. `retry_after` is in seconds, or None if no time was given.
    The text and the attributes hold no secret.
    """

    cause = "unknown"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after

    @property
    def metric(self) -> str:
        """The name of the metric that counts requests postponed for this cause."""
        return f"Postponed{self.cause.title().replace('_', '')}"


class NotFoundError(RealtimeKitError):
    """Raised when RealtimeKit has no such id in our app, or no such file; it may a moment later.

    RealtimeKit documents no status for an unknown id, or for a session without the wanted file. A
    400 or 422 to a request by id counts as one.
    """

    cause = "not_found"


class UnauthorizedError(RealtimeKitError):
    """Raised when the API token is missing, unreadable, or refused even after it was read again."""

    cause = "unauthorized"


class ThrottledError(RealtimeKitError):
    """Raised on a 429; `retry_after` is always set."""

    cause = "throttled"


class BudgetSpentError(ThrottledError):
    """Raised instead of sending a request if the shared budget is spent."""

    cause = "budget_spent"


class UnavailableError(RealtimeKitError):
    """Raised when RealtimeKit is unreachable, too slow, or answers 408 or 5xx."""

    cause = "unavailable"


class UnintelligibleError(RealtimeKitError):
    """Raised for an answer that is neither the expected one nor a known error."""

    cause = "unintelligible"


class RefusedError(UnintelligibleError):
    """Raised when RealtimeKit itself, not Cloudflare's gateway, answers 400 or 422."""


Observe = Callable[[str, str, float], None]
"""A function that records a metric: its name, its unit as CloudWatch spells it, and a value."""


class Budget(Protocol):
    """The requests that may be sent, shared by all functions."""

    used: float
    """The used part of the budget at the last request, in percent."""

    def take(self) -> int:
        """Take one request; return 0, or the seconds to wait if the budget is spent."""

    def reserve(self, count: int) -> None:
        """Take so many requests at once for the next calls of `take`, if there is room."""

    def close(self, seconds: int) -> None:
        """Let no function send a request for so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of a meeting, which is a reusable room; None means unknown."""

    started_at: datetime | None
    meeting_id: str | None
    meeting_title: str | None
    organization_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A page of the list of all recordings, in the order in which they were invoked.

    `size` counts the page's items, including those that are not readable as recordings. `start` is
    the place of the first item in the list, counted from 1. `total` is the length of the list.
    `start` and `total` are 0 if the answer lacks them, or gives impossible ones.
    """

    recordings: tuple[Recording, ...]
    size: int
    start: int
    total: int


class ApiToken:
    """The API token in Secrets Manager, `{"api_token": "…"}`, cached for five minutes."""

    def __init__(
        self, secretsmanager: SecretsManagerClient, secret_id: str, max_age: float = 300
    ) -> None:
        self._secretsmanager = secretsmanager
        self._secret_id = secret_id
        self._max_age = max_age
        self._value: str | None = None
        self._read_at = 0.0

    def value(self) -> str:
        """Return the token, a cached one if Secrets Manager fails. Raises `UnauthorizedError`."""
        if self._value and time.monotonic() - self._read_at < self._max_age:
            return self._value
        try:
            return self.read()
        except UnauthorizedError:
            if self._value is None:
                raise
            # An outage of Secrets Manager makes each read slow, so the next one comes 30 s later.
            self._read_at = time.monotonic() - self._max_age + REREAD_SECONDS
            return self._value

    def read(self) -> str:
        """Read the token past the cache. Raises `UnauthorizedError` if that fails."""
        try:
            answer = self._secretsmanager.get_secret_value(SecretId=self._secret_id)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise UnauthorizedError(f"the API token's secret cannot be read: {code}") from error
        except BotoCoreError as error:
            raise UnauthorizedError("Secrets Manager cannot be reached") from error
        try:
            token = json.loads(answer["SecretString"])["api_token"]
        except (KeyError, TypeError, ValueError):
            # `from None`: a JSONDecodeError carries the secret's text.
            raise UnauthorizedError('the API token\'s secret is not {"api_token": "…"}') from None
        if not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
            raise UnauthorizedError(
                "the secret's api_token is empty, or has spaces or non-ASCII characters"
            )
        self._value, self._read_at = token, time.monotonic()
        return token


class RealtimeKit:
    """The recordings of one app. `app_url` is `…/accounts/{account_id}/realtime/kit/{app_id}`.

    `observe` records each request's `BudgetUsed` and `UpstreamLatency`, and its status as one of
    `Upstream2xx`, `Upstream3xx`, `Upstream4xx`, `Upstream429`, `Upstream5xx`, `UpstreamNoAnswer`.
    It also records `TokenRefused`, whenever the token does not work.
    """

    def __init__(
        self,
        app_url: str,
        token: ApiToken,
        budget: Budget,
        http: urllib3.PoolManager | None = None,
        timeout: urllib3.Timeout = TIMEOUT,
        observe: Observe = lambda name, unit, value: None,
    ) -> None:
        self._app_url = app_url.rstrip("/")
        self._token = token
        self._budget = budget
        self._http = http or urllib3.PoolManager(ssl_context=ssl.create_default_context())
        self._timeout = timeout
        self._observe = observe
        self._page_size = PAGE_SIZE

    def recording(self, recording_id: str) -> Recording:
        """Fetch a recording. RealtimeKit's answer has all fields but the meeting.

        Raises `ValueError` for an id that is not a UUID, before a request, or `RealtimeKitError`.
        """
        recording = _recording(self._get_by_id(f"/recordings/{_checked(recording_id)}"))
        self._observe_left_out(recording)
        if recording.recording_id != uuid(recording_id):
            raise UnintelligibleError("the answer is about another recording")
        return recording

    def connect(self) -> None:
        """Open the connection without token and budget. Raises urllib3's errors."""
        url = urlsplit(self._app_url)
        self._http.request(
            "HEAD",
            f"{url.scheme}://{url.netloc}/",
            timeout=self._timeout,
            retries=False,
            redirect=False,
        )

    def reserve(self, requests: int) -> None:
        """Take so many requests from the budget at once, because they follow one another."""
        self._budget.reserve(requests)

    def probe(self) -> None:
        """Fetch a list of one recording. Raises `RealtimeKitError` unless the token is accepted."""
        self._page({}, 1, per_page=1)

    def recordings(self, *, meeting_id: str) -> Iterator[Recording]:
        """Yield the meeting's recordings, each once, newest first, without start and stop reasons.

        RealtimeKit has been seen to ignore the meeting and to list the whole app. Recordings of
        other meetings are skipped then, and no further page is fetched.

        Raises `ValueError` for an id that is not a UUID, before a request, or `RealtimeKitError`.
        Unreadable items raise it after the readable ones were yielded.
        """
        wanted = _checked(meeting_id)
        seen: set[str] = set()
        unreadable = 0
        for page in self._pages({"meeting_id": wanted}):
            recordings, skipped = self._readable(page)
            unreadable += skipped
            for recording in recordings:
                is_ours = recording.meeting_id in (None, wanted)
                if is_ours and recording.recording_id not in seen:
                    seen.add(recording.recording_id)
                    yield recording
            if any(recording.meeting_id not in (None, wanted) for recording in recordings):
                break
        if unreadable:
            raise UnintelligibleError(f"{unreadable} items of the list are not recordings")

    def page(self, number: int) -> ListPage:
        """Fetch a page of all recordings of the app, without start and stop reasons.

        RealtimeKit does not document whether pages count from 0 or from 1, so page 0 may be empty
        or equal page 1. Raises `RealtimeKitError`, also if the items are not recordings, or not in
        order.
        """
        page = self._page({}, number, order="ASC")
        recordings, _ = self._readable(page)
        if page.items and not recordings:
            raise UnintelligibleError("the list has items, but not one recording")
        times = [recording.invoked_at for recording in recordings if recording.invoked_at]
        if times != sorted(times):
            raise UnintelligibleError("the list is not in ascending order of invokedTime")
        is_counted = page.end - page.start + 1 == len(page.items)
        return ListPage(
            recordings=tuple(recordings),
            size=len(page.items),
            start=page.start if is_counted else 0,
            total=page.total,
        )

    def session(self, session_id: str) -> Session:
        """Fetch a session, whose fields were seen in `data` and in `data.session`.

        Raises `ValueError` for an id that is not a UUID, before a request, or `RealtimeKitError`.
        """
        data = self._get_by_id(f"/sessions/{_checked(session_id)}")
        outer = data if isinstance(data, Mapping) else {}
        inner = outer.get("session")
        fields = inner if isinstance(inner, Mapping) else outer
        if not fields or (fields is outer and "id" not in outer):
            raise UnintelligibleError("the answer is not a session")
        if uuid(fields.get("id", session_id)) != uuid(session_id):
            raise UnintelligibleError("the answer is about another session")
        return Session(
            started_at=time_of(fields.get("started_at")) or time_of(fields.get("startedAt")),
            # A V1 meeting has the name of its room here, which is not an id.
            meeting_id=uuid(fields.get("associated_id")),
            meeting_title=text(fields.get("meeting_display_name")),
            organization_id=text(fields.get("organization_id")),
        )

    def session_file(self, session_id: str, kind: str) -> Artifact | None:
        """Fetch the URL of a session's file of a kind of `SESSION_FILES`.

        Return None if RealtimeKit offers no such file. An answer with a URL promises no content,
        because the file may be empty.

        Raises `ValueError` for an id that is not a UUID, before a request, or `RealtimeKitError`.
        """
        wanted = _checked(session_id)
        route, parameters = _SESSION_FILE_ROUTES[kind]
        data = self._get_by_id(f"/sessions/{wanted}/{route}", parameters)
        if data is None:
            return None
        if not isinstance(data, Mapping):
            raise UnintelligibleError(f"the answer's {kind} is not an object")
        if any(named != wanted for named in _sessions_in(data)):
            raise UnintelligibleError("the answer is about another session")
        return session_file(kind, data)

    def _readable(self, page: _Page) -> tuple[list[Recording], int]:
        """Return a page's recordings, and the number of items that are not recordings."""
        recordings = []
        for item in page.items:
            with contextlib.suppress(MalformedRecordingError):
                recordings.append(Recording.from_realtimekit(item))
                self._observe_left_out(recordings[-1])
        return recordings, len(page.items) - len(recordings)

    def _observe_left_out(self, recording: Recording) -> None:
        if recording.files_left_out:
            self._observe("FilesLeftOut", "Count", recording.files_left_out)

    def _pages(self, filters: Mapping[str, str]) -> Iterator[_Page]:
        """Yield all pages. Page 1 shows whether they count from 0 or 1, which is not documented."""
        deadline = time.monotonic() + MAX_LIST_SECONDS
        number, page = 1, self._page(filters, 1)
        if page.total and (not page.items or page.start > 1):
            number, page = 0, self._page(filters, 0)
        while page.items:
            yield page
            if page.total and page.end >= page.total:
                return
            number, previous = number + 1, page
            if number > MAX_PAGES:
                raise UnintelligibleError(f"the list has more than {MAX_PAGES} pages")
            if time.monotonic() > deadline:
                raise UnavailableError(f"the list takes more than {MAX_LIST_SECONDS} seconds")
            page = self._page(filters, number)
            if page.items == previous.items:
                return

    def _page(
        self,
        filters: Mapping[str, str],
        number: int,
        per_page: int | None = None,
        order: str = "DESC",
    ) -> _Page:
        """Return a page of the list. If RealtimeKit refuses the size, keep to a smaller one."""
        try:
            return self._page_of(filters, number, per_page or self._page_size, order)
        except RefusedError:
            if per_page or self._page_size == SMALLER_PAGE_SIZE:
                raise
            page = self._page_of(filters, number, SMALLER_PAGE_SIZE, order)
            self._page_size = SMALLER_PAGE_SIZE
            return page

    def _page_of(self, filters: Mapping[str, str], number: int, per_page: int, order: str) -> _Page:
        paging = {"page_no": str(number), "per_page": str(per_page)}
        sorting = {"sort_by": "invokedTime", "sort_order": order}
        return _Page.of(self._get("/recordings", {**filters, **paging, **sorting}))

    def _get_by_id(self, path: str, fields: Mapping[str, str] | None = None) -> object:
        try:
            return self._get(path, fields)["data"]
        except RefusedError as error:
            raise NotFoundError(str(error)) from error

    def _get(self, path: str, fields: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        try:
            return self._authorized(path, fields)
        except UnauthorizedError:
            self._observe("TokenRefused", "Count", 1)
            raise

    def _authorized(self, path: str, fields: Mapping[str, str] | None) -> Mapping[str, Any]:
        token = self._token.value()
        try:
            return self._send(path, fields, token)
        except UnauthorizedError:
            # The token may have been rotated since it was cached.
            renewed = self._token.read()
            if renewed == token:
                raise
            return self._send(path, fields, renewed)

    def _send(self, path: str, fields: Mapping[str, str] | None, token: str) -> Mapping[str, Any]:
        wait = self._budget.take()
        self._observe("BudgetUsed", "Percent", self._budget.used)
        if wait:
            raise BudgetSpentError("the shared budget of requests is spent", retry_after=wait)
        begun = time.monotonic()
        status = 0
        try:
            answer = self._request(path, fields, token)
            status = answer.status
        except AnswerTooLargeError as error:
            raise UnintelligibleError(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"no answer: {type(error).__name__}") from error
        finally:
            milliseconds = (time.monotonic() - begun) * 1000
            self._observe("UpstreamLatency", "Milliseconds", round(milliseconds, 1))
            self._observe(_class_of(status), "Count", 1)
        try:
            return _payload(answer)
        except ThrottledError as error:
            self._budget.close(error.retry_after or PENALTY_SECONDS)
            raise

    def _request(self, path: str, fields: Mapping[str, str] | None, token: str) -> Answer:
        return fetch(
            self._http,
            self._app_url + path,
            fields=fields,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=self._timeout,
            max_bytes=MAX_ANSWER_BYTES,
            max_seconds=MAX_ANSWER_SECONDS,
            may_repeat=lambda: self._budget.take() == 0,
        )


@dataclass(frozen=True, slots=True)
class _Page:
    items: list[object]
    start: int
    end: int
    total: int

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> _Page:
        items, paging = payload["data"], payload.get("paging")
        if not isinstance(items, list):
            raise UnintelligibleError("the answer's list is not an array")
        numbers = paging if isinstance(paging, Mapping) else {}
        start, end, total = (
            _count(numbers.get(name)) for name in ("start_offset", "end_offset", "total_count")
        )
        return cls(items, start, end, total)


def _class_of(status: int) -> str:
    """Return the status's metric. 429 has its own, because it shows that we request too much."""
    if not status:
        return "UpstreamNoAnswer"
    return "Upstream429" if status == 429 else f"Upstream{status // 100}xx"


def _count(number: object) -> int:
    """Return a count below 10^9, else 0: `int` of 1E+999999999 would exhaust time and memory."""
    return int(number) if isinstance(number, int | Decimal) and 0 <= number < 10**9 else 0


def _checked(identifier: str) -> str:
    checked = uuid(identifier)
    if checked is None:
        raise ValueError("RealtimeKit's ids are UUIDs, and this id is not one")
    return checked


def _sessions_in(data: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield the id of each session that an answer names, None for one that is not a UUID."""
    inner = [value for value in data.values() if isinstance(value, Mapping)]
    ids = [fields.get(name) for fields in (data, *inner) for name in ("sessionId", "session_id")]
    session = data.get("session")
    ids.append(session.get("id") if isinstance(session, Mapping) else None)
    return (uuid(value) for value in ids if value not in (None, ""))


def _recording(data: object) -> Recording:
    try:
        return Recording.from_realtimekit(data)
    except MalformedRecordingError as error:
        raise UnintelligibleError(str(error)) from None


def _payload(answer: Answer) -> Mapping[str, Any]:
    """Return a successful answer's JSON. Raises the error that its status or envelope names."""
    payload = _json(answer.body)
    # 201 comes from an older specification of some requests.
    succeeded = answer.status in (200, 201) and payload.get("success", True) is True
    if succeeded and "data" in payload and not _error(payload):
        return payload
    status, detail = answer.status, f"HTTP {answer.status}: {_message(payload)}"
    code = _code(payload)
    if status in (200, 201) and isinstance(code, int) and 400 <= code <= 599:
        status = code
    retry_after = _retry_after(answer.headers.get("Retry-After"))
    if status in (401, 403) or code == _AUTHENTICATION_ERROR:
        raise UnauthorizedError(detail)
    if status in (404, 410):
        raise NotFoundError(detail)
    if status == 429:
        raise ThrottledError(detail, retry_after=retry_after or PENALTY_SECONDS)
    if status == 408 or status >= 500:
        raise UnavailableError(detail, retry_after=retry_after)
    if status in (400, 422) and payload and not isinstance(payload.get("errors"), list):
        raise RefusedError(detail)
    raise UnintelligibleError(detail)


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        payload = load_json(body)
    except (ValueError, ArithmeticError):
        return {}
    return payload if isinstance(payload, Mapping) else {}


def _error(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return RealtimeKit's error, `error: {…}`, or the gateway's, `errors: [{…}]`."""
    errors = payload.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else payload.get("error")
    return error if isinstance(error, Mapping) else {}


def _code(payload: Mapping[str, Any]) -> object:
    return _error(payload).get("code")


def _message(payload: Mapping[str, Any]) -> str:
    """Return the error's message, shortened, without the query of a URL, which may be a credential.

    Besides the two envelopes, the specification has `{"message": "Unauthorized"}`.
    """
    message = _error(payload).get("message") or payload.get("message")
    if not isinstance(message, str):
        return "no message" if payload else "no JSON object"
    return re.sub(r"\?\S+", "?…", message)[:200]


def _retry_after(header: str | None) -> int | None:
    if not header:
        return None
    try:
        seconds = urllib3.Retry().parse_retry_after(header)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
    return max(1, min(int(seconds), MAX_RETRY_AFTER_SECONDS))
