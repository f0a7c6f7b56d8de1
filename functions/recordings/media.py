"""A recording's file at its presigned URL: where it may be, what it may be, and its bytes.

The URL comes from RealtimeKit's answer, and is a bearer credential: no error names it, nothing of
ours goes along with it, and where it leads is checked. A presigned GET admits no HEAD, so the first
bytes are asked for instead. Where storage gives ranges of a file that can be told from another,
the file is read in ranges; else in one answer, which is the one that was looked at.

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
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3

# Slow storage gives some 12 KB/s on a connection: what comes of it must go on to S3 before S3 gives
# up an upload that is silent for 20 s (S3's RequestTimeout).
CHUNK_SIZE = 262_144
_SLOW_CHUNK_SIZE = 65_536
# In ten thousand parts S3 takes more; a day's recording is a thousandth of it.
MAX_FILE_BYTES = 5 * 1024**4

# A stall is shorter than the margin that a function leaves before its time is over.
TIMEOUT = urllib3.Timeout(connect=5, read=10)

# A record of TLS has no more (RFC 8446, 5.1).
_RECORD_SIZE = 16_384
_FAST_BYTES_PER_SECOND = 1_000_000
_PROBED = 512
_MAX_REDIRECTS = 3
_MAX_FRUITLESS_READS = 3
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
_CONTENT_RANGE = re.compile(
    r"bytes (?P<first>[0-9]{1,15})-(?P<last>[0-9]{1,15})/(?P<size>[0-9]{1,15}|\*)"
)
# What is decoded on its way; other encodings stay, and the object says which.
_DECODED = ("gzip",)
# zlib's wbits for a header of either kind.
_GZIP_OR_ZLIB = 47
_PAGE_TYPES = re.compile(r"text/|application/(problem\+)?(json|xml|xhtml)|.*\+(json|xml)$")
_PAGE = re.compile(rb"<(!doctype|!--|\?xml|[a-z]+[ >])|\{\s*\"|\[\s*[{\[\"]", re.IGNORECASE)
# Text has none of these; a compressed or encoded file soon has one.
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


Check = Callable[[], None]


def _allow() -> None:
    """Let a download take what time it needs."""


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

    def open(
        self,
        url: str,
        *,
        size: int | None = None,
        is_urgent: bool = False,
        in_one: bool = False,
        require_time: Check = _allow,
    ) -> MediaFile:
        """Return the file after a look at its beginning. Raises `MediaError`.

        `size` is what RealtimeKit says of it, 0 or None where it says nothing. A file that is
        urgent is accepted whatever its size and its label are, unless it is an error page.
        `in_one` asks for no ranges. `require_time` is called as in `MediaFile.chunks`.
        """
        headers = {} if in_one else {"Range": f"bytes=0-{_PROBED - 1}"}
        accepted = (200,) if in_one else (200, 206, 416)
        answer = self._begin(url, headers, accepted, require_time)
        try:
            if answer.status != 200 and not answer.has_ranges:
                answer.close()
                answer = self._begin(url, {}, (200,), require_time)
            answer.require_file(_Expected(size or None, is_urgent))
        except MediaError:
            answer.close()
            raise
        if answer.has_ranges:
            answer.close()
        return MediaFile(self, url, answer, _Expected(size or None, is_urgent))

    def _begin(
        self, url: str, headers: dict[str, str], accepted: tuple[int, ...], require_time: Check
    ) -> _Answer:
        response = self._get(url, headers, accepted, require_time)
        try:
            return _Answer(response, require_time)
        except BaseException:
            response.close()
            raise

    def _get(
        self, url: str, headers: dict[str, str], accepted: tuple[int, ...], require_time: Check
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer with its body unread; follow redirects, raise other statuses."""
        for _ in range(_MAX_REDIRECTS + 1):
            require_time()
            try:
                response = self._request(url, {"Accept-Encoding": "identity", **headers})
            except urllib3.exceptions.HTTPError as error:
                # `from None`, here and below: urllib3's errors quote the URL.
                raise MediaUnavailableError(f"no answer: {type(error).__name__}") from None
            if response.status in accepted:
                return response
            response.close()
            if response.status not in _REDIRECTS:
                raise _refusal(response.status)
            url = urljoin(url, response.headers.get("Location", ""))
        raise MediaUnavailableError("too many redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a GET, and once more where a connection that was kept turns out to be dead.

        Connections do not outlive a freeze of Lambda's sandbox (Lambda's best practices).
        """
        pool = self._pool(url)
        connections = pool.connection_from_url(url)
        made = connections.num_connections
        try:
            return self._send(pool, url, headers)
        except urllib3.exceptions.ProtocolError:
            if connections.num_connections > made:
                raise
        # The others were kept for as long: the next one must be new.
        pool.clear()
        return self._send(pool, url, headers)

    def _send(
        self, pool: urllib3.PoolManager, url: str, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        return pool.request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=self._timeout,
        )

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


@dataclass(frozen=True, slots=True)
class _Expected:
    """What is known of a file before it is asked for; `size` is None where nothing is."""

    size: int | None
    is_urgent: bool


class _Reader:
    """The body of an answer."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._is_fast = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end. Raises `MediaUnavailableError` on a break.

        A read of many bytes has its timeout anew with each few that come, and could take for
        ever. So only what comes fast is read that way; else one read of the socket is enough.
        """
        begun = time.monotonic()
        try:
            if self._is_fast:
                chunk = self._response.read(min(CHUNK_SIZE, size), decode_content=False)
            else:
                chunk = self._response.read1(min(_SLOW_CHUNK_SIZE, size), decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise MediaUnavailableError(f"broke off: {type(error).__name__}") from None
        fast = _FAST_BYTES_PER_SECOND * (time.monotonic() - begun)
        self._is_fast = len(chunk) >= max(fast, _RECORD_SIZE)
        return chunk

    def read_all(self, size: int, require_time: Check) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        found = b""
        while len(found) < size and (chunk := self.read(size - len(found))):
            require_time()
            found += chunk
        return found


class _Answer:
    """An answer that brings the file, or its beginning: what it says of it, and its bytes."""

    def __init__(self, response: urllib3.BaseHTTPResponse, require_time: Check) -> None:
        self._response = response
        self.status = response.status
        self._reader = _Reader(response)
        self._length = _length(response)
        probed = _PROBED if self._length is None else min(_PROBED, self._length)
        self._first = b"" if self.status == 416 else self._reader.read_all(probed, require_time)
        self._is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self.etag = _strong_etag(response)
        self.label = _bare(response.headers.get("Content-Type", ""))
        self.encoding_label = _bare(response.headers.get("Content-Encoding", ""))
        self.encoding = _encoding(self.encoding_label, self._first)
        self._is_decoded = self.encoding in _DECODED
        self._start = _decoded_start(self._first) if self._is_decoded else self._first

    @property
    def size(self) -> int | None:
        """The file's size, or None where the answer does not say it."""
        return None if self._is_decoded else self._length

    @property
    def has_ranges(self) -> bool:
        """Whether any part of the file can be had, and is sure to be of the same file."""
        is_known = self.etag is not None and self.size is not None
        return self.status == 206 and is_known and not self.encoding

    @property
    def content_type(self) -> str:
        """The label if it names a kind of media, else what the first bytes show."""
        shown = media_type(self._start)
        if _MEDIA_TYPES.fullmatch(self.label) and shown != "application/gzip":
            return self.label
        return shown or _UNSAID[0]

    def require_file(self, expected: _Expected) -> None:
        """Raise `NotMediaError` or `WrongLengthError` for what is not to be kept."""
        if self.size == 0 or not self._first:
            raise NotMediaError("the file is empty")
        # Where the bytes cannot be read, the label alone can tell a page.
        readable = b"" if self.encoding and not self._is_decoded else self._start
        if is_error_page(readable, self.label):
            raise NotMediaError("it is text: an error page")
        is_right_size = expected.size is not None and self.size == expected.size
        if not (is_media(self._start, self.label) or is_right_size or expected.is_urgent):
            raise NotMediaError(f"its content type is {self.label[:100]}")
        self._require_length(expected)

    def _require_length(self, expected: _Expected) -> None:
        if self.size is not None and self.size > MAX_FILE_BYTES:
            raise WrongLengthError("longer than S3 takes")
        if expected.is_urgent:
            return
        if self.size is not None and expected.size not in (None, self.size):
            raise WrongLengthError(f"{self.size} bytes, not {expected.size}")
        if not self._ends_well and expected.size is None:
            raise WrongLengthError("nobody says how long the file is")

    def stream(self, expected: _Expected, require_time: Check) -> Generator[bytes, None, None]:
        """Yield the file's bytes, decoded, and raise `MediaError` unless they are all there."""
        received = decoded = 0

        def raw() -> Generator[bytes, None, None]:
            nonlocal received
            for chunk in self._raw(require_time):
                received += len(chunk)
                yield chunk

        for chunk in _decoded(raw()) if self._is_decoded else raw():
            decoded += len(chunk)
            yield chunk
        is_right = expected.size in (decoded, received)
        is_whole = self._ends_well and expected.size is None
        if self.size is None and not (is_right or is_whole or expected.is_urgent):
            raise WrongLengthError(f"{decoded} bytes, not {expected.size}")

    def close(self) -> None:
        """Let go of the connection; a body that was read to its end has given it back."""
        self._response.close()

    @property
    def _ends_well(self) -> bool:
        """Whether the end of the body can be told from a connection that broke."""
        return self._is_chunked or self._length is not None

    def _raw(self, require_time: Check) -> Generator[bytes, None, None]:
        left = MAX_FILE_BYTES if self._length is None else self._length - len(self._first)
        yield self._first
        while left:
            require_time()
            chunk = self._reader.read(left)
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
        if left and self._length is not None:
            raise MediaUnavailableError("broke off")


