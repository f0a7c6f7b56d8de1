"""A recording's file at its presigned URL: where it may be, what it may be, and its bytes.

The URL comes from RealtimeKit's answer, and is a bearer credential: no error names it, nothing of
ours goes along with it, and where it leads is checked. A presigned GET admits no HEAD, so the first
bytes are asked for instead, and tell all there is to know.

    MediaError
    ├── ForbiddenHostError     it leads to where recordings are not
    ├── UrlExpiredError        the storage refuses the URL: a new one is needed
    ├── MediaMissingError      there is no such file (any more)
    ├── NotMediaError          an error page, an empty file, no audio or video
    ├── WrongLengthError       not as long as it should be, or nobody says how long it is
    ├── MediaChangedError      not the file that it was, or no way to go on in the middle of it
    └── MediaUnavailableError  network trouble, a stall, 429 or 5xx
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3

CHUNK_SIZE = 1_048_576
# In ten thousand parts S3 takes more; a day's recording is a thousandth of it.
LARGEST_FILE = 5 * 1024**4

# A stall is shorter than the margin that a function leaves before its time is over.
TIMEOUT = urllib3.Timeout(connect=5, read=10)

_PROBED = 512
_MOST_REDIRECTS = 3
_MOST_FRUITLESS = 3
_REDIRECTS = (301, 302, 303, 307, 308)

_MEDIA_TYPES = re.compile(
    r"(video|audio)/[\w.+-]+|application/(mp4|ogg|x-tar|tar|vnd\.apple\.mpegurl)", re.IGNORECASE
)
# Labels that say "bytes", and nothing of what is in them; "" is a label that is missing.
_UNSAID = (
    "application/octet-stream",
    "binary/octet-stream",
    "application/force-download",
    "multipart/form-data",
    "",
)
_BY_SUFFIX = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "tar": "application/x-tar",
}
# Each format's own mark at its place in the file (the formats' specifications; for ISO media files
# the types of a first box, which is shorter than 16 MiB unless it is the data).
_SIGNATURES = (
    (re.compile(rb"\0.{3}(ftyp|styp|moov|free|skip|wide)|.{4}mdat", re.DOTALL), "video/mp4"),
    (re.compile(rb"\x1aE\xdf\xa3.{0,60}matroska", re.DOTALL), "video/x-matroska"),
    (re.compile(rb"\x1aE\xdf\xa3"), "video/webm"),
    (re.compile(rb"RIFF.{4}WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "video/x-msvideo"),
    (re.compile(rb"ID3|\xff[\xfa\xfb\xf2\xf3]"), "audio/mpeg"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "audio/aac"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"OggS"), "application/ogg"),
    (re.compile(rb".{257}ustar", re.DOTALL), "application/x-tar"),
    (re.compile(rb"PK\x03\x04"), "application/zip"),
    (re.compile(rb"\x47.{187}\x47.{187}\x47", re.DOTALL), "video/mp2t"),
    (re.compile(rb"#EXTM3U"), "application/vnd.apple.mpegurl"),
    (re.compile(rb"(\xef\xbb\xbf)?WEBVTT"), "text/vtt"),
    (re.compile(rb"\x1f\x8b\x08"), "application/gzip"),
)
_PAGE_TYPES = re.compile(r"text/|application/(problem\+)?(json|xml|xhtml)|.*\+(json|xml)$")
# HTML, XML and JSON have none of these; a compressed or encoded file soon has one.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


class MediaError(Exception):
    """Raised when the file could not be had; `cause` names the kind in one word, nothing secret."""

    cause = "unknown"


class ForbiddenHostError(MediaError):
    """Raised for a URL or a redirect that leads elsewhere than the allowed hosts."""

    cause = "host_refused"


class UrlExpiredError(MediaError):
    """Raised when the storage refuses the URL: R2 says 400 to one that has expired, S3 403."""

    cause = "url_expired"


class MediaMissingError(MediaError):
    """Raised when the storage has no such file."""

    cause = "media_missing"


class NotMediaError(MediaError):
    """Raised for an answer that is no recording, whatever its status says."""

    cause = "not_media"


class WrongLengthError(MediaError):
    """Raised for a file that is not as long as it should be."""

    cause = "wrong_length"


class MediaChangedError(MediaError):
    """Raised when a range of the file that was opened is not to be had: it must begin anew."""

    cause = "media_changed"


class MediaUnavailableError(MediaError):
    """Raised when the storage could not be reached, fell silent, or had a fault of its own."""

    cause = "media_unavailable"


class _PublicConnection(urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> object:  # type: ignore[override]
        """Judged by where it really leads, after the name was resolved, before a byte is sent."""
        connection = super()._new_conn()
        address = connection.getpeername()[0]
        if not is_public(address):
            connection.close()
            raise urllib3.exceptions.NewConnectionError(self, "no public address")
        return connection


class _PublicPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


class Media:
    """The storage that RealtimeKit's URLs lead to.

    `hosts` are those allowed: names, and endings that begin with a dot, over https and at public
    addresses; or this very machine as a URL, `http://127.0.0.1`, for a local stack.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        *,
        timeout: urllib3.Timeout = TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = tuple(host.lower() for host in hosts if "://" not in host)
        self._local = tuple(host.lower() for host in hosts if "://" in host)
        self._timeout = timeout
        # One context for all: each of its own would load all certificates again.
        context = ssl_context or ssl.create_default_context()
        self._public_pool = urllib3.PoolManager(ssl_context=context, maxsize=16)
        self._public_pool.pool_classes_by_scheme = {"https": _PublicPool}
        self._local_pool = urllib3.PoolManager(ssl_context=context, maxsize=16)

    def open(self, url: str) -> MediaFile:
        """Look at the file, and read none of it but its beginning. Raises `MediaError`."""
        headers = {"Range": f"bytes=0-{_PROBED - 1}"}
        response = self._get(url, headers)
        try:
            start = _read(response, _PROBED)
        finally:
            response.close()
        return MediaFile(self, url, _described(response, start))

    def _get(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer with its body unread, redirects followed, refusals raised."""
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                response = self._pool(url).request(
                    "GET",
                    url,
                    headers={"Accept-Encoding": "identity", **headers},
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=self._timeout,
                )
            except urllib3.exceptions.HTTPError as error:
                # `from None`, here and below: urllib3's errors quote the URL.
                raise MediaUnavailableError(f"no answer: {type(error).__name__}") from None
            if response.status not in _REDIRECTS:
                _require_success(response)
                return response
            response.close()
            url = urljoin(url, response.headers.get("Location", ""))
        raise MediaUnavailableError("too many redirects")

    def _pool(self, url: str) -> urllib3.PoolManager:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise ForbiddenHostError("no URL at all") from None
        if {f"{parts.scheme}://{host}", f"{parts.scheme}://{host}:{port}"} & {*self._local}:
            return self._local_pool
        if parts.scheme != "https":
            raise ForbiddenHostError("not https")
        if parts.username is None and port in (None, 443) and self._is_allowed(host):
            return self._public_pool
        raise ForbiddenHostError("not a host that is allowed")

    def _is_allowed(self, host: str) -> bool:
        return any(
            host == allowed or (allowed.startswith(".") and host.endswith(allowed))
            for allowed in self._hosts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    size: int
    etag: str | None
    content_type: str
    has_ranges: bool


class MediaFile:
    """A file as it was when it was opened; its bytes are that file's, or an error is raised."""

    def __init__(self, media: Media, url: str, description: _Description) -> None:
        self._media = media
        self._url = url
        self._description = description
        self._whole: urllib3.BaseHTTPResponse | None = None
        self._position = 0

    @property
    def size(self) -> int:
        """In bytes; never 0."""
        return self._description.size

    @property
    def etag(self) -> str | None:
        """What tells this file from another at the same place; `None` where nothing does."""
        return self._description.etag

    @property
    def content_type(self) -> str:
        """As the storage has it: audio's, video's, or that of mere bytes."""
        return self._description.content_type

    @property
    def has_ranges(self) -> bool:
        """Whether any part of it can be had, in any order, and is sure to be of the same file."""
        return self._description.has_ranges

    def chunks(self, start: int, stop: int) -> Generator[bytes, None, None]:
        """Exactly the bytes from `start` up to and without `stop`. Raises `MediaError`.

        What breaks off is taken up again where it broke off. Without ranges, what is asked for
        must begin where the last call ended, and what breaks off is a `MediaUnavailableError`.
        Who stops early closes it, and with it the connection.
        """
        if not self.has_ranges:
            yield from self._next(start, stop)
            return
        fruitless = 0
        while start < stop:
            before = start
            try:
                with closing(self._range(start, stop)) as chunks:
                    for chunk in chunks:
                        start += len(chunk)
                        yield chunk
            except MediaUnavailableError:
                fruitless = 0 if start > before else fruitless + 1
                if fruitless == _MOST_FRUITLESS:
                    raise

    def close(self) -> None:
        """Let go of the connection that a file without ranges is read from."""
        if self._whole is not None:
            self._whole.close()
            self._whole = None

    def _range(self, start: int, stop: int) -> Generator[bytes, None, None]:
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": self.etag or ""}
        response = self._media._get(self._url, headers)
        try:
            said = response.headers.get("Content-Range", "")
            wanted = f"bytes {start}-{stop - 1}/{self.size}"
            if response.status != 206 or said != wanted:
                raise MediaChangedError(f"HTTP {response.status} to a range")
            if response.headers.get("ETag") != self.etag:
                raise MediaChangedError("another ETag")
            while start < stop:
                chunk = _read(response, min(CHUNK_SIZE, stop - start))
                if not chunk:
                    raise MediaUnavailableError("broke off")
                start += len(chunk)
                yield chunk
        finally:
            # What was read to its end gives its connection back; what was not cannot.
            response.release_conn() if start == stop else response.close()

    def _next(self, start: int, stop: int) -> Generator[bytes, None, None]:
        if self._whole is None and start == 0:
            self._whole, self._position = self._media._get(self._url, {}), 0
        if self._whole is None or start != self._position:
            raise MediaUnavailableError("broke off, and cannot be taken up again")
        while self._position < stop:
            chunk = _read(self._whole, min(CHUNK_SIZE, stop - self._position))
            if not chunk:
                raise MediaUnavailableError("broke off")
            self._position += len(chunk)
            yield chunk


def media_type(first_bytes: bytes) -> str | None:
    """Return the media type that a file's first 512 bytes show, or None if they show none."""
    found = (name for signature, name in _SIGNATURES if signature.match(first_bytes))
    return next(found, None)


def is_error_page(first_bytes: bytes, content_type: str = "") -> bool:
    """Return whether a body is a page of HTML, XML or JSON, or a message, instead of a file.

    `first_bytes` are up to 512 of the body's, decoded if it was encoded. A page may come with the
    file's own content type and with status 200, and a file with a page's, so the bytes decide:
    a page is text. A tar whose first member is called `{…` has NUL bytes in its first block.
    """
    if media_type(first_bytes) or _CONTROL.search(first_bytes):
        return False
    begins_like_one = first_bytes.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[")
    return begins_like_one or _PAGE_TYPES.match(_bare(content_type)) is not None


def is_media(first_bytes: bytes, content_type: str = "") -> bool:
    """Return whether the first bytes, or else the label, say that a body is a recording's file."""
    if is_error_page(first_bytes, content_type):
        return False
    label = _bare(content_type)
    known = label in _UNSAID or _MEDIA_TYPES.fullmatch(label) is not None
    return known or media_type(first_bytes) is not None


def _bare(content_type: str) -> str:
    """Return the type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_public(address: str) -> bool:
    """Whether an IP address is of the internet: not private, loopback, link-local, or the like."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def _read(response: urllib3.BaseHTTPResponse, size: int) -> bytes:
    try:
        return response.read(size, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise MediaUnavailableError(f"broke off: {type(error).__name__}") from None


def _require_success(response: urllib3.BaseHTTPResponse) -> None:
    """Raises what the status says, and gives the connection up."""
    status = response.status
    if status in (200, 206):
        return
    response.close()
    detail = f"HTTP {status}"
    if status in (400, 401, 403):
        raise UrlExpiredError(detail)
    if status in (404, 410):
        raise MediaMissingError(detail)
    if status == 412:
        raise MediaChangedError(detail)
    if status == 416:
        raise NotMediaError("the file is empty")
    if status in (408, 429) or status >= 500:
        raise MediaUnavailableError(detail)
    raise NotMediaError(detail)


def _described(response: urllib3.BaseHTTPResponse, start: bytes) -> _Description:
    """Raises `NotMediaError` or `WrongLengthError` for what is not to be kept."""
    size = _size(response)
    if size is None or size > LARGEST_FILE:
        raise WrongLengthError(
            "the storage does not say how long the file is, or that it has no end"
        )
    if size == 0 or not start:
        raise NotMediaError("the file is empty")
    said = response.headers.get("Content-Type", "")
    if is_error_page(start, said):
        raise NotMediaError("it is text: an error page")
    if not is_media(start, said):
        raise NotMediaError(f"its content type is {_bare(said)[:100]}")
    etag = response.headers.get("ETag")
    is_strong = etag is not None and re.fullmatch(r'"[^"]+"', etag) is not None
    return _Description(
        size=size,
        etag=etag if is_strong else None,
        content_type=_bare(said) or _UNSAID[0],
        has_ranges=response.status == 206 and is_strong,
    )


def _size(response: urllib3.BaseHTTPResponse) -> int | None:
    """In up to 15 digits: what says more is no file that S3 could hold."""
    if response.status == 206:
        said = re.fullmatch(r"bytes 0-\d+/(\d{1,15})", response.headers.get("Content-Range", ""))
        return int(said[1]) if said else None
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None


def content_type_of(file: MediaFile, file_name: str) -> str:
    """What a player is to be told: the storage's word, or what the name's end says."""
    suffix = file_name.rpartition(".")[2].lower()
    unsaid = file.content_type in _UNSAID
    return _BY_SUFFIX.get(suffix, file.content_type) if unsaid else file.content_type
