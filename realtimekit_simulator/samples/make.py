"""The script that makes the samples with ffmpeg: `python -m realtimekit_simulator.samples.make`.

Two tiles show who speaks, and a clock shows the second, so that a person sees where a player is.
The samples are committed, so only whoever changes them needs ffmpeg (5.1, with libx264, libvpx,
libopus, libmp3lame, libvorbis) and a sans-serif font.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import MAX_BYTES, SECONDS

FOLDER = Path(__file__).parent


class Speaker(NamedTuple):
    """One of the two in the meeting: their tile, and the pitch of their voice in Hz."""

    name: str
    initials: str
    colour: str
    left: int
    pitch: int


# The names are those of the first two speakers in the transcripts (`session_texts`).
SPEAKERS = (
    Speaker("Mary Sue", "MS", "0x3b6fd4", 24, 220),
    Speaker("José García", "JG", "0x2f8f6b", 328, 165),
)
# A session of two people with a recording of 20 s has four sentences, one every 5.75 s. The
# recording begins 3 s after the session.
TURNS = ((0, 2.75), (2.75, 8.5), (8.5, 14.25), (14.25, SECONDS))

# No version and no date is written, so that the same ffmpeg makes the same file.
COMMON = (
    "-map_metadata",
    "-1",
    "-fflags",
    "+bitexact",
    "-flags:v",
    "+bitexact",
    "-pix_fmt",
    "yuv420p",
)
MONO = ("-ac", "1", "-flags:a", "+bitexact")
H264 = ("-c:v", "libx264", "-preset", "veryslow", "-tune", "animation", "-crf", "37")
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "0", "-crf", "45", "-threads", "1")
VORBIS = ("-c:a", "libvorbis", "-q:a", "-1", *MONO)
OPUS = ("-c:a", "libopus", "-b:a", "8k", "-application", "voip", *MONO)
MP3 = ("-c:a", "libmp3lame", "-b:a", "16k", *MONO)
AAC = ("-c:a", "aac", "-b:a", "10k", *MONO)
# A key frame every four seconds: each has 4 KB, and a player seeks from the one before.
SEEKABLE = ("-g", "20", "-keyint_min", "20")
# The index comes first, so that a player need not look for it at the end.
MOOV_FIRST = ("-movflags", "+faststart")
CUES_FIRST = ("-cues_to_front", "1")


def main() -> None:
    """Write all samples; exit with a message if one is too large to be committed."""
    scene, all_voices = _scene(), _voices(SPEAKERS)
    _make("video.mp4", *scene, *all_voices, *H264, *SEEKABLE, *AAC, *MOOV_FIRST)
    _make("video.webm", *scene, *all_voices, *VP9, *SEEKABLE, *VORBIS, *CUES_FIRST)
    _make("audio.aac", *all_voices, *AAC)
    _make("audio.m4a", *all_voices, *AAC, *MOOV_FIRST)
    _make("audio.mp3", *all_voices, *MP3)
    for number, speaker in enumerate(SPEAKERS, 1):
        _make(f"track-{number}.webm", *_voices([speaker]), *OPUS, *CUES_FIRST)


def _make(name: str, *arguments: str) -> None:
    path = FOLDER / name
    command = ["ffmpeg", "-v", "error", "-y", *arguments, *COMMON, "-t", str(SECONDS), str(path)]
    subprocess.run(command, check=True)  # noqa: S603
    size = path.stat().st_size
    print(f"{name}: {size:,} bytes")
    if size > MAX_BYTES:
        sys.exit(f"{name} is larger than {MAX_BYTES:,} bytes. Lower its quality in make.py.")


def _scene() -> tuple[str, ...]:
    """Return the input of ffmpeg that draws the meeting, with five pictures a second."""
    filters = [f"color=c=0x14161a:s=640x360:r=5:d={SECONDS}"]
    for number, (name, initials, colour, left, _) in enumerate(SPEAKERS):
        tile = f"x={left}:y=60:w=288:h=216"
        filters += [
            f"drawbox={tile}:color={colour}:t=fill",
            f"drawtext=font=Sans:text={initials}:fontsize=72:fontcolor=white"
            f":x={left}+144-text_w/2:y=132",
            f"drawtext=font=Sans:text={name}:fontsize=18:fontcolor=white"
            f":x={left + 12}:y=262-ascent",
            f"drawbox={tile}:color=0xffd166:t=5:enable='{_speaks(number)}'",
        ]
    clock = r"%{pts\:gmtime\:0\:%M\\\:%S}"
    filters.append(
        f"drawtext=font=Sans:text='{clock}':fontsize=32:fontcolor=white:x=(w-text_w)/2:y=302"
    )
    return ("-f", "lavfi", "-i", ",".join(filters))


def _voices(speakers: Sequence[Speaker]) -> tuple[str, ...]:
    """Return the input of ffmpeg in which these speakers hum when it is their turn."""
    return ("-f", "lavfi", "-i", f"aevalsrc={'+'.join(_hums(speakers))}:s=16000:d={SECONDS}")


def _hums(speakers: Sequence[Speaker]) -> Iterator[str]:
    for speaker in speakers:
        tone = f"sin(2*PI*{speaker.pitch}*t)+0.5*sin(4*PI*{speaker.pitch}*t)"
        # Four syllables a second.
        yield f"0.2*({tone})*abs(sin(4*PI*t))*({_speaks(SPEAKERS.index(speaker))})"


def _speaks(number: int) -> str:
    """Return the expression that is 1 while it is a speaker's turn."""
    turns = TURNS[number :: len(SPEAKERS)]
    return "+".join(rf"gte(t\,{start})*lt(t\,{end})" for start, end in turns)


if __name__ == "__main__":
    main()
