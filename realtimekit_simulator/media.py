"""RealtimeKit's bucket as far as presigned URLs open it: what R2 and S3 answer to a GET."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from flask import Blueprint, Response, g, request
from werkzeug.http import http_date

from .envelopes import storage_error
from .media_files import MediaFile
from .world import PRESIGNED_DATE, UnknownError, World

MEDIA_PATH = "/media"

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")

MAX_OFFSET = 10**18 - 1
RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))")

EXPIRED_STATUSES: Mapping[str, int] = {"AccessDenied": 403, "ExpiredRequest": 400}


class StorageError(Exception):
    """A request that R2 and S3 refuse, with their status, code and message."""

    def __init__(
        self, status: int, code: str, message: str, *, content_range: str | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.content_range = content_range


class Media:
    """The media host: files at the URLs that the world presigns, while it keeps them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def blueprint(self) -> Blueprint:
        """The one route, `/media/<recording id>/<file name>`."""
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
        """GET a file, or one range of it."""
        self._authorize(f"/{quote(key)}")
        file, uploaded_at = self._find(key)
        etag, modified = g.get("etag") or file.etag, http_date(uploaded_at)
        if "If-Match" in request.headers and not request.if_match.contains_raw(etag):
            raise _precondition_failed()
        # A range of what the file once was is not wanted if it has changed since.
        unchanged = request.headers.get("If-Range", etag) in (etag, modified)
        asked = request.headers.get("Range", "") if unchanged else ""
        response = _sent(file, wanted(asked, file.size))
        response.headers["ETag"] = etag
        response.headers["Last-Modified"] = modified
        response.headers["Accept-Ranges"] = "bytes"
        return response

    def _authorize(self, path: str) -> None:
        """Check all that AWS's signature covers here: the method, the path, and the query."""
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

    def _find(self, key: str) -> tuple[MediaFile, datetime]:
        """A file and when it was uploaded, if it is there now."""
        recording_id, _, name = key.partition("/")
        now = self._world.clock.now()
        try:
            recording = self._world.recording(recording_id)
        except UnknownError:
            raise _no_such_key() from None
        files = {file.artifact.path: file for file in self._world.media_files(recording)}
        expires_at = recording.at(now).expires_at
        if name not in files or expires_at is None or expires_at <= now:
            raise _no_such_key()
        return files[name], recording.steps_until(now)[-1].at


def wanted(header: str, size: int) -> range | None:
    """The one range of a file that a Range header asks for; an empty one cannot be satisfied.

    None is the whole file: nothing was asked for, or several ranges, or what makes no sense.
    """
    asked = RANGE.fullmatch(header)
    if asked is None:
        return None
    if asked["suffix"]:
        return range(max(size - int(asked["suffix"]), 0), size)
    first, last = int(asked["first"]), int(asked["last"] or MAX_OFFSET)
    return range(first, min(last + 1, size)) if first <= last else None


def _sent(file: MediaFile, part: range | None) -> Response:
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
    # S3 also repeats the header's value; a simulator never tells a token.
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
