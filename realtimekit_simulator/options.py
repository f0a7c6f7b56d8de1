"""What a recording is asked to be, and how it turns out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self


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
    """What RealtimeKit makes: a video, its sound alone, a tar of HLS, a file per participant."""

    COMPOSITE = "composite"
    AUDIO = "audio"
    INTERACTIVE = "interactive"
    TRACK = "track"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """One recording's configuration and fate. Times are simulated seconds, sizes are bytes.

    `start_delay` and `upload_seconds` are how long it stays INVOKED and UPLOADING; None is for
    ever. Sizes and duration are worked out from the time recorded unless given: an empty recording
    is `RecordingOptions(file_size=0, duration=0)`, one of a fractional duration `duration=12.001`.

    A TRACK recording of no `participants` is UPLOADED without a file, as is common. With
    `layers_share_names` its layers hold files of the same names. `late_files` is how many of its
    files, the last ones, are named without a URL. `never_set` are fields of time, such as
    `download_url_expiry`, that are told as 0001-01-01.
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

    def __post_init__(self) -> None:
        if self.outcome not in (Status.UPLOADED, Status.ERRORED):
            raise ValueError(f"a recording does not end as {self.outcome}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], defaults: Self) -> Self:
        """Read RealtimeKit's own configuration: a start request's body or a `recording_config`."""
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
        """The end of the main file's name (RealtimeKit docs, configure-codecs)."""
        if self.kind is Kind.INTERACTIVE:
            return "tar"
        return "mp4" if self.video_codec == "H264" else "webm"

    @property
    def audio_suffix(self) -> str:
        """The end of the audio file's name (RealtimeKit docs, configure-audio-codec)."""
        return self.audio_codec.lower()


def _kind(config: Mapping[str, Any], default: Kind) -> Kind:
    if config.get("interactive_config"):
        return Kind.INTERACTIVE
    if not (config.get("video_config") or {}).get("export_file", True):
        return Kind.AUDIO
    return default
