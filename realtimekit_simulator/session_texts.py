"""Texts of a session's files: its conversation and its chat, in RealtimeKit's formats.

They follow from the session's id, length, participants and title, so every process writes the same.
"""

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .clock import timestamp
from .meetings import Session
from .options import FileKind, SummaryType

NAMES = ("Mary Sue", "José García", "Müller, Anna", "李伟", "Siobhán O'Brien")

SENTENCES = (
    "Good morning, everybody.",
    "Can you see my screen?",
    "I have looked at the numbers, and they are better than last week's.",
    'By "later" I meant not before Thursday.',
    "We should ask the customer first.",
    "Let me write that down – one moment, please.",
    "It costs about 40 € a month, maybe less.",
    "Sorry, I was on mute.",
    "The café on the corner has room for all of us.",
    "I agree.",
    "Then we are done for today.",
)

MESSAGES = (
    ("TEXT_MESSAGE", "Good morning!"),
    ("TEXT_MESSAGE", 'The "final" draft, again: https://example.com/draft?page=1&view=all'),
    ("IMAGE_MESSAGE", "https://example.com/whiteboard.png"),
    ("TEXT_MESSAGE", "First the budget,\nthen the dates"),
    ("FILE_MESSAGE", "https://example.com/minutes.pdf"),
    ("TEXT_MESSAGE", "Danke, bis nächste Woche 👋"),
)
"""Types and payloads of messages; an attachment is only a link (Dyte docs, export-chat-dump)."""

CHAT_COLUMNS = (
    "id",
    "participantId",
    "sessionId",
    "meetingId",
    "displayName",
    "pinned",
    "isEdited",
    "payloadType",
    "payload",
    "createdAt",
)
"""Header of a chat's CSV (Dyte docs, export-chat-dump)."""

SUMMARY_SECTIONS: Mapping[SummaryType, tuple[str, ...]] = {
    "general": ("Overview", "Key points", "Action items"),
    "team_meeting": ("Updates", "Decisions", "Action items"),
    "sales_call": ("Needs", "Objections", "Next steps"),
    "client_check_in": ("Progress", "Concerns", "Next steps"),
    "interview": ("Experience", "Strengths", "Open questions"),
    "daily_standup": ("Done", "Next", "Blockers"),
    "one_on_one_meeting": ("Topics", "Feedback", "Goals"),
    "lecture": ("Topics", "Explanations", "Questions"),
    "code_review": ("Changes", "Findings", "Decisions"),
}
"""Headings by type of summary; RealtimeKit's own are not documented."""

DEFAULT_WORD_LIMIT = 500
"""Words of a summary without a `word_limit` at most (RealtimeKit docs, ai/summary)."""

MAX_SENTENCES = 400
MAX_MESSAGES = 200

LETTER_MS = 60
"""Milliseconds of speech for a letter, which is about 160 words a minute."""


class Speaker(NamedTuple):
    """Participant of the conversation and the chat."""

    peer_id: str
    user_id: str
    custom_id: str
    name: str
    joined_at: str
    left_at: str


class Sentence(NamedTuple):
    """Part of the conversation; times in milliseconds from the session's start."""

    start: int
    end: int
    speaker: Speaker
    text: str


def write(session: Session, kind: FileKind, suffix: str, *, is_empty: bool) -> bytes:
    """Return the text of an ended session's file in the format of a file name suffix.

    An empty one has no sentence and no message, so only what its format needs at least.
    """
    match kind:
        case FileKind.TRANSCRIPT:
            text = _TRANSCRIPTS[suffix]([] if is_empty else _sentences(session))
        case FileKind.CHAT:
            text = _CHATS[suffix]([] if is_empty else _messages(session))
        case FileKind.SUMMARY:
            text = "" if is_empty else _summary(session)
    return text.encode(errors="replace")


# Transcripts.


def _transcript_csv(sentences: Iterable[Sentence]) -> str:
    """Return the documented columns, without a header (RealtimeKit docs, ai/transcription)."""
    return _as_csv(
        (start, speaker.peer_id, speaker.user_id, speaker.custom_id, speaker.name, text)
        for start, _, speaker, text in sentences
    )


def _transcript_json(sentences: Iterable[Sentence]) -> str:
    return _as_json(
        {
            "startTime": start,
            "endTime": end,
            "sentence": text,
            "peerData": {
                "id": speaker.peer_id,
                "userId": speaker.user_id,
                "displayName": speaker.name,
                "cpi": speaker.custom_id,
                "joinedAt": speaker.joined_at,
                "leftAt": speaker.left_at,
            },
        }
        for start, end, speaker, text in sentences
    )


def _transcript_srt(sentences: Iterable[Sentence]) -> str:
    cues = (
        f"{number}\n{_cue_time(start, ',')} --> {_cue_time(end, ',')}\n{speaker.name}: {text}\n"
        for number, (start, end, speaker, text) in enumerate(sentences, 1)
    )
    return "\n".join(cues)


