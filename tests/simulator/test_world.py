"""What happens to meetings and recordings as time passes, without HTTP."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from realtimekit_simulator import (
    HOST_ENDED_MEETING,
    Clock,
    ConflictError,
    Kind,
    RecordingOptions,
    Status,
    UnknownError,
    World,
)

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)


def after(seconds):
    return NOON + timedelta(seconds=seconds)


def statuses(recording):
    return [(int((at - NOON).total_seconds()), status.value) for at, status in recording.steps]


@pytest.fixture
def session(world):
    return world.start_session(world.create_meeting())


class TestClock:
    def test_runs_at_its_speed(self):
        clock = Clock(NOON, speed=10_000)
        time.sleep(0.02)
        assert after(200) <= clock.now() < after(3_000_000)

    def test_stands_still_at_speed_zero_and_advances(self):
        clock = Clock(NOON, speed=0)
        clock.advance(90)
        assert clock.now() == after(90)

    def test_changing_the_speed_does_not_jump(self):
        clock = Clock(NOON, speed=0)
        clock.speed = 1
        assert NOON <= clock.now() < after(60)

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
    def test_never_goes_back(self, seconds):
        with pytest.raises(ValueError, match="time does not pass"):
            Clock(NOON).advance(seconds)


class TestLifeOfARecording:
    def test_passes_through_its_statuses_as_the_clock_advances(self, world, session):
        recording = world.start_recording(session)
        seen = [recording.at(world.clock.now()).status]
        seen.append(recording.at(world.clock.advance(3)).status)
        world.clock.advance(60)
        world.stop(recording)
        seen.append(recording.at(world.clock.now()).status)
        seen.append(recording.at(world.clock.advance(20)).status)

        assert seen == ["INVOKED", "RECORDING", "UPLOADING", "UPLOADED"]
        assert recording.duration == 60

    def test_pauses_do_not_count(self, world, session):
        recording = world.start_recording(session)
        world.pause(recording, at=after(13))
        world.resume(recording, at=after(113))
        world.stop(recording, at=after(123))

        assert statuses(recording) == [
            (0, "INVOKED"),
            (3, "RECORDING"),
            (13, "PAUSED"),
            (113, "RECORDING"),
            (123, "UPLOADING"),
            (143, "UPLOADED"),
        ]
        assert recording.duration == 20

    def test_stops_itself_at_max_seconds(self, world, session):
        recording = world.start_recording(session, RecordingOptions(max_seconds=60))
        world.pause(recording, at=after(10))

        assert statuses(recording)[-2:] == [(63, "UPLOADING"), (83, "UPLOADED")]

    def test_stopped_before_it_started_it_has_no_file(self, world, session):
        recording = world.start_recording(session)
        world.stop(recording, at=after(1))

        assert statuses(recording) == [(0, "INVOKED"), (1, "UPLOADING"), (21, "ERRORED")]

    def test_fails_from_any_status_that_is_not_final(self, world, session):
        recording = world.start_recording(session)
        world.fail(recording, at=after(30))

        assert statuses(recording)[-1] == (30, "ERRORED")
        assert recording.stop_reason.reason == "INTERNAL_ERROR"
        with pytest.raises(ConflictError, match="the recording is ERRORED"):
            world.fail(recording, at=after(31))

    def test_a_stuck_upload_can_be_finished(self, world):
        recording = world.record_meeting(status=Status.UPLOADING)
        world.clock.advance(86_400)
        assert recording.at(world.clock.now()).status == "UPLOADING"

        world.finish_upload(recording)

        assert recording.at(world.clock.now()).status == "UPLOADED"

    @pytest.mark.parametrize("action", ["pause", "resume", "stop", "finish_upload"])
    def test_refuses_what_its_status_does_not_allow(self, world, action):
        recording = world.record_meeting()
        with pytest.raises(ConflictError, match="the recording is UPLOADED"):
            getattr(world, action)(recording)

    def test_can_be_seen_as_it_was(self, world):
        recording = world.record_meeting()
        then = recording.last_moment_as(Status.UPLOADING, NOON)

        assert recording.at(then).status == "UPLOADING"
        assert recording.last_moment_as(Status.PAUSED, NOON) == NOON


class TestSessions:
    def test_outlive_their_participants_by_the_keep_alive(self, world):
        session = world.start_session(world.create_meeting(keep_alive_seconds=600))
        recording = world.start_recording(session)
        world.end_session(session, at=after(1000))

        assert session.is_live(after(1599))
        assert not session.is_live(after(1600))
        assert statuses(recording)[2:] == [(1060, "UPLOADING"), (1080, "UPLOADED")]
        assert recording.stop_reason.reason == "ALL_PEERS_LEFT"

    def test_end_at_once_when_the_host_ends_them(self, world, session):
        recording = world.start_recording(session)
        world.end_session(session, reason=HOST_ENDED_MEETING, at=after(100))

        assert not session.is_live(after(100))
        assert statuses(recording)[2:] == [(100, "UPLOADING"), (120, "UPLOADED")]

    def test_leave_alone_what_has_stopped(self, world, session):
        recording = world.start_recording(session)
        world.stop(recording, at=after(50))
        world.end_session(session, at=after(100))

        assert statuses(recording)[2:] == [(50, "UPLOADING"), (70, "UPLOADED")]
        assert recording.stop_reason.reason == "API_CALL"

    def test_a_pause_in_an_emptied_room_does_not_put_off_the_stop(self, world, session):
        recording = world.start_recording(session)
        world.end_session(session, at=after(100))
        world.pause(recording, at=after(130))

        assert statuses(recording)[-2:] == [(160, "UPLOADING"), (180, "UPLOADED")]

    def test_of_one_meeting_do_not_overlap(self, world, session):
        with pytest.raises(ConflictError, match="active session"):
            world.start_session(session.meeting)
        world.end_session(session, reason=HOST_ENDED_MEETING)

        assert world.start_session(session.meeting).id != session.id

    def test_record_from_the_start_if_the_meeting_says_so(self, world):
        session = world.start_session(world.create_meeting(record_on_start=True))
        [recording] = session.recordings
        assert recording.start_reason.reason == "RECORD_ON_START"

    def test_have_one_recording_at_a_time_unless_told(self, world, session):
        world.start_recording(session)
        with pytest.raises(ConflictError, match="already in progress"):
            world.start_recording(session)
        world.start_recording(session, allow_multiple=True)
        assert len(session.recordings) == 2

    def test_cannot_be_recorded_when_ended(self, world, session):
        world.end_session(session, reason=HOST_ENDED_MEETING)
        with pytest.raises(ConflictError, match="no active session"):
            world.start_recording(session)

    def test_two_starts_at_once_make_one_recording(self, world, session):
        outcomes = []

        def start():
            try:
                outcomes.append(world.start_recording(session))
            except ConflictError:
                outcomes.append(None)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(session.recordings) == 1
        assert outcomes.count(None) == 7


class TestRecordMeeting:
    @pytest.mark.parametrize("status", list(Status))
    def test_has_come_to_the_status_asked_for(self, world, status):
        recording = world.record_meeting(status=status)
        assert recording.at(NOON).status == status

    @pytest.mark.parametrize("status", [Status.INVOKED, Status.PAUSED, Status.UPLOADING])
    def test_stays_at_a_status_that_is_not_final(self, world, status):
        recording = world.record_meeting(status=status)
        assert recording.at(after(3600)).status == status

    def test_records_for_the_duration_given(self, world):
        recording = world.record_meeting(duration=1800, started_at=NOON - timedelta(hours=2))
        seen = recording.at(NOON)

        assert recording.session.started_at == datetime(2026, 6, 3, 10, 0, 0, tzinfo=UTC)
        assert seen.started_at == datetime(2026, 6, 3, 10, 0, 3, tzinfo=UTC)
        assert seen.stopped_at == datetime(2026, 6, 3, 10, 30, 3, tzinfo=UTC)
        assert seen.expires_at == datetime(2026, 6, 10, 10, 30, 3, tzinfo=UTC)
        assert seen.duration == 1800

    def test_started_now_it_happens_as_the_clock_advances(self, world):
        recording = world.record_meeting(duration=600, started_at=NOON)
        assert statuses(recording) == [
            (0, "INVOKED"),
            (3, "RECORDING"),
            (603, "UPLOADING"),
            (623, "UPLOADED"),
        ]

    def test_options_say_how_it_ends(self, world):
        recording = world.record_meeting(options=RecordingOptions(outcome=Status.ERRORED))
        assert recording.at(NOON).status == "ERRORED"

    def test_what_has_not_happened_yet_is_not_there(self, world):
        recording = world.record_meeting(started_at=after(60))
        assert world.recordings() == world.sessions() == world.meetings() == []
        with pytest.raises(UnknownError):
            world.recording(recording.id)

        world.clock.advance(60)

        assert world.recording(recording.id) is recording

    def test_makes_many(self, world):
        recordings = world.record_meetings(3, every=3600)

        assert [recording.meeting.title for recording in recordings] == [
            "Weekly sync 1",
            "Weekly sync 2",
            "Weekly sync 3",
        ]
        assert {recording.at(NOON).status for recording in recordings} == {"UPLOADED"}
        assert recordings[2].invoked_at - recordings[0].invoked_at == timedelta(hours=2)

    def test_ids_are_the_same_in_every_run_of_a_seed(self, clock):
        first, second = (World(clock=clock, seed=7).record_meeting() for _ in range(2))
        assert first.id == second.id
        assert World(clock=clock).record_meeting().id != World(clock=clock).record_meeting().id


class TestMedia:
    def test_file_names_follow_kind_and_codec(self, world):
        def names(**options):
            recording = world.record_meeting(options=RecordingOptions(**options))
            return [name.rsplit(".")[-1] for name in artifact_names(recording)]

        def artifact_names(recording):
            return [artifact.file_name for artifact in recording.artifacts]

        assert names() == ["mp4"]
        assert names(video_codec="VP8") == ["webm"]
        assert names(separate_audio=True, audio_codec="MP3") == ["mp4", "mp3"]
        assert names(kind=Kind.AUDIO) == ["aac"]
        assert names(kind=Kind.INTERACTIVE) == ["tar"]
        assert names(kind=Kind.TRACK, participants=2, layers=("a", "b")) == ["webm"] * 4

    def test_sizes_follow_the_time_recorded_unless_given(self, world):
        hour = world.record_meeting(duration=3600)
        given = world.record_meeting(options=RecordingOptions(file_size=2_044_680))

        assert hour.file_size == 299_998_800
        assert given.file_size == 2_044_680

    def test_every_file_of_a_recording_has_its_own_url(self, world):
        recording = world.record_meeting(
            options=RecordingOptions(kind=Kind.TRACK, participants=3, layers=("a", "b"))
        )
        urls = {world.media_url(recording, artifact) for artifact in recording.artifacts}
        assert len(urls) == 6

    def test_a_url_is_presigned_for_seven_days_from_the_stop(self, world):
        world.media_base_url = "http://127.0.0.1:9/media"
        options = RecordingOptions(file_name_prefix="weekly")
        recording = world.record_meeting(started_at=NOON, duration=60, options=options)
        [video] = recording.artifacts
        path = f"/{recording.id}/weekly_1780488000000.mp4"

        url = world.media_url(recording, video)

        assert url.startswith(f"http://127.0.0.1:9/media{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256")
        assert "X-Amz-Date=20260603T120103Z&X-Amz-Expires=604800&" in url
        signed = world.media_query(path, "20260603T120103Z", "604800")
        assert url.endswith(f"&X-Amz-Signature={signed['X-Amz-Signature']}")


class TestTimeline:
    def test_tells_what_takes_place_in_order(self, world):
        world.record_meeting(duration=600, started_at=NOON)

        events = world.timeline(NOON, after(3600))

        assert [(event.name, event.status or event.reason) for event in events] == [
            ("meeting.started", None),
            ("recording.statusUpdate", "INVOKED"),
            ("recording.statusUpdate", "RECORDING"),
            ("meeting.ended", "HOST_ENDED_MEETING"),
            ("recording.statusUpdate", "UPLOADING"),
            ("recording.statusUpdate", "UPLOADED"),
        ]

    def test_tells_what_has_happened_up_to_and_with_the_present(self, world):
        world.record_meeting(duration=600, started_at=NOON)
        world.clock.advance(603)

        events, now = world.happened(after(3))

        assert [event.status for event in events] == ["RECORDING", None, "UPLOADING"]
        assert now == after(603)

    def test_adjacent_windows_tell_each_event_once(self, world):
        world.record_meeting(duration=600, started_at=NOON)

        windows = [world.timeline(after(n), after(n + 1)) for n in range(700)]

        assert sum(map(len, windows)) == 6