class MediaFile:
    """A file as it was when it was opened; its bytes are that file's, or an error is raised."""

    def __init__(self, media: Media, url: str, answer: _Answer, expected: _Expected) -> None:
        self._media = media
        self._url = url
        self._answer = answer
        self._expected = expected

    @property
    def size(self) -> int | None:
        """In bytes, never 0; None where only the file's end will tell."""
        return self._answer.size

    @property
    def etag(self) -> str | None:
        """What tells this file from another at the same place; `None` where nothing does."""
        return self._answer.etag

    @property
    def content_type(self) -> str:
        """The kind of media, or that of mere bytes."""
        return self._answer.content_type

    @property
    def content_encoding(self) -> str | None:
        """What the bytes are encoded with; None where they are the file's own."""
        encoding = self._answer.encoding
        return None if encoding in _DECODED else encoding

    @property
    def has_ranges(self) -> bool:
        """Whether any part of it can be had, in any order, and is sure to be of the same file."""
        return self._answer.has_ranges

    def chunks(
        self, start: int, stop: int, require_time: Check = _allow
    ) -> Generator[bytes, None, None]:
        """Yield exactly the bytes from `start` up to and without `stop`, of a file with ranges.

        What breaks off is taken up again where it broke off. `require_time` is called at least
        once in each wait for the network, and may raise. Who stops early closes the generator,
        and with it the connection. Raises `MediaError`.
        """
        fruitless = 0
        while start < stop:
            before = start
            try:
                with closing(self._range(start, stop, require_time)) as chunks:
                    for chunk in chunks:
                        start += len(chunk)
                        yield chunk
            except MediaUnavailableError:
                fruitless = 0 if start > before else fruitless + 1
                if fruitless == _MAX_FRUITLESS_READS:
                    raise

    def stream(self, require_time: Check = _allow) -> Generator[bytes, None, None]:
        """Yield the whole of a file without ranges, once, as `chunks` does.

        What breaks off cannot be taken up again: that is a `MediaUnavailableError`.
        """
        return self._answer.stream(self._expected, require_time)

    def close(self) -> None:
        """Let go of the connection that a file without ranges is read from."""
        self._answer.close()

    def _range(self, start: int, stop: int, require_time: Check) -> Generator[bytes, None, None]:
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": self.etag or ""}
        response = self._media._get(self._url, headers, (206,), require_time)
        is_read = False
        try:
            end = self._end_of_range(response, start)
            reader = _Reader(response)
            while start < min(end, stop):
                require_time()
                chunk = reader.read(min(end, stop) - start)
                if not chunk:
                    raise MediaUnavailableError("broke off")
                start += len(chunk)
                yield chunk
            is_read = start == end
        finally:
            # What was read to its end gives its connection back; what was not cannot.
            response.release_conn() if is_read else response.close()

    def _end_of_range(self, response: urllib3.BaseHTTPResponse, start: int) -> int:
        """Return where the range ends that was sent: it may be shorter than what was asked for."""
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found or int(found["first"]) != start or int(found["last"]) < start:
            raise MediaChangedError("another range")
        if found["size"] not in ("*", str(self.size)):
            raise MediaChangedError("another size")
        if _strong_etag(response) != self.etag:
            raise MediaChangedError("another ETag")
        if _bare(response.headers.get("Content-Encoding", "")) != self._answer.encoding_label:
            raise MediaChangedError("another encoding")
        return int(found["last"]) + 1


