"""A file from its link to this machine, resumable, and only whole under its name."""

from __future__ import annotations

import base64
import hashlib
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
    """One file of a recording, whose own folder that is, and in it the artifact's own.

    What there is of it is beside it, with `.part` at its end, until it is whole. `size` is None
    while nobody said it.
    """

    def __init__(self, link: Mapping[str, Any], checksum_crc32: str | None, folder: Path) -> None:
        self._url: str = link["url"]
        self._checksum = checksum_crc32
        self._linked_size: int | None = link.get("size")
        self.size = self._linked_size
        self.path = folder / _artifact_folder(link["name"]) / _file_name(link)
        self._part = self.path.with_name(f"{self.path.name}.part")
        # Which file it is a part of: another one's must not be gone on with.
        self._tag = self.path.with_name(f"{self.path.name}.part.etag")
        self._http = urllib3.PoolManager()

    def chunks(self) -> Iterator[int]:
        """Download it, and say after each piece how many bytes there are. Raises `DownloadError`.

        A file that is there is taken as it is if its size is known and right, and so is its
        checksum, if that is known. Any other is replaced, once the right one is whole.
        """
        try:
            if self.path.exists() and self._is_right(self.path):
                yield self.path.stat().st_size
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield from self._fetch_all()
            self._verify()
            self._part.replace(self.path)
            self._tag.unlink(missing_ok=True)
        except OSError as error:
            raise DownloadError(f"{self.path}: {error.strerror or error}.") from error

    def _is_right(self, path: Path) -> bool:
        return path.stat().st_size == self.size and self._has_checksum(path)

    def _has_checksum(self, path: Path) -> bool:
        return self._checksum is None or self._checksum == _crc32(path)

    def _fetch_all(self) -> Iterator[int]:
        fruitless, furthest, reason = 0, self._done(), ""
        while not self._is_complete():
            if fruitless == MOST_FRUITLESS:
                raise DownloadError(f"{self.path.name} broke off again and again: {reason}.")
            try:
                yield from self._fetch()
            except urllib3.exceptions.HTTPError as error:
                # urllib3's errors quote the link.
                reason = type(error).__name__
            else:
                if self.size is None:
                    # It ended in good order, and nothing else tells where its end is.
                    return
                reason = "it ended too early"
            # What begins anew each time gets somewhere each time, and nowhere in the end.
            fruitless = 0 if self._done() > furthest else fruitless + 1
            furthest = max(furthest, self._done())

    def _is_complete(self) -> bool:
        return self.size is not None and self._done() == self.size

    def _done(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _fetch(self) -> Iterator[int]:
        response = self._http.request(
            "GET",
            self._url,
            headers={"Accept-Encoding": "identity", **self._range()},
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=TIMEOUT,
        )
        try:
            self._note_size(response)
            if response.status == 416 and self._is_complete():
                return
            self._check_status(response.status)
            yield from self._write(response)
        finally:
            response.close()

    def _range(self) -> Mapping[str, str]:
        """Nothing, if there is nothing to go on with, or no telling whether it is the same file."""
        etag = self._tag.read_text() if self._tag.exists() else ""
        done = self._done()
        return {"Range": f"bytes={done}-", "If-Range": etag} if done and etag else {}

    def _note_size(self, response: urllib3.BaseHTTPResponse) -> None:
        if response.status not in (200, 206, 416):
            return
        size = _whole_size(response)
        if self._linked_size is None:
            self.size = size
        elif size not in (None, self._linked_size):
            raise DownloadError(f"{self.path.name} is not as long as it should be.")

    def _check_status(self, status: int) -> None:
        if status == 416:
            # No part of what is there now: the next run must not ask for its rest again.
            self._part.unlink(missing_ok=True)
        if status not in (200, 206):
            raise DownloadError(_refusal(self.path.name, status))

    def _write(self, response: urllib3.BaseHTTPResponse) -> Iterator[int]:
        goes_on = response.status == 206
        done = self._done() if goes_on else 0
        self._tag.write_text(response.headers.get("ETag", ""))
        with self._part.open("ab" if goes_on else "wb") as part:
            while chunk := response.read(CHUNK_SIZE, decode_content=False):
                part.write(chunk)
                done += len(chunk)
                yield done

    def _verify(self) -> None:
        """What is not the file that was archived is not kept."""
        if not self._has_checksum(self._part):
            self._part.unlink()
            raise DownloadError(f"{self.path.name} has another checksum than the archive says.")


def _artifact_folder(name: str) -> str:
    """Another one for each name, also where `A` and `a` are one; others chose parts of it."""
    if re.fullmatch("[a-z]+", name):
        return name
    safe = re.sub("[^a-z0-9]+", "-", name.lower())
    return f"{safe[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _file_name(link: Mapping[str, Any]) -> str:
    """A name without a way in it: others chose it."""
    name = link.get("file_name") or urlsplit(link["url"]).path.rpartition("/")[2]
    safe = re.sub(r"[\x00-\x1f\x7f-\x9f/\\:]", "_", str(name)).lstrip(".")
    return safe[-200:] or "recording"


def _whole_size(response: urllib3.BaseHTTPResponse) -> int | None:
    """Of the file, whatever part of it this is; None if the answer does not say."""
    if response.status == 200:
        size = response.headers.get("Content-Length", "")
    else:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdecimal() else None


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
