"""Labels and holds: the changes that PATCH makes, and the writers that must keep them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

import archive_recording
import ingest_recording
import publish_changes
import serve_catalogue
from api_calls import Reply, api_event, expect_documented
from doubles import APP_ID, Clock, Context
from recordings import messages, stored
from recordings.catalogue import Catalogue, HeldError
from recordings.dynamodb import Table
from recordings.erasure import Erasure
from recordings.events import derive_events
from recordings.listing import Listing
from recordings.messages import EraseRequest, Source
from recordings.model import Artifact, Recording
from recordings.worklist import Worklist

RECORDING = Recording(
    recording_id="e4b06ce6-0741-47a8-bce4-2c8218072e8c",
    status="UPLOADED",
    artifacts=(Artifact(name="video", kind="video"),),
)
ID = RECORDING.recording_id
OTHER_ID = "97cb480d-5840-4528-ace3-919b5e386c68"
ONE = "/recordings/{recording_id}"
PATCH = {"Content-Type": "application/merge-patch+json"}
CALLER = "arn:aws:sts::123456789012:assumed-role/example/session"
NOW = "2026-06-03T10:30:00.000Z"
Call = Callable[..., Reply]


@pytest.fixture
def call(
    catalogue: Catalogue,
    recordings_table: Table,
    worklist: Worklist,
    clock: Clock,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Catalogue a recording, and call a route; the OpenAPI document must have its answer."""
    ingestion = replace(serve_catalogue.ingestion, catalogue=catalogue, worklist=worklist)
    monkeypatch.setattr(serve_catalogue, "ingestion", ingestion)
    monkeypatch.setattr(serve_catalogue, "catalogue", catalogue)
    monkeypatch.setattr(serve_catalogue, "recordings", Listing(recordings_table, APP_ID))
    monkeypatch.setattr(serve_catalogue, "archive", lambda: None)
    monkeypatch.setattr(serve_catalogue, "utcnow", clock)
    catalogue.upsert(RECORDING, clock())

    def call(method: str, body: str | None = None, recording_id: str = ID, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {**(PATCH if body is not None else {}), **named}
        event = api_event(method, ONE, {}, given, body, recording_id=recording_id)
        answer = serve_catalogue.handler(event, context)
        found = {name: values[0] for name, values in answer["multiValueHeaders"].items()}
        kind = found.pop("Content-Type", "")
        reply = Reply(answer["statusCode"], kind, found, json.loads(answer["body"] or "null"))
        expect_documented(method, ONE, reply)
        return reply

    return call


def test_a_patch_sets_changes_and_removes_labels_and_leaves_the_others(call: Call) -> None:
    first = call("PATCH", '{"labels": {"order": "4711", "draft": "yes", "a_.-0": "é 😀"}}')
    second = call("PATCH", '{"labels": {"order": "4712", "draft": null, "unknown": null}}')

    assert first.body["labels"] == {"order": "4711", "draft": "yes", "a_.-0": "é 😀"}
    assert second.body["labels"] == {"order": "4712", "a_.-0": "é 😀"}
    assert second.headers["ETag"] == '"3"'
    assert call("GET").body == second.body
    assert "labels" not in call("PATCH", '{"labels": null}').body


def test_a_hold_says_since_when_keeps_that_with_another_reason_and_is_released(
    call: Call, clock: Clock
) -> None:
    held = call("PATCH", '{"hold": {"reason": "case 12"}}')
    clock.advance(60)
    changed = call("PATCH", '{"hold": {"reason": "case 13"}}')
    kept = call("PATCH", '{"hold": {}}')
    released = call("PATCH", '{"hold": null}')

    assert held.body["hold"] == {"reason": "case 12", "since": NOW}
    assert changed.body["hold"] == kept.body["hold"] == {"reason": "case 13", "since": NOW}
    assert "hold" not in released.body


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"labels": {}}',
        '{"labels": {"order": "1"}}',
        '{"labels": {"x": null}}',
        '{"hold": {"reason": "r"}}',
        '{"hold": {}}',
    ],
)
def test_a_patch_that_changes_nothing_makes_no_version(call: Call, body: str) -> None:
    call("PATCH", '{"labels": {"order": "1"}, "hold": {"reason": "r"}}')

    assert call("PATCH", body).headers["ETag"] == '"2"'


