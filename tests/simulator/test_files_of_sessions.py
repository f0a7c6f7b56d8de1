"""Transcripts, summaries and chats: what orders them, where they lie, and what is in them."""

import base64
import csv
import hashlib
import io
import json
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from realtimekit_simulator import (
    Clock,
    Headers,
    Overlay,
    RecordingOptions,
    SessionFileOptions,
    Simulator,
    Undocumented,
    World,
    error,
)

TEN = datetime(2026, 6, 3, 10, tzinfo=UTC)
HALF_PAST = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)
UNKNOWN_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
ALL = ("transcript", "summary", "chat")


@pytest.fixture
def clock():
    """Return a clock that stands at the end of the meeting."""
    return Clock(HALF_PAST, speed=0)


@pytest.fixture
def hold(world, clock):
    """Hold a meeting from ten to half past, and wait for its files; return its session."""

    def hold(session_files=ALL, later=240, **how):
        recording = world.record_meeting(
            started_at=TEN,
            duration=1800,
            options=RecordingOptions(start_delay=0),
            session_files=session_files,
            **how,
        )
        clock.advance(later)
        return recording.session

    return hold


@pytest.fixture
def url(get):
    """Return the URL of a session's file as the API names it, or None."""

    def url(session, kind, query=""):
        data = get(f"/sessions/{session.id}/{kind}{query}")
        return data.get(
            {
                "transcript": "transcript_download_url",
                "summary": "summaryDownloadUrl",
                "chat": "chat_download_url",
            }[kind]
        )

    return url


@pytest.fixture
def download(pool, url):
    """Download a session's file from where the API says it lies."""
    return lambda session, kind, query="": pool.request("GET", url(session, kind, query))


@pytest.fixture
def read(download):
    """Return the text of a session's file."""

    def read(session, kind, query=""):
        response = download(session, kind, query)
        assert response.status == 200, response.data
        return response.data.decode()

    return read


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def code(response):
    return response.status, response.data.partition(b"<Code>")[2].partition(b"<")[0].decode()


