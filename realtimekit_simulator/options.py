"""Options of recordings and of a session's files: their configuration and their fate."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, Self, get_args


class Status(StrEnum):
    """RealtimeKit's recording statuses (OpenAPI `realtimekit_Recording`)."""

    INVOKED = "INVOKED"
    RECORDING = "RECORDING"
    PAUSED = "PAUSED"
    UPLOADING = "UPLOADING"
    UPLOADED = "UPLOADED"
    ERRORED = "ERRORED"


ACTIVE = frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED})
STOPPED = frozenset(Status) - ACTIVE


class Kind(StrEnum):
    """Kinds of recording: video, sound only, a tar of HLS, or a file per participant."""

    COMPOSITE = "composite"
    AUDIO = "audio"
    INTERACTIVE = "interactive"
    TRACK = "track"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """Configuration and fate of one recording; times in simulated seconds, sizes in bytes.

    `start_delay` and `upload_seconds` are the time in INVOKED and UPLOADING; None means for ever.
    Unless given, sizes and duration follow from the time recorded. An empty recording is
    `RecordingOptions(file_size=0, duration=0)`; `duration=12.001` is a fractional one.

    A TRACK recording with 0 `participants` is UPLOADED without a file, as was often seen. With
    `layers_share_names` its layers hold files of the same names. The last `late_files` files are
    listed without a URL. `never_set` names fields of time, such as `download_url_expiry`, that are
    shown as 0001-01-01.

    A `playable` recording has files that browsers play: 20 seconds of a meeting, whatever the sizes
    here and the time recorded. Other files have a signature and are else of no meaning, and so is
    always the tar of an INTERACTIVE recording.
    """

    kind: Kind = Kind.COMPOSITE
    separate_audio: bool = False
    audio_codec: str = "AAC"
    video_codec: str = "H264"
    file_name_prefix: str | None = None
    max_seconds: int = 86_400
    layers: tuple[str, ...] = ("default",)
    participants: int = 2
    realtimekit_bucket: bool = True
    storage_config: Mapping[str, Any] | None = None
    start_delay: float | None = 3.0
    upload_seconds: float | None = 20.0
    outcome: Status = Status.UPLOADED
    file_size: int | None = None
    audio_file_size: int | None = None
    duration: float | None = None
    layers_share_names: bool = False
    late_files: int = 0
    never_set: tuple[str, ...] = ()
    playable: bool = False

    def __post_init__(self) -> None:
        if self.outcome not in (Status.UPLOADED, Status.ERRORED):
            raise ValueError(f"outcome must be UPLOADED or ERRORED, not {self.outcome}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], defaults: Self) -> Self:
        """Return the options of a start request's body or of a `recording_config`."""
        audio, video = config.get("audio_config"), config.get("video_config") or {}
        return replace(
            defaults,
            kind=_kind(config, defaults.kind),
            separate_audio=(
                defaults.separate_audio if audio is None else audio.get("export_file", True)
            ),
            audio_codec=(audio or {}).get("codec", defaults.audio_codec),
            video_codec=video.get("codec", defaults.video_codec),
            file_name_prefix=config.get("file_name_prefix", defaults.file_name_prefix),
            max_seconds=config.get("max_seconds", defaults.max_seconds),
            realtimekit_bucket=(config.get("realtimekit_bucket_config") or {}).get(
                "enabled", defaults.realtimekit_bucket
            ),
            storage_config=config.get("storage_config", defaults.storage_config),
        )

    @property
    def video_suffix(self) -> str:
        """Suffix of the main file's name (RealtimeKit docs, configure-codecs)."""
        if self.kind is Kind.INTERACTIVE:
            return "tar"
        return "mp4" if self.video_codec == "H264" else "webm"

    @property
    def audio_suffix(self) -> str:
        """Suffix of the audio file's name (RealtimeKit docs, configure-audio-codec)."""
        return self.audio_codec.lower()


class FileKind(StrEnum):
    """Kinds of file that a session leaves in RealtimeKit's bucket."""

    TRANSCRIPT = "transcript"
    SUMMARY = "summary"
    CHAT = "chat"


SECONDS_TO_FILE: Mapping[FileKind, float] = {
    FileKind.CHAT: 10,
    FileKind.TRANSCRIPT: 120,
    FileKind.SUMMARY: 240,
}
"""Simulated seconds from a session's end to its files; RealtimeKit documents no times."""

FileOutcome = Literal["file", "empty", "shared", "no file", "no url"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFileOptions:
    """Fate of one file of a session; times in simulated seconds after the session's end.

    The file is there and announced after the usual seconds of its kind, or after `available_after`.
    `announced_after` moves only the webhook; without `is_announced` no webhook is sent. After
    `expires_after` URL and file are gone, although the answers still say seven days.

    The `outcome` "empty" is a file without a sentence or message. "shared" is the URL of one file
    for all sessions. "no file" is a URL at which the bucket has no file. "no url" is announced, but
    the API answers as if there were no file. `content` replaces the text, in every format.
    """

    available_after: float | None = None
    announced_after: float | None = None
    is_announced: bool = True
    expires_after: float | None = None
    outcome: FileOutcome = "file"
    content: bytes | None = None

    def __post_init__(self) -> None:
        if self.outcome not in get_args(FileOutcome):
            raise ValueError(f"outcome must be one of {get_args(FileOutcome)}")
        for seconds in (self.available_after, self.announced_after, self.expires_after):
            if seconds is not None and seconds < 0:
                raise ValueError("a session's file has times of 0 or more seconds")


FilesOrder = Iterable[str] | Mapping[str, SessionFileOptions]
"""Files that a session is to leave: their kinds, or their options by kind."""


def ordered_files(order: FilesOrder) -> dict[FileKind, SessionFileOptions]:
    """Return the options of the ordered files by kind; raise ValueError for another kind."""
    options = order if isinstance(order, Mapping) else dict.fromkeys(order, SessionFileOptions())
    return {FileKind(kind): options for kind, options in options.items()}


SummaryType = Literal[
    "general",
    "team_meeting",
    "sales_call",
    "client_check_in",
    "interview",
    "daily_standup",
    "one_on_one_meeting",
    "lecture",
    "code_review",
]

AI_CONFIG_RULES: Mapping[str, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "summarization": {
        "word_limit": (
            lambda value: isinstance(value, int) and 150 <= value <= 1000,
            "an integer from 150 to 1000",
        ),
        "text_format": (
            lambda value: value in ("plain_text", "markdown"),
            "plain_text or markdown",
        ),
        "summary_type": (
            lambda value: value in get_args(SummaryType),
            f"one of {', '.join(get_args(SummaryType))}",
        ),
    },
    "transcription": {
        "keywords": (
            lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
            "an array of strings",
        ),
        # The SDK, its documentation and the guides list different languages.
        "language": (lambda value: isinstance(value, str), "a string"),
        "profanity_filter": (lambda value: isinstance(value, bool), "a boolean"),
    },
}
"""Rules for the fields of a meeting's `ai_config` (SDK 5.9.0; OpenAPI for the limits)."""


def check_ai_config(config: Any) -> None:
    """Raise ValueError for an `ai_config` that the API refuses; unknown fields are ignored."""
    if not isinstance(config, Mapping):
        raise ValueError('"ai_config" must be an object')
    for part, rules in AI_CONFIG_RULES.items():
        fields = config.get(part, {})
        if not isinstance(fields, Mapping):
            raise ValueError(f'"ai_config.{part}" must be an object')
        for name, (is_valid, rule) in rules.items():
            if name in fields and not is_valid(fields[name]):
                raise ValueError(f'"ai_config.{part}.{name}" must be {rule}')


def _kind(config: Mapping[str, Any], default: Kind) -> Kind:
    if config.get("interactive_config"):
        return Kind.INTERACTIVE
    if not (config.get("video_config") or {}).get("export_file", True):
        return Kind.AUDIO
    return default