REFUSED = [
    ("", "body"),
    ("{", "body"),
    ("[]", "body"),
    ("null", "body"),
    ("7", "body"),
    ("[" * 50_000, "body"),
    ('{"title": "x"}', "title"),
    ('{"t\\u0007": "x"}', "t?"),
    ('{"version": null}', "version"),
    ('{"labels": {}, "labels": {}}', "labels"),
    ('{"labels": {"a": "1", "a": "2"}}', "a"),
    ('{"labels": []}', "labels"),
    ('{"labels": "x"}', "labels"),
    ('{"labels": {"": "x"}}', "labels."),
    ('{"labels": {"Order": "x"}}', "labels.Order"),
    ('{"labels": {"é": "x"}}', "labels.é"),
    (json.dumps({"labels": {"a" * 65: "x"}}), "labels." + "a" * 64),
    ('{"labels": {"a": ""}}', "labels.a"),
    ('{"labels": {"a": 7}}', "labels.a"),
    ('{"labels": {"a": true}}', "labels.a"),
    ('{"labels": {"a": ["x"]}}', "labels.a"),
    ('{"labels": {"a": {"b": null}}}', "labels.a"),
    ('{"labels": {"a": "x\\ny"}}', "labels.a"),
    ('{"labels": {"a": "\\ud83d"}}', "labels.a"),
    ('{"labels": {"a": "\\u2028"}}', "labels.a"),
    (json.dumps({"labels": {"a": "x" * 257}}), "labels.a"),
    (json.dumps({"labels": {f"n{n}": "x" for n in range(21)}}), "labels"),
    ('{"hold": true}', "hold"),
    ('{"hold": "case"}', "hold"),
    ('{"hold": {}}', "hold.reason"),
    ('{"hold": {"reason": null}}', "hold.reason"),
    ('{"hold": {"reason": ""}}', "hold.reason"),
    ('{"hold": {"reason": ["x"]}}', "hold.reason"),
    ('{"hold": {"reason": "x\\u0000"}}', "hold.reason"),
    (json.dumps({"hold": {"reason": "x" * 1001}}), "hold.reason"),
    ('{"hold": {"reason": "x", "since": "2026-06-03T10:30:00.000Z"}}', "hold.since"),
    ('{"hold": {"reason": "x"}, "labels": 1}', "labels"),
]


def test_a_patch_that_cannot_be_is_refused_by_its_field_and_changes_nothing(call: Call) -> None:
    for body, field in REFUSED:
        reply = call("PATCH", body)
        assert (reply.status, reply.body["parameter"]) == (400, field), body
        assert reply.body["detail"].startswith(f"{field} ")
    assert call("GET").headers["ETag"] == '"1"'


def test_labels_and_reason_may_have_every_length_up_to_their_limits(call: Call) -> None:
    labels = {f"{'n' * 62}{n:02}": "😀" * 256 for n in range(20)}
    patch = {"labels": labels, "hold": {"reason": "😀" * 1000}}

    reply = call("PATCH", json.dumps(patch))

    assert (reply.status, reply.body["labels"]) == (200, labels)
    more = call("PATCH", '{"labels": {"one.more": "x"}}')
    assert (more.status, more.body["parameter"]) == (400, "labels")
    assert call("PATCH", '{"labels": {"one.more": "x", "%s00": null}}' % ("n" * 62)).status == 200


def test_a_patch_of_300_kb_is_refused(call: Call) -> None:
    assert call("PATCH", '{"labels": {"a": "%s"}}' % ("x" * 300_000)).status == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/json-patch+json", ""])
def test_another_content_type_is_told_which_are_taken(call: Call, kind: str) -> None:
    reply = call("PATCH", "{}", Content_Type=kind)

    assert reply.status == 415
    assert reply.headers["Accept-Patch"] == "application/merge-patch+json, application/json"


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/Merge-Patch+JSON ; charset=utf-8"]
)
def test_a_content_type_is_read_as_http_writes_it(call: Call, kind: str) -> None:
    assert call("PATCH", '{"labels": {"a": "1"}}', Content_Type=kind).status == 200


def test_if_match_is_honoured_and_the_present_tag_is_told(call: Call) -> None:
    tag = call("GET").headers["ETag"]

    first = call("PATCH", '{"labels": {"a": "1"}}', If_Match=f'"other", {tag}')
    second = call("PATCH", '{"labels": {"a": "2"}}', If_Match=tag)
    weak = call("PATCH", '{"labels": {"a": "2"}}', If_Match='W/"2"')
    any_ = call("PATCH", '{"labels": {"a": "3"}}', If_Match="*")

    assert (first.status, second.status, weak.status, any_.status) == (200, 412, 412, 200)
    assert second.headers["ETag"] == first.headers["ETag"] == '"2"'
    assert any_.body["labels"] == {"a": "3"}


