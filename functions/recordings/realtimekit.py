"""RealtimeKit's REST API, as far as recordings need it, over urllib3.

One request is one try: whoever calls decides when to try again, and waiting is not done here. Every
failure is a `RealtimeKitError` whose class says what kind it is:

    RealtimeKitError
    ├── NotFoundError         RealtimeKit does not know it (404, 410), or refuses its id (400, 422)
    ├── UnauthorizedError     our token is refused, or there is none
    ├── ThrottledError        429: not before `retry_after` seconds
    │   └── BudgetSpentError  our own limit: the request was not sent
    ├── UnavailableError      network trouble, a time-out, 5xx
    └── UnintelligibleError   an answer, and not one that the documentation allows
        └── RefusedError      400, 422: the request is refused as it is
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from recordings.bounded_http import Answer, AnswerTooLargeError, fetch
from recordings.model import MalformedRecordingError, Recording, load_json, text, uuid

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# Three requests that nobody answers (a refused token's second try and the session's) fit API
# Gateway's 29 seconds.
TIMEOUT = urllib3.Timeout(connect=2, read=6)
# As long as one whose every packet comes in time may take, and at most six seconds more: the last
# packet is waited for.
MAX_ANSWER_SECONDS = 8
# A page of a hundred TRACK recordings, with a URL of a kilobyte for each of a hundred files, is
# less; and so is one recording of 5,000 files with URLs of two kilobytes.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

PAGE_SIZE = 100
# No maximum is documented: where a page of a hundred is refused, one of so many is asked for.
SMALLER_PAGE_SIZE = 25
MAX_PAGES = 100
MAX_LIST_SECONDS = 20

# "blocked for the next five minutes" (Cloudflare docs, API rate limits), where a 429 says no time.
PENALTY_SECONDS = 300
MAX_RETRY_AFTER_SECONDS = 3600
REREAD_SECONDS = 30

_AUTHENTICATION_ERROR = 10000


class RealtimeKitError(Exception):
    """Raised when RealtimeKit did not give what was asked for.

    `cause` names the kind in one word, `retry_after` is in seconds where the other side said it.
    Neither the text nor the attributes hold anything secret.
    """

    cause = "unknown"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after

    @property
    def metric(self) -> str:
        """The name of what counts requests that were postponed for this cause."""
        return f"Postponed{self.cause.title().replace('_', '')}"


class NotFoundError(RealtimeKitError):
    """Raised when RealtimeKit does not know the id, in our app; it may know it a moment later.

    Which status an unknown id gets is not documented: a 400 or 422 to a request that has nothing
    but the id says the same.
    """

    cause = "not_found"


class UnauthorizedError(RealtimeKitError):
    """Raised when the API token is missing, unreadable or refused, even read anew."""

    cause = "unauthorized"


class ThrottledError(RealtimeKitError):
    """Raised on a 429; `retry_after` is always set."""

    cause = "throttled"


class BudgetSpentError(ThrottledError):
    """Raised instead of sending a request that our own budget has no room for."""

    cause = "budget_spent"


class UnavailableError(RealtimeKitError):
    """Raised when RealtimeKit could not be reached, was too slow, or had a fault of its own."""

    cause = "unavailable"


class UnintelligibleError(RealtimeKitError):
    """Raised for an answer that is neither what was asked for nor an error we know."""

    cause = "unintelligible"


class RefusedError(UnintelligibleError):
    """Raised when RealtimeKit itself, not Cloudflare's gateway, answers 400 or 422."""


Observe = Callable[[str, str, float], None]
"""Is told a metric's name, its unit as CloudWatch spells it, and a value."""


