"""Simulated answers, validated by Cloudflare's SDK in its strict mode."""

from typing import Any

import cloudflare
import pytest

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    Kind,
    RecordingOptions,
    Status,
    Undocumented,
    World,
)
from realtimekit_simulator import error as realtimekit_error

STORAGE = {"type": "aws", "bucket": "ours", "region": "eu-central-1", "path": "a/b"}
SECRETS = {"access_key": "canary-access-key", "secret": "canary-secret"}

COMPOSITE_KINDS = [Kind.COMPOSITE, Kind.AUDIO, Kind.INTERACTIVE]


@pytest.fixture(scope="module")
def http():
    """Return one HTTP client for all tests: making one takes longer than any test."""
    with cloudflare.DefaultHttpxClient() as client:
        yield client


@pytest.fixture
def sdk(simulator, http):
    return _client(simulator, http, strict=True).realtime_kit


@pytest.fixture
def tolerant_sdk(simulator, http):
    return _client(simulator, http, strict=False).realtime_kit


def _client(simulator, http, *, strict):
    return cloudflare.Cloudflare(
        api_token=DEFAULT_TOKEN,
        base_url=simulator.api_url,
        max_retries=0,
        http_client=http,
        _strict_response_validation=strict,
    )


@pytest.fixture
def app(world: World):
    return {"account_id": world.account_id, "app_id": world.app_id}


def live_session(world, **config):
    return world.start_session(world.create_meeting(recording_config=config))


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("kind", COMPOSITE_KINDS)
def test_reads_one_and_the_list_of_every_kind_and_status(world, sdk, app, kind, status):
    options = RecordingOptions(kind=kind, separate_audio=True)
    recording = world.record_meeting(status=status, options=options)

    one = sdk.recordings.get_one_recording(recording.id, **app)
    listed = sdk.recordings.get_recordings(per_page=10, page_no=1, **app)

    assert one.data.status == listed.data[0].status == status
    assert listed.data[0].meeting.id == recording.meeting.id
    assert (listed.paging.total_count, listed.paging.start_offset) == (1, 1)


@pytest.mark.parametrize("status", [Status.INVOKED, Status.RECORDING, Status.PAUSED])
@pytest.mark.parametrize("kind", COMPOSITE_KINDS)
def test_reads_the_active_recording(world, sdk, app, kind, status):
    recording = world.record_meeting(status=status, options=RecordingOptions(kind=kind))
    active = sdk.recordings.get_active_recordings(recording.meeting.id, **app)
    assert (active.data.id, active.data.status) == (recording.id, status)


@pytest.mark.parametrize("storage_type", ["aws", "gcs", "azure", "digitalocean", "sftp"])
@pytest.mark.parametrize("secrets", [{}, SECRETS])
def test_reads_every_documented_storage(world, sdk, app, storage_type, secrets):
    world.reveals_secrets = True
    storage = {**STORAGE, **secrets, "type": storage_type}
    session = live_session(world, storage_config=storage)
    recording = world.start_recording(session)
    world.end_session(session, reason=HOST_ENDED_MEETING)

    one = sdk.recordings.get_one_recording(recording.id, **app)
    listed = sdk.recordings.get_recordings(**app)

    assert one.data.storage_config.to_dict() == storage
    nested = listed.data[0].meeting.recording_config.storage_config
    assert nested.to_dict() == storage


def test_reads_a_disabled_bucket(world, sdk, app):
    options = RecordingOptions(realtimekit_bucket=False, storage_config=STORAGE)
    recording = world.record_meeting(options=options)
    one = sdk.recordings.get_one_recording(recording.id, **app)
    assert (one.data.status, one.data.download_url) == ("UPLOADED", None)


def test_sends_the_simulated_filters(world, sdk, app):
    recording, _ = world.record_meetings(2)
    listed = sdk.recordings.get_recordings(
        meeting_id=recording.meeting.id,
        sort_by="invokedTime",
        sort_order="ASC",
        page_no=1.0,
        per_page=5.0,
        **app,
    )
    assert [item.id for item in listed.data] == [recording.id]


def test_starts_and_stops(world, sdk, app):
    session = live_session(world)
    started = sdk.recordings.start_recordings(
        meeting_id=session.meeting.id, audio_config={"codec": "MP3"}, **app
    )
    world.clock.advance(60)
    stopped = sdk.recordings.pause_resume_stop_recording(started.data.id, action="stop", **app)
    track = sdk.recordings.start_track_recording(meeting_id=session.meeting.id, **app)

    assert (started.data.status, stopped.data.status) == ("INVOKED", "UPLOADING")
    assert stopped.data.stop_reason.caller.user_id == world.app_id
    assert track.data.recording.status == "INVOKED"


def test_reads_sessions_live_and_ended(world, sdk, app):
    ended = world.record_meeting().session
    live = live_session(world)

    listed = sdk.sessions.get_sessions(**app)
    one = sdk.sessions.get_session_details(ended.id, **app)

    assert [(each.id, each.status) for each in listed.data.sessions] == [
        (live.id, "LIVE"),
        (ended.id, "ENDED"),
    ]
    assert one.data.associated_id == ended.meeting.id


