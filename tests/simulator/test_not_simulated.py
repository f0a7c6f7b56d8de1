"""Documented routes and parameters that are not simulated: they answer 501."""

import pytest

from realtimekit_simulator import Answer

SESSION_ID = "97cb480d-5840-4528-ace3-919b5e386c68"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/sessions/{SESSION_ID}/summary"),
        ("GET", f"/sessions/{SESSION_ID}/participants"),
        ("GET", f"/sessions/peer-report/{SESSION_ID}"),
        ("POST", f"/meetings/{SESSION_ID}/participants"),
        ("POST", f"/meetings/{SESSION_ID}/active-session/kick-all"),
        ("PATCH", f"/meetings/{SESSION_ID}"),
        ("GET", "/presets"),
        ("GET", "/livestreams"),
        ("GET", "/analytics/daywise"),
    ],
)
def test_a_documented_route_is_not_simulated(world, call, method, path):
    response = call(method, path, {} if method != "GET" else None)

    assert response.status == 501
    assert response.json() == {
        "success": False,
        "error": {
            "code": 501,
            "message": f"not simulated: {method} /{world.app_id}{path}. RealtimeKit documents it, "
            "this simulator lacks it. Order its answer as a fault: "
            "POST /_simulator/faults.",
        },
    }


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/recordings", "status=UPLOADED"),
        ("/recordings", "start_time=2026-06-03T00:00:00Z"),
        ("/recordings", "expired=true"),
        ("/sessions", "search=weekly"),
        ("/sessions", "sort_by=minutesConsumed"),
        ("/meetings", "status=ACTIVE"),
    ],
)
def test_a_documented_filter_is_not_simulated(call, path, query):
    response = call("GET", f"{path}?{query}")
    assert response.status == 501
    assert response.json()["error"]["message"].startswith("not simulated: the ")


@pytest.mark.parametrize(
    "path",
    ["/transcripts", f"/sessions/{SESSION_ID}/recordings", f"/meetings/{SESSION_ID}/sessions"],
)
def test_an_undocumented_route_is_a_404(call, path):
    response = call("GET", path)
    assert (response.status, response.json()["error"]["code"]) == (404, 404)


def test_the_account_can_have_no_second_app(simulator, call):
    response = call("POST", simulator.app_url.rpartition("/")[0] + "/apps", {})
    assert response.status == 501
    assert response.json()["error"]["message"].startswith("not simulated: POST /apps. ")


def test_another_app_is_a_404_there_too(simulator, call):
    other = simulator.app_url.replace("5b1c9d1e", "00000000")
    assert call("GET", f"{other}/presets").status == 404


def test_a_token_is_needed_there_too(call):
    assert call("GET", "/presets", token=None).status == 401


def test_an_answer_can_be_ordered(simulator, call):
    simulator.faults.add(Answer(200, '{"success": true, "data": []}'), path="/presets$")
    assert call("GET", "/presets").json() == {"success": True, "data": []}