def media_type(first_bytes: bytes) -> str | None:
    """Return the media type that a file's first 512 bytes show, or None if they show none."""
    found = (name for signature, name in _SIGNATURES if signature.match(first_bytes))
    return next(found, None)


def is_error_page(first_bytes: bytes, content_type: str = "") -> bool:
    """Return whether a body is a page of HTML, XML or JSON, or a message, instead of a file.

    `first_bytes` are up to 512 of the body's, decoded if it was encoded. A page may come with the
    file's own content type and with status 200, and a file with a page's, so the bytes decide:
    a page is text, or begins as only a page does. A tar whose first member is called `{…` is none.
    """
    if media_type(first_bytes):
        return False
    begin = first_bytes.lstrip(b"\xef\xbb\xbf \t\r\n")
    if _PAGE.match(begin):
        return True
    if _CONTROL.search(first_bytes):
        return False
    return begin[:1] in (b"<", b"{", b"[") or _PAGE_TYPES.match(_bare(content_type)) is not None


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


def _refusal(status: int) -> MediaError:
    """Return what a status says that does not bring the file, or not the range of it."""
    detail = f"HTTP {status}"
    if status in (400, 401, 403):
        return UrlExpiredError(detail)
    if status in (404, 410):
        return MediaMissingError(detail)
    if status in (200, 206, 412, 416):
        return MediaChangedError(detail)
    if status in (408, 429) or status >= 500:
        return MediaUnavailableError(detail)
    return NotMediaError(detail)


