"""Webhook bodies, compared field by field with the samples of RealtimeKit's documentation."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from realtimekit_simulator import (
    ALL_PARTICIPANTS_LEFT,
    EVENTS,
    HOST_ENDED_MEETING,
    Clock,
    DeliveryRules,
    Kind,
    RecordingOptions,
    Status,
    Undocumented,
    UnknownError,
    Webhooks,
    World,
)

TEN = datetime(2026, 6, 3, 10, tzinfo=UTC)
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def world():
    """Return a world at half past twelve, in the organisation of the documentation's samples."""
    return World(
        clock=Clock(datetime(2026, 6, 3, 12, 30, tzinfo=UTC), speed=0),
        seed=7,
        app_id="c94c437b-592a-4a39-b9e2-47ef1451e43b",
        organization_name="Example organization",
        media_base_url="https://media.example.com",
    )


@pytest.fixture
def bodies(world, webhooks):
    """Return the bodies of all events of the timeline, by event and status, in order."""

    def bodies():
        return {
            (event.name, event.status): json.loads(webhooks.message(event).body)
            for event in world.timeline(*ALWAYS)
        }

    return bodies


def sample(world, session_files=(), **options):
    """Record the documentation's meeting, from ten to half past, from its first second on."""
    recording_options = RecordingOptions(start_delay=0, **options)
    return world.record_meeting(
        started_at=TEN, duration=1800, options=recording_options, session_files=session_files
    )


def meeting_of(recording, **times):
    return {
        "id": recording.meeting.id,
        "sessionId": recording.session.id,
        "title": "Weekly sync",
        "roomName": recording.meeting.id,
        "status": "LIVE",
        "createdAt": "2026-06-03T10:00:00.000Z",
        "startedAt": "2026-06-03T10:00:00.000Z",
        **times,
        "organizedBy": {
            "id": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
            "name": "Example organization",
        },
    }


def as_posted(content):
    return json.dumps(content, separators=(",", ":"))


