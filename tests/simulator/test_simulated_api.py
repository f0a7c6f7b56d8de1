"""The answers of RealtimeKit's endpoints, read with nothing but HTTP and JSON."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from realtimekit_simulator import HOST_ENDED_MEETING, Kind, RecordingOptions, Status, Undocumented

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)
UNKNOWN_ID = "97cb480d-5840-4528-ace3-919b5e386c68"

BASE_FIELDS = {
    "id",
    "status",
    "session_id",
    "output_file_name",
    "invoked_time",
    "started_time",
    "stopped_time",
    "download_url",
    "download_url_expiry",
    "audio_download_url",
    "file_size",
}
SECRETS = {
    "access_key": "canary-access-key",
    "secret": "canary-secret",
    "password": "canary-password",
    "private_key": "canary-private-key",
}
STORAGE = {"type": "aws", "bucket": "ours", "region": "eu-central-1", "path": "a/b"}


def ids(items):
    return [item["id"] for item in items]


@pytest.fixture
def live_meeting(world):
    meeting = world.create_meeting(title="Retrospective")
    world.start_session(meeting)
    return meeting


class TestGetOne:
    def test_has_reasons_and_storage_and_no_meeting(self, world, get):
        data = get(f"/recordings/{world.record_meeting().id}")

        assert set(data) == BASE_FIELDS | {
            "recording_duration",
            "start_reason",
            "stop_reason",
            "storage_config",
        }
        assert data["start_reason"] == {
            "reason": "API_CALL",
            "caller": {
                "type": "ORGANIZATION",
                "name": "Simulated organization",
                "user_Id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
            },
        }
        assert data["stop_reason"] == {"reason": "ALL_PEERS_LEFT"}

    def test_tells_when_and_how_much(self, world, get):
        options = RecordingOptions(file_name_prefix="weekly", file_size=2_044_680)
        recording = world.record_meeting(
            started_at=NOON - timedelta(hours=2), duration=1800, options=options
        )
        data = get(f"/recordings/{recording.id}")

        assert data["status"] == "UPLOADED"
        assert data["output_file_name"] == "weekly_1780480800000.mp4"
        assert data["invoked_time"] == "2026-06-03T10:00:00.000Z"
        assert data["started_time"] == "2026-06-03T10:00:03.000Z"
        assert data["stopped_time"] == "2026-06-03T10:30:03.000Z"
        assert data["download_url_expiry"] == "2026-06-10T10:30:03.000Z"
        assert data["recording_duration"] == 1800
        assert data["file_size"] == 2_044_680
        assert data["audio_download_url"] is None

    @pytest.mark.parametrize("status", ["INVOKED", "RECORDING", "PAUSED"])
    def test_knows_no_file_while_it_is_recorded(self, world, get, status):
        data = get(f"/recordings/{world.record_meeting(status=Status(status)).id}")

        unknown = ("stopped_time", "download_url", "download_url_expiry", "file_size")
        assert data["status"] == status
        assert [data[name] for name in unknown] == [None, None, None, None]
        assert not {"recording_duration", "stop_reason"} & set(data)

    @pytest.mark.parametrize(
        ("status", "stopped"),
        [("UPLOADING", "2026-06-03T12:00:00.000Z"), ("ERRORED", "2026-06-03T11:59:40.000Z")],
    )
    def test_knows_its_stop_but_no_file_without_an_upload(self, world, get, status, stopped):
        data = get(f"/recordings/{world.record_meeting(status=Status(status)).id}")

        assert data["stopped_time"] == stopped
        assert (data["download_url"], data["file_size"]) == (None, None)

    def test_of_a_track_recording_has_a_file_for_each_participant_in_each_layer(self, world, get):
        options = RecordingOptions(kind=Kind.TRACK, participants=3, layers=("default", "second"))
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        layers = data["download_url"]["links"]
        assert [layer["layer_name"] for layer in layers] == ["default", "second"]
        files = [
            (name, file["download_url"])
            for layer in layers
            for name, file in layer["download_urls"].items()
        ]
        participants = {
            file["custom_participant_id"]
            for layer in layers
            for file in layer["download_urls"].values()
        }
        assert len(participants) == 3
        assert len(dict(files)) == 6
        assert all(105 <= len(name) <= 115 for name, _ in files)
        assert all(name.endswith(".webm") and f"/{name}?X-Amz-" in url for name, url in files)
        assert data["audio_download_url"] == ""
        assert data["file_size"] == 0
        assert data["output_file_name"] == (
            "{{file_name_prefix}}_{{user_id}}_{{peer_id}}_{{stream_kind}}_{{media_kind}}"
            "_{{date_time}}.webm"
        )

    def test_of_a_track_recording_may_have_the_documented_layers(self, world, get):
        world.undocumented = Undocumented(track_urls="layers")
        options = RecordingOptions(kind=Kind.TRACK, participants=1)
        [layer] = get(f"/recordings/{world.record_meeting(options=options).id}")["download_url"]

        [file] = layer["download_urls"].values()
        assert layer["layer_name"] == "default"
        assert file.keys() == {"download_url"}

    def test_of_a_track_recording_may_have_links_of_urls(self, world, get):
        world.undocumented = Undocumented(track_urls="links")
        options = RecordingOptions(kind=Kind.TRACK, participants=2)
        links = get(f"/recordings/{world.record_meeting(options=options).id}")["download_url"]

        assert [link[:17] for link in links["links"]] == ["http://127.0.0.1:"] * 2

    def test_of_a_track_recording_may_have_unnamed_layers_of_one_files_name(self, world, get):
        world.undocumented = Undocumented(unnamed_layers=True)
        options = RecordingOptions(
            kind=Kind.TRACK, participants=1, layers=("default", "second"), layers_share_names=True
        )
        recording = world.record_meeting(options=options)
        layers = get(f"/recordings/{recording.id}")["download_url"]["links"]

        assert [layer.keys() for layer in layers] == [{"download_urls"}] * 2
        assert len({name for layer in layers for name in layer["download_urls"]}) == 1
        assert len({file.key for file in world.media_files(recording)}) == 2

    def test_of_a_track_recording_may_name_a_file_whose_url_is_late(self, world, get):
        options = RecordingOptions(kind=Kind.TRACK, participants=2, late_files=1)
        links = get(f"/recordings/{world.record_meeting(options=options).id}")["download_url"]

        [layer] = links["links"]
        urls = [file["download_url"] for file in layer["download_urls"].values()]
        assert (urls[0] is None, urls[1] is None) == (False, True)

    @pytest.mark.parametrize(
        ("shape", "nothing"),
        [("layers in links", {"links": []}), ("layers", []), ("links", {"links": []})],
    )
    def test_of_a_track_recording_may_have_no_file(self, world, get, shape, nothing):
        world.undocumented = Undocumented(track_urls=shape)
        options = RecordingOptions(kind=Kind.TRACK, participants=0)
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        assert data["status"] == "UPLOADED"
        assert (data["download_url"], data["file_size"]) == (nothing, 0)

    def test_of_a_track_recording_knows_a_part_of_the_files_while_they_are_uploaded(
        self, world, get
    ):
        options = RecordingOptions(kind=Kind.TRACK, participants=4)
        recording = world.record_meeting(options=options, status=Status.UPLOADING)
        data = get(f"/recordings/{recording.id}")

        [layer] = data["download_url"]["links"]
        assert len(layer["download_urls"]) == 2
        assert data["download_url_expiry"] is None

    def test_may_be_wrapped(self, world, get):
        world.undocumented = Undocumented(wraps_recording=True)
        recording = world.record_meeting()

        assert get(f"/recordings/{recording.id}")["recording"]["id"] == recording.id

    def test_may_have_times_that_were_never_set(self, world, get):
        options = RecordingOptions(never_set=("download_url_expiry", "stopped_time"))
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        assert data["download_url_expiry"] == data["stopped_time"] == "0001-01-01T00:00:00Z"
        assert data["download_url"] is not None

    def test_of_an_audio_recording_has_no_video(self, world, get):
        options = RecordingOptions(kind=Kind.AUDIO, audio_codec="MP3")
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        assert data["download_url"] is None
        assert ".mp3?X-Amz-" in data["audio_download_url"]

    def test_of_separate_audio_has_both(self, world, get):
        options = RecordingOptions(separate_audio=True)
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        assert ".mp4?X-Amz-" in data["download_url"]
        assert ".aac?X-Amz-" in data["audio_download_url"]

    def test_without_realtimekits_bucket_has_no_urls(self, world, get):
        options = RecordingOptions(realtimekit_bucket=False, storage_config=STORAGE)
        data = get(f"/recordings/{world.record_meeting(options=options).id}")

        urls = ("download_url", "audio_download_url", "download_url_expiry")
        assert data["status"] == "UPLOADED"
        assert [data[name] for name in urls] == [None, None, None]
        assert data["storage_config"] == STORAGE

    def test_repeats_a_duration_to_the_fraction(self, world, get):
        options = RecordingOptions(duration=12.001)
        data = get(f"/recordings/{world.record_meeting(options=options).id}")
        assert data["recording_duration"] == 12.001

    def test_may_name_an_internal_caller(self, world, get):
        world.undocumented = Undocumented(internal_caller=True)
        data = get(f"/recordings/{world.record_meeting().id}")
        assert data["stop_reason"]["caller"] == {"type": "INTERNAL"}

    @pytest.mark.parametrize(("keeps", "urls"), [(True, 1), (False, 0)])
    def test_of_an_expired_one_keeps_the_url_or_not(self, world, get, keeps, urls):
        world.undocumented = Undocumented(keeps_expired_urls=keeps)
        recording = world.record_meeting()
        world.clock.advance(8 * 86_400)
        data = get(f"/recordings/{recording.id}")

        assert data["download_url_expiry"] == "2026-06-10T11:59:40.000Z"
        assert (data["download_url"] is not None) == bool(urls)

    def test_of_an_unknown_one_is_realtimekits_404(self, call):
        response = call("GET", f"/recordings/{UNKNOWN_ID}")
        assert response.status == 404
        assert response.json() == {
            "success": False,
            "error": {"code": 404, "message": f"no recording {UNKNOWN_ID}"},
        }

    @pytest.mark.parametrize("recording_id", ["1", "%2e%2e%2fsessions", "a%20b"])
    def test_refuses_what_is_no_id(self, call, recording_id):
        response = call("GET", f"/recordings/{recording_id}")
        assert response.status in (400, 404)
        assert response.json()["success"] is False


class TestSecrets:
    @pytest.fixture
    def recording(self, world):
        config = {"storage_config": {**STORAGE, **SECRETS}}
        meeting = world.create_meeting(recording_config=config, at=NOON - timedelta(days=1))
        return world.record_meeting(meeting=meeting)

    def test_are_left_out(self, world, call, recording):
        for path in (f"/recordings/{recording.id}", "/recordings", "/meetings"):
            answer = call("GET", path).data
            assert b"ours" in answer
            assert b"canary" not in answer

    def test_are_in_every_place_if_asked_for(self, world, get, recording):
        world.reveals_secrets = True
        [item] = get("/recordings")

        assert get(f"/recordings/{recording.id}")["storage_config"] == STORAGE | SECRETS
        assert item["storage_config"] == STORAGE | SECRETS
        assert item["meeting"]["recording_config"]["storage_config"] == STORAGE | SECRETS

    def test_are_never_in_the_active_recording(self, world, call, live_meeting):
        world.reveals_secrets = True
        options = RecordingOptions(storage_config=STORAGE | SECRETS)
        world.start_recording(live_meeting.live_session(NOON), options)
        answer = call("GET", f"/recordings/active-recording/{live_meeting.id}").data
        assert b"storage_config" not in answer


class TestList:
    def test_may_not_heed_the_meeting(self, world, get):
        world.undocumented = Undocumented(filters_by_meeting=False)
        first, second = world.record_meetings(2)

        found = get(f"/recordings?meeting_id={first.meeting.id}")
        assert [item["id"] for item in found] == [second.id, first.id]

    def test_may_refuse_a_large_page(self, world, call):
        world.undocumented = Undocumented(refused_per_page=50)

        assert call("GET", "/recordings?per_page=51").status == 400
        assert call("GET", "/recordings?per_page=50").status == 200

    def test_has_meeting_and_storage_and_no_reasons(self, world, get):
        recording = world.record_meeting(title="Weekly sync")
        [item] = get("/recordings")

        assert set(item) == BASE_FIELDS | {"recording_duration", "storage_config", "meeting"}
        assert item["id"] == recording.id
        assert item["meeting"]["id"] == recording.meeting.id
        assert item["meeting"]["title"] == "Weekly sync"
        assert item["meeting"]["session_keep_alive_time_in_secs"] == 60

    def test_is_paged_by_offsets_from_one(self, world, call):
        recordings = world.record_meetings(5)
        query = "/recordings?sort_order=ASC&per_page=2&page_no="
        pages = [call("GET", query + page).json() for page in ("1", "2", "3", "4")]

        found = [ids(page["data"]) for page in pages]
        everything = [recording.id for recording in recordings]
        assert found == [everything[:2], everything[2:4], everything[4:], []]
        assert [page["paging"] for page in pages] == [
            {"total_count": 5, "start_offset": 1, "end_offset": 2},
            {"total_count": 5, "start_offset": 3, "end_offset": 4},
            {"total_count": 5, "start_offset": 5, "end_offset": 5},
            {"total_count": 5, "start_offset": 0, "end_offset": 0},
        ]

    def test_first_page_is_one_and_zero_is_the_same(self, world, get):
        world.record_meetings(3)
        assert get("/recordings?per_page=2&page_no=0") == get("/recordings?per_page=2&page_no=1")

    def test_first_page_may_be_zero(self, world, get):
        world.record_meetings(3)
        world.undocumented = Undocumented(first_page=0)

        assert len(get("/recordings?per_page=2&page_no=0")) == 2
        assert len(get("/recordings?per_page=2&page_no=1")) == 1

    def test_has_a_largest_page(self, world, get):
        world.record_meetings(12)
        world.undocumented = Undocumented(default_per_page=3, max_per_page=10)

        assert len(get("/recordings?per_page=1000")) == 10
        assert len(get("/recordings?per_page=&page_no=")) == 3

    def test_is_newest_first_unless_asked(self, world, get):
        first, second = (recording.id for recording in world.record_meetings(2))

        assert ids(get("/recordings?sort_by=invokedTime")) == [second, first]
        assert ids(get("/recordings?sort_by=invokedTime&sort_order=ASC")) == [first, second]

    @pytest.mark.parametrize("query", ["status=UPLOADED,ERRORED", "status=UPLOADED&status=ERRORED"])
    def test_filters_by_statuses_however_encoded(self, world, get, query):
        for status in Status:
            world.record_meeting(status=status)
        found = {item["status"] for item in get(f"/recordings?{query}")}
        assert found == {"UPLOADED", "ERRORED"}

    def test_filters_by_meeting(self, world, get):
        recording, _ = world.record_meetings(2)
        found = get(f"/recordings?meeting_id={recording.meeting.id}")
        assert ids(found) == [recording.id]

    def test_searches_titles_and_meeting_ids(self, world, get):
        recording = world.record_meeting(title="Board meeting")
        world.record_meeting(title="Weekly sync")

        assert ids(get("/recordings?search=board")) == [recording.id]
        assert ids(get(f"/recordings?search={recording.meeting.id}")) == [recording.id]

    def test_tells_expired_from_kept_and_from_what_was_never_there(self, world, get):
        old = world.record_meeting()
        world.clock.advance(8 * 86_400)
        new = world.record_meeting()
        failed = world.record_meeting(status=Status.ERRORED)

        assert ids(get("/recordings?expired=true")) == [old.id]
        assert set(ids(get("/recordings?expired=false"))) == {new.id, failed.id}
        assert len(get("/recordings")) == 3

    @pytest.mark.parametrize(
        ("time_range", "found"), [("recording", 1), ("session", 1), ("meeting", 0)]
    )
    def test_time_range_is_of_recordings_sessions_or_meetings(self, world, get, time_range, found):
        """The documentation says meetings, and may mean any of the three."""
        room = world.create_meeting(at=NOON - timedelta(days=300))
        world.record_meeting(meeting=room)
        world.undocumented = Undocumented(time_range=time_range)
        query = "start_time=2026-06-03T00:00:00Z&end_time=2026-06-04T00:00:00Z"

        assert len(get(f"/recordings?{query}")) == found
        assert get("/recordings?start_time=2026-06-04T00:00:00") == []

    @pytest.mark.parametrize(
        "query",
        [
            "meeting_id=1",
            "page_no=-1",
            "page_no=first",
            "per_page=1.5",
            "expired=maybe",
            "sort_by=invoked_time",
            "sort_order=UP",
            "status=DONE",
            "start_time=yesterday",
        ],
    )
    def test_refuses_what_it_cannot_read(self, call, query):
        response = call("GET", f"/recordings?{query}")
        assert response.status == 400
        assert query.split("=")[0] in response.json()["error"]["message"]


class TestStartAndChange:
    def test_a_recording_is_started_paused_resumed_and_stopped(
        self, world, call, get, live_meeting
    ):
        body = {"meeting_id": live_meeting.id, "file_name_prefix": "retro"}
        started = call("POST", "/recordings", body).json()["data"]
        path = f"/recordings/{started['id']}"
        world.clock.advance(10)
        paused = call("PUT", path, {"action": "pause"}).json()["data"]
        resumed = call("PUT", path, {"action": "resume"}).json()["data"]
        world.clock.advance(10)
        stopped = call("PUT", path, {"action": "stop"}).json()["data"]
        world.clock.advance(20)

        seen = [data["status"] for data in (started, paused, resumed, stopped, get(path))]
        assert seen == ["INVOKED", "PAUSED", "RECORDING", "UPLOADING", "UPLOADED"]
        assert stopped["stop_reason"]["reason"] == "API_CALL"
        assert stopped["output_file_name"] == "retro_1780488000000.mp4"

    def test_a_start_says_more_than_the_meeting(self, world, call, get):
        config = {
            "audio_config": {"codec": "MP3"},
            "video_config": {"codec": "VP8"},
            "storage_config": STORAGE,
        }
        meeting = world.create_meeting(recording_config=config)
        world.start_session(meeting)
        body = {"meeting_id": meeting.id, "video_config": {"export_file": False}}
        started = call("POST", "/recordings", body).json()["data"]

        assert started["output_file_name"].endswith(".mp3")
        assert started["storage_config"] == STORAGE

    def test_a_second_start_is_a_conflict_unless_allowed(self, call, live_meeting):
        body = {"meeting_id": live_meeting.id}
        more = {**body, "allow_multiple_recordings": True}
        statuses = [call("POST", "/recordings", each).status for each in (body, body, more)]
        assert statuses == [200, 409, 200]

    def test_a_start_without_a_session_is_a_conflict(self, world, call):
        meeting = world.create_meeting()
        response = call("POST", "/recordings", {"meeting_id": meeting.id})
        assert response.json() == {
            "success": False,
            "error": {"code": 409, "message": "the meeting has no active session"},
        }

    def test_a_track_recording_is_started(self, world, call, get, live_meeting):
        body = {"meeting_id": live_meeting.id, "layers": {"floor": {}}, "user_ids": ["a", "b", "c"]}
        started = call("POST", "/recordings/track", body).json()["data"]["recording"]
        world.clock.advance(30)
        call("PUT", f"/recordings/{started['id']}", {"action": "stop"})
        world.clock.advance(30)
        [layer] = get(f"/recordings/{started['id']}")["download_url"]["links"]

        assert started["type"] == "TRACK"
        assert layer["layer_name"] == "floor"
        assert len(layer["download_urls"]) == 3

    def test_pausing_what_does_not_record_is_a_conflict(self, world, call):
        recording = world.record_meeting()
        response = call("PUT", f"/recordings/{recording.id}", {"action": "pause"})
        assert response.status == 409

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 422),
            ({"meeting_id": "x"}, 400),
            ({"meeting_id": UNKNOWN_ID}, 404),
            ({"meeting_id": UNKNOWN_ID, "max_seconds": 59}, 422),
            ({"meeting_id": UNKNOWN_ID, "audio_config": "MP3"}, 422),
            ({"meeting_id": UNKNOWN_ID, "audio_config": []}, 422),
            ({"meeting_id": UNKNOWN_ID, "video_config": {"codec": "AV1"}}, 422),
            ({"meeting_id": UNKNOWN_ID, "file_name_prefix": "../x"}, 422),
            ([], 400),
        ],
    )
    def test_a_start_that_does_not_validate_is_refused(self, call, body, status):
        response = call("POST", "/recordings", body)
        assert response.status == status
        assert response.json()["error"]["code"] == status

    def test_only_put_changes_a_recording(self, world, call):
        """PATCH is what others tried first, and there is no DELETE."""
        path = f"/recordings/{world.record_meeting().id}"
        assert call("PATCH", path, {"status": "STOP"}).status == 405
        assert call("DELETE", path).status == 405
        assert call("PUT", path, {"action": "delete"}).status == 422


class TestActiveRecording:
    def test_is_the_one_that_has_not_stopped(self, world, get, live_meeting):
        session = live_meeting.live_session(NOON)
        world.stop(world.start_recording(session))
        recording = world.start_recording(session)
        data = get(f"/recordings/active-recording/{live_meeting.id}")

        assert data["id"] == recording.id
        assert set(data) == BASE_FIELDS

    def test_is_404_when_there_is_none(self, call, live_meeting):
        response = call("GET", f"/recordings/active-recording/{live_meeting.id}")
        assert response.status == 404
        assert response.json()["error"] == {"code": 404, "message": "no active recording"}


class TestSessions:
    def test_may_be_wrapped_and_name_a_room(self, world, get):
        world.undocumented = Undocumented(wraps_session=True, room_names=True)
        recording = world.record_meeting()
        session = get(f"/sessions/{recording.session.id}")["session"]

        assert session["id"] == recording.session.id
        assert session["associated_id"] == "noelhg-mhnjhh"

    def test_of_a_meeting_are_found_by_its_id(self, world, get):
        recording = world.record_meeting(title="Weekly sync", duration=597)
        world.record_meeting()
        [session] = get(f"/sessions?associated_id={recording.meeting.id}")["sessions"]

        assert session == get(f"/sessions/{recording.session.id}")
        assert session["associated_id"] == recording.meeting.id
        assert session["meeting_display_name"] == "Weekly sync"
        assert (session["status"], session["live_participants"]) == ("ENDED", 0)
        assert session["minutes_consumed"] == 20

    def test_are_live_until_the_keep_alive_has_passed(self, world, get, live_meeting):
        session = live_meeting.live_session(NOON)
        world.end_session(session)
        lingering = get(f"/sessions/{session.id}")
        world.clock.advance(60)
        ended = get(f"/sessions/{session.id}")

        assert (lingering["status"], lingering["live_participants"]) == ("LIVE", 0)
        assert "ended_at" not in lingering
        assert (ended["status"], ended["ended_at"]) == ("ENDED", "2026-06-03T12:01:00.000Z")

    def test_are_filtered_and_sorted(self, world, get, live_meeting):
        long, short = (
            world.record_meeting(duration=seconds, started_at=NOON - timedelta(hours=hours)).session
            for seconds, hours in ((3600, 9), (60, 5))
        )
        live = live_meeting.live_session(NOON)

        assert ids(get("/sessions")["sessions"]) == [live.id, short.id, long.id]
        assert ids(get("/sessions?status=LIVE")["sessions"]) == [live.id]
        found = get("/sessions?sort_by=minutesConsumed&status=ENDED&sort_order=DESC")
        assert ids(found["sessions"]) == [long.id, short.id]

    def test_unknown_is_404(self, call):
        assert call("GET", f"/sessions/{UNKNOWN_ID}").status == 404


class TestMeetingsAndApps:
    def test_a_meeting_is_created_and_found(self, call, get):
        body = {"title": "Planning", "record_on_start": True, "session_keep_alive_time_in_secs": 90}
        response = call("POST", "/meetings", body)
        created = response.json()["data"]

        assert response.status == 201
        assert (created["title"], created["record_on_start"]) == ("Planning", True)
        assert created["session_keep_alive_time_in_secs"] == 90
        assert get(f"/meetings/{created['id']}") == created
        assert get("/meetings?search=plan") == [created]
        assert get("/meetings?search=other") == []

    @pytest.mark.parametrize(
        "body", [{"session_keep_alive_time_in_secs": 5}, {"recording_config": {"max_seconds": 5}}]
    )
    def test_a_meeting_that_does_not_validate_is_refused(self, call, body):
        assert call("POST", "/meetings", body).status == 422

    def test_there_is_no_such_thing_as_a_meetings_recordings(self, call, live_meeting):
        """Lists are filtered, not nested."""
        assert call("GET", f"/meetings/{live_meeting.id}/recordings").status == 404

    def test_the_account_has_one_app(self, simulator, call):
        response = call("GET", simulator.app_url.rsplit("/", 1)[0] + "/apps")
        [app] = response.json()["data"]
        assert app["id"] == "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"

    def test_another_app_has_nothing(self, world, simulator, call):
        recording = world.record_meeting()
        url = simulator.app_url.replace(world.app_id, UNKNOWN_ID)
        assert call("GET", f"{url}/recordings").status == 404
        assert call("GET", f"{url}/recordings/{recording.id}").status == 404


def test_text_is_utf8_all_the_way(world, get):
    world.record_meeting(title="Größe 会議")
    assert len(get(f"/recordings?search={quote('größe 会')}")) == 1


def test_answers_are_json(call):
    response = call("GET", "/recordings")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.data)["success"] is True


def test_the_hosts_end_is_seen_at_once(world, get, live_meeting):
    session = live_meeting.live_session(NOON)
    recording = world.start_recording(session)
    world.clock.advance(100)
    world.end_session(session, reason=HOST_ENDED_MEETING)
    assert get(f"/recordings/{recording.id}")["status"] == "UPLOADING"
