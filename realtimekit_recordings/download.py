"""A file from its link to this machine, resumable, and only whole under its name."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3

CHUNK_SIZE = 1024 * 1024
TIMEOUT = urllib3.Timeout(connect=5, read=60)
MOST_FRUITLESS = 3


class DownloadError(Exception):
    """Raised when a file could not be had; says why, and never the link."""


class Download:
    """One file. What there is of it is beside it, with `.part` at its end, until it is whole."""

    def __init__(self, link: Mapping[str, Any], checksum_crc32: str | None, folder: Path) -> None:
        self._url: str = link["url"]
        self._checksum = checksum_crc32
        self.size: int | None = link.get("size")
        self.path = folder / _file_name(link)
        self._part = self.path.with_name(f"{self.path.name}.part")
        # Which file it is a part of: another one's must not be gone on with.
        self._tag = self.path.with_name(f"{self.path.name}.part.etag")
        self._http = urllib3.PoolManager()

    def chunks(self) -> Iterator[int]:
        """Download it, and say after each piece how many bytes there are. Raises `DownloadError`.

        A file that is there with its size is taken as it is.
        """
        try:
            if self.path.exists() and self.path.stat().st_size == self.size:
                yield self.path.stat().st_size
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield from self._fetch_all()
            self._verify()
            self._part.rename(self.path)
            self._tag.unlink(missing_ok=True)
        except OSError as error:
            raise DownloadError(f"{self.path}: {error.strerror or error}.") from error

    def _fetch_all(self) -> Iterator[int]:
        fruitless = 0
        while not self._is_complete():
            before = self._done()
            try:
                yield from self._fetch()
            except urllib3.exceptions.HTTPError as error:
                # urllib3's errors quote the link.
                reason = type(error).__name__
            else:
                reason = "it ended too early"
            if self.size is None:
                return
            fruitless = fruitless + 1 if self._done() <= before else 0
            if fruitless == MOST_FRUITLESS:
                raise DownloadError(f"{self.path.name} broke off again and again: {reason}.")

    def _is_complete(self) -> bool:
        return self.size is not None and self._done() == self.size

    def _done(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _fetch(self) -> Iterator[int]:
        start = self._done()
        headers = {"Accept-Encoding": "identity"}
        if start and self._tag.exists():
            headers |= {"Range": f"bytes={start}-", "If-Range": self._tag.read_text()}
        response = self._http.request(
            "GET",
            self._url,
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=TIMEOUT,
        )
        try:
            if response.status not in (200, 206):
                raise DownloadError(_refusal(self.path.name, response.status))
            goes_on = response.status == 206
            self._tag.write_text(response.headers.get("ETag", ""))
            done = start if goes_on else 0
            with self._part.open("ab" if goes_on else "wb") as part:
                while chunk := response.read(CHUNK_SIZE, decode_content=False):
                    part.write(chunk)
                    done += len(chunk)
                    yield done
        finally:
            response.close()

    def _verify(self) -> None:
        """What is not the file that was archived is not kept."""
        if self.size is not None and self._done() != self.size:
            self._part.unlink()
            raise DownloadError(f"{self.path.name} is not as long as it should be.")
        if self._checksum and self._checksum != _crc32(self._part):
            self._part.unlink()
            raise DownloadError(f"{self.path.name} has another checksum than the archive says.")


def _file_name(link: Mapping[str, Any]) -> str:
    """A name without a way in it: others chose it."""
    name = link.get("file_name") or urlsplit(link["url"]).path.rpartition("/")[2]
    safe = re.sub(r"[\x00-\x1f\x7f-\x9f/\\:]", "_", str(name)).lstrip(".")
    return safe[-200:] or "recording"


def _refusal(name: str, status: int) -> str:
    if status in (400, 401, 403):
        return f"The link to {name} has expired (HTTP {status}). Run the command again to go on."
    if status in (404, 410):
        return f"{name} is not there (HTTP {status})."
    return f"The storage does not give {name} (HTTP {status}). Run the command again to go on."


def _crc32(path: Path) -> str:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            checksum = zlib.crc32(chunk, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
