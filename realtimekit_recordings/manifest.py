"""The manifest of downloaded files: one line of JSON for each file, and no URL."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .linked_file import DownloadError

NAME = "manifest.jsonl"

# Members of a row that say which recording a file belongs to.
_OF_RECORDING = (
    "meeting_id",
    "meeting_title",
    "session_id",
    "invoked_at",
    "started_at",
    "stopped_at",
    "duration_seconds",
    "labels",
)


class Manifest:
    """The manifest in an output folder, to which lines are only ever appended.

    A file whose line exists already gets no second line. A file that changed gets a new line, so
    the last line of a path counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._lock = threading.Lock()
        self._lines: set[bytes] | None = None
        self._is_torn = False

    def add(self, row: Mapping[str, Any], artifact: str, path: Path, checksum: str) -> None:
        """Append the line of a recording's downloaded file. Raises `DownloadError`."""
        place = path.relative_to(self._folder)
        archive = row.get("artifacts", {}).get(artifact, {}).get("archive", {})
        entry = {
            "recording_id": place.parts[0],
            "artifact": artifact,
            "path": place.as_posix(),
            "size": path.stat().st_size,
            "checksum_crc32": checksum,
            **{name: archive[name] for name in ("bucket", "key") if name in archive},
            **{name: row[name] for name in _OF_RECORDING if name in row},
        }
        line = json.dumps(entry, ensure_ascii=False).encode(errors="backslashreplace")
        with self._lock:
            try:
                self._append(line)
            except OSError as error:
                reason = error.strerror or error
                raise DownloadError(f"Cannot write {self._path}: {reason}.") from error

    def _append(self, line: bytes) -> None:
        if self._lines is None:
            self._lines = self._read()
        if line in self._lines:
            return
        # One write in append mode, so that lines of other commands stay whole. A line that an
        # earlier run could not finish is ended first.
        with self._path.open("ab", buffering=0) as file:
            file.write((b"\n" if self._is_torn else b"") + line + b"\n")
        self._is_torn = False
        self._lines.add(line)

    def _read(self) -> set[bytes]:
        """Return the lines of earlier runs, and note whether the last one is unfinished."""
        content = self._path.read_bytes() if self._path.exists() else b""
        self._is_torn = not content.endswith(b"\n") and content != b""
        return set(content.split(b"\n"))
