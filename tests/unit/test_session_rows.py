"""Files of a session in the rows of its recordings: pure rules, events, links, and the table."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from doubles import state_of, tracks
from recordings import rows, stored
from recordings.archive import locations, session_file_keys
from recordings.catalogue import Catalogue
from recordings.dispositions import Disposition
from recordings.dynamodb import Table
from recordings.events import derive_events
from recordings.links import download_links
from recordings.model import SESSION_FILES, Artifact, Recording

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
SESSION = "05e57591-d89e-45c9-ae44-08dc1eaad0e0"
RECORDING = "97cb480d-5840-4528-ace3-919b5e386c68"
DAY = "2026-06-04T10:30:05.000Z"
WEEK = "2026-06-10T10:30:05.000Z"
URL = "https://bucket.r2.cloudflarestorage.com/x?X-Amz-Signature=canary"

VIDEO = {"kind": "video", "file_name": "a.mp4", "file_size": 9, "url": URL, "url_expires_at": WEEK}
EXPIRED = {"state": "expired", "expired_at": "2026-06-10T11:00:00.000Z"}
NONE = {"state": "none", "noted_at": "2026-06-04T11:30:00.000Z"}


def archived(kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "url": URL,
        "url_expires_at": WEEK,
        "archive": {"state": "archived", "bucket": "b", "key": f"f/{kind}/s.json", "size": 7},
    }


def row(status: str = "UPLOADED", **more: Any) -> Any:
    """Return the row of a recording that stopped at 10:30:05; an attribute of None is left out."""
    known = {
        "recording_id": RECORDING,
        "app_id": "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13",
        "version": 3,
        "status": status,
        "status_history": [{"status": status, "at": "2026-06-03T10:31:00.000Z"}],
        "session_id": SESSION,
        "invoked_at": "2026-06-03T10:00:01.000Z",
        "started_at": "2026-06-03T10:00:05.000Z",
        "stopped_at": "2026-06-03T10:30:05.000Z",
        "first_seen_at": "2026-06-03T10:00:02.000Z",
        "artifacts": {"video": VIDEO},
        **more,
    }
    return {name: value for name, value in known.items() if value is not None}


def file(kind: str = "chat", url: str | None = URL, expires_at: str | None = WEEK) -> Artifact:
    expiry = datetime.fromisoformat(expires_at) if expires_at else None
    return Artifact(name=kind, kind=kind, url=url, url_expires_at=expiry)


# --- What is left to be archived, and how urgent it is ---


@pytest.mark.parametrize("status", ["RECORDING", "UPLOADING", "ERRORED", "UPLOADED"])
def test_an_announced_file_is_to_be_archived_whatever_the_recordings_status(status: str) -> None:
    announced = {"kind": "chat", "url_expires_at": WEEK}

    known = row(status, artifacts={"chat": announced})

    assert rows.unsettled(known)["chat"] == announced
    assert ("video" in rows.unsettled(known)) == (status == "UPLOADED")
    assert rows.deadline(known) == WEEK


@pytest.mark.parametrize("session_id", [None, "a room's name"])
def test_without_a_session_there_is_no_file_of_a_session_to_archive(session_id: Any) -> None:
    known = row(session_id=session_id, artifacts={"video": VIDEO, "chat": {"kind": "chat"}})

    assert set(rows.unsettled(known)) == {"video"}


def test_an_erased_row_has_nothing_to_archive() -> None:
    erasing = {"erasing_since": "2026-06-03T11:00:00.000Z"}

    assert rows.unsettled(row(artifacts={"chat": {"kind": "chat"}}, **erasing)) == {}


@pytest.mark.parametrize(
    ("archive", "is_left"),
    [
        (None, True),
        (NONE, False),
        (EXPIRED, False),
        ({**EXPIRED, "expired_at": "2026-06-09T00:00:00.000Z"}, True),
    ],
    ids=["no state", "none", "expired", "expired, and then offered for longer"],
)
def test_an_offered_file_is_settled_by_its_state(
    archive: dict[str, str] | None, is_left: bool
) -> None:
    chat = {"kind": "chat", "url": URL, "url_expires_at": WEEK}
    if archive:
        chat["archive"] = archive  # type: ignore[assignment]

    assert (set(rows.unsettled(row(artifacts={"chat": chat}))) == {"chat", "video"}) == is_left


def test_the_first_file_to_be_deleted_makes_the_rows_deadline() -> None:
    chat = {"kind": "chat", "url": URL, "url_expires_at": DAY}

    assert rows.deadline(row(artifacts={"video": VIDEO, "chat": chat})) == DAY
    assert rows.deadline(row(artifacts={"video": VIDEO, "chat": {**chat, "archive": NONE}})) == WEEK


def test_an_announced_file_without_a_stated_expiry_has_seven_days_and_a_placeholder_none() -> None:
    assert rows.deadline(row(artifacts={"chat": {"kind": "chat"}})) == WEEK
    assert rows.deadline(row(artifacts={"chat": archived("chat")}, file_name="{{id}}")) is None


def test_a_file_of_the_session_does_not_set_the_expiry_of_the_recordings_own_files() -> None:
    bare = {"kind": "video", "url": URL}
    sound = {"kind": "audio", "url": URL, "url_expires_at": "2026-06-09T00:00:00.000Z"}
    chat = {"kind": "chat", "url": URL, "url_expires_at": DAY}
    transcript = {"kind": "transcript", "url": URL}
    known = row(artifacts={"video": bare, "audio": sound, "chat": chat, "transcript": transcript})

    assert rows.expiry_of(known, bare) == "2026-06-09T00:00:00.000Z"  # type: ignore[arg-type]
    assert rows.expiry_of(known, transcript) == WEEK  # type: ignore[arg-type]
    assert rows.expiry_of(known, chat) == DAY  # type: ignore[arg-type]


def test_only_media_make_a_recording_archived() -> None:
    video = archived("video")

    assert rows.archived({"video": video, "chat": {"kind": "chat"}}) == "yes"
    assert rows.archived({"video": VIDEO, "chat": archived("chat")}) == "no"
    assert rows.archived({"chat": archived("chat")}) == "no"


def test_a_transcript_does_not_stand_for_the_recordings_own_file() -> None:
    known = row(artifacts={"chat": archived("chat")}, file_name="weekly-sync.mp4")

    assert rows.unsettled(known) == {"video": {"kind": "video"}}
    assert not rows.is_placeholder("chat", {"kind": "chat"})


# --- When files are looked for ---


@pytest.mark.parametrize(
    ("minutes", "look"),
    [
        (0, "2026-06-03T11:30:05+00:00"),
        (61, "2026-06-04T11:30:05+00:00"),
        (25 * 60 - 1, "2026-06-04T11:30:05+00:00"),
        (25 * 60, None),
    ],
)
def test_a_session_is_looked_at_after_an_hour_and_a_day_later(
    minutes: int, look: str | None
) -> None:
    now = datetime(2026, 6, 3, 10, 30, 5, tzinfo=UTC) + timedelta(minutes=minutes)

    found = rows.next_look(row(), now)

    assert (found and found.isoformat()) == look


@pytest.mark.parametrize(
    ("more", "ended"),
    [
        ({}, "2026-06-03T10:30:05+00:00"),
        ({"stopped_at": None}, "2026-06-03T10:31:00+00:00"),
        # A backfill finds a recording a year later, and RealtimeKit does not say when it stopped.
        (
            {"stopped_at": None, "started_at": None, "invoked_at": "2025-06-03T10:00:00.000Z"},
            "2025-06-04T10:00:00+00:00",
        ),
        ({"stopped_at": "9999-12-31T23:59:59.999Z"}, "2026-06-03T10:31:00+00:00"),
        ({"stopped_at": "2062-06-03T10:30:05.000Z"}, "2026-06-03T10:31:00+00:00"),
        ({"stopped_at": None, "status_history": None}, "2026-06-04T10:00:05+00:00"),
        (
            {"stopped_at": None, "status_history": [{"status": "UPLOADED", "at": "2026-06-03"}]},
            "2026-06-04T10:00:05+00:00",
        ),
        (
            {"stopped_at": None, "status_history": [{"status": ["UPLOADED"], "at": 5}]},
            "2026-06-04T10:00:05+00:00",
        ),
        (
            dict.fromkeys(("stopped_at", "started_at", "invoked_at", "status_history")),
            "2026-06-03T10:00:02+00:00",
        ),
        (
            dict.fromkeys(
                ("stopped_at", "started_at", "invoked_at", "status_history", "first_seen_at")
            ),
            None,
        ),
        ({"status": "UPLOADING"}, None),
    ],
)
def test_the_end_of_a_recording_is_known_from_whatever_its_row_says(
    more: dict[str, Any], ended: str | None
) -> None:
    found = rows.ended_at(row(**more))

    assert (found and found.isoformat()) == ended


@pytest.mark.parametrize(
    ("more", "is_awaited"),
    [
        ({}, True),
        ({"status": "ERRORED"}, True),
        ({"status": "RECORDING"}, False),
        ({"session_id": "a room's name"}, False),
        ({"session_id": None}, False),
        ({"stopped_at": "2026-05-27T12:00:00.000Z"}, False),
        ({"stopped_at": "2026-05-27T12:00:00.001Z"}, True),
        ({"erasing_since": "2026-06-03T11:00:00.000Z"}, False),
        ({"stopped_at": "9999-12-31T23:59:59.999Z", "status_history": None}, True),
        ({"artifacts": {kind: archived(kind) for kind in SESSION_FILES}}, False),
        ({"artifacts": {kind: {"kind": kind, "archive": NONE} for kind in SESSION_FILES}}, False),
        ({"artifacts": None}, True),
    ],
)
def test_files_are_awaited_for_a_week_after_the_end_of_a_final_recording(
    more: dict[str, Any], is_awaited: bool
) -> None:
    assert rows.awaits_session_files(row(**more), SESSION_FILES, NOON) == is_awaited


def test_no_files_are_awaited_if_none_are_kept() -> None:
    assert not rows.awaits_session_files(row(), (), NOON)


@pytest.mark.parametrize(
    ("chat", "is_lacking"),
    [
        (None, True),
        ({"kind": "chat", "url_expires_at": WEEK}, True),
        ({"kind": "chat", "url": URL}, False),
        ({"kind": "chat", "archive": NONE}, False),
        ({"kind": "chat", "archive": EXPIRED}, False),
    ],
)
def test_a_file_is_lacking_until_it_is_offered_or_has_a_state(
    chat: dict[str, Any] | None, is_lacking: bool
) -> None:
    assert rows.lacks(row(artifacts={"chat": chat} if chat else {}), "chat") == is_lacking


# --- Changes of a row ---


def test_an_offer_is_added_beside_the_recordings_own_files_and_is_new_work() -> None:
    known = row()

    changes = rows.offered(known, [file(), file("summary")], NOON)

    chat = {"kind": "chat", "url": URL, "url_expires_at": WEEK}
    summary = {**chat, "kind": "summary"}
    assert changes == {
        "artifacts": {"video": VIDEO, "chat": chat, "summary": summary},
        "session_started_at": "2026-06-03T12:00:00.000Z",
    }
    new = rows.to_archive({**known, **changes}) - rows.to_archive(known)
    assert new == {("chat", True), ("summary", True)}


@pytest.mark.parametrize(
    ("known", "offer", "changed"),
    [
        # Announced, then offered by an answer that does not say the expiry.
        (
            {"kind": "chat", "url_expires_at": WEEK},
            file(expires_at=None),
            {"kind": "chat", "url_expires_at": WEEK, "url": URL},
        ),
        # Announced twice.
        ({"kind": "chat", "url_expires_at": WEEK}, file(url=None, expires_at=None), None),
        # Already offered: the archive renews URLs for itself.
        ({"kind": "chat", "url": "https://x/"}, file(), None),
        (archived("chat"), file(), None),
        ({"kind": "chat", "archive": EXPIRED}, file(url=None), None),
        # An old URL led to an empty file, so it goes with the state.
        (
            {"kind": "chat", "url": "https://x/", "archive": NONE},
            file(url=None),
            {"kind": "chat", "url_expires_at": WEEK},
        ),
    ],
    ids=["offered", "announced again", "offered again", "archived", "expired", "noted as none"],
)
def test_an_offer_changes_only_what_is_lacking_or_was_noted_as_none(
    known: dict[str, Any], offer: Artifact, changed: dict[str, Any] | None
) -> None:
    changes = rows.offered(row(artifacts={"chat": known}), [offer])

    assert changes == ({"artifacts": {"chat": changed}} if changed else {})


def test_the_start_of_the_session_is_kept_once_it_is_known() -> None:
    known = row(session_started_at="2026-06-03T09:59:57.000Z", artifacts={"chat": archived("chat")})

    assert rows.offered(known, [file()], NOON) == {}


def test_absence_is_noted_only_where_the_row_knows_nothing_of_a_file() -> None:
    announced = {"kind": "chat"}

    changes = rows.absent(row(artifacts={"chat": announced}), ["chat", "summary"], NOON)

    noted = {"state": "none", "noted_at": "2026-06-03T12:00:00.000Z"}
    summary = {"kind": "summary", "archive": noted}
    assert changes == {"artifacts": {"chat": announced, "summary": summary}}
    assert rows.absent(row(artifacts={"chat": announced}), ["chat"], NOON) == {}


def test_a_texts_state_leaves_the_recordings_archived_as_it_is() -> None:
    state: Any = archived("chat")["archive"]

    uploaded = rows.settled(row(artifacts={"video": VIDEO}), {"chat": state})
    errored = rows.settled(row("ERRORED", artifacts=None), {"chat": state})

    assert uploaded["archived"] == "no"
    assert errored == {"artifacts": {"chat": {"kind": "chat", "archive": state}}}


def test_a_placeholders_state_is_written_beside_a_text_and_not_beside_a_file() -> None:
    text = {"chat": archived("chat")}
    none: Any = {"track": NONE}

    assert set(rows.settled(row(artifacts=text), none)["artifacts"]) == {"chat", "track"}
    assert rows.settled(row(artifacts={"video": VIDEO, **text}), none) == {}


def test_a_session_whose_urls_are_signed_anew_is_no_news() -> None:
    known = row(artifacts={"video": VIDEO, "chat": {"kind": "chat", "url": URL}})
    again = {"video": {**VIDEO, "url": "https://new/"}, "chat": {"kind": "chat", "url": "new"}}

    assert rows.news(known, {**known, "artifacts": again}) == set()


@pytest.mark.parametrize("status", ["UPLOADED", "ERRORED", "RECORDING"])
@pytest.mark.parametrize("own", [{}, {"video": VIDEO}, {"track": {"kind": "track"}}])
def test_no_answer_about_a_recording_removes_files_of_its_session(
    status: str, own: dict[str, Any]
) -> None:
    texts = {
        "transcript": archived("transcript"),
        "captions": {"kind": "captions", "url_expires_at": WEEK},
        "summary": {"kind": "summary"},
        "chat": {"kind": "chat", "archive": NONE},
    }
    known = row(artifacts={**own, **texts})
    video = Artifact(name="video", kind="video", file_name="a.mp4", file_size=9, url=URL)

    for artifacts in ((), (video,), (Artifact(name="track", kind="track"),), tracks(2)):
        answer = Recording(recording_id=RECORDING, status=status, artifacts=artifacts)
        changes = rows.changes(known, answer, NOON + timedelta(days=30), "app")
        merged = {**known, **changes}
        assert {kind: merged["artifacts"][kind] for kind in SESSION_FILES} == texts


def test_a_files_placeholder_goes_when_the_recordings_own_file_comes_and_the_texts_stay() -> None:
    known = row(artifacts={"track": {"kind": "track", "archive": NONE}, "chat": archived("chat")})
    answer = Recording(recording_id=RECORDING, status="UPLOADED", artifacts=tracks(1))

    artifacts = rows.changes(known, answer, NOON, "app")["artifacts"]

    assert set(artifacts) == {tracks(1)[0].name, "chat"}


# --- Bounds of the merge ---


def test_a_known_status_outdates_an_unknown_one_although_it_was_fetched_earlier() -> None:
    known = row("TRANSCODING", fetched_at="2026-06-03T12:00:00.000Z")
    answer = Recording(recording_id=RECORDING, status="INVOKED")

    changes = rows.changes(known, answer, NOON - timedelta(minutes=5), "app")

    assert (changes["status"], changes["status_rank"]) == ("INVOKED", 1)


def test_128_kib_of_urls_are_kept_and_not_a_byte_more() -> None:
    files = [replace(file, url=f"{n:02048}") for n, file in enumerate(tracks(64))]
    answer = Recording(recording_id=RECORDING, status="UPLOADED", artifacts=tuple(files))
    longer = replace(answer, artifacts=(*files[1:], replace(files[0], url=f"{0:02049}")))

    kept = rows.changes({}, answer, NOON, "app")["artifacts"]
    dropped = rows.changes({}, longer, NOON, "app")["artifacts"]

    assert sum("url" in artifact for artifact in kept.values()) == 64
    assert [artifact for artifact in dropped.values() if "url" in artifact] == []
    assert len(dropped) == 64


@pytest.mark.parametrize(("url", "names"), [(None, ["audio"]), (URL, ["audio", "video"])])
def test_beside_known_files_a_file_is_one_only_if_it_has_a_url(
    url: str | None, names: list[str]
) -> None:
    """Once its URLs have expired, RealtimeKit names one file, which the row may lack."""
    known = row(artifacts={"audio": {"kind": "audio", "file_name": "a.mp3", "url": URL}})
    video = Artifact(name="video", kind="video", file_name="a.mp4", url=url)
    answer = Recording(recording_id=RECORDING, status="UPLOADED", artifacts=(video,))

    merged = known | rows.changes(known, answer, NOON, "app")

    assert sorted(merged["artifacts"]) == names


@pytest.mark.parametrize(
    ("said", "is_offered"),
    [({}, False), ({"url": URL}, True), ({"url_expires_at": WEEK}, True)],
    ids=["neither", "url", "expiry"],
)
def test_a_url_or_its_expiry_says_that_a_file_is_offered(
    said: dict[str, Any], is_offered: bool
) -> None:
    assert rows.is_offered({"kind": "video", **said}) == is_offered


# --- Keys, events, links ---


def test_a_sessions_file_lies_in_the_recordings_folder_so_that_an_erasure_finds_it() -> None:
    folder = f"5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13/2026/06/03/{RECORDING}/"
    keys = [key for kind in SESSION_FILES for key in session_file_keys(row(), kind).values()]

    assert keys == [
        f"{folder}transcript/{SESSION}.json",
        f"{folder}captions/{SESSION}.vtt",
        f"{folder}summary/{SESSION}.md",
        f"{folder}chat/{SESSION}.csv",
        f"{folder}chat/{SESSION}.json",
    ]
    assert locations(row(), "b")[0] == [folder]


def test_each_archived_text_is_an_event_of_its_own_and_the_recording_is_one_of_its_media() -> None:
    old = row(archived="no", artifacts={"video": VIDEO, "chat": {"kind": "chat"}})
    new = row(
        archived="yes",
        version=4,
        artifacts={
            "video": {**archived("video"), "kind": "video"},
            "chat": archived("chat"),
            "summary": {**archived("summary")},
            "captions": {"kind": "captions", "archive": NONE},
        },
    )

    events = derive_events(old, new)

    details = [json.loads(event.detail) for event in events]
    assert [(event.type, detail["id"]) for event, detail in zip(events, details, strict=True)] == [
        ("Recording Archived", f"{RECORDING}#4"),
        ("Recording File Archived", f"{RECORDING}#4#chat"),
        ("Recording File Archived", f"{RECORDING}#4#summary"),
    ]
    assert (details[0]["artifact_count"], details[0]["artifacts"][0]["name"]) == (1, "video")
    assert details[2]["artifact"] == details[2]["kind"] == "summary"
    assert (details[2]["bucket"], details[2]["key"]) == ("b", "f/summary/s.json")
    assert details[2]["size"] == 7
    assert "canary" not in "".join(event.detail for event in events)
    assert derive_events(new, {**new, "version": 5}) == []


def test_lost_texts_are_named_in_the_event_of_expired_files() -> None:
    new = row(version=4, artifacts={"video": VIDEO, "chat": {"kind": "chat", "archive": EXPIRED}})

    [event] = derive_events(row(), new)

    assert event.type == "Recording Expired"
    assert json.loads(event.detail)["expired"] == ["chat"]


def test_files_of_a_session_have_a_link_or_the_reason_why_not() -> None:
    known = row(
        "ERRORED",
        artifacts={
            "transcript": {"kind": "transcript", "url": URL, "url_expires_at": WEEK},
            "captions": {"kind": "captions", "url_expires_at": WEEK},
            # An empty file has a URL, which leads to nothing.
            "summary": {"kind": "summary", "url": URL, "url_expires_at": WEEK, "archive": NONE},
            "chat": {"kind": "chat", "archive": EXPIRED},
        },
    )

    links, missing = download_links(known, None, 300, NOON, Disposition.ATTACHMENT)

    assert [(link["name"], link["source"], link["expires_at"]) for link in links] == [
        ("transcript", "realtimekit", WEEK)
    ]
    assert {file["name"]: file["reason"] for file in missing} == {
        "captions": "not_yet",
        "chat": "expired",
        "summary": "no_file",
        "video": "no_file",
    }


def test_a_link_of_the_recording_outlives_that_of_its_sessions_chat() -> None:
    known = row(
        artifacts={
            "video": {"kind": "video", "url": URL},
            "chat": {"kind": "chat", "url": URL, "url_expires_at": DAY},
        }
    )

    links, missing = download_links(
        known, None, 300, NOON + timedelta(days=2), Disposition.ATTACHMENT
    )

    assert [(link["name"], link["expires_at"]) for link in links] == [("video", WEEK)]
    assert missing == [{"name": "chat", "kind": "chat", "reason": "expired"}]


# --- In the table ---


@pytest.mark.parametrize(
    ("artifact", "read"),
    [
        ({"kind": 7, "url": 7, "url_expires_at": "tomorrow"}, {"kind": "chat"}),
        ({"archive": {"state": "archived"}}, {"kind": "chat"}),
        ({"archive": {"state": "none"}}, {"kind": "chat", "archive": {"state": "none"}}),
    ],
)
def test_attributes_that_an_owner_wrote_oddly_break_no_rule(
    artifact: dict[str, Any], read: dict[str, Any]
) -> None:
    odd: dict[str, Any] = {"artifacts": {"video": VIDEO, "chat": artifact, "summary": "text"}}

    known: Any = stored.read(row(**odd, session_started_at="early", session_id=["x"]))

    assert known["artifacts"] == {"video": VIDEO, "chat": read}
    assert "session_started_at" not in known
    assert set(rows.unsettled(known)) == {"video"}
    assert not rows.awaits_session_files(known, SESSION_FILES, NOON)
    assert rows.expiry(known) == WEEK
    assert derive_events({}, {**known, "version": 1})
    assert download_links(known, None, 300, NOON, Disposition.ATTACHMENT)[0]


@pytest.mark.usefixtures("rows_of_400_kb")
def test_texts_beside_thousands_of_tracks_are_kept_in_the_packed_row(
    catalogue: Catalogue, recordings_table: Table
) -> None:
    files = tracks(2000)
    recording = Recording(
        recording_id=RECORDING, status="UPLOADED", session_id=SESSION, artifacts=files
    )
    catalogue.upsert(recording, NOON)

    catalogue.offer_files(RECORDING, [file(), file("transcript")], NOON)
    chat: Any = state_of(RECORDING, file(), 1, "archive-bucket")
    written = catalogue.record_archive(RECORDING, {"chat": chat})
    catalogue.note_absent(RECORDING, ["captions", "chat"], NOON)
    catalogue.upsert(replace(recording, duration_seconds=1), NOON + timedelta(hours=1))

    item = recordings_table.get({"recording_id": RECORDING})
    assert item
    assert "artifacts_packed" in item
    [known] = catalogue.of_session(SESSION)
    assert written
    assert known["artifacts"]["chat"]["archive"] == chat
    assert rows.archive_state(known["artifacts"]["captions"]) == "none"
    assert known["artifacts"]["transcript"]["url_expires_at"] == WEEK
    assert known["session_started_at"] == "2026-06-03T12:00:00.000Z"
    assert len(known["artifacts"]) == 2003
    assert known["archived"] == "no"


def test_a_sessions_rows_are_those_that_are_not_erased(catalogue: Catalogue) -> None:
    ids = [f"97cb480d-5840-4528-ace3-919b5e386c6{n}" for n in range(3)]
    for recording_id, session_id in zip(ids, (SESSION, SESSION, RECORDING), strict=True):
        recording = Recording(recording_id=recording_id, status="UPLOADED", session_id=session_id)
        catalogue.upsert(recording, NOON)
    catalogue.begin_erasure(ids[1], NOON)

    assert [known["recording_id"] for known in catalogue.of_session(SESSION)] == ids[:1]
    assert catalogue.offer_files(ids[1], [file()]) is None
    catalogue.note_absent(ids[1], ["chat"], NOON)
    assert catalogue.offer_files(RECORDING, [file()]) is None
    erased = catalogue.get(ids[1])
    assert erased
    assert "artifacts" not in erased
