"""The download of a recording's files, one after another, until each was tried."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from .api import Api, ApiError
from .download_display import Display
from .file_download import Download
from .linked_file import DownloadError, FileMissingError, LinkExpiredError
from .manifest import Manifest
from .output import printable
from .session_files import SUFFIXES

# The API's maximum; a file that takes longer is continued with a new link.
MAX_LINK_SECONDS = 3600
ASK_BY_NAME = "ask_by_name"
NO_FILE = "no_file"

Link = Mapping[str, Any]


class Files:
    """A recording's files, and the output folder, in which the recording has a folder of its own.

    `missing` has a line for each file that does not exist, with the reason; `failed` has one for
    each file that could not be downloaded. A file that its session does not have is not missing.
    """

    def __init__(
        self, api: Api, recording_id: str, output: Path, manifest: Manifest, display: Display
    ) -> None:
        self._api = api
        self.recording_id = recording_id
        self._folder = output / recording_id
        self._manifest = manifest
        self._display = display
        self.missing: list[str] = []
        self.failed: list[str] = []

    def download(self, names: Collection[str]) -> None:
        """Download all files, or those of these names; print their paths.

        Raises `ApiError`, and `DownloadError` if the recording has no file of a name.
        """
        answer = self._api.links(self.recording_id, MAX_LINK_SECONDS)
        known = {file["name"] for file in (*answer["links"], *answer["missing"])}
        if unknown := sorted(set(names) - known):
            raise DownloadError(f"The recording has no file {', '.join(map(printable, unknown))}.")
        recording = self._api.recording(self.recording_id)
        for link in self._links(answer, names):
            self._download(link, recording)

    def _links(self, answer: Mapping[str, Any], names: Collection[str]) -> Iterator[Link]:
        """Yield an answer's links, then fetch one by one the links that it had no room for."""
        for link in answer["links"]:
            if not names or link["name"] in names:
                yield link
        for file in answer["missing"]:
            if names and file["name"] not in names:
                continue
            if file["reason"] == ASK_BY_NAME:
                yield from self._link(file["name"])
            # Most sessions have no transcript or chat, so nothing is missing unless it is named.
            elif names or file["name"] not in SUFFIXES or file["reason"] != NO_FILE:
                self.missing.append(f"{file['name']}: {file['reason']}")

    def _link(self, name: str) -> Iterator[Link]:
        """Yield a new link to a file, if there is one."""
        try:
            answer = self._api.links(self.recording_id, MAX_LINK_SECONDS, name)
        except ApiError as error:
            # These errors concern every file, so trying the others is useless.
            if error.transient or error.status in (401, 403):
                raise
            self.missing.append(f"{name}: {error}")
            return
        self.missing += [f"{file['name']}: {file['reason']}" for file in answer["missing"]]
        yield from answer["links"]

    def _download(self, link: Link, recording: Mapping[str, Any]) -> None:
        try:
            try:
                self._fetch(link, recording)
            except LinkExpiredError:
                # Downloading the other files, or this one, outlasted the link.
                for new in self._link(link["name"]):
                    self._fetch(new, recording)
        except FileMissingError as error:
            self.missing.append(str(error))
        except DownloadError as error:
            self.failed.append(str(error))

    def _fetch(self, link: Link, recording: Mapping[str, Any]) -> None:
        file = Download(link, recording, self._folder, self._api.connections)
        with self._display.file(self.recording_id, file.path.name, file.size) as bar:
            for done in file.chunks():
                bar.advance_to(done, file.size)
        self._manifest.add(recording, link["name"], file.path, file.checksum())
        self._display.print_path(file.path)
