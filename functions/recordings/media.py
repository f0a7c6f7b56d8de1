"""A recording's file at its presigned URL: the allowed hosts, the checks, the bytes.

The URL comes from RealtimeKit's answer and is a bearer credential. Errors never name it, requests
carry no credential of ours, and its host is checked. A URL presigned for GET refuses HEAD, so the
first bytes are fetched instead. A file is read in ranges if the storage supports them and gives a
strong ETag; otherwise it is read from the one answer that was checked.

    MediaError
    ├── ForbiddenHostError     the URL leads to a host that is not allowed
    ├── UrlExpiredError        the storage refuses the URL: a new one is needed
    ├── MediaMissingError      the storage has no such file
    ├── NotMediaError          an error page, an empty file, no audio or video, unreadable bytes
    ├── WrongLengthError       another length than expected, or an unknown one
    ├── MediaChangedError      another file than the one opened, or its ranges are refused
    └── MediaUnavailableError  network trouble, a stall, 429 or 5xx
"""

from __future__ import annotations

import io
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

from recordings.media_types import (
    bare_type,
    content_type,
    is_error_page,
    is_media,
    media_type,
)

CHUNK_BYTES = 262_144
# Slow storage sends some 12 KB/s. S3 aborts an upload that is silent for 20 s (S3's
# RequestTimeout), so slow bytes are passed on in smaller chunks.
_SLOW_CHUNK_BYTES = 65_536
# 5 TiB: fits S3's ten thousand parts; a day's recording is a thousandth of it.
MAX_FILE_BYTES = 5 * 1024**4

# 10 s: a stall must be shorter than the 30 s that `archive_recording` keeps in reserve.
TIMEOUT = urllib3.Timeout(connect=5, read=10)

# The most that one TLS record carries (RFC 8446, 5.1).
_RECORD_BYTES = 16_384
_FAST_BYTES_PER_SECOND = 1_000_000
_PROBED_BYTES = 512
_MAX_REDIRECTS = 3
_MAX_FRUITLESS_READS = 3
_REDIRECTS = (301, 302, 303, 307, 308)

_CONTENT_RANGE = re.compile(
    r"bytes (?P<first>[0-9]{1,15})-(?P<last>[0-9]{1,15})/(?P<size>[0-9]{1,15}|\*)"
)
# Encodings that are decoded. Other encodings stay, and the object's metadata names them.
_DECODED = ("gzip",)
# zlib's `wbits` for a gzip or a zlib header.
_GZIP_OR_ZLIB = 47


class MediaError(Exception):
    """Raised when a file cannot be read; `cause` names the kind in one word, without a secret."""

    cause = "unknown"


class ForbiddenHostError(MediaError):
    """Raised for a URL or a redirect that leads to a host that is not allowed."""

    cause = "host_refused"


class UrlExpiredError(MediaError):
    """Raised when the storage refuses the URL: R2 answers 400 to an expired one, S3 403."""

    cause = "url_expired"


class MediaMissingError(MediaError):
    """Raised when the storage has no such file."""

    cause = "media_missing"


class NotMediaError(MediaError):
    """Raised for an answer that is not a recording's file, whatever its status."""

    cause = "not_media"


class WrongLengthError(MediaError):
    """Raised for a file of another length than expected, or of an unknown one."""

    cause = "wrong_length"


class MediaChangedError(MediaError):
    """Raised when ranges of the opened file are refused or changed: the copy must begin anew."""

    cause = "media_changed"


class MediaUnavailableError(MediaError):
    """Raised when the storage is unreachable, stalls, or answers 408, 429 or 5xx."""

    cause = "media_unavailable"