class TestTimeline:
    def test_meeting_started(self, world, bodies):
        recording = sample(world)
        expected = {"event": "meeting.started", "meeting": meeting_of(recording)}
        assert as_posted(bodies()["meeting.started", None]) == as_posted(expected)

    @pytest.mark.parametrize("reason", [HOST_ENDED_MEETING, ALL_PARTICIPANTS_LEFT])
    def test_meeting_ended_is_live_still_and_names_no_recording(self, world, bodies, reason):
        session = world.start_session(world.create_meeting(title="Weekly sync"), at=TEN)
        recording = world.start_recording(session, at=TEN)
        lingered = timedelta(seconds=60 if reason == ALL_PARTICIPANTS_LEFT else 0)
        world.end_session(session, reason=reason, at=TEN + timedelta(minutes=30) - lingered)

        assert as_posted(bodies()["meeting.ended", None]) == as_posted(
            {
                "event": "meeting.ended",
                "meeting": meeting_of(recording, endedAt="2026-06-03T10:30:00.000Z"),
                "reason": reason,
            }
        )

    def test_uploaded(self, world, bodies):
        recording = sample(
            world,
            separate_audio=True,
            audio_codec="MP3",
            file_size=2044680,
            file_name_prefix="weekly",
        )
        body = bodies()["recording.statusUpdate", "UPLOADED"]
        urls = [body["recording"].pop(name) for name in ("downloadUrl", "audioDownloadUrl")]

        stem = f"https://media.example.com/{recording.id}/weekly_1780480800000"
        assert urls[0].startswith(f"{stem}.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
        assert urls[1].startswith(f"{stem}.mp3?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
        assert as_posted(body) == as_posted(
            {
                "event": "recording.statusUpdate",
                "recording": {
                    "id": recording.id,
                    "recordingId": recording.id,
                    "status": "UPLOADED",
                    "downloadUrlExpiry": "2026-06-10T10:30:00.000Z",
                    "startedTime": "2026-06-03T10:00:00.000Z",
                    "stoppedTime": "2026-06-03T10:30:00.000Z",
                    "fileSize": "2044680",
                    "outputFileName": "weekly_1780480800000.mp4",
                    "meetingId": recording.meeting.id,
                    "recordingDuration": 1800,
                    "organizationId": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                    "roomUUID": recording.session.id,
                },
                "meeting": meeting_of(recording, endedAt="2026-06-03T10:30:00.000Z"),
            }
        )

    def test_fields_of_uploaded_are_in_the_documented_order(self, world, bodies):
        sample(world, separate_audio=True)
        assert list(bodies()["recording.statusUpdate", "UPLOADED"]["recording"]) == [
            "id",
            "recordingId",
            "status",
            "downloadUrl",
            "audioDownloadUrl",
            "downloadUrlExpiry",
            "startedTime",
            "stoppedTime",
            "fileSize",
            "outputFileName",
            "meetingId",
            "recordingDuration",
            "organizationId",
            "roomUUID",
        ]

    @pytest.mark.parametrize(
        ("status", "times"),
        [
            ("INVOKED", set()),
            ("RECORDING", {"startedTime"}),
            ("UPLOADING", {"startedTime", "stoppedTime"}),
        ],
    )
    def test_what_is_not_known_yet_is_left_out(self, world, bodies, status, times):
        world.record_meeting(started_at=TEN)
        assert set(bodies()["recording.statusUpdate", status]["recording"]) == times | {
            "id",
            "recordingId",
            "status",
            "outputFileName",
            "meetingId",
            "organizationId",
            "roomUUID",
        }

    def test_errored_has_no_file(self, world, bodies):
        sample(world, outcome=Status.ERRORED)
        recording = bodies()["recording.statusUpdate", "ERRORED"]["recording"]
        assert recording["stoppedTime"] == "2026-06-03T10:30:00.000Z"
        assert not {"downloadUrl", "downloadUrlExpiry", "fileSize"} & set(recording)

    def test_uploaded_track_recording_has_an_expiry_and_no_url(self, world, bodies):
        sample(world, kind=Kind.TRACK)
        recording = bodies()["recording.statusUpdate", "UPLOADED"]["recording"]

        assert recording["downloadUrlExpiry"] == "2026-06-10T10:30:00.000Z"
        assert recording["fileSize"] == "0"
        assert not {"downloadUrl", "audioDownloadUrl"} & set(recording)

    def test_uploaded_to_another_bucket_only_has_no_url_and_no_expiry(self, world, bodies):
        sample(world, realtimekit_bucket=False)
        recording = bodies()["recording.statusUpdate", "UPLOADED"]["recording"]
        assert not {"downloadUrl", "downloadUrlExpiry"} & set(recording)

    def test_tells_no_storage_credentials(self, world, webhooks):
        world.reveals_secrets = True
        sample(world, storage_config={"type": "aws", "bucket": "ours", "secret": "canary"})
        assert not [
            event
            for event in world.timeline(*ALWAYS)
            if b"canary" in webhooks.message(event).body
            or b"storage" in webhooks.message(event).body
        ]


class TestEncoding:
    @pytest.mark.parametrize(
        ("title", "encoded"),
        [
            ("Café “1:1” 🎥", "Café “1:1” 🎥".encode()),
            ('"\\\n', rb"\"\\\n"),
            ("half \ud83c of a pair", rb"half \ud83c of a pair"),
        ],
    )
    def test_is_javascripts(self, world, webhooks, title, encoded):
        world.start_session(world.create_meeting(title=title))
        [event] = world.timeline(*ALWAYS)

        body = webhooks.message(event).body

        assert b'"title":"' + encoded + b'","roomName":' in body
        assert json.loads(body)["meeting"]["title"] == title


class TestOtherEvents:
    """Events that this meeting does not cause, sent on demand."""

    @pytest.fixture
    def sent(self, world, webhooks, receiver):
        webhooks.registrations.add(receiver.url)
        sample(world)

        def sent(name, **options):
            webhooks.send(name, **options)
            return json.loads(receiver.posts[-1].body)

        return sent

    @pytest.fixture
    def ended(self, world):
        def ended():
            [recording] = world.recordings()
            return meeting_of(recording, endedAt="2026-06-03T10:30:00.000Z")

        return ended

    def test_participant_joined(self, world, sent):
        body = sent("meeting.participantJoined")
        [recording] = world.recordings()
        assert as_posted(body) == as_posted(
            {
                "event": "meeting.participantJoined",
                "meeting": meeting_of(recording),
                "participant": {
                    "peerId": "e32fb785-ddd0-4b96-b577-879327c0082f",
                    "userDisplayName": "Mary Sue",
                    "customParticipantId": "user-123",
                    "clientSpecificId": "user-123",
                    "joinedAt": "2026-06-03T10:00:00.000Z",
                },
            }
        )

    def test_participant_left(self, sent, ended):
        body = sent("meeting.participantLeft", at=TEN + timedelta(minutes=30))
        assert body["meeting"] == ended()
        assert list(body["participant"])[-2:] == ["joinedAt", "leftAt"]
        assert body["participant"]["leftAt"] == "2026-06-03T10:30:00.000Z"

    def test_chat_synced_has_no_meeting_object(self, world, sent):
        body = sent("meeting.chatSynced")
        [recording] = world.recordings()
        url, query = body["chatDownloadUrl"].split("?")
        body["chatDownloadUrl"] = url

        assert query.startswith("X-Amz-Algorithm=AWS4-HMAC-SHA256&")
        assert as_posted(body) == as_posted(
            {
                "event": "meeting.chatSynced",
                "sessionId": recording.session.id,
                "meetingId": recording.meeting.id,
                "title": "Weekly sync",
                "chatDownloadUrl": f"https://media.example.com/{recording.session.id}/chat.json",
                "chatDownloadUrlExpiry": "2026-06-10T10:30:00.000Z",
                "createdAt": "2026-06-03T10:00:00.000Z",
                "startedAt": "2026-06-03T10:00:00.000Z",
                "endedAt": "2026-06-03T10:30:00.000Z",
                "organizedBy": {
                    "id": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                    "name": "Example organization",
                },
            }
        )

    def test_livestream_carries_its_secret_and_no_session(self, sent):
        body = sent("livestreaming.statusUpdate", fields={"streamKey": "canary", "status": "IDLE"})

        assert list(body) == [
            "event",
            "streamId",
            "status",
            "manualIngest",
            "playbackUrl",
            "ingestServer",
            "streamKey",
            "meeting",
        ]
        assert (body["streamKey"], body["status"]) == ("canary", "IDLE")
        assert list(body["meeting"]) == [
            "id",
            "title",
            "createdAt",
            "roomName",
            "status",
            "organizedBy",
        ]

    @pytest.mark.parametrize(("what", "suffix"), [("transcript", "csv"), ("summary", "txt")])
    def test_transcript_and_summary(self, world, sent, ended, what, suffix):
        body = sent(f"meeting.{what}")
        [session] = world.sessions()
        url, query = body[f"{what}DownloadUrl"].split("?")
        body[f"{what}DownloadUrl"] = url

        assert query.startswith("X-Amz-Algorithm=AWS4-HMAC-SHA256&")
        assert as_posted(body) == as_posted(
            {
                "event": f"meeting.{what}",
                "meeting": ended(),
                f"{what}DownloadUrl": f"https://media.example.com/{session.id}/{what}.{suffix}",
                f"{what}DownloadUrlExpiry": "2026-06-10T10:30:00.000Z",
            }
        )

    @pytest.mark.parametrize("what", ["transcript", "summary"])
    def test_the_meeting_of_a_files_event_may_have_its_ids_only(self, world, sent, what):
        world.undocumented = Undocumented(file_webhook_meeting="ids")
        body = sent(f"meeting.{what}")
        [recording] = world.recordings()

        assert list(body) == [
            "event",
            "meeting",
            f"{what}DownloadUrl",
            f"{what}DownloadUrlExpiry",
        ]
        assert body["meeting"] == {
            "id": recording.meeting.id,
            "sessionId": recording.session.id,
            "organizedBy": {
                "id": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                "name": "Example organization",
            },
        }

    @pytest.mark.parametrize("what", ["transcript", "summary"])
    def test_a_files_event_may_have_ids_at_the_top(self, world, sent, what):
        world.undocumented = Undocumented(file_webhook_meeting="flat")
        body = sent(f"meeting.{what}")
        [recording] = world.recordings()

        assert list(body) == [
            "event",
            "meetingId",
            "sessionId",
            f"{what}DownloadUrl",
            f"{what}DownloadUrlExpiry",
        ]
        assert (body["meetingId"], body["sessionId"]) == (
            recording.meeting.id,
            recording.session.id,
        )

    def test_what_the_timeline_knows_can_be_sent_too(self, world, sent):
        [recording] = world.recordings()
        begun = recording.steps[1].at
        assert sent("recording.statusUpdate", at=begun)["recording"]["status"] == "RECORDING"
        assert sent("recording.statusUpdate")["recording"]["status"] == "UPLOADED"
        assert sent("meeting.ended")["reason"] == "HOST_ENDED_MEETING"
        assert sent("meeting.started")["meeting"] == meeting_of(recording)

    def test_are_about_the_last_session_unless_told(self, world, sent):
        [earlier] = world.sessions()
        later = world.record_meeting(started_at=TEN + timedelta(hours=1))
        assert sent("meeting.summary")["meeting"]["sessionId"] == later.session.id
        assert sent("meeting.summary", session=earlier)["meeting"]["sessionId"] == earlier.id
        status = sent("recording.statusUpdate", recording=earlier.recordings[0])
        assert status["recording"]["roomUUID"] == earlier.id

    @pytest.mark.parametrize("name", EVENTS)
    def test_need_something_to_be_about(self, webhooks, name):
        with pytest.raises(UnknownError, match="no session"):
            webhooks.send(name)

    def test_a_status_needs_a_recording(self, world, webhooks):
        world.start_session(world.create_meeting())
        with pytest.raises(UnknownError, match="no recording"):
            webhooks.send("recording.statusUpdate")

    def test_have_one_of_nine_names(self, webhooks):
        with pytest.raises(
            ValueError, match=r"'recording.ready' is no event; use one of meeting.started, "
        ):
            webhooks.send("recording.ready")


class TestDyte:
    """Bodies of Dyte, RealtimeKit's former self, after the samples in its documentation."""

    @pytest.fixture
    def webhooks(self, world):
        return Webhooks(world, rules=DeliveryRules(bodies="dyte"))

    def test_uploading(self, world, bodies):
        recording = sample(world, file_size=216787)
        body = bodies()["recording.statusUpdate", "UPLOADING"]
        assert as_posted(body["recording"]) == as_posted(
            {
                "id": recording.id,
                "organizationId": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                "roomUUID": recording.session.id,
                "recordingId": recording.id,
                "startedTime": "2026-06-03 10:00:00.000000Z",
                "stoppedTime": "2026-06-03 10:30:00.000000Z",
                "fileSize": 216787,
                "status": "UPLOADING",
            }
        )

    def test_recording_in_a_meeting_that_goes_on(self, world, bodies):
        recording = sample(world)
        body = bodies()["recording.statusUpdate", "RECORDING"]

        assert body["recording"]["startedTime"] == "2026-06-03 10:00:00.000000Z"
        assert body["recording"]["meetingId"] == recording.meeting.id
        assert body["meeting"]["endedAt"] is None
        assert "roomName" not in body["meeting"]

    def test_uploaded(self, world, bodies):
        world.undocumented = Undocumented(internal_caller=True)
        session = world.start_session(world.create_meeting(), at=TEN)
        world.start_recording(session, at=TEN)
        world.end_session(session, at=TEN + timedelta(minutes=30))

        recording = bodies()["recording.statusUpdate", "UPLOADED"]["recording"]

        assert recording["stopReason"] == (
            "{'reason':'ALL_PEERS_LEFT','caller':{'type':'INTERNAL'}}"
        )
        assert recording["recordingDuration"] == 0
        assert isinstance(recording["fileSize"], int)
        assert recording["downloadUrlExpiry"] == "2026-06-10 10:31:00.000000Z"

    def test_meetings_have_no_room_name(self, world, bodies):
        sample(world)
        assert "roomName" not in bodies()["meeting.ended", None]["meeting"]

    def test_a_chat_has_no_title_and_no_times_but_its_expiry(self, world, bodies):
        recording = sample(world, session_files=["chat"])
        body = bodies()["meeting.chatSynced", None]
        body["chatDownloadUrl"] = body["chatDownloadUrl"].partition("?")[0]

        assert as_posted(body) == as_posted(
            {
                "event": "meeting.chatSynced",
                "meetingId": recording.meeting.id,
                "sessionId": recording.session.id,
                "chatDownloadUrl": f"https://media.example.com/{recording.session.id}/chat.json",
                "chatDownloadUrlExpiry": "2026-06-10 10:30:00.000000Z",
                "organizedBy": {
                    "id": "c94c437b-592a-4a39-b9e2-47ef1451e43b",
                    "name": "Example organization",
                },
            }
        )

    @pytest.mark.parametrize("kind", ["transcript", "summary"])
    def test_the_expiry_of_a_file_has_a_space_and_microseconds(self, world, bodies, kind):
        sample(world, session_files=[kind])
        body = bodies()[f"meeting.{kind}", None]
        assert body[f"{kind}DownloadUrlExpiry"] == "2026-06-10 10:30:00.000000Z"