def _transcript_vtt(sentences: Iterable[Sentence]) -> str:
    cues = (
        f"{_cue_time(start, '.')} --> {_cue_time(end, '.')}\n{speaker.name}: {text}\n"
        for start, end, speaker, text in sentences
    )
    return "\n".join(("WEBVTT\n", *cues))


def _sentences(session: Session) -> Iterator[Sentence]:
    """Yield what the speakers say, in turn and one after another, until the session's end."""
    speakers = _speakers(session)
    length = int(_length(session) / timedelta(milliseconds=1))
    count = min(max(length // 8_000, 4), MAX_SENTENCES) if speakers else 0
    first = _number(session)
    for index in range(count):
        begin, end = length * index // count, length * (index + 1) // count
        start = begin + first * (index + 1) % ((end - begin) // 4 + 1)
        text = SENTENCES[(first + index) % len(SENTENCES)]
        stop = min(start + len(text) * LETTER_MS, end)
        yield Sentence(start, stop, speakers[index % len(speakers)], text)


def _cue_time(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms:03}"


# Summaries.


def _summary(session: Session) -> str:
    """Return the summary that the meeting's `ai_config` describes."""
    config = session.meeting.ai_config.get("summarization", {})
    is_markdown = config.get("text_format", "markdown") == "markdown"
    remaining = config.get("word_limit", DEFAULT_WORD_LIMIT)
    lines = []
    for line in _summary_lines(session, config.get("summary_type", "general"), is_markdown):
        remaining -= len(line.split())
        if remaining < 0:
            break
        lines.append(line)
    return "\n".join((*lines, ""))


def _summary_lines(session: Session, summary_type: SummaryType, is_markdown: bool) -> Iterator[str]:
    sections = SUMMARY_SECTIONS[summary_type]
    sentences = list(_sentences(session))
    yield f"# {session.meeting.title}" if is_markdown else session.meeting.title
    for number, section in enumerate(sections):
        yield ""
        yield f"## {section}" if is_markdown else f"{section}:"
        yield ""
        for _, _, speaker, text in sentences[number :: len(sections)]:
            yield f"- **{speaker.name}**: {text}" if is_markdown else f"- {speaker.name}: {text}"


# Chats.


def _chat_csv(messages: Iterable[Mapping[str, Any]]) -> str:
    rows = ([_as_cell(message[name]) for name in CHAT_COLUMNS] for message in messages)
    return _as_csv((CHAT_COLUMNS, *rows))


def _messages(session: Session) -> Iterator[Mapping[str, Any]]:
    """Yield the messages, spread over the session."""
    speakers, length = _speakers(session), _length(session)
    count = min(max(length // timedelta(minutes=5), len(MESSAGES)), MAX_MESSAGES) if speakers else 0
    for index in range(count):
        speaker = speakers[index % len(speakers)]
        payload_type, payload = MESSAGES[index % len(MESSAGES)]
        values = (
            _identifier(session, f"message {index}"),
            speaker.user_id,
            session.id,
            session.meeting.id,
            speaker.name,
            index == 1,
            index == 2,
            payload_type,
            payload,
            timestamp(session.started_at + length * index / count),
        )
        yield dict(zip(CHAT_COLUMNS, values, strict=True))


# Both.


def _speakers(session: Session) -> Sequence[Speaker]:
    """Return the participants, who join one after another; the last one's leaving is not noted."""
    joins, count = _length(session) / 20, session.participants
    return [
        Speaker(
            peer_id=_identifier(session, f"peer {index}"),
            user_id=_identifier(session, f"user {index}"),
            custom_id=f"user-{index + 1}",
            name=_name(index),
            joined_at=str(timestamp(session.started_at + joins * index / count)),
            left_at=str(timestamp(_end(session))) if index + 1 < count else "",
        )
        for index in range(count)
    ]


def _name(index: int) -> str:
    round_number, position = divmod(index, len(NAMES))
    return NAMES[position] if round_number == 0 else f"{NAMES[position]} {round_number + 1}"


def _end(session: Session) -> datetime:
    end = session.left_at or session.ended_at
    if end is None:
        raise ValueError(f"session {session.id} has not ended")
    return end


def _length(session: Session) -> timedelta:
    return _end(session) - session.started_at


def _digest(session: Session, what: str) -> bytes:
    return hashlib.sha256(f"{session.id}\n{what}".encode()).digest()


def _number(session: Session) -> int:
    """Return a number that differs between sessions."""
    return int.from_bytes(_digest(session, "number")[:4])


def _identifier(session: Session, what: str) -> str:
    return str(uuid.UUID(bytes=_digest(session, what)[:16], version=4))


def _as_csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _as_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _as_json(items: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps(list(items), separators=(",", ":"), ensure_ascii=False)


_TRANSCRIPTS: Mapping[str, Callable[[Iterable[Sentence]], str]] = {
    "csv": _transcript_csv,
    "json": _transcript_json,
    "srt": _transcript_srt,
    "vtt": _transcript_vtt,
}
_CHATS: Mapping[str, Callable[[Iterable[Mapping[str, Any]]], str]] = {
    "csv": _chat_csv,
    "json": _as_json,
}