class TestAnswers:
    def test_a_transcripts_fields_are_spelt_in_two_ways(self, simulator, hold, get):
        session = hold()
        data = get(f"/sessions/{session.id}/transcript")
        url = data.pop("transcript_download_url")

        assert url.startswith(f"{simulator.url}/media/{session.id}/transcript.csv?X-Amz-Algorithm=")
        assert data == {
            "sessionId": session.id,
            "transcript_download_url_expiry": "2026-06-10T10:30:00.000Z",
        }

    def test_a_summarys_fields_are_in_camel_case(self, simulator, hold, get):
        session = hold()
        data = get(f"/sessions/{session.id}/summary")
        url = data.pop("summaryDownloadUrl")

        assert url.startswith(f"{simulator.url}/media/{session.id}/summary.txt?X-Amz-Algorithm=")
        assert data == {
            "sessionId": session.id,
            "summaryDownloadUrlExpiry": "2026-06-10T10:30:00.000Z",
        }

    def test_a_chats_fields_are_in_snake_case_without_the_session(self, simulator, hold, get):
        session = hold()
        data = get(f"/sessions/{session.id}/chat")
        url = data.pop("chat_download_url")

        assert url.startswith(f"{simulator.url}/media/{session.id}/chat.csv?X-Amz-Algorithm=")
        assert data == {"chat_download_url_expiry": "2026-06-10T10:30:00.000Z"}

    def test_a_chat_may_be_named_as_json(self, world, hold, url):
        world.undocumented = Undocumented(chat_format="json")
        assert "/chat.json?" in url(hold(), "chat")

    @pytest.mark.parametrize("kind", ALL)
    def test_an_answer_may_be_wrapped(self, world, hold, get, kind):
        session = hold()
        bare = get(f"/sessions/{session.id}/{kind}")
        world.undocumented = Undocumented(wraps_session_file=True)
        assert get(f"/sessions/{session.id}/{kind}") == {kind: bare}

    @pytest.mark.parametrize(
        ("shape", "transcript", "summary", "chat"),
        [
            (
                "null",
                {
                    "sessionId": "{id}",
                    "transcript_download_url": None,
                    "transcript_download_url_expiry": None,
                },
                {
                    "sessionId": "{id}",
                    "summaryDownloadUrl": None,
                    "summaryDownloadUrlExpiry": None,
                },
                {"chat_download_url": None, "chat_download_url_expiry": None},
            ),
            ("missing", {"sessionId": "{id}"}, {"sessionId": "{id}"}, {}),
            ("no data", None, None, None),
        ],
    )
    def test_an_answer_without_a_file_has_one_of_three_shapes(
        self, world, hold, get, shape, transcript, summary, chat
    ):
        world.undocumented = Undocumented(absent_session_file=shape)
        session = hold([])
        for kind, expected in (("transcript", transcript), ("summary", summary), ("chat", chat)):
            text = json.dumps(get(f"/sessions/{session.id}/{kind}"))
            assert json.loads(text.replace(session.id, "{id}")) == expected

    @pytest.mark.parametrize("kind", ALL)
    def test_an_answer_without_a_file_may_be_a_404(self, world, hold, call, kind):
        world.undocumented = Undocumented(absent_session_file="404")
        session = hold([])
        response = call("GET", f"/sessions/{session.id}/{kind}")
        assert response.status == 404
        assert response.json()["error"] == {
            "code": 404,
            "message": f"no {kind} of session {session.id}",
        }

    def test_the_default_without_a_file_is_a_url_of_null(self, world):
        assert world.undocumented.absent_session_file == "null"

    def test_a_running_session_has_no_files_yet(self, world, url):
        session = world.start_session(world.create_meeting(), session_files=ALL)
        assert [url(session, kind) for kind in ALL] == [None, None, None]

    @pytest.mark.parametrize(
        ("kind", "seconds"), [("chat", 10), ("transcript", 120), ("summary", 240)]
    )
    def test_a_file_is_there_some_time_after_the_end(self, hold, url, clock, kind, seconds):
        session = hold(later=seconds - 1)
        before = url(session, kind)
        clock.advance(1)

        assert before is None
        assert url(session, kind)

    @pytest.mark.parametrize("keeps", [True, False])
    def test_an_expired_url_is_kept_or_not(self, world, hold, url, clock, keeps):
        world.undocumented = Undocumented(keeps_expired_urls=keeps)
        session = hold()
        clock.advance(604_800 - 241)
        last = [bool(url(session, kind)) for kind in ALL]
        clock.advance(1)

        assert last == [True, True, True]
        assert [bool(url(session, kind)) for kind in ALL] == [keeps, keeps, keeps]

    @pytest.mark.parametrize("kind", ALL)
    def test_an_unknown_session_is_a_404(self, call, kind):
        response = call("GET", f"/sessions/{UNKNOWN_ID}/{kind}")
        assert (response.status, response.json()["error"]["code"]) == (404, 404)

    @pytest.mark.parametrize("kind", ALL)
    def test_a_session_that_is_no_uuid_is_refused(self, call, kind):
        assert call("GET", f"/sessions/monday/{kind}").status == 400

    @pytest.mark.parametrize("kind", ALL)
    def test_a_token_is_needed(self, hold, call, kind):
        assert call("GET", f"/sessions/{hold().id}/{kind}", token=None).status == 401

    @pytest.mark.parametrize("unknown", ["PDF", "json", "CSV,JSON"])
    def test_another_format_is_refused(self, hold, call, unknown):
        response = call("GET", f"/sessions/{hold().id}/transcript?format={unknown}")
        assert response.status == 400
        assert response.json()["error"]["message"] == "format must be one of CSV, JSON, SRT, VTT"

    def test_faults_can_name_another_session_or_none(self, simulator, hold, call, get):
        session = hold()
        simulator.faults.add(Overlay({"sessionId": UNKNOWN_ID}), path="/summary$")
        simulator.faults.add(error(404), path="/chat$")

        assert get(f"/sessions/{session.id}/summary")["sessionId"] == UNKNOWN_ID
        assert call("GET", f"/sessions/{session.id}/chat").status == 404
        assert get(f"/sessions/{session.id}/summary")["sessionId"] == session.id


