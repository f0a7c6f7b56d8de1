"""Cloudflare's own SDK, at its strictest, as the judge of the simulator's shapes."""

import cloudflare
import pytest

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    HOST_ENDED_MEETING,
    Kind,
    RecordingOptions,
    Status,
    World,
)
from realtimekit_simulator import error as realtimekit_error

STORAGE = {"type": "aws", "bucket": "ours", "region": "eu-central-1", "path": "a/b"}
SECRETS = {"access_key": "canary-access-key", "secret": "canary-secret"}

COMPOSITE_KINDS = [Kind.COMPOSITE, Kind.AUDIO, Kind.INTERACTIVE]


@pytest.fixture(scope="module")
def http():
    """One for all tests: to make it takes longer than any of them."""
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


def test_sends_every_filter(world, sdk, app):
    recording = world.record_meeting()
    listed = sdk.recordings.get_recordings(
        meeting_id=recording.meeting.id,
        expired=False,
        search="weekly",
        sort_by="invokedTime",
        sort_order="ASC",
        start_time="2026-06-01T00:00:00Z",
        end_time="2026-06-30T00:00:00Z",
        status=["UPLOADED", "ERRORED"],
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


def test_objects_to_a_track_recording_if_strict(world, sdk, tolerant_sdk, app):
    """The real one breaks Cloudflare's own schema too: `download_url` is no string."""
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

    assert unknown.value.body["error"]["code"] == 404
    assert forbidden.value.errors[0].code == unauthorized.value.errors[0].code == 10000
