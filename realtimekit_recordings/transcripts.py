"""A session's transcript as people read it, and its captions, without commands to the terminal.

TranscriptError
└── UnknownShapeError   the transcript is JSON, but not a list of sentences
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from .output import OBEYED, printable

MAX_NAME_CELLS = 24
UNKNOWN_TIME = "-:--:--"
UNKNOWN_SPEAKER = "(unknown)"

# 100 days: a larger number is not a time within a session, but perhaps one since 1970.
_MAX_MILLISECONDS = 100 * 86_400_000


class TranscriptError(Exception):
    """Raised when a file is not JSON, or not captions; the text says so."""


class UnknownShapeError(TranscriptError):
    """Raised when a transcript is JSON, but not a list of sentences."""


class Sentence(NamedTuple):
    """One sentence, with its time in the session; its texts are safe to print in a line."""

    milliseconds: float | None
    speaker: str
    speaker_id: str
    text: str


def caption_text(text: str) -> str:
    """Return WebVTT captions with character references for what a terminal may obey.

    A player shows them alike. Raises `TranscriptError`.
    """
    if not text.startswith("WEBVTT"):
        raise TranscriptError("The captions are not WebVTT.")
    text = re.sub("\r\n?", "\n", text).strip()
    return OBEYED.sub(
        lambda match: match[0] if match[0] in "\n\t" else f"&#x{ord(match[0]):x};", text
    )


def parse_transcript(text: str) -> Any:
    """Return a transcript's JSON document. Raises `TranscriptError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise TranscriptError("The transcript is not JSON.") from None


def read_sentences(document: object) -> list[Sentence]:
    """Return a transcript's sentences by time, as each speaker's may be listed apart.

    A sentence without a time follows the one that it follows in the document. Raises
    `UnknownShapeError`.
    """
    if not isinstance(document, list):
        raise UnknownShapeError("The transcript is not a list of sentences.")
    timed = []
    time = -math.inf
    for sentence in map(_read_sentence, document):
        time = time if sentence.milliseconds is None else sentence.milliseconds
        timed.append((time, sentence))
    timed.sort(key=lambda pair: pair[0])
    return [sentence for _, sentence in timed if sentence.text]


def transcript_lines(sentences: Sequence[Sentence]) -> Iterator[str]:
    """Yield a line for each sentence: the time, the speaker if it is another one, the text."""
    times = [_clock(sentence.milliseconds) for sentence in sentences]
    names = [_shorten(sentence.speaker) for sentence in sentences]
    time_width = max(map(len, times), default=0)
    name_width = max(map(cell_len, names), default=0)
    speaker = None
    for time, name, sentence in zip(times, names, sentences, strict=True):
        is_same = speaker == (sentence.speaker, sentence.speaker_id)
        speaker = (sentence.speaker, sentence.speaker_id)
        padded = set_cell_size("" if is_same else name, name_width)
        yield f"{time:>{time_width}}  {padded}  {sentence.text}"


def _read_sentence(item: object) -> Sentence:
    """Read a sentence, whose members may be null. Raises `UnknownShapeError`."""
    if not isinstance(item, Mapping) or not isinstance(item.get("sentence", 0), str | None):
        raise UnknownShapeError("The transcript is not a list of sentences.")
    peer = item.get("peerData")
    peer = peer if isinstance(peer, Mapping) else {}
    return Sentence(
        milliseconds=_read_time(item.get("startTime")),
        # `cpi` is the id that the owner's own backend gave the participant.
        speaker=_one_line(peer.get("displayName")) or _one_line(peer.get("cpi")) or UNKNOWN_SPEAKER,
        # A participant who comes back has a new `id`.
        speaker_id=_one_line(peer.get("userId")) or _one_line(peer.get("id")),
        text=_one_line(item["sentence"]),
    )


def _read_time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _MAX_MILLISECONDS else None


def _one_line(value: object) -> str:
    """Return a text with spaces for all white space, or "" for a value that is no text."""
    return printable(" ".join(value.split())) if isinstance(value, str) else ""


def _clock(milliseconds: float | None) -> str:
    if milliseconds is None:
        return UNKNOWN_TIME
    minutes, seconds = divmod(int(abs(milliseconds) // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{'-' if milliseconds <= -1000 else ''}{hours}:{minutes:02}:{seconds:02}"


def _shorten(name: str) -> str:
    if cell_len(name) <= MAX_NAME_CELLS:
        return name
    return f"{set_cell_size(name, MAX_NAME_CELLS - 1).rstrip()}…"
