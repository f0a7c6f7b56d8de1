"""Media that browsers play: 20 seconds of a meeting, made by `make.py` with ffmpeg."""

from functools import cache
from importlib.resources import files

SECONDS = 20
"""Length of each sample."""

MAX_BYTES = 60_000
"""Size of a sample at most."""


NAMES = frozenset(
    (
        "video.mp4",
        "video.webm",
        "audio.aac",
        "audio.m4a",
        "audio.mp3",
        "track-1.webm",
        "track-2.webm",
    )
)
"""File names of the samples: a kind of artifact, and its suffix. Tracks are of two people."""


@cache
def read(name: str) -> bytes:
    """Return the bytes of a sample, by its file name."""
    return files(__package__).joinpath(name).read_bytes()