class TestTranscript:
    def test_csv_has_the_documented_columns_and_no_header(self, hold, read):
        session = hold()
        text = read(session, "transcript")
        rows = list(csv.reader(io.StringIO(text)))

        assert read(session, "transcript", "?format=CSV") == text
        assert len(rows) == 225
        assert rows[0] == [
            "1572",
            "a1b56d48-54b4-4053-8a79-b7a34ce412fb",
            "a7eedbbe-3b0e-4315-a7c8-d7f2f8f2b583",
            "user-1",
            "Mary Sue",
            "Let me write that down – one moment, please.",
        ]
        assert rows[1][3:] == ["user-2", "José García", "It costs about 40 € a month, maybe less."]

    def test_json_has_ends_and_who_spoke(self, hold, read):
        sentences = json.loads(read(hold(), "transcript", "?format=JSON"))

        assert len(sentences) == 225
        assert sentences[0] == {
            "startTime": 1572,
            "endTime": 4212,
            "sentence": "Let me write that down – one moment, please.",
            "peerData": {
                "id": "a1b56d48-54b4-4053-8a79-b7a34ce412fb",
                "userId": "a7eedbbe-3b0e-4315-a7c8-d7f2f8f2b583",
                "displayName": "Mary Sue",
                "cpi": "user-1",
                "joinedAt": "2026-06-03T10:00:00.000Z",
                "leftAt": "2026-06-03T10:30:00.000Z",
            },
        }
        assert sentences[1]["peerData"]["leftAt"] == ""

    def test_srt_has_numbered_cues(self, hold, read):
        text = read(hold(), "transcript", "?format=SRT")
        assert text.startswith(
            "1\n00:00:01,572 --> 00:00:04,212\n"
            "Mary Sue: Let me write that down – one moment, please.\n\n2\n00:00:"
        )
        assert text.count(" --> ") == 225

    def test_vtt_has_cues(self, hold, read):
        text = read(hold(), "transcript", "?format=VTT")
        assert text.startswith(
            "WEBVTT\n\n00:00:01.572 --> 00:00:04.212\n"
            "Mary Sue: Let me write that down – one moment, please.\n\n00:00:"
        )
        assert text.count(" --> ") == 225

    def test_speakers_take_turns_until_the_end(self, hold, read):
        sentences = json.loads(read(hold(), "transcript", "?format=JSON"))
        times = [time for item in sentences for time in (item["startTime"], item["endTime"])]

        assert times == sorted(times)
        assert 1_780_000 < times[-1] <= 1_800_000
        assert {item["peerData"]["displayName"] for item in sentences} == {
            "Mary Sue",
            "José García",
        }

    def test_every_participant_speaks(self, world, clock, read):
        session = world.start_session(
            world.create_meeting(), participants=7, session_files=["transcript"], at=TEN
        )
        world.end_session(session, reason="HOST_ENDED_MEETING")
        clock.advance(240)
        rows = list(csv.reader(io.StringIO(read(session, "transcript"))))

        assert [row[4] for row in rows[:7]] == [
            "Mary Sue",
            "José García",
            "Müller, Anna",
            "李伟",
            "Siobhán O'Brien",
            "Mary Sue 2",
            "José García 2",
        ]
        assert len({row[1] for row in rows}) == 7

    def test_a_meeting_of_nobody_has_no_sentence(self, world, clock, read):
        session = world.start_session(
            world.create_meeting(), participants=0, session_files=["transcript"], at=TEN
        )
        world.end_session(session, reason="HOST_ENDED_MEETING")
        clock.advance(240)
        assert read(session, "transcript") == ""

    def test_a_long_meeting_has_up_to_400_sentences_and_200_messages(self, world, clock, read):
        session = world.record_meeting(duration=86_400, session_files=ALL).session
        clock.advance(240)
        assert len(read(session, "transcript").splitlines()) == 400
        assert len(list(csv.reader(io.StringIO(read(session, "chat"))))) == 201


class TestSummary:
    @pytest.fixture
    def summarise(self, hold, read):
        def summarise(**summarization):
            config = {"summarization": summarization} if summarization else None
            return read(hold(ai_config=config), "summary")

        return summarise

    def test_is_markdown_of_up_to_500_words(self, summarise):
        text = summarise()
        assert text.startswith(
            "# Weekly sync\n\n## Overview\n\n"
            "- **Mary Sue**: Let me write that down – one moment, please.\n"
        )
        assert 480 < len(text.split()) <= 500

    def test_may_be_plain_text(self, summarise):
        text = summarise(text_format="plain_text")
        assert text.startswith(
            "Weekly sync\n\nOverview:\n\n- Mary Sue: Let me write that down – one moment, please.\n"
        )
        assert not set("#*") & set(text)

    def test_has_the_sections_of_its_type(self, hold, read):
        config = {"summarization": {"summary_type": "daily_standup"}}
        text = read(hold(["summary"], ai_config=config, title="Stand-up"), "summary")
        assert text.startswith("# Stand-up\n\n## Done\n")

    def test_has_no_more_words_than_it_may(self, summarise):
        assert 140 < len(summarise(word_limit=150).split()) <= 150

    def test_repeats_half_a_character_of_a_title_as_a_question_mark(self, hold, read):
        assert read(hold(title="half \ud83c"), "summary").startswith("# half ?\n")