class _PublicConnection(urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> object:  # type: ignore[override]
        """Connect, and refuse an address that is not public before a byte is sent."""
        connection = super()._new_conn()
        address = connection.getpeername()[0]
        if not is_public(address):
            connection.close()
            raise urllib3.exceptions.NewConnectionError(self, "not a public address")
        return connection


class _PublicPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


RequireTime = Callable[[], None]
"""A function that raises an error to stop a download."""


def _allow() -> None:
    """Set no limit to a download's time."""


class Media:
    """The storage that RealtimeKit's URLs lead to.

    `hosts` are the allowed ones: names, and suffixes that begin with a dot, over https and at
    public addresses. A local stack allows its own machine as a URL, `http://127.0.0.1`.
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
        # The pools share a context, because each new one loads all certificates again.
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
        require_time: RequireTime = _allow,
    ) -> MediaFile:
        """Check the beginning of a file, and return the file. Raises `MediaError`.

        `size` is RealtimeKit's, 0 or None if unknown. An urgent file is accepted with any size and
        label, unless it is an error page. `in_one` reads the file in one answer instead of ranges.
        `require_time` is called as in `MediaFile.chunks`.
        """
        headers = {} if in_one else {"Range": f"bytes=0-{_PROBED_BYTES - 1}"}
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

    def read(self, url: str, *, max_bytes: int, require_time: RequireTime = _allow) -> bytes:
        """Return the whole body of a small file, decoded; b"" if it is empty. Raises `MediaError`.

        A body of more than `max_bytes` raises `WrongLengthError`, and its rest is not received. The
        bytes are not judged. `require_time` is called as in `MediaFile.chunks`.
        """
        with closing(self._begin(url, {}, (200,), require_time)) as answer:
            return answer.read(max_bytes, require_time)

    def _begin(
        self,
        url: str,
        headers: dict[str, str],
        accepted: tuple[int, ...],
        require_time: RequireTime,
    ) -> _Answer:
        response = self._get(url, headers, accepted, require_time)
        try:
            return _Answer(response, require_time)
        except BaseException:
            response.close()
            raise

    def _get(
        self,
        url: str,
        headers: dict[str, str],
        accepted: tuple[int, ...],
        require_time: RequireTime,
    ) -> urllib3.BaseHTTPResponse:
        """Return an accepted answer, its body unread. Follow redirects, raise other statuses."""
        for _ in range(_MAX_REDIRECTS + 1):
            require_time()
            try:
                response = self._request(url, {"Accept-Encoding": "identity", **headers})
            except urllib3.exceptions.HTTPError as error:
                # `from None`, here and below, because urllib3's errors quote the URL.
                raise MediaUnavailableError(f"no answer: {type(error).__name__}") from None
            if response.status in accepted:
                return response
            response.close()
            if response.status not in _REDIRECTS:
                raise _refusal(response.status)
            url = urljoin(url, response.headers.get("Location", ""))
        raise MediaUnavailableError("too many redirects")

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a GET; send it again if a kept connection turns out to be dead.

        Lambda freezes idle sandboxes, and their connections die meanwhile (Lambda best practices).
        """
        pool = self._pool(url)
        connections = pool.connection_from_url(url)
        made = connections.num_connections
        try:
            return self._send(pool, url, headers)
        except urllib3.exceptions.ProtocolError:
            if connections.num_connections > made:
                raise
        # The pool's other connections are as old, so the next one must be new.
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
            raise ForbiddenHostError("the URL cannot be parsed") from None
        if {f"{parts.scheme}://{host}", f"{parts.scheme}://{host}:{port}"} & {*self._local}:
            return self._local_pool
        if parts.scheme != "https":
            raise ForbiddenHostError("the URL is not https")
        if parts.username is None and port in (None, 443) and self._is_allowed(host):
            return self._public_pool
        raise ForbiddenHostError("the URL's host is not in MediaHosts")

    def _is_allowed(self, host: str) -> bool:
        return any(
            host == allowed or (allowed.startswith(".") and host.endswith(allowed))
            for allowed in self._hosts
        )


@dataclass(frozen=True, slots=True)
class _Expected:
    """The caller's knowledge of a file before it is fetched; `size` is None if unknown."""

    size: int | None
    is_urgent: bool


class _Reader:
    """The body of an answer."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._is_fast = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end. Raises `MediaUnavailableError` on a break.

        A read of many bytes restarts its timeout with each packet, and could last for ever.
        Therefore only fast bodies are read in large chunks, others by one read of the socket.
        """
        begun = time.monotonic()
        try:
            if self._is_fast:
                chunk = self._response.read(min(CHUNK_BYTES, size), decode_content=False)
            else:
                chunk = self._response.read1(min(_SLOW_CHUNK_BYTES, size), decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise MediaUnavailableError(f"the body broke off: {type(error).__name__}") from None
        fast = _FAST_BYTES_PER_SECOND * (time.monotonic() - begun)
        self._is_fast = len(chunk) >= max(fast, _RECORD_BYTES)
        return chunk

    def read_all(self, size: int, require_time: RequireTime) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        data = b""
        while len(data) < size and (chunk := self.read(size - len(data))):
            require_time()
            data += chunk
        return data


class _Answer:
    """An answer with the file or its beginning: its headers, and its bytes."""

    def __init__(self, response: urllib3.BaseHTTPResponse, require_time: RequireTime) -> None:
        self._response = response
        self.status = response.status
        self._reader = _Reader(response)
        self._length = _length(response)
        probed = _PROBED_BYTES if self._length is None else min(_PROBED_BYTES, self._length)
        self._first = b"" if self.status == 416 else self._reader.read_all(probed, require_time)
        self._is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self.etag = _strong_etag(response)
        self.label = bare_type(response.headers.get("Content-Type", ""))
        self.encoding_label = bare_type(response.headers.get("Content-Encoding", ""))
        self.encoding = _encoding(self.encoding_label, self._first)
        self._is_decoded = self.encoding in _DECODED
        self._start = _decoded_start(self._first) if self._is_decoded else self._first

    @property
    def size(self) -> int | None:
        """The file's size in bytes, or None if the answer does not say it."""
        return None if self._is_decoded else self._length

    @property
    def has_ranges(self) -> bool:
        """True if the storage serves ranges, and an ETag ties them to this file."""
        is_known = self.etag is not None and self.size is not None
        return self.status == 206 and is_known and not self.encoding

    @property
    def content_type(self) -> str:
        """The label if it is a media type, else the type that the first bytes show."""
        return content_type(self.label, self._start)

    def require_file(self, expected: _Expected) -> None:
        """Raise `NotMediaError` or `WrongLengthError` unless the answer is the expected file."""
        if self.size == 0 or not self._first:
            raise NotMediaError("the file is empty")
        # Bytes that stay encoded cannot be judged, so the label decides.
        readable = b"" if self.encoding and not self._is_decoded else self._start
        if is_error_page(readable, self.label):
            raise NotMediaError("the answer is text: an error page")
        is_right_size = expected.size is not None and self.size == expected.size
        if not (is_media(self._start, self.label) or is_right_size or expected.is_urgent):
            raise NotMediaError(f"content type {self.label[:100]} is no media type")
        self._require_length(expected, MAX_FILE_BYTES)

    def _require_length(self, expected: _Expected, max_bytes: int) -> None:
        if self.size is not None and self.size > max_bytes:
            raise WrongLengthError(f"{self.size} bytes, more than the {max_bytes} allowed")
        if expected.is_urgent:
            return
        if self.size is not None and expected.size not in (None, self.size):
            raise WrongLengthError(f"{self.size} bytes, not {expected.size}")
        if not self._ends_well and expected.size is None:
            raise WrongLengthError("neither the answer nor RealtimeKit says the length")

    def read(self, max_bytes: int, require_time: RequireTime) -> bytes:
        """Return the whole body, decoded. Raises `MediaError` if it is longer than `max_bytes`."""
        if self.encoding and not self._is_decoded:
            raise NotMediaError(f"the body is encoded as {self.encoding}, which cannot be decoded")
        expected = _Expected(None, is_urgent=False)
        self._require_length(expected, max_bytes)
        # A buffer's `getvalue` hands its memory over; joined chunks would take twice the bytes.
        body = io.BytesIO()
        with closing(self.stream(expected, require_time)) as chunks:
            for chunk in chunks:
                body.write(chunk)
                if body.tell() > max_bytes:
                    raise WrongLengthError(f"more than the {max_bytes} bytes allowed")
        return body.getvalue()

    def stream(
        self, expected: _Expected, require_time: RequireTime
    ) -> Generator[bytes, None, None]:
        """Yield the file's bytes, decoded. Raises `MediaError` at the end unless all have come."""
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
        """Close the connection, unless the body was read to its end and gave it back."""
        self._response.close()

    @property
    def _ends_well(self) -> bool:
        """True if the end of the body can be distinguished from a broken connection."""
        return self._is_chunked or self._length is not None

    def _raw(self, require_time: RequireTime) -> Generator[bytes, None, None]:
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
            raise MediaUnavailableError("the body broke off")


class MediaFile:
    """A file as it was when it was opened; bytes of another file raise an error."""

    def __init__(self, media: Media, url: str, answer: _Answer, expected: _Expected) -> None:
        self._media = media
        self._url = url
        self._answer = answer
        self._expected = expected

    @property
    def size(self) -> int | None:
        """The size in bytes, never 0; None if only the file's end will tell."""
        return self._answer.size

    @property
    def etag(self) -> str | None:
        """The strong ETag, which differs for another file at the same URL; None without one."""
        return self._answer.etag

    @property
    def content_type(self) -> str:
        """The media type, or `application/octet-stream` if it is unknown."""
        return self._answer.content_type

    @property
    def content_encoding(self) -> str | None:
        """The encoding of the bytes; None if they are decoded."""
        encoding = self._answer.encoding
        return None if encoding in _DECODED else encoding

    @property
    def has_ranges(self) -> bool:
        """True if `chunks` can read any part of the file, else only `stream` can read it."""
        return self._answer.has_ranges

    def chunks(
        self, start: int, stop: int, require_time: RequireTime = _allow
    ) -> Generator[bytes, None, None]:
        """Yield the bytes from `start` up to and without `stop`, of a file with ranges.

        A read that breaks off is continued. `require_time` is called at least once in each wait
        for the network, and may raise. A caller that stops early must close the generator, which
        closes the connection. Raises `MediaError`.
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

    def stream(self, require_time: RequireTime = _allow) -> Generator[bytes, None, None]:
        """Yield all bytes of a file without ranges, once, as `chunks` does.

        A read that breaks off raises `MediaUnavailableError`, because it cannot be continued.
        """
        return self._answer.stream(self._expected, require_time)

    def close(self) -> None:
        """Close the connection that a file without ranges is read from."""
        self._answer.close()

    def _range(
        self, start: int, stop: int, require_time: RequireTime
    ) -> Generator[bytes, None, None]:
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
                    raise MediaUnavailableError("the body broke off")
                start += len(chunk)
                yield chunk
            is_read = start == end
        finally:
            # Only a body that was read to its end leaves a connection that can be used again.
            response.release_conn() if is_read else response.close()

    def _end_of_range(self, response: urllib3.BaseHTTPResponse, start: int) -> int:
        """Return where the received range ends; it may be shorter than the requested one."""
        content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if (
            not content_range
            or int(content_range["first"]) != start
            or int(content_range["last"]) < start
        ):
            raise MediaChangedError("the storage sent another range than requested")
        if content_range["size"] not in ("*", str(self.size)):
            raise MediaChangedError("the file's size has changed")
        if _strong_etag(response) != self.etag:
            raise MediaChangedError("the file's ETag has changed")
        if bare_type(response.headers.get("Content-Encoding", "")) != self._answer.encoding_label:
            raise MediaChangedError("the file's encoding has changed")
        return int(content_range["last"]) + 1


def is_public(address: str) -> bool:
    """Return True if an IP address is public: not private, loopback, link-local, or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def _refusal(status: int) -> MediaError:
    """Return the error for a status other than the accepted ones."""
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
    """Return the length of the whole body, or None if the answer does not say it.

    Numbers have up to 15 digits, more than S3 could hold. A Content-Length may be repeated
    (RFC 9110, 8.6); beside a Transfer-Encoding it is ignored.
    """
    if response.status == 206:
        content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        is_start = (
            content_range is not None
            and content_range["first"] == "0"
            and content_range["size"] != "*"
        )
        return int(content_range["size"]) if content_range and is_start else None
    header = response.headers.get("Content-Length", "")
    lengths = {length.strip() for length in header.split(",")}
    is_clear = len(lengths) == 1 and "Transfer-Encoding" not in response.headers
    length = lengths.pop()
    return int(length) if is_clear and re.fullmatch(r"[0-9]{1,15}", length) else None


def _encoding(label: str, first_bytes: bytes) -> str | None:
    """Return a body's encoding, or None if its first bytes contradict the label."""
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
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(first_bytes, _PROBED_BYTES)
    except zlib.error:
        raise MediaUnavailableError("the body is not encoded as its header says") from None


def _decoded(chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield the decompressed bytes of a gzip or zlib body, which may have several members."""
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for chunk in chunks:
            while chunk:
                if decoder.eof:
                    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
                yield decoder.decompress(chunk, CHUNK_BYTES)
                chunk = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error:
        raise MediaUnavailableError("the body is not encoded as its header says") from None
    if not decoder.eof:
        raise MediaUnavailableError("the compressed body broke off")
