"""The download of one file by its link, which resumes, and names the file once it is whole."""

from __future__ import annotations

import base64
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3

from .connections import Connections
from .error_pages import is_error_page, is_error_text
from .file_lock import LockedError, locked
from .file_names import artifact_folder, file_name
from .linked_file import CHUNK_SIZE, BusyError, DownloadError, FileMissingError, LinkedFile
from .session_files import SUFFIXES

MAX_FRUITLESS_REQUESTS = 3

_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]+"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class _StartOverError(Exception):
    """Raised when an answer does not continue the part, which is then dropped."""


class Download:
    """The download of one file into its artifact's folder, within the recording's `folder`.

    Until the file is whole, its bytes are in a `.part` file beside it. `size` is None while it is
    unknown.
    """

    def __init__(
        self,
        link: Mapping[str, Any],
        recording: Mapping[str, Any],
        folder: Path,
        connections: Connections,
    ) -> None:
        artifact = recording.get("artifacts", {}).get(link["name"], {})
        self._is_session_file = link["name"] in SUFFIXES
        self._checksum: str | None = artifact.get("archive", {}).get("checksum_crc32")
        self._linked_size: int | None = link.get("size")
        self.size = self._linked_size
        self.path = folder / artifact_folder(link["name"]) / file_name(link, recording)
        self._part = self.path.with_name(f"{self.path.name}.part")
        # The ETag of the part's file, so that the part is not continued with another file.
        self._etag_file = self.path.with_name(f"{self.path.name}.part.etag")
        self._lock = self.path.with_name(f"{self.path.name}.part.lock")
        self._file = LinkedFile(link["url"], self.path.name, connections)

    def chunks(self) -> Iterator[int]:
        """Download the file; yield the number of bytes after each chunk.

        An existing file is kept if its size is known and right, and its checksum, if known, is
        right too. Any other is replaced once the new file is whole. Raises `DownloadError`.
        """
        try:
            if self.path.exists() and self._is_correct(self.path):
                yield self.path.stat().st_size
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._lock):
                yield from self._replace()
        except LockedError:
            raise DownloadError(
                f"{self.path.name} is being downloaded by another command. Wait for its end."
            ) from None
        except OSError as error:
            raise DownloadError(f"Cannot write {self.path}: {error.strerror or error}.") from error

    def checksum(self) -> str:
        """Return the downloaded file's CRC-32: the archive's, which was checked, or a computed one.

        Raises `DownloadError`.
        """
        try:
            return self._checksum or _checksum_crc32(self.path)
        except OSError as error:
            raise DownloadError(f"Cannot read {self.path}: {error.strerror or error}.") from error

    def _replace(self) -> Iterator[int]:
        is_resumed = self._part_size() > 0
        yield from self._fetch_all()
        if is_resumed and not self._has_checksum(self._part):
            # The part came from an earlier run, and was damaged.
            self._drop_part()
            yield from self._fetch_all()
        if not self._has_checksum(self._part):
            self._drop_part()
            raise DownloadError(
                f"{self.path.name} was downloaded, but its checksum differs from the archive's. "
                "Run the command again."
            )
        self._part.replace(self.path)
        self._etag_file.unlink(missing_ok=True)

    def _is_correct(self, path: Path) -> bool:
        return path.stat().st_size == self.size and self._has_checksum(path)

    def _has_checksum(self, path: Path) -> bool:
        return self._checksum is None or self._checksum == _checksum_crc32(path)

    def _fetch_all(self) -> Iterator[int]:
        fruitless, furthest, reason, has_paused = 0, self._part_size(), "", False
        while not self._is_complete():
            if fruitless == MAX_FRUITLESS_REQUESTS:
                raise DownloadError(
                    f"The download of {self.path.name} broke off again and again: {reason}. "
                    "Run the command again to continue."
                )
            try:
                yield from self._fetch()
                reason = "the answer ended too early"
            except urllib3.exceptions.HTTPError as error:
                # The name only, because urllib3's texts quote the link.
                reason = type(error).__name__
            except _StartOverError as error:
                self._drop_part()
                reason = str(error)
            except BusyError as busy:
                if has_paused:
                    raise
                has_paused = True
                time.sleep(busy.seconds)
            # Answers that start over each time make progress only up to where the last one ended.
            fruitless = 0 if self._part_size() > furthest else fruitless + 1
            furthest = max(furthest, self._part_size())

    def _is_complete(self) -> bool:
        return self.size is not None and self._part_size() == self.size

    def _part_size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _drop_part(self) -> None:
        """Delete the part, so that the next request fetches the whole file."""
        self._part.unlink(missing_ok=True)
        self._etag_file.unlink(missing_ok=True)

    def _fetch(self) -> Iterator[int]:
        etag = self._etag()
        done = self._part_size() if etag else 0
        response = self._file.open({"Range": f"bytes={done}-", "If-Range": etag} if done else {})
        try:
            if response.status == 416:
                self._reject_part(response)
            elif response.status == 206:
                self._require_rest(response, done, etag)
                yield from self._write(response, done)
            else:
                self._file.require_success(response)
                self._note_size(response)
                yield from self._write(response, 0)
        finally:
            response.close()

    def _etag(self) -> str:
        """Return the strong ETag of the part's file, or "" if it is missing or damaged."""
        try:
            etag = self._etag_file.read_text(encoding="ascii")
        except (FileNotFoundError, UnicodeDecodeError):
            return ""
        return etag if _STRONG_ETAG.fullmatch(etag) else ""

    def _reject_part(self, response: urllib3.BaseHTTPResponse) -> None:
        """Accept a 416 for a part that is the whole file. Raises `_StartOverError`."""
        match = re.fullmatch(r"bytes \*/(\d{1,15})", response.headers.get("Content-Range", ""))
        if match and int(match[1]) == self._part_size() and self.size in (None, self._part_size()):
            self.size = self._part_size()
            return
        raise _StartOverError("the part does not fit the file (HTTP 416)")

    def _require_rest(self, response: urllib3.BaseHTTPResponse, done: int, etag: str) -> None:
        """Raise `_StartOverError` for a 206 that does not continue the part."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        start, stop, size = (int(number) for number in match.groups()) if match else (0, 0, 0)
        is_rest = (start, stop + 1) == (done, size) and response.headers.get("ETag") == etag
        if not done or not is_rest or self.size not in (None, size):
            raise _StartOverError("the storage sent another part than requested")
        self.size = size

    def _note_size(self, response: urllib3.BaseHTTPResponse) -> None:
        """Note the file's size. Raises `DownloadError` if the link says another one."""
        length = response.headers.get("Content-Length", "")
        size = int(length) if re.fullmatch("[0-9]{1,15}", length) else None
        if self._linked_size is None:
            self.size = size
        elif size not in (None, self._linked_size):
            raise DownloadError(
                f"The storage's {self.path.name} has another size than its link says."
            )

    def _write(self, response: urllib3.BaseHTTPResponse, done: int) -> Iterator[int]:
        chunk = response.read(CHUNK_SIZE, decode_content=False)
        if done == 0:
            self._require_file(response, chunk)
        with self._part.open("ab" if done else "wb") as part:
            # Opening has removed old bytes, so that they never count as a part of the new file.
            etag = response.headers.get("ETag", "")
            self._etag_file.write_text(
                etag if _STRONG_ETAG.fullmatch(etag) else "", encoding="ascii"
            )
            while chunk:
                done += len(chunk)
                if self.size is not None and done > self.size:
                    raise _StartOverError("the answer is longer than the file")
                part.write(chunk)
                yield done
                chunk = response.read(CHUNK_SIZE, decode_content=False)
        if self.size is None:
            # The answer ended in good order, and only its end gives the size.
            self.size = done

    def _require_file(self, response: urllib3.BaseHTTPResponse, start: bytes) -> None:
        """Raise `DownloadError` for an error page, unless a checksum will show it."""
        if self._checksum is not None:
            return
        if not start and not self.size:
            detail = f"The storage sent an empty file instead of {self.path.name}."
            # RealtimeKit offers an empty transcript for a session in which nobody spoke.
            raise FileMissingError(detail) if self._is_session_file else DownloadError(detail)
        is_error = is_error_text if self._is_session_file else is_error_page
        if is_error(start, response.headers.get("Content-Type", "")):
            raise DownloadError(f"The storage sent an error page instead of {self.path.name}.")


def _checksum_crc32(path: Path) -> str:
    """Return a file's CRC-32 as S3 writes it: the base64 of four bytes."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            checksum = zlib.crc32(chunk, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