class TestChat:
    def test_csv_has_the_documented_header(self, hold, read):
        session = hold()
        header, first, second, third, fourth, *_ = csv.reader(io.StringIO(read(session, "chat")))

        assert header == [
            "id",
            "participantId",
            "sessionId",
            "meetingId",
            "displayName",
            "pinned",
            "isEdited",
            "payloadType",
            "payload",
            "createdAt",
        ]
        assert first == [
            "cffceb87-0c91-4d2f-b1ca-d47942ae2bc8",
            "a7eedbbe-3b0e-4315-a7c8-d7f2f8f2b583",
            session.id,
            session.meeting.id,
            "Mary Sue",
            "false",
            "false",
            "TEXT_MESSAGE",
            "Good morning!",
            "2026-06-03T10:00:00.000Z",
        ]
        assert second[4:] == [
            "José García",
            "true",
            "false",
            "TEXT_MESSAGE",
            'The "final" draft, again: https://example.com/draft?page=1&view=all',
            "2026-06-03T10:05:00.000Z",
        ]
        assert third[7:9] == ["IMAGE_MESSAGE", "https://example.com/whiteboard.png"]
        assert fourth[8] == "First the budget,\nthen the dates"

    def test_json_has_the_same_messages(self, world, hold, read):
        session = hold()
        rows = list(csv.DictReader(io.StringIO(read(session, "chat"))))
        world.undocumented = Undocumented(chat_format="json")
        messages = json.loads(read(session, "chat"))

        assert [message["payload"] for message in messages] == [row["payload"] for row in rows]
        assert [message["pinned"] for message in messages] == [False, True, False, False] + [
            False
        ] * 2


class TestFiles:
    @pytest.mark.parametrize(
        ("kind", "query", "content_type"),
        [
            ("transcript", "", "text/csv"),
            ("transcript", "?format=JSON", "application/json"),
            ("transcript", "?format=SRT", "application/x-subrip"),
            ("transcript", "?format=VTT", "text/vtt"),
            ("summary", "", "text/plain"),
            ("chat", "", "text/csv"),
        ],
    )
    def test_are_served_as_media_are(self, hold, download, kind, query, content_type):
        response = download(hold(), kind, query)

        assert response.status == 200
        assert response.headers["Content-Type"] == content_type
        assert response.headers["Content-Length"] == str(len(response.data))
        assert response.headers["ETag"] == f'"{md5(response.data)}"'
        assert response.headers["Accept-Ranges"] == "bytes"

    def test_are_last_modified_when_they_came(self, hold, download):
        headers = download(hold(), "chat").headers
        assert headers["Last-Modified"] == "Wed, 03 Jun 2026 10:30:10 GMT"

    def test_are_sent_in_ranges_too(self, hold, url, pool):
        response = pool.request(
            "GET", url(hold(), "transcript", "?format=VTT"), headers={"Range": "bytes=0-5"}
        )
        assert (response.status, response.data) == (206, b"WEBVTT")

    def test_are_the_same_in_every_run_of_a_seed_and_differ_between_sessions(self, clock):
        def texts(seed):
            world = World(clock=clock, seed=seed)
            session = world.record_meeting(started_at=TEN, session_files=ALL).session
            return [file.read() for file in world.session_files(session)]

        assert texts(1) == texts(1)
        assert len({*texts(1), *texts(2)}) == 14

    def test_are_known_to_a_test_with_their_checksums(self, world, hold, download):
        [chat, _] = world.session_files(hold(["chat"]))
        data = download(chat.session, "chat").data

        assert chat.read() == data
        assert (chat.key, chat.size) == (f"{chat.session.id}/chat.csv", len(data))
        assert chat.sha256() == hashlib.sha256(data).hexdigest()
        assert base64.b64decode(chat.crc32()) == zlib.crc32(data).to_bytes(4, "big")

    def test_have_no_text_before_the_end(self, world):
        session = world.start_session(world.create_meeting(), session_files=["summary"])
        [summary] = world.session_files(session)

        assert summary.available_at is None
        with pytest.raises(ValueError, match=f"session {session.id} has not ended"):
            summary.read()

    def test_of_a_session_without_them_never_come(self, world, hold):
        chat = world.session_file(hold([]), "chat")
        assert (chat.available_at, chat.announced_at) == (None, None)

    @pytest.mark.parametrize("kind", ALL)
    def test_expire_seven_days_after_the_end(self, hold, url, pool, clock, kind):
        link = url(hold(), kind)
        clock.advance(604_800 - 241)
        last = pool.request("GET", link).status
        clock.advance(1)

        assert last == 200
        assert code(pool.request("GET", link)) == (403, "AccessDenied")

    def test_have_urls_that_are_signed_anew_if_so_set(self, world, hold, url, pool, clock):
        world.undocumented = Undocumented(url_seconds=60)
        session = hold()
        link = url(session, "chat")
        clock.advance(60)
        refused, renewed = pool.request("GET", link), pool.request("GET", url(session, "chat"))
        clock.advance(604_800)

        assert code(refused) == (403, "AccessDenied")
        assert renewed.status == 200
        assert code(pool.request("GET", url(session, "chat"))) == (404, "NoSuchKey")

    def test_need_the_signature_of_their_url(self, hold, url, pool):
        link = url(hold(), "chat")
        response = pool.request("GET", link.replace("/chat.csv?", "/summary.txt?"))
        assert code(response) == (403, "SignatureDoesNotMatch")


