"""Files of a session: a transcript, captions, a summary and a chat, the same for its recordings."""

from __future__ import annotations

from collections.abc import Mapping

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "transcript": (".json",),
    "captions": (".vtt",),
    "summary": (".md", ".txt"),
    "chat": (".csv", ".json"),
}
"""The suffixes that a file of each kind may have; the first is the usual one.

The kind is also the artifact's name.
"""


def session_file_name(kind: str, suffix: str) -> str:
    """Return the name under which a session's file is downloaded, such as `chat.csv`.

    RealtimeKit gives these files no names of their own. A suffix that the kind does not have is
    replaced by the usual one.
    """
    known = SUFFIXES[kind]
    return f"{kind}{suffix.lower() if suffix.lower() in known else known[0]}"