class Budget(Protocol):
    """How many requests may be sent; shared by all functions."""

    used: float
    """How much of it was used up when it was last asked, in percent."""

    def take(self) -> int:
        """Take one request; 0, or the seconds to wait where there is none left."""

    def close(self, seconds: int) -> None:
        """Let nobody send a request for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of a meeting, which is a reusable room; `None` is "not said"."""

    meeting_id: str | None
    meeting_title: str | None
    organization_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A page of the list of all recordings, the one that was invoked first at the front.

    `size` is how many items it had; those of them that are no recordings are not in `recordings`.
    `start` is the place of its first item in the list, counted from 1, and `total` how many
    the list has; 0 where the answer does not say, or says what cannot be.
    """

    recordings: tuple[Recording, ...]
    size: int
    start: int
    total: int


class ApiToken:
    """The API token in Secrets Manager, `{"api_token": "…"}`, read again after five minutes."""

    def __init__(
        self, secretsmanager: SecretsManagerClient, secret_id: str, max_age: float = 300
    ) -> None:
        self._secretsmanager = secretsmanager
        self._secret_id = secret_id
        self._max_age = max_age
        self._value: str | None = None
        self._read_at = 0.0

    def value(self) -> str:
        """A known token outlives a failed read; `UnauthorizedError` where there never was one."""
        if self._value and time.monotonic() - self._read_at < self._max_age:
            return self._value
        try:
            return self.read()
        except UnauthorizedError:
            if self._value is None:
                raise
            # Not again with the next request: an outage of Secrets Manager takes its time to tell.
            self._read_at = time.monotonic() - self._max_age + REREAD_SECONDS
            return self._value

    def read(self) -> str:
        """Past the cache. Raises `UnauthorizedError` where no token can be read."""
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
            raise UnauthorizedError('the secret is not {"api_token": "…"}') from None
        if not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
            raise UnauthorizedError("the secret's api_token is empty or no token")
        self._value, self._read_at = token, time.monotonic()
        return token


class RealtimeKit:
    """The recordings of one app. `app_url` is `…/accounts/{account_id}/realtime/kit/{app_id}`.

    `observe` is told of each request: `BudgetUsed`, `UpstreamLatency`, and its status as one of
    `Upstream2xx`, `Upstream3xx`, `Upstream4xx`, `Upstream429`, `Upstream5xx`, `UpstreamNoAnswer`;
    and of each time that our token is of no use: `TokenRefused`.
    """

    def __init__(
        self,
        app_url: str,
        token: ApiToken,
        budget: Budget,
        http: urllib3.PoolManager,
        timeout: urllib3.Timeout = TIMEOUT,
        observe: Observe = lambda name, unit, value: None,
    ) -> None:
        self._app_url = app_url.rstrip("/")
        self._token = token
        self._budget = budget
        self._http = http
        self._timeout = timeout
        self._observe = observe
        self._page_size = PAGE_SIZE

    def recording(self, recording_id: str) -> Recording:
        """What RealtimeKit says of it now: everything but its meeting.

        Raises `ValueError` for an id that is not a UUID (nothing is sent), else `RealtimeKitError`.
        """
        recording = _recording(self._get_by_id(f"/recordings/{_checked(recording_id)}"))
        self._observe_left_out(recording)
        if recording.recording_id != uuid(recording_id):
            raise UnintelligibleError("the answer is about another recording")
        return recording

    def connect(self) -> None:
        """Open the connection, and ask RealtimeKit nothing: this needs no token and no budget.

        Raises urllib3's errors.
        """
        url = urlsplit(self._app_url)
        self._http.request(
            "HEAD",
            f"{url.scheme}://{url.netloc}/",
            timeout=self._timeout,
            retries=False,
            redirect=False,
        )

    def probe(self) -> None:
        """Ask for as little as can be. Raises `RealtimeKitError` unless the token is accepted."""
        self._page({}, 1, per_page=1)

    def recordings(self, *, meeting_id: str) -> Iterator[Recording]:
        """Yield the meeting's recordings, each once, newest first: everything but the reasons.

        The list has been seen with other meetings' recordings in it. These are skipped, and no
        further page is asked for: it is the list of the whole app then. Raises `ValueError` for an
        id that is not a UUID (nothing is sent), else `RealtimeKitError`; an unreadable item does
        so only after the readable ones.
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
            raise UnintelligibleError(f"{unreadable} items of the list are no recordings")

    def page(self, number: int) -> ListPage:
        """A page of all recordings of the app: everything but the reasons.

        Whether pages count from 0 or from 1 is not documented: 0 may be empty, or be page 1.
        Raises `RealtimeKitError`; also where no item is a recording, or they are not in order.
        """
        page = self._page({}, number, order="ASC")
        recordings, _ = self._readable(page)
        if page.items and not recordings:
            raise UnintelligibleError("no item of the list is a recording")
        times = [recording.invoked_at for recording in recordings if recording.invoked_at]
        if times != sorted(times):
            raise UnintelligibleError("the list is not in the order that was asked for")
        is_counted = page.end - page.start + 1 == len(page.items)
        return ListPage(
            recordings=tuple(recordings),
            size=len(page.items),
            start=page.start if is_counted else 0,
            total=page.total,
        )

    def session(self, session_id: str) -> Session:
        """Return what RealtimeKit says of a session; seen are `data` and `data.session`.

        Raises `ValueError` for what is no UUID (nothing is sent), else `RealtimeKitError`.
        """
        data = self._get_by_id(f"/sessions/{_checked(session_id)}")
        outer = data if isinstance(data, Mapping) else {}
        inner = outer.get("session")
        fields = inner if isinstance(inner, Mapping) else outer
        if not fields or (fields is outer and "id" not in outer):
            raise UnintelligibleError("the answer is no session")
        if uuid(fields.get("id", session_id)) != uuid(session_id):
            raise UnintelligibleError("the answer is about another session")
        return Session(
            # Of a V1 meeting this is the name of its room, which is no id.
            meeting_id=uuid(fields.get("associated_id")),
            meeting_title=text(fields.get("meeting_display_name")),
            organization_id=text(fields.get("organization_id")),
        )

    def _readable(self, page: _Page) -> tuple[list[Recording], int]:
        """Return a page's recordings, and how many of its items are none."""
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
        """Yield all pages. Whether they count from 0 or 1 is not documented: page 1 tells."""
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
                raise UnintelligibleError(f"a list of more than {MAX_PAGES} pages")
            if time.monotonic() > deadline:
                raise UnavailableError("the list takes too long")
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
        """Return a page of the list; of a smaller size from now on, if only that is accepted."""
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

    def _get_by_id(self, path: str) -> object:
        try:
            return self._get(path)["data"]
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
            # The token may have been rotated; the one just refused is not worth a second request.
            renewed = self._token.read()
            if renewed == token:
                raise
            return self._send(path, fields, renewed)

    def _send(self, path: str, fields: Mapping[str, str] | None, token: str) -> Mapping[str, Any]:
        wait = self._budget.take()
        self._observe("BudgetUsed", "Percent", self._budget.used)
        if wait:
            raise BudgetSpentError("the budget of requests is spent", retry_after=wait)
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
            most_bytes=MAX_ANSWER_BYTES,
            most_seconds=MAX_ANSWER_SECONDS,
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
            raise UnintelligibleError("the list is no array")
        numbers = paging if isinstance(paging, Mapping) else {}
        start, end, total = (
            _count(numbers.get(name)) for name in ("start_offset", "end_offset", "total_count")
        )
        return cls(items, start, end, total)


