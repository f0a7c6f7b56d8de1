"""Faults, as a client meets them on its socket."""

import json
import re
import time

import pytest
import urllib3
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError

from realtimekit_simulator import (
    Answer,
    Delay,
    Drop,
    DropKept,
    Overlay,
    Stale,
    Status,
    Truncate,
    empty,
    error,
    garbage,
    gateway_error,
    html,
    message_only,
    rate_limited,
    unsuccessful,
)


@pytest.fixture
def faults(simulator):
    return simulator.faults


class TestAnswers:
    def test_realtimekits_envelope(self, faults, call):
        faults.add(error(503, "try later"))
        response = call("GET", "/recordings")
        assert response.status == 503
        assert response.json() == {"success": False, "error": {"code": 503, "message": "try later"}}

    def test_cloudflares_envelope(self, faults, call):
        faults.add(gateway_error(403, 10000, "Authentication error"))
        response = call("GET", "/recordings")
        assert response.status == 403
        assert response.json()["errors"] == [{"code": 10000, "message": "Authentication error"}]

    def test_a_message_and_nothing_else(self, faults, call):
        faults.add(message_only())
        response = call("GET", "/recordings")
        assert (response.status, response.json()) == (401, {"message": "Unauthorized"})

    def test_html(self, faults, call):
        faults.add(html(502))
        response = call("GET", "/recordings")
        assert (response.status, response.data[:6]) == (502, b"<html>")
        assert response.headers["Content-Type"] == "text/html; charset=UTF-8"

    def test_nothing(self, faults, call):
        faults.add(empty(520))
        response = call("GET", "/recordings")
        assert (response.status, response.data) == (520, b"")

    def test_a_200_that_is_not_json(self, faults, call):
        faults.add(garbage())
        response = call("GET", "/recordings")
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
        with pytest.raises(json.JSONDecodeError):
            response.json()

    def test_a_200_that_failed(self, faults, call):
        faults.add(unsuccessful())
        response = call("GET", "/recordings")
        assert (response.status, response.json()["success"]) == (200, False)

    @pytest.mark.parametrize("retry_after", [0, 1, 86_400, "Wed, 03 Jun 2026 12:05:00 GMT"])
    def test_a_429_that_says_when(self, faults, call, retry_after):
        faults.add(rate_limited(retry_after))
        response = call("GET", "/recordings")
        assert response.status == 429
        assert response.headers["retry-after"] == str(retry_after)
        assert response.json()["errors"][0]["code"] == 971

    def test_a_429_that_does_not_say_when(self, faults, call):
        faults.add(rate_limited(None))
        response = call("GET", "/recordings")
        assert response.status == 429
        assert "retry-after" not in response.headers

    def test_404_for_what_exists(self, world, faults, call):
        recording = world.record_meeting()
        faults.add(error(404, "not found"))
        assert call("GET", f"/recordings/{recording.id}").status == 404
        assert call("GET", f"/recordings/{recording.id}").status == 200

    def test_anything_else(self, faults, call):
        faults.add(Answer(302, headers={"Location": "https://elsewhere.example/"}))
        response = call("GET", "/recordings", redirect=False)
        assert (response.status, response.headers["Location"]) == (
            302,
            "https://elsewhere.example/",
        )


class TestConnections:
    def test_dropped_before_a_byte(self, simulator, faults, call):
        faults.add(Drop())
        with pytest.raises(ProtocolError, match="Remote end closed connection without response"):
            call("GET", "/recordings")
        assert call("GET", "/recordings").status == 200
        assert [logged.status for logged in simulator.requests] == [None, 200]

    def test_a_kept_connection_is_dropped_too(self, faults, call):
        call("GET", "/recordings")
        faults.add(Drop())
        with pytest.raises(ProtocolError, match="Connection aborted"):
            call("GET", "/recordings")

    @pytest.mark.parametrize("part", [0, 0.5, 0.99])
    def test_truncated(self, world, faults, call, part):
        world.record_meetings(20)
        faults.add(Truncate(part))
        with pytest.raises((IncompleteRead, ProtocolError), match="bytes read"):
            call("GET", "/recordings")
        assert call("GET", "/recordings").status == 200

    def test_delayed(self, faults, call):
        faults.add(Delay(0.2))
        start = time.monotonic()
        assert call("GET", "/recordings").status == 200
        assert time.monotonic() - start >= 0.2

    def test_delayed_beyond_the_clients_patience(self, simulator, faults, call, eventually):
        faults.add(Delay(60))
        with pytest.raises(ReadTimeoutError):
            call("GET", "/recordings", timeout=0.05)
        assert eventually(lambda: len(simulator.requests) == 1)

    def test_delayed_and_then_failed(self, faults, call):
        faults.add(Delay(0.05), error(500))
        assert call("GET", "/recordings").status == 500