class TestFates:
    """Options of a session's file, each of which a client of RealtimeKit may meet."""

    def test_a_late_file_is_named_only_when_it_is_there(self, hold, url, clock):
        session = hold({"summary": SessionFileOptions(available_after=3_600)})
        before = url(session, "summary")
        clock.advance(3_360)

        assert before is None
        assert url(session, "summary")

    @pytest.mark.parametrize(
        ("kind", "query", "content"),
        [
            ("transcript", "", b""),
            ("transcript", "?format=JSON", b"[]"),
            ("transcript", "?format=SRT", b""),
            ("transcript", "?format=VTT", b"WEBVTT\n"),
            ("summary", "", b""),
            (
                "chat",
                "",
                b"id,participantId,sessionId,meetingId,displayName,pinned,isEdited,payloadType,"
                b"payload,createdAt\n",
            ),
        ],
    )
    def test_an_empty_file_has_only_what_its_format_needs(
        self, hold, download, kind, query, content
    ):
        response = download(hold({kind: SessionFileOptions(outcome="empty")}), kind, query)
        assert (response.status, response.data) == (200, content)

    def test_an_empty_chat_in_json_is_an_empty_array(self, world, hold, read):
        world.undocumented = Undocumented(chat_format="json")
        assert read(hold({"chat": SessionFileOptions(outcome="empty")}), "chat") == "[]"

    @pytest.mark.parametrize("query", ["", "?format=JSON", "?format=VTT"])
    def test_a_shared_file_is_one_for_all_sessions_and_formats(
        self, hold, url, read, simulator, query
    ):
        order = {"transcript": SessionFileOptions(outcome="shared")}
        first, second = hold(order, later=0), hold(order)

        for session in (first, second):
            link = url(session, "transcript", query).partition("?")[0]
            assert link == f"{simulator.url}/media/default/transcript.csv"
            assert read(session, "transcript", query) == "The transcript of all sessions\n"

    def test_a_file_may_be_named_and_missing_in_the_bucket(self, hold, download):
        response = download(hold({"chat": SessionFileOptions(outcome="no file")}), "chat")
        assert code(response) == (404, "NoSuchKey")

    def test_a_file_may_be_unknown_to_the_api(self, hold, url, world, pool):
        session = hold({"chat": SessionFileOptions(outcome="no url")})
        link = world.session_file_url(world.session_file(session, "chat"))

        assert url(session, "chat") is None
        assert code(pool.request("GET", link)) == (404, "NoSuchKey")

    def test_a_file_may_expire_before_the_stated_time(self, hold, get, pool, clock):
        session = hold({"chat": SessionFileOptions(expires_after=3_600)})
        data = get(f"/sessions/{session.id}/chat")
        clock.advance(3_359)
        last = pool.request("GET", data["chat_download_url"]).status
        clock.advance(1)

        assert data["chat_download_url_expiry"] == "2026-06-10T10:30:00.000Z"
        assert last == 200
        assert code(pool.request("GET", data["chat_download_url"])) == (403, "AccessDenied")

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"<html></html>", b"x" * 3_000_000])
    def test_given_content_is_sent_in_every_format(self, hold, download, content):
        session = hold({"transcript": SessionFileOptions(content=content)})
        for query in ("", "?format=JSON"):
            assert download(session, "transcript", query).data == content

    def test_a_fault_can_send_another_content_type(self, simulator, hold, download):
        simulator.faults.add(Headers({"Content-Type": "text/html"}), path="^/media/.*/chat")
        assert download(hold(), "chat").headers["Content-Type"] == "text/html"

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"outcome": "lost"}, "outcome must be one of"),
            ({"available_after": -1}, "times of 0 or more seconds"),
            ({"announced_after": -1}, "times of 0 or more seconds"),
            ({"expires_after": -1}, "times of 0 or more seconds"),
        ],
    )
    def test_a_fate_that_makes_no_sense_is_refused(self, wrong, why):
        with pytest.raises(ValueError, match=why):
            SessionFileOptions(**wrong)


