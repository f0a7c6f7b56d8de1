"""Requests for a file at its link, which follow redirects, and whose errors do not show the link.

DownloadError
├── FileMissingError   the storage has no such file
├── LinkExpiredError   the storage refuses the link, and a new link is needed
└── BusyError          the storage refuses requests for now
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import urllib3

from .connections import Connections
from .error_pages import is_error_text

CHUNK_SIZE = 1024 * 1024
TIMEOUT = urllib3.Timeout(connect=5, read=60)
MAX_REDIRECTS = 3
PAUSE_SECONDS = 2
MAX_PAUSE_SECONDS = 60

_REDIRECTS = (301, 302, 303, 307, 308)


class DownloadError(Exception):
    """Raised when a file could not be downloaded; the text says why, without the link."""


class FileMissingError(DownloadError):
    """Raised when the storage has no such file."""


class LinkExpiredError(DownloadError):
    """Raised when the storage refuses the link. R2 answers an expired one with 400, S3 with 403."""


class BusyError(DownloadError):
    """Raised for 429 and 5xx; `seconds` is the time to wait."""

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.seconds = seconds


class LinkedFile:
    """A file at its link; `name` names it in errors."""

    def __init__(self, url: str, name: str, connections: Connections) -> None:
        self._url = url
        self.name = name
        self._connections = connections

    def read_text(self, max_bytes: int) -> bytes:
        """Return the bytes of a session's file. Raises `DownloadError`."""
        body = bytearray()
        try:
            response = self.open({})
            try:
                self.require_success(response)
                while chunk := response.read(CHUNK_SIZE, decode_content=False):
                    body += chunk
                    if len(body) > max_bytes:
                        raise DownloadError(
                            f"{self.name} is larger than {max_bytes // 2**20} MiB. Use the command "
                            "download instead."
                        )
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            # The name only, because urllib3's texts quote the link.
            raise DownloadError(
                f"The download of {self.name} broke off: {type(error).__name__}. Run the command "
                "again."
            ) from None
        if is_error_text(bytes(body[:512]), response.headers.get("Content-Type", "")):
            raise DownloadError(f"The storage sent an error page instead of {self.name}.")
        return bytes(body)

    def open(self, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the answer, whatever its status, with its body unread.

        Raises `DownloadError` for a redirect that must not be followed, and urllib3's `HTTPError`.
        """
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._connections.to(url).request(
                "GET",
                url,
                headers={"Accept-Encoding": "identity", **headers},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=TIMEOUT,
            )
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url = self._redirect_target(url, response.headers.get("Location", ""))
        raise DownloadError(f"Cannot download {self.name}: the link has too many redirects.")

    def _redirect_target(self, url: str, location: str) -> str:
        """Return a redirect's URL within the domain, such as from a new S3 bucket to its region."""
        with suppress(ValueError):
            target = urljoin(url, location)
            old, new = urlsplit(url), urlsplit(target)
            is_same = (old.scheme, _domain(old.hostname)) == (new.scheme, _domain(new.hostname))
            if is_same and new.username is None:
                return target
        raise DownloadError(
            f"Cannot download {self.name}: a redirect of the link leads to another domain."
        )

    def require_success(self, response: urllib3.BaseHTTPResponse) -> None:
        """Raise `DownloadError` for any status but 200."""
        status, name = response.status, self.name
        if status in (400, 401, 403):
            raise LinkExpiredError(
                f"The link to {name} has expired (HTTP {status}). Run the command again."
            )
        if status in (404, 410):
            raise FileMissingError(f"The storage has no file {name} (HTTP {status}).")
        if status == 429 or status >= 500:
            detail = f"The storage refuses {name} for now (HTTP {status}). Try again later."
            raise BusyError(detail, _pause_seconds(response.headers.get("Retry-After", "")))
        if status != 200:
            raise DownloadError(f"The storage refuses {name} (HTTP {status}).")


def _pause_seconds(retry_after: str) -> float:
    """Return the seconds to wait: those of Retry-After, or `PAUSE_SECONDS`."""
    seconds = int(retry_after) if re.fullmatch("[0-9]{1,9}", retry_after) else PAUSE_SECONDS
    return min(seconds, MAX_PAUSE_SECONDS)


def _domain(host: str | None) -> str:
    """Return a host's last two labels, which are the domain of every known storage.

    An IP address is returned as it is.
    """
    with suppress(ValueError):
        return str(ipaddress.ip_address(host or ""))
    return ".".join((host or "").lower().split(".")[-2:])