def test_reads_meetings_and_apps(world, sdk, app):
    created = sdk.meetings.create(title="Planning", **app)
    listed = sdk.meetings.get(**app)
    one = sdk.meetings.get_meeting_by_id(created.data.id, **app)
    apps = sdk.apps.get(account_id=world.account_id)

    assert created.data.title == listed.data[0].title == one.data.title == "Planning"
    assert apps.data[0].id == world.app_id


@pytest.mark.parametrize("file_format", ["CSV", "JSON", "SRT", "VTT"])
def test_reads_where_a_transcript_lies(world, sdk, app, file_format):
    session = world.record_meeting(session_files=["transcript"]).session
    world.clock.advance(120)
    data = sdk.sessions.get_session_transcripts(session.id, format=file_format, **app).data

    assert data.session_id == session.id
    assert f"/transcript.{file_format.lower()}?" in data.transcript_download_url
    assert data.transcript_download_url_expiry == "2026-06-10T11:59:40.000Z"


def test_reads_where_summary_and_chat_lie(world, sdk, app):
    session = world.record_meeting(session_files=["summary", "chat"]).session
    world.clock.advance(240)
    summary = sdk.sessions.get_session_summary(session.id, **app).data
    chat = sdk.sessions.get_session_chat(session.id, **app).data

    assert summary.session_id == session.id
    assert "/summary.txt?" in summary.summary_download_url
    assert summary.summary_download_url_expiry == "2026-06-10T11:59:40.000Z"
    assert "/chat.csv?" in chat.chat_download_url
    assert chat.chat_download_url_expiry == "2026-06-10T11:59:40.000Z"


def test_reads_a_session_without_files_if_there_is_no_data(world, sdk, app):
    world.undocumented = Undocumented(absent_session_file="no data")
    session = world.record_meeting().session

    assert sdk.sessions.get_session_transcripts(session.id, **app).data is None
    assert sdk.sessions.get_session_summary(session.id, **app).data is None
    assert sdk.sessions.get_session_chat(session.id, **app).data is None


@pytest.mark.parametrize("shape", ["null", "missing"])
def test_objects_to_a_session_file_without_a_url_if_strict(world, sdk, tolerant_sdk, app, shape):
    world.undocumented = Undocumented(absent_session_file=shape)
    session = world.record_meeting().session
    for method in ("get_session_transcripts", "get_session_summary", "get_session_chat"):
        with pytest.raises(cloudflare.APIResponseValidationError):
            getattr(sdk.sessions, method)(session.id, **app)
        assert getattr(tolerant_sdk.sessions, method)(session.id, **app).success is True


def test_finds_no_file_of_a_session_if_that_is_a_404(world, sdk, app):
    world.undocumented = Undocumented(absent_session_file="404")
    session = world.record_meeting().session
    with pytest.raises(cloudflare.NotFoundError):
        sdk.sessions.get_session_chat(session.id, **app)


def test_creates_a_meeting_that_is_transcribed_and_summarised(sdk, app):
    created = sdk.meetings.create(
        title="Planning",
        transcribe_on_end=True,
        summarize_on_end=True,
        persist_chat=True,
        ai_config={
            "summarization": {
                "word_limit": 200,
                "text_format": "plain_text",
                "summary_type": "interview",
            },
            "transcription": {"keywords": ["rtk"], "language": "de", "profanity_filter": True},
        },
        **app,
    ).data
    read = sdk.meetings.get_meeting_by_id(created.id, **app).data

    assert (read.transcribe_on_end, read.summarize_on_end, read.persist_chat) == (True, True, True)
    assert read.ai_config.to_dict() == created.ai_config.to_dict()
    assert read.ai_config.summarization.summary_type == "interview"
    assert read.ai_config.transcription.keywords == ["rtk"]


def test_objects_to_a_track_recording_if_strict(world, sdk, tolerant_sdk, app):
    """RealtimeKit breaks Cloudflare's schema too: `download_url` is not a string."""
    recording = world.record_meeting(options=RecordingOptions(kind=Kind.TRACK))

    with pytest.raises(cloudflare.APIResponseValidationError):
        sdk.recordings.get_one_recording(recording.id, **app)
    data = tolerant_sdk.recordings.get_one_recording(recording.id, **app).data

    assert data.download_url["links"][0]["layer_name"] == "default"


def test_objects_to_a_fractional_duration_if_strict(world, sdk, app):
    recording = world.record_meeting(options=RecordingOptions(duration=12.001))
    with pytest.raises(cloudflare.APIResponseValidationError):
        sdk.recordings.get_one_recording(recording.id, **app)


def test_knows_the_errors(simulator, world, sdk, app):
    with pytest.raises(cloudflare.NotFoundError) as unknown:
        sdk.recordings.get_one_recording("97cb480d-5840-4528-ace3-919b5e386c68", **app)
    simulator.tokens.add(DEFAULT_TOKEN, has_realtime=False)
    with pytest.raises(cloudflare.PermissionDeniedError) as forbidden:
        sdk.recordings.get_recordings(**app)
    simulator.tokens.revoke(DEFAULT_TOKEN)
    with pytest.raises(cloudflare.AuthenticationError) as unauthorized:
        sdk.recordings.get_recordings(**app)
    simulator.faults.add(realtimekit_error(500))
    with pytest.raises(cloudflare.InternalServerError):
        sdk.recordings.get_recordings(**app)

    body: Any = unknown.value.body
    assert body["error"]["code"] == 404
    assert forbidden.value.errors[0].code == unauthorized.value.errors[0].code == 10000