def _strong_etag(response: urllib3.BaseHTTPResponse) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[^"]+"', etag) else None


def _length(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the length of the whole body, None where it is not said.

    In up to 15 digits: what says more is no file that S3 could hold. A Content-Length may come
    twice (RFC 9110, 8.6), and one beside chunks means nothing.
    """
    if response.status == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        is_start = found is not None and found["first"] == "0" and found["size"] != "*"
        return int(found["size"]) if found and is_start else None
    lengths = {one.strip() for one in response.headers.get("Content-Length", "").split(",")}
    is_one = len(lengths) == 1 and "Transfer-Encoding" not in response.headers
    length = lengths.pop()
    return int(length) if is_one and re.fullmatch(r"[0-9]{1,15}", length) else None


def _encoding(label: str, first_bytes: bytes) -> str | None:
    """Return what a body is encoded with; a label that its first bytes deny says nothing."""
    if media_type(first_bytes) not in (None, "application/gzip"):
        return None
    if label in ("gzip", "x-gzip", "deflate"):
        is_known = first_bytes[:2] == b"\x1f\x8b" or (
            label == "deflate" and first_bytes[:1] == b"x"
        )
        return "gzip" if is_known else None
    return label if label in ("br", "zstd", "compress") else None


def _decoded_start(first_bytes: bytes) -> bytes:
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(first_bytes, _PROBED)
    except zlib.error:
        raise MediaUnavailableError("not encoded as it says") from None


def _decoded(chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield what was compressed with gzip, perhaps in several members one after the other."""
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for chunk in chunks:
            while chunk:
                if decoder.eof:
                    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
                yield decoder.decompress(chunk, CHUNK_SIZE)
                chunk = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error:
        raise MediaUnavailableError("not encoded as it says") from None
    if not decoder.eof:
        raise MediaUnavailableError("broke off in its encoding")


def content_type_of(file: MediaFile, file_name: str) -> str:
    """Return what a player is to be told: the file's kind of media, or what its name's end says."""
    suffix = file_name.rpartition(".")[2].lower()
    is_unsaid = file.content_type in _UNSAID
    return _BY_SUFFIX.get(suffix, file.content_type) if is_unsaid else file.content_type