class TestOrders:
    @pytest.fixture
    def run(self, call, control, world):
        """Run a session of a meeting that is created with these fields; return its id."""

        def run(order=None, **fields):
            meeting = call("POST", "/meetings", fields).json()["data"]
            started = control("POST", "/sessions", {"meeting_id": meeting["id"], **(order or {})})
            session_id = started.json()["session_id"]
            world.clock.advance(600)
            reason = {"reason": "HOST_ENDED_MEETING"}
            assert control("POST", f"/sessions/{session_id}/end", reason).status == 200
            world.clock.advance(240)
            return session_id

        return run

    @pytest.fixture
    def kinds(self, control):
        """Return the kinds of file that a session leaves."""

        def kinds(session_id):
            files = control("GET", f"/sessions/{session_id}/files").json()["files"]
            return list(dict.fromkeys(file["kind"] for file in files))

        return kinds

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ({}, []),
            ({"transcribe_on_end": True}, ["transcript"]),
            ({"summarize_on_end": True}, []),
            ({"transcribe_on_end": True, "summarize_on_end": True}, ["transcript", "summary"]),
            ({"persist_chat": True}, ["chat"]),
        ],
    )
    def test_flags_of_the_meeting_order_its_sessions_files(self, run, kinds, flags, expected):
        assert kinds(run(**flags)) == expected

    def test_an_order_for_the_session_counts_more_than_the_flags(self, run, kinds):
        assert kinds(run({"session_files": ["chat"]}, transcribe_on_end=True)) == ["chat"]
        assert kinds(run({"session_files": []}, persist_chat=True)) == []

    def test_flags_and_ai_config_are_those_of_the_meeting(self, call, get):
        config = {"summarization": {"summary_type": "lecture"}, "transcription": {"language": "de"}}
        fields = {
            "transcribe_on_end": True,
            "summarize_on_end": True,
            "persist_chat": True,
            "ai_config": config,
        }
        meeting_id = call("POST", "/meetings", {"title": "Demo", **fields}).json()["data"]["id"]
        assert get(f"/meetings/{meeting_id}").items() >= fields.items()

    def test_a_meeting_without_ai_config_shows_none(self, call):
        meeting = call("POST", "/meetings", {"title": "Demo"}).json()["data"]
        flags = ("persist_chat", "transcribe_on_end", "summarize_on_end")
        assert [meeting[name] for name in flags] == [False, False, False]
        assert "ai_config" not in meeting

    @pytest.mark.parametrize(
        ("config", "why"),
        [
            ("fast", '"ai_config" must be an object'),
            ({"summarization": 7}, '"ai_config.summarization" must be an object'),
            (
                {"summarization": {"word_limit": 149}},
                '"ai_config.summarization.word_limit" must be an integer from 150 to 1000',
            ),
            (
                {"summarization": {"text_format": "html"}},
                '"ai_config.summarization.text_format" must be plain_text or markdown',
            ),
            (
                {"summarization": {"summary_type": "poem"}},
                '"ai_config.summarization.summary_type" must be one of general, team_meeting, '
                "sales_call, client_check_in, interview, daily_standup, one_on_one_meeting, "
                "lecture, code_review",
            ),
            (
                {"transcription": {"keywords": "rtk"}},
                '"ai_config.transcription.keywords" must be an array of strings',
            ),
            (
                {"transcription": {"language": 7}},
                '"ai_config.transcription.language" must be a string',
            ),
            (
                {"transcription": {"profanity_filter": "yes"}},
                '"ai_config.transcription.profanity_filter" must be a boolean',
            ),
        ],
    )
    def test_an_ai_config_that_does_not_validate_is_refused(self, call, control, config, why):
        refused = call("POST", "/meetings", {"title": "Demo", "ai_config": config})
        ordered = control("POST", "/recordings", {"ai_config": config})

        assert (refused.status, refused.json()["error"]["message"]) == (422, why)
        assert (ordered.status, ordered.json()["error"]) == (400, why)

    def test_unknown_fields_of_an_ai_config_are_ignored(self, call):
        config = {"summarization": {"tone": "dry"}, "translation": {}}
        assert call("POST", "/meetings", {"title": "Demo", "ai_config": config}).status == 201

    def test_a_recorded_meeting_leaves_what_is_ordered(self, control, kinds, clock, read, world):
        order = {"session_files": ["summary"], "ai_config": {"summarization": {"word_limit": 150}}}
        [made] = control("POST", "/recordings", order).json()["recordings"]
        clock.advance(240)
        session = world.session(made["session_id"])

        assert kinds(session.id) == ["summary"]
        assert len(read(session, "summary").split()) <= 150

    def test_a_recorded_meeting_leaves_nothing_unless_ordered(self, control, kinds):
        [made] = control("POST", "/recordings", {}).json()["recordings"]
        assert kinds(made["session_id"]) == []

    def test_each_of_many_recorded_meetings_leaves_what_is_ordered(self, control, kinds):
        order = {"count": 2, "session_files": ["chat"]}
        made = control("POST", "/recordings", order).json()["recordings"]
        assert [kinds(item["session_id"]) for item in made] == [["chat"], ["chat"]]

    def test_the_fate_of_a_file_is_ordered_over_http(self, control, clock, read, world):
        fates = {
            "transcript": {"content": "<b>ü</b>", "announced_after": 5},
            "summary": {"content_base64": base64.b64encode(b"BOM\n").decode()},
            "chat": {"outcome": "empty", "is_announced": False},
        }
        [made] = control("POST", "/recordings", {"session_files": fates}).json()["recordings"]
        clock.advance(240)
        session = world.session(made["session_id"])

        assert read(session, "transcript") == "<b>ü</b>"
        assert read(session, "summary") == "BOM\n"
        assert session.files["chat"] == SessionFileOptions(outcome="empty", is_announced=False)

    def test_files_are_listed_with_times_urls_and_checksums(self, control, hold, pool):
        session = hold({"chat": SessionFileOptions(is_announced=False)})
        as_csv, as_json = control(
            "GET", f"/sessions/{session.id}/files?checksum=sha256&checksum=crc32"
        ).json()["files"]
        data = pool.request("GET", as_csv.pop("url")).data

        assert as_csv == {
            "kind": "chat",
            "format": "csv",
            "size": len(data),
            "content_type": "text/csv",
            "etag": f'"{md5(data)}"',
            "sha256": hashlib.sha256(data).hexdigest(),
            "crc32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode(),
            "available_at": "2026-06-03T10:30:10.000Z",
            "announced_at": None,
            "is_stored": True,
        }
        assert as_json["format"] == "json"

    def test_files_of_a_running_session_are_not_listed(self, world, control):
        session = world.start_session(world.create_meeting(), session_files=ALL)
        assert control("GET", f"/sessions/{session.id}/files").status == 400
        assert control("GET", f"/sessions/{UNKNOWN_ID}/files").status == 404

    def test_a_world_has_an_order_for_all_its_sessions(self, clock):
        world = World(clock=clock, default_session_files=["chat"])
        assert list(world.record_meeting().session.files) == ["chat"]
        assert list(world.record_meeting(session_files=["summary"]).session.files) == ["summary"]
        meeting = world.create_meeting(transcribe_on_end=True)
        assert set(world.start_session(meeting).files) == {"transcript", "chat"}

    @pytest.mark.parametrize(
        "order",
        [
            ["recording"],
            {"recording": {}},
            {"chat": {"colour": "blue"}},
            {"chat": {"outcome": "lost"}},
            {"chat": {"content": 7}},
            {"chat": {"content_base64": "?"}},
            {"chat": 7},
            "chat",
            7,
        ],
    )
    def test_what_makes_no_sense_is_refused(self, control, order):
        response = control("POST", "/recordings", {"session_files": order})
        assert response.status == 400
        assert response.json()["error"]