def between(catalogue: Catalogue, do: Callable[[], Any]) -> Catalogue:
    """Return a catalogue in which something happens once, between its first read and its write."""

    class Crossed(Table):
        def get(self, key: Any) -> Any:
            row = super().get(key)
            while pending:
                pending.pop()()
            return row

    pending = [do]
    table = catalogue._table
    return Catalogue(Crossed(table._dynamodb, table._name), APP_ID)


def test_of_two_patches_at_once_both_hold_and_with_if_match_the_second_fails(
    call: Call, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cross(body: str, other: str, **headers: str) -> Reply:
        crossed = between(catalogue, lambda: catalogue_patch(other))
        monkeypatch.setattr(serve_catalogue, "catalogue", crossed)
        return call("PATCH", body, **headers)

    def catalogue_patch(body: str) -> None:
        monkeypatch.setattr(serve_catalogue, "catalogue", catalogue)
        assert call("PATCH", body).status == 200

    both = cross('{"labels": {"a": "1"}}', '{"labels": {"b": "2"}, "hold": {"reason": "r"}}')
    assert both.body["labels"] == {"a": "1", "b": "2"}
    assert both.body["hold"]["reason"] == "r"
    tag = both.headers["ETag"]
    second = cross('{"labels": {"a": "3"}}', '{"labels": {"c": "4"}}', If_Match=tag)
    assert second.status == 412
    assert call("GET").body["labels"] == {"a": "1", "b": "2", "c": "4"}


def test_what_is_not_catalogued_cannot_be_labelled(call: Call) -> None:
    assert call("PATCH", '{"labels": {"a": "1"}}', OTHER_ID).status == 404
    assert call("PATCH", "{}", "7").body["parameter"] == "recording_id"


def test_while_a_recording_is_on_hold_nobody_erases_it(
    call: Call, catalogue: Catalogue, checks: Callable[[], dict[str, str]]
) -> None:
    call("PATCH", '{"hold": {"reason": "case 12"}, "labels": {"a": "1"}}')

    refused = call("DELETE")

    assert refused.status == 409
    assert refused.body["detail"] == (
        "The recording is on hold since 2026-06-03T10:30:00.000Z: case 12."
        " Release the hold to erase it."
    )
    assert checks() == {}
    call("PATCH", '{"hold": null}')
    assert call("DELETE").status == 200
    tombstone = catalogue.get(ID) or {}
    assert tombstone.keys() == {"recording_id", "version", "erased_at"}
    assert call("PATCH", '{"hold": {"reason": "late"}}').status == 410
    assert call("PATCH", '{"labels": null}').status == 410


def test_a_hold_set_while_an_erasure_begins_wins_and_its_check_goes(
    call: Call, catalogue: Catalogue, worklist: Worklist, checks: Callable[[], dict[str, str]]
) -> None:
    request = EraseRequest(recording_id=ID, source=Source.FOLLOW_UP)
    worklist.ensure(request, "erasing")
    crossed = between(catalogue, lambda: call("PATCH", '{"hold": {"reason": "case 12"}}'))
    erasure = Erasure(catalogue=crossed, worklist=worklist, archive=None)

    with pytest.raises(HeldError) as refused:
        erasure.erase(request)

    assert refused.value.hold == {"reason": "case 12", "since": NOW}
    assert checks() == {}
    assert call("GET").status == 200


@pytest.mark.parametrize("handler", [archive_recording, ingest_recording])
def test_an_erasure_that_is_repeated_meets_the_hold_and_is_done(
    call: Call,
    catalogue: Catalogue,
    worklist: Worklist,
    context: Context,
    checks: Callable[[], dict[str, str]],
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    handler: Any,
) -> None:
    """The erasure's caller died before the row was closed, and somebody set a hold."""
    stores = {"catalogue": catalogue, "worklist": worklist}
    name = "archiver" if handler is archive_recording else "ingestion"
    monkeypatch.setattr(handler, name, replace(getattr(handler, name), **stores))
    monkeypatch.setattr(ingest_recording, "ARCHIVING", False)
    request = EraseRequest(recording_id=ID, source=Source.FOLLOW_UP)
    worklist.ensure(request, "erasing")
    call("PATCH", '{"hold": {"reason": "case 12"}}')
    record = {"messageId": "1", "body": messages.body(request)}
    record["attributes"] = {"SentTimestamp": "1780482600000"}  # type: ignore[assignment]

    assert handler.handler({"Records": [record]}, context) == {"batchItemFailures": []}

    assert checks() == {}
    assert "erasure refused: on hold" in logged()
    assert call("GET").body["hold"]["reason"] == "case 12"


def test_an_erasure_that_began_before_the_hold_goes_on_and_the_hold_is_refused(
    call: Call, catalogue: Catalogue, clock: Clock
) -> None:
    catalogue.begin_erasure(ID, clock())

    assert call("PATCH", '{"hold": {"reason": "late"}}').body["detail"] == (
        "The erasure of the recording began at 2026-06-03T10:30:00.000Z, before this hold."
    )
    assert call("PATCH", '{"labels": {"a": "1"}}').status == 410
    assert call("PATCH", '{"hold": null}').status == 410
    assert call("DELETE").status == 200


def test_no_answer_of_realtimekit_touches_labels_or_hold(
    call: Call, catalogue: Catalogue, clock: Clock
) -> None:
    said = call("PATCH", '{"labels": {"a": "1"}, "hold": {"reason": "r"}}').body
    clock.advance(60)

    catalogue.upsert(replace(RECORDING, status="ERRORED", meeting_title="New"), clock())
    catalogue.record_archive(ID, {"video": {"state": "expired", "expired_at": NOW}})

    row = call("GET").body
    assert (row["meeting_title"], row["labels"], row["hold"]) == (
        "New",
        said["labels"],
        said["hold"],
    )


@pytest.mark.parametrize("hold", ["legal", True, {"reason": 7}, {"since": "soon"}, []])
def test_a_hold_of_any_form_that_the_owner_wrote_by_hand_holds(
    call: Call, recordings_table: Table, hold: Any
) -> None:
    recordings_table.set_attributes({"recording_id": ID}, {"hold": hold, "labels": {"A": 1}})

    assert call("DELETE").status == 409
    assert call("GET").body["hold"] == {"reason": "set in the table by hand"}
    assert "labels" not in call("GET").body
    assert "hold" not in call("PATCH", '{"hold": null}').body
    assert call("DELETE").status == 200


def test_events_echo_the_labels_and_an_erasures_has_the_last(
    call: Call, catalogue: Catalogue, clock: Clock
) -> None:
    row = call("PATCH", '{"labels": {"a": "1"}, "hold": {"reason": "secret"}}').body
    old = catalogue.get(ID) or {}

    [archived] = derive_events(old, {**old, "archived": "yes"})
    tombstone = stored.read({"recording_id": ID, "version": 9, "erased_at": NOW})
    [erased] = derive_events(old, tombstone)
    [by_policy] = derive_events(old, {**tombstone, "erasure_reason": "retention"})

    assert json.loads(archived.detail)["labels"] == row["labels"] == {"a": "1"}
    assert json.loads(erased.detail) == {
        "id": f"{ID}#9",
        "recording_id": ID,
        "erased_at": NOW,
        "version": 9,
        "labels": {"a": "1"},
        "reason": "request",
    }
    assert json.loads(by_policy.detail)["reason"] == "retention"
    assert "secret" not in archived.detail
    assert derive_events(old, {**old, "labels": {"a": "2"}}) == []


def test_a_row_with_all_labels_still_fits_into_an_event(call: Call, catalogue: Catalogue) -> None:
    labels = {f"n{n}": "😀" * 256 for n in range(20)}
    call("PATCH", json.dumps({"labels": labels}))
    row = catalogue.get(ID) or {}
    names = [f"track/l/{n:04}{'é' * 800}.mp4" for n in range(200)]
    expired = {"archive": {"state": "expired", "expired_at": NOW}, "kind": "track"}

    [event] = derive_events(row, {**row, "artifacts": dict.fromkeys(names, expired)})

    assert len(event.detail.encode()) < publish_changes.MAX_BYTES


def test_who_labelled_held_released_and_erased_is_logged_without_the_texts(
    call: Call, logged: Callable[[], str]
) -> None:
    call("PATCH", '{"labels": {"order": "s3cret"}, "hold": {"reason": "s3cret too"}}')
    call("DELETE")
    call("PATCH", '{"hold": null}')
    call("PATCH", '{"hold": null}')
    call("DELETE")

    log = logged()
    lines = [json.loads(line) for line in log.splitlines() if '"level"' in line]
    assert [line["message"] for line in lines] == [
        "recording labelled",
        "recording held",
        "erasure refused: on hold",
        "recording released",
        "recording erased",
    ]
    assert {line["recording_id"] for line in lines} == {ID}
    assert {line["caller"] for line in lines} == {CALLER}
    assert lines[0]["labels"] == ["order"]
    assert "s3cret" not in log


def test_a_patch_that_dynamodb_fails_is_a_503_and_can_be_repeated(
    call: Call, dynamodb: Any
) -> None:
    def fail(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", fail)
    assert call("PATCH", '{"labels": {"a": "1"}}').status == 503
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", fail)

    assert call("PATCH", '{"labels": {"a": "1"}}').body["labels"] == {"a": "1"}
