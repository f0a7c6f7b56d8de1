"""Downloads of recordings, a few at once; an error of one does not stop the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .api import NO_LINK_STATUSES, Api, ApiError
from .download_display import Display
from .files import Files
from .linked_file import DownloadError
from .manifest import Manifest

# No answer, or refused credentials: trying the other recordings is useless.
_CONCERNS_ALL = (0, 401, 403)


class Downloads:
    """Downloads of recordings into an output folder, of all files or of those with these names."""

    def __init__(self, api: Api, ids: Sequence[str], names: Collection[str], output: Path) -> None:
        self._names = names
        self._display = Display(len(ids))
        manifest = Manifest(output)
        self._recordings = [Files(api, id_, output, manifest, self._display) for id_ in ids]

    def run(self, parallel: int) -> None:
        """Download all recordings, up to `parallel` at once.

        The errors of a single recording are raised: `ApiError` and `DownloadError`. With several
        recordings, only an `ApiError` that concerns all of them is raised.
        """
        with self._display, ThreadPoolExecutor(parallel) as executor:
            futures = [executor.submit(self._download, files) for files in self._recordings]
            try:
                for future in as_completed(futures):
                    future.result()
                    self._display.count_recording()
            except BaseException:
                self._display.stop()
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    @property
    def missing(self) -> Iterator[str]:
        """The files and recordings that do not exist, each with the reason."""
        return (self._named(files, text) for files in self._recordings for text in files.missing)

    @property
    def failed(self) -> Iterator[str]:
        """The files and recordings that could not be downloaded, each with the reason."""
        return (self._named(files, text) for files in self._recordings for text in files.failed)

    def _named(self, files: Files, text: str) -> str:
        return f"{files.recording_id}: {text}" if len(self._recordings) > 1 else text

    def _download(self, files: Files) -> None:
        is_only = len(self._recordings) == 1
        try:
            files.download(self._names)
        except ApiError as error:
            if error.status in NO_LINK_STATUSES:
                files.missing.append(str(error))
            elif is_only or error.status in _CONCERNS_ALL:
                raise
            elif error.status == 404:
                files.missing.append(str(error))
            else:
                files.failed.append(str(error))
        except DownloadError as error:
            if is_only:
                raise
            files.missing.append(str(error))
