"""RealtimeKit's bucket behind presigned URLs, with the answers of R2 and S3 to a GET."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from urllib.parse import quote

from flask import Blueprint, Response, g, request
from werkzeug.http import http_date

from .envelopes import storage_error
from .media_files import StoredFile
from .session_files import SHARED_FOLDER
from .world import PRESIGNED_DATE, UnknownError, World

MEDIA_PATH = "/media"

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")

MAX_OFFSET = 10**18 - 1
RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))")

EXPIRED_STATUSES: Mapping[str, int] = {"AccessDenied": 403, "ExpiredRequest": 400}


class StorageError(Exception):
    """Raised for a request that R2 and S3 refuse; has their status, code and message."""

    def __init__(
        self, status: int, code: str, message: str, *, content_range: str | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.content_range = content_range


class Media:
    """Media host: the files behind the world's presigned URLs, until they are deleted."""

    def __init__(self, world: World) -> None:
        self._world = world

    def blueprint(self) -> Blueprint:
        """Return the only route, `/media/<recording id or session id>/<file name>`."""
        routes = Blueprint("media", __name__, url_prefix=MEDIA_PATH)
        routes.add_url_rule(
            "/<path:key>",
            view_func=self.download,
            methods=METHODS,
            provide_automatic_options=False,
        )
        routes.register_error_handler(StorageError, _refused)
        return routes

    def download(self, key: str) -> Response:
        """Answer a GET with the file, or with one range of it."""
        self._authorize(f"/{quote(key)}")
        file, uploaded_at = self._find(key)
        etag, modified = g.get("etag") or file.etag, http_date(uploaded_at)
        if "If-Match" in request.headers and not request.if_match.contains_raw(etag):
            raise _precondition_failed()
        # If the file has changed since, If-Range makes the answer the whole file.
        unchanged = request.headers.get("If-Range", etag) in (etag, modified)
        header = request.headers.get("Range", "") if unchanged else ""
        response = _sent(file, parse_range(header, file.size))
        response.headers["ETag"] = etag
        response.headers["Last-Modified"] = modified
        response.headers["Accept-Ranges"] = "bytes"
        return response

    def _authorize(self, path: str) -> None:
        """Raise `StorageError` unless the URL's signature fits method, path and query."""
        if "Authorization" in request.headers:
            raise _two_kinds_of_authorization()
        query = request.args
        if "X-Amz-Signature" not in query:
            raise StorageError(403, "AccessDenied", "Access Denied")
        date, seconds = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        signed = self._world.media_query(path, date, seconds)
        if request.method != "GET" or sorted(query.items(multi=True)) != sorted(signed.items()):
            raise _signature_does_not_match()
        signed_at = datetime.strptime(date, PRESIGNED_DATE).replace(tzinfo=UTC)
        if self._world.clock.now() >= signed_at + timedelta(seconds=int(seconds)):
            raise self._expired()

    def _expired(self) -> StorageError:
        code = self._world.undocumented.expired_url
        return StorageError(EXPIRED_STATUSES[code], code, "Request has expired")

    def _find(self, key: str) -> tuple[StoredFile, datetime]:
        """Return a file and its upload time, or raise `StorageError` if it is not there now."""
        now = self._world.clock.now()
        for file, uploaded_at in chain(self._media(key, now), self._session_files(key, now)):
            if file.key == key:
                return file, uploaded_at
        raise _no_such_key()

    def _media(self, key: str, now: datetime) -> Iterator[tuple[StoredFile, datetime]]:
        """Yield the files that the recording in a key has now."""
        try:
            recording = self._world.recording(key.partition("/")[0])
        except UnknownError:
            return
        expires_at = recording.at(now).expires_at
        if expires_at is not None and now < expires_at:
            uploaded_at = recording.steps_until(now)[-1].at
            for file in self._world.media_files(recording):
                yield file, uploaded_at

    def _session_files(self, key: str, now: datetime) -> Iterator[tuple[StoredFile, datetime]]:
        """Yield the files that the session in a key has now."""
        folder = key.partition("/")[0]
        for session in self._world.sessions():
            if folder in (session.id, SHARED_FOLDER):
                for file in self._world.session_files(session):
                    if file.is_stored(now):
                        yield file, file.available_at or now


def parse_range(header: str, size: int) -> range | None:
    """Return the range that a Range header selects, or None for the whole file.

    Several ranges and malformed headers select the whole file. An empty range means 416.
    """
    match = RANGE.fullmatch(header)
    if match is None:
        return None
    if match["suffix"]:
        return range(max(size - int(match["suffix"]), 0), size)
    first, last = int(match["first"]), int(match["last"] or MAX_OFFSET)
    return range(first, min(last + 1, size)) if first <= last else None


def _sent(file: StoredFile, part: range | None) -> Response:
    if part is None:
        part, status = range(file.size), 200
    elif part:
        status = 206
    else:
        message = "The requested range is not satisfiable"
        raise StorageError(416, "InvalidRange", message, content_range=f"bytes */{file.size}")
    response = Response(
        file.chunks(part.start, part.stop), status=status, content_type=file.content_type
    )
    response.content_length = len(part)
    if status == 206:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    return response


def _two_kinds_of_authorization() -> StorageError:
    # S3 also repeats the header's value; the simulator never repeats a token.
    return StorageError(
        400,
        "InvalidArgument",
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
        "Signature query string parameter or the Authorization header should be specified",
    )


def _signature_does_not_match() -> StorageError:
    return StorageError(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    )


def _precondition_failed() -> StorageError:
    message = "At least one of the pre-conditions you specified did not hold"
    return StorageError(412, "PreconditionFailed", message)


def _no_such_key() -> StorageError:
    return StorageError(404, "NoSuchKey", "The specified key does not exist.")


def _refused(error: StorageError) -> Response:
    response = storage_error(error.status, error.code, error.message)
    if error.content_range is not None:
        response.headers["Content-Range"] = error.content_range
    return response
