"""All files of one recording, one after the other; one file's trouble does not stop the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .api import Api, ApiError
from .download import Download, DownloadError, FileMissingError, LinkExpiredError
from .output import printable

# The longest that the API gives; a file that takes longer is continued with a new link.
LINK_SECONDS = 3600
ASK_BY_NAME = "ask_by_name"

Link = Mapping[str, Any]


class Files:
    """A recording's files on their way to a folder.

    `missing` and `failed` say why files did not come: because there is no such file to be had, or
    because of trouble on the way.
    """

    def __init__(self, api: Api, recording_id: str, output: Path) -> None:
        self._api = api
        self._recording_id = recording_id
        self._folder = output / recording_id
        self.missing: list[str] = []
        self.failed: list[str] = []

    def download(self, names: Collection[str]) -> None:
        """Download all files, or those named; print their paths. Raises `ApiError`, and
        `DownloadError` where there is no file of such a name."""
        found = self._api.links(self._recording_id, LINK_SECONDS)
        known = {one["name"] for one in (*found["links"], *found["missing"])}
        if unknown := sorted(set(names) - known):
            raise DownloadError(f"The recording has no file {', '.join(map(printable, unknown))}.")
        recording = self._api.recording(self._recording_id)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            for link in self._links(found, names):
                self._download(link, recording, progress)

    def _links(self, found: Mapping[str, Any], names: Collection[str]) -> Iterator[Link]:
        """Yield the links, and ask by name for those that did not fit the answer."""
        for link in found["links"]:
            if not names or link["name"] in names:
                yield link
        for one in found["missing"]:
            if names and one["name"] not in names:
                continue
            if one["reason"] == ASK_BY_NAME:
                yield from self._link(one["name"])
            else:
                self.missing.append(f"{one['name']}: {one['reason']}")

    def _link(self, name: str) -> Iterator[Link]:
        """Yield a new link to a file, if there is one."""
        try:
            found = self._api.links(self._recording_id, LINK_SECONDS, name)
        except ApiError as error:
            # An API that does not answer at all will not answer for the others either.
            if error.transient or error.status in (401, 403):
                raise
            self.missing.append(f"{name}: {error}")
            return
        self.missing += [f"{one['name']}: {one['reason']}" for one in found["missing"]]
        yield from found["links"]

    def _download(self, link: Link, recording: Mapping[str, Any], progress: Progress) -> None:
        try:
            try:
                self._fetch(link, recording, progress)
            except LinkExpiredError:
                # Other files, or this one, took longer than the link is good for.
                for new in self._link(link["name"]):
                    self._fetch(new, recording, progress)
        except FileMissingError as error:
            self.missing.append(str(error))
        except DownloadError as error:
            self.failed.append(str(error))

    def _fetch(self, link: Link, recording: Mapping[str, Any], progress: Progress) -> None:
        file = Download(link, recording, self._folder, self._api.connections)
        task = progress.add_task(file.path.name, total=file.size)
        for done in file.chunks():
            progress.update(task, completed=done, total=file.size)
        click.echo(str(file.path))