def _class_of(status: int) -> str:
    """0 is no answer; 429 is one of its own, for it is told by who asks too much."""
    if not status:
        return "UpstreamNoAnswer"
    return "Upstream429" if status == 429 else f"Upstream{status // 100}xx"


def _count(number: object) -> int:
    """1E+999999999 is one, too: to make an int of it would take all there is of time and memory."""
    return int(number) if isinstance(number, int | Decimal) and 0 <= number < 10**9 else 0


def _checked(identifier: str) -> str:
    checked = uuid(identifier)
    if checked is None:
        raise ValueError("an id of RealtimeKit's is a UUID")
    return checked


def _recording(data: object) -> Recording:
    try:
        return Recording.from_realtimekit(data)
    except MalformedRecordingError as error:
        raise UnintelligibleError(str(error)) from None


def _payload(answer: Answer) -> Mapping[str, Any]:
    """The answer, if it is a success; an error by what its status, or its envelope, says."""
    payload = _json(answer.body)
    # An older specification of some requests said 201.
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
    """RealtimeKit says `error: {…}`, Cloudflare's gateway `errors: [{…}]`."""
    errors = payload.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else payload.get("error")
    return error if isinstance(error, Mapping) else {}


def _code(payload: Mapping[str, Any]) -> object:
    return _error(payload).get("code")


def _message(payload: Mapping[str, Any]) -> str:
    """Return what the error says, short, and without any URL's query: that may be a credential.

    Besides the two envelopes the specification has `{"message": "Unauthorized"}`.
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
