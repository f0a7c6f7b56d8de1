"""Texts of a session for the page: transcript, captions, summary and chat, all of them untrusted.

The functions return text that the page must escape; only `summary_html` returns safe HTML.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ..transcripts import Sentence, parse_transcript, read_sentences
from .words import parse, text

COLOURS = 6
MAX_LINES = 20_000

_TIMING = re.compile(r"^((?:\d+:)?\d\d:\d\d\.\d{3})([ \t]+-->[ \t]+)((?:\d+:)?\d\d:\d\d\.\d{3})")
_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


class Line(NamedTuple):
    """A sentence or a message: its place in the recording in seconds, its speaker, its text.

    `place` is `None` if it is unknown. `colour` is the same for the same speaker, and `is_same`
    says that the line before is the same speaker's.
    """

    place: float | None
    speaker: str
    colour: int
    is_same: bool
    text: str


def offset_seconds(row: Mapping[str, Any]) -> float | None:
    """Return how long after its session a recording began, or `None` if that is unknown."""
    began, session_began = parse(row.get("started_at")), parse(row.get("session_started_at"))
    return (began - session_began).total_seconds() if began and session_began else None


def transcript_lines(source: str, offset: float) -> list[Line]:
    """Return a transcript's sentences by time. Raises `TranscriptError`."""
    sentences = read_sentences(parse_transcript(source))[:MAX_LINES]
    return list(_lines((_place(sentence, offset), *_who(sentence)) for sentence in sentences))


def _place(sentence: Sentence, offset: float) -> float | None:
    return None if sentence.milliseconds is None else sentence.milliseconds / 1000 - offset


def _who(sentence: Sentence) -> tuple[str, str, str]:
    return sentence.speaker, sentence.speaker_id or sentence.speaker, sentence.text


def _lines(items: Iterator[tuple[float | None, str, str, str]]) -> Iterator[Line]:
    before = None
    for place, speaker, speaker_id, words in items:
        colour = hashlib.sha256(speaker_id.encode()).digest()[0] % COLOURS
        yield Line(place, speaker, colour, before == (speaker, speaker_id), words)
        before = (speaker, speaker_id)


def shifted_captions(source: str, offset: float) -> str:
    """Return WebVTT captions whose times count from the recording's start instead.

    Cues that end before it are left out, and so are styles and regions.
    """
    blocks = re.split(r"\n{2,}", re.sub("\r\n?", "\n", source).strip())
    cues = (_shifted_cue(block, offset) for block in blocks[1:])
    return "\n\n".join(["WEBVTT", *(cue for cue in cues if cue)]) + "\n"


def _shifted_cue(block: str, offset: float) -> str | None:
    lines = block.split("\n")
    for index, line in enumerate(lines[:2]):
        if match := _TIMING.match(line):
            begin, end = (_seconds(match[group]) - offset for group in (1, 3))
            timing = f"{_vtt_time(max(begin, 0))}{match[2]}{_vtt_time(end)}{line[match.end() :]}"
            return "\n".join((timing, *lines[index + 1 :])) if end > 0 else None
    return None


def _seconds(time: str) -> float:
    *hours, minutes, seconds = time.split(":")
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)


def _vtt_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds / 1000:06.3f}"


def chat_lines(source: str, began: datetime | None) -> list[Line]:
    """Return a chat's messages in their order. Raises `ValueError` if it is no chat."""
    messages = _read_chat(source)[:MAX_LINES]
    return list(_lines(_message(message, began) for message in messages))


def _read_chat(source: str) -> Sequence[Mapping[str, Any]]:
    """Return the messages of a chat, which is CSV or JSON. Raises `ValueError`."""
    if not source.lstrip().startswith("["):
        return list(csv.DictReader(io.StringIO(source, newline="")))
    document = json.loads(source)
    return [message for message in document if isinstance(message, Mapping)]


def _message(
    message: Mapping[str, Any], began: datetime | None
) -> tuple[float | None, str, str, str]:
    sent = parse(message.get("createdAt"))
    place = (sent - began).total_seconds() if sent and began else None
    name = text(message.get("displayName")) or "(unknown)"
    return place, name, text(message.get("participantId")) or name, text(message.get("payload"))


def summary_html(source: str) -> str:
    """Return a summary, which is Markdown, as safe HTML.

    HTML in it is shown as text, images are left out, links lead to web pages and mail addresses
    only, and its headings come below the page's own.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    markdown.validateLink = _is_web_link  # type: ignore[method-assign]
    tokens = markdown.parse(source)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        for child in token.children or ():
            _keep_to_itself(child)
    rendered: str = markdown.renderer.render(tokens, markdown.options, {})
    return rendered


def _is_web_link(url: str) -> bool:
    return _LINK.match(url) is not None


def _keep_to_itself(token: Token) -> None:
    """Have a link open apart, without a way back into the page."""
    if token.type == "link_open":
        token.attrSet("rel", "noopener noreferrer nofollow")
        token.attrSet("target", "_blank")
