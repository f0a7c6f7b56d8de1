"""A recording's links and texts for the page, fetched once and renewed before they expire."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ..api import NO_LINK_STATUSES, Api, ApiError
from ..linked_file import DownloadError, LinkedFile, LinkExpiredError
from ..session_files import session_file_name
from .words import parse

Link = Mapping[str, Any]

# The API's longest: a recording may be longer, so the browser renews links while it plays.
LINK_SECONDS = 3600
# A link that ends sooner is not given to the browser any more.
MIN_LEFT = timedelta(minutes=2)
MAX_RECORDINGS = 64
# A transcript of a day of talk has some 3 MB.
MAX_TEXT_BYTES = 8 * 2**20
PLAYED_KINDS = ("video", "audio", "track")


class NoTextError(Exception):
    """Raised when a text cannot be shown, and says why; `is_normal` means that it need not be."""

    def __init__(self, reason: str, *, is_normal: bool = False) -> None:
        super().__init__(reason)
        self.is_normal = is_normal


@dataclass(frozen=True, slots=True)
class Linked:
    """The links to a recording's files, and why links are missing, each by the file's name."""

    links: Mapping[str, Link] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def played(self) -> list[Link]:
        """The links to files that a player plays, the video first."""
        found = [link for link in self.links.values() if _is_played(link)]
        return sorted(found, key=lambda link: (PLAYED_KINDS.index(link["kind"]), link["name"]))

    @property
    def origins(self) -> list[str]:
        """The hosts of the files, as a content security policy names them."""
        parts = (urlsplit(link["url"]) for link in self.played)
        return sorted({f"{part.scheme}://{part.netloc}" for part in parts})

    def expires_at(self) -> datetime | None:
        """Return when the first link ends."""
        ends = [end for link in self.links.values() if (end := parse(link["expires_at"]))]
        return min(ends, default=None)


def _is_played(link: Link) -> bool:
    """Return True for a file that browsers may play; the tar of an interactive one is none."""
    media_type = str(link.get("content_type") or "video/")
    is_media = media_type.startswith(("video/", "audio/"))
    is_tar = str(link.get("file_name", "")).endswith(".tar")
    return link.get("kind") in PLAYED_KINDS and is_media and not is_tar


class Files:
    """The files of recordings, by inline links that are kept while they are good."""

    def __init__(self, api: Api, now: Callable[[], datetime]) -> None:
        self._api = api
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Linked] = OrderedDict()

    def linked(self, recording_id: str, *, renew: bool = False) -> Linked:
        """Return the inline links to all files, new ones if `renew`. Raises `ApiError`."""
        with self._lock:
            kept = self._kept.get(recording_id)
        ends = kept.expires_at() if kept else None
        if kept and ends and ends - self._now() > MIN_LEFT and not renew:
            return kept
        linked = self._fetch(recording_id)
        with self._lock:
            self._kept[recording_id] = linked
            self._kept.move_to_end(recording_id)
            while len(self._kept) > MAX_RECORDINGS:
                self._kept.popitem(last=False)
        return linked

    def forget(self, recording_id: str) -> None:
        """Drop the kept links, because the recording changed."""
        with self._lock:
            self._kept.pop(recording_id, None)

    def link(self, recording_id: str, artifact: str, seconds: int, *, inline: bool) -> Link:
        """Return a new link to one file. Raises `ApiError`."""
        links = self._api.links(recording_id, seconds, artifact, inline=inline)["links"]
        if not links:
            raise ApiError(409, "There is no link to this file.")
        link: Link = links[0]
        return link

    def text(self, recording_id: str, kind: str) -> str:
        """Return the text of a session's file. Raises `NoTextError` and `ApiError`."""
        linked = self.linked(recording_id)
        if kind not in linked.links:
            raise _no_text(kind, linked.missing.get(kind))
        try:
            try:
                body = self._read(linked.links[kind], kind)
            except LinkExpiredError:
                linked = self.linked(recording_id, renew=True)
                if kind not in linked.links:
                    raise _no_text(kind, linked.missing.get(kind)) from None
                body = self._read(linked.links[kind], kind)
        except DownloadError as error:
            raise NoTextError(str(error)) from None
        try:
            decoded = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise NoTextError("The file is not UTF-8 text. Download it to look at it.") from None
        if not decoded.strip():
            raise NoTextError("RealtimeKit's file is empty.", is_normal=True)
        return decoded

    def _read(self, link: Link, kind: str) -> bytes:
        name = session_file_name(kind, "")
        return LinkedFile(link["url"], name, self._api.connections).read_text(MAX_TEXT_BYTES)

    def _fetch(self, recording_id: str) -> Linked:
        try:
            answer = self._api.links(recording_id, LINK_SECONDS, inline=True)
        except ApiError as error:
            if error.status not in NO_LINK_STATUSES:
                raise
            return Linked()
        return Linked(
            {link["name"]: link for link in answer["links"]},
            {file["name"]: file["reason"] for file in answer["missing"]},
        )


REASONS: Mapping[str, str] = {
    "no_file": "RealtimeKit made none for this session.",
    "not_yet": "Not archived yet. The stack looks for it until a day after the session's end.",
    "expired": "RealtimeKit deleted it before it was archived.",
    "external": "It is only in your own storage.",
    "archive_unreachable": "It is in a bucket that this stack cannot access.",
    "ask_by_name": "The recording has too many files to link to all at once.",
}
"""Sentences for the API's reasons, of a session's file."""


def _no_text(kind: str, reason: str | None) -> NoTextError:
    if reason is None:
        return NoTextError(f"There is no {kind} of this session.", is_normal=True)
    sentence = REASONS.get(reason, f"There is no link to it: {reason}.")
    return NoTextError(sentence, is_normal=reason in ("no_file", "not_yet"))