class TestData:
    def test_stale(self, world, faults, get):
        recording = world.record_meeting()
        faults.add(Stale(Status.UPLOADING))
        stale, fresh = (get(f"/recordings/{recording.id}") for _ in range(2))

        assert (stale["status"], stale["download_url"]) == ("UPLOADING", None)
        assert stale["stopped_time"] == "2026-06-03T11:59:40.000Z"
        assert fresh["status"] == "UPLOADED"

    def test_stale_in_a_list_and_its_filter(self, world, faults, get):
        world.record_meeting()
        faults.add(Stale(Status.RECORDING), times=2)
        assert [item["status"] for item in get("/recordings")] == ["RECORDING"]
        assert get("/recordings?status=UPLOADED") == []

    def test_overlay_of_one(self, world, faults, get):
        recording = world.record_meeting()
        faults.add(Overlay({"status": "TRANSCODING", "stopped_time": "", "extra": {"a": 1}}))
        data = get(f"/recordings/{recording.id}")

        assert (data["status"], data["stopped_time"]) == ("TRANSCODING", "")
        assert data["extra"] == {"a": 1}
        assert data["id"] == recording.id

    def test_overlay_of_each_in_a_list(self, world, faults, get):
        world.record_meetings(2)
        faults.add(Overlay({"download_url": None}))
        assert [item["download_url"] for item in get("/recordings")] == [None, None]

    def test_overlay_leaves_alone_what_is_not_json(self, faults, call):
        faults.add(html(502), Overlay({"status": "UPLOADED"}))
        assert call("GET", "/recordings").data.startswith(b"<html>")


class TestConditions:
    def test_a_number_of_requests(self, faults, call):
        faults.add(error(503), times=2)
        assert [call("GET", "/recordings").status for _ in range(3)] == [503, 503, 200]

    def test_until_cleared(self, faults, call):
        faults.add(error(503), times=None)
        statuses = [call("GET", "/recordings").status for _ in range(3)]
        faults.clear()
        assert [*statuses, call("GET", "/recordings").status] == [503, 503, 503, 200]

    def test_one_after_another(self, faults, call):
        faults.add(error(503))
        faults.add(rate_limited(1))
        assert [call("GET", "/recordings").status for _ in range(3)] == [503, 429, 200]

    def test_by_path_and_method(self, faults, call):
        faults.add(error(503), path=r"/sessions$", method="GET", times=None)
        statuses = [call("GET", path).status for path in ("/recordings", "/sessions", "/meetings")]
        assert statuses == [200, 503, 200]

    def test_by_chance_but_the_same_in_every_run(self, faults, call):
        def run():
            faults.clear()
            faults.add(error(503), times=None, probability=0.5, seed=3)
            return [call("GET", "/recordings").status for _ in range(20)]

        first, second = run(), run()

        assert first == second
        assert {200, 503} == set(first)

    def test_are_known_by_the_request_log(self, simulator, faults, call):
        fault = faults.add(error(503))
        call("GET", "/recordings")
        call("GET", "/recordings")
        assert [logged.fault_id for logged in simulator.requests] == [fault.id, None]

    def test_pending_ones_are_known_and_can_be_removed(self, faults, call):
        used, first, second = (faults.add(error(503), path="/recordings") for _ in range(3))
        call("GET", "/recordings")
        faults.remove(first.id)
        assert faults.pending() == [second]
        assert used.times == 0

    @pytest.mark.parametrize(
        ("effects", "conditions"),
        [
            ([], {}),
            ([Drop()], {"times": 0}),
            ([Drop()], {"probability": 0}),
            ([Drop()], {"path": "("}),
        ],
    )
    def test_that_make_no_sense_are_refused(self, faults, effects, conditions):
        with pytest.raises((ValueError, re.error)):
            faults.add(*effects, **conditions)


@pytest.mark.parametrize("make", [lambda: Delay(-1), lambda: Truncate(1), lambda: Answer(99)])
def test_effects_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=" from "):
        make()


def test_no_fault_reaches_the_control_api(simulator, pool: urllib3.PoolManager):
    simulator.faults.add(Drop(), times=None)
    assert pool.request("GET", f"{simulator.url}/_simulator/faults").status == 200


def test_only_a_connection_that_was_kept_is_dropped(simulator, faults, call):
    faults.add(DropKept())

    assert call("GET", "/recordings").status == 200
    with pytest.raises(ProtocolError):
        call("GET", "/recordings")
    assert call("GET", "/recordings").status == 200

    assert [request.status for request in simulator.requests] == [200, None, 200]
