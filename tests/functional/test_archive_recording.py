"""archive_recording: from a message to files in the bucket, or a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import archive_recording
from doubles import Context
from local.simulator import Recording, RecordingOptions, Simulator
from recordings import messages
from recordings.archiving import Archiving
from recordings.catalogue import expiry
from recordings.messages import ArchiveRequest, Source

MIB = 1024 * 1024
Invoke = Callable[..., dict[str, Any]]


@pytest.fixture
def invoke(archiving: Archiving, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setattr(archive_recording, "archiving", archiving)

    def invoke(recording: Recording, context: Context | None = None) -> dict[str, Any]:
        row = archiving.catalogue.get(recording.id)
        assert row
        request = ArchiveRequest(
            recording_id=recording.id, deadline=expiry(row), source=Source.CATALOGUE
        )
        record = {"messageId": "m-1", "body": messages.body(request)}
        answer: dict[str, Any] = archive_recording.handler(
            {"Records": [record]}, context or Context(remaining_ms=900_000)
        )
        return answer

    return invoke


@pytest.fixture
def record(simulator: Simulator, archiving: Archiving) -> Callable[..., Recording]:
    """A recording that is catalogued."""

    def record(**options: Any) -> Recording:
        recording = simulator.world.record_meeting(options=RecordingOptions(**options))
        asked_at = archiving.now()
        archiving.catalogue.upsert(archiving.realtimekit.recording(recording.id), asked_at)
        return recording

    return record


def test_every_file_arrives_whole_and_the_row_says_where(
    record: Callable[..., Recording],
    invoke: Invoke,
    simulator: Simulator,
    archiving: Archiving,
    s3: Any,
    checks: Callable[[], dict[str, str]],
) -> None:
    recording = record(file_size=12 * MIB, separate_audio=True, audio_file_size=100)

    assert invoke(recording) == {"batchItemFailures": []}

    row = archiving.catalogue.get(recording.id)
    assert row
    assert row["archived"] == "yes"
    for file in simulator.world.media_files(recording):
        archive = row["artifacts"][file.artifact.kind]["archive"]
        assert archive["checksum_crc32"] == file.crc32()
        stored = s3.get_object(Bucket=archive["bucket"], Key=archive["key"])
        assert stored["Body"].read() == file.read()
    assert checks() == {}