class TestWebhooks:
    @pytest.fixture
    def deliver(self, webhooks, receiver):
        """Deliver all events after the end of the meeting; return names and seconds after it."""

        def deliver(**events):
            webhooks.registrations.add(receiver.url, **events)
            deliveries = webhooks.deliver(HALF_PAST, HALF_PAST + timedelta(days=8))
            return [
                (
                    delivery.message.event,
                    (delivery.message.occurred_at - HALF_PAST).total_seconds(),
                )
                for delivery in deliveries
                if delivery.message.event != "recording.statusUpdate"
            ]

        return deliver

    def test_announce_the_files_after_the_end(self, hold, deliver):
        hold()
        assert deliver() == [
            ("meeting.ended", 0),
            ("meeting.chatSynced", 10),
            ("meeting.transcript", 120),
            ("meeting.summary", 240),
        ]

    def test_go_only_to_who_has_subscribed(self, hold, deliver):
        hold()
        assert deliver(events=["meeting.summary"]) == [("meeting.summary", 240)]

    def test_announce_nothing_of_a_session_without_files(self, hold, deliver):
        hold([])
        assert deliver() == [("meeting.ended", 0)]

    def test_name_the_url_and_its_expiry(self, simulator, hold, deliver, receiver, pool):
        session = hold(["transcript"])
        deliver(events=["meeting.transcript"])
        [post] = receiver.posts
        body = json.loads(post.body)
        link = body.pop("transcriptDownloadUrl")

        assert link.startswith(f"{simulator.url}/media/{session.id}/transcript.csv?X-Amz-")
        assert pool.request("GET", link).status == 200
        assert body["transcriptDownloadUrlExpiry"] == "2026-06-10T10:30:00.000Z"
        assert body["meeting"]["sessionId"] == session.id

    def test_name_a_chat_in_json(self, world, simulator, hold, deliver, receiver, pool):
        session = hold(["chat"])
        deliver(events=["meeting.chatSynced"])
        link = json.loads(receiver.posts[0].body)["chatDownloadUrl"]
        [_, as_json] = world.session_files(session)
        assert pool.request("GET", link).data == as_json.read()

    def test_announce_a_late_file_late_and_an_unannounced_one_never(self, hold, deliver):
        hold(
            {
                "transcript": SessionFileOptions(available_after=7_200),
                "summary": SessionFileOptions(is_announced=False),
                "chat": SessionFileOptions(available_after=86_400, announced_after=60),
            }
        )
        assert deliver() == [
            ("meeting.ended", 0),
            ("meeting.chatSynced", 60),
            ("meeting.transcript", 7_200),
        ]

    @pytest.mark.parametrize("outcome", ["empty", "shared", "no file", "no url"])
    def test_announce_files_that_are_none(self, hold, deliver, outcome):
        hold({"transcript": SessionFileOptions(outcome=outcome)})
        assert deliver() == [("meeting.ended", 0), ("meeting.transcript", 120)]

    def test_name_the_url_that_all_sessions_share(self, simulator, hold, deliver, receiver):
        hold({"transcript": SessionFileOptions(outcome="shared")})
        deliver(events=["meeting.transcript"])
        link = json.loads(receiver.posts[0].body)["transcriptDownloadUrl"]
        assert link.partition("?")[0] == f"{simulator.url}/media/default/transcript.csv"

    def test_are_sent_live_when_the_clock_gets_there(self, world, receiver, clock, eventually):
        with Simulator(world, delivers_live=True) as simulator:
            simulator.webhooks.registrations.add(receiver.url, events=["meeting.chatSynced"])
            world.record_meeting(
                started_at=clock.now(), duration=60, session_files={"chat": SessionFileOptions()}
            )
            clock.advance(73)
            eventually(lambda: receiver.events == [("meeting.chatSynced", None)])
