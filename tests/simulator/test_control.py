"""Control API over HTTP, as a user of curl meets it."""

import json

import pytest


def test_index_explains_itself(control):
    index = control("GET", "").json()

    assert index["app_id"] == "5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13"
    assert index["now"] == "2026-06-03T12:00:00.000Z"
    assert index["routes"]["DELETE /_simulator/faults"] == "Remove all faults."
    assert all(index["routes"].values())


def test_clock_is_read_advanced_and_sped_up(control, clock):
    assert control("GET", "/clock").json() == {"now": "2026-06-03T12:00:00.000Z", "speed": 0}

    advanced = control("POST", "/clock", {"advance": 90}).json()
    control("POST", "/clock", {"speed": 60})

    assert advanced == {"now": "2026-06-03T12:01:30.000Z", "speed": 0}
    assert clock.speed == 60


def test_a_meeting_is_held_recorded_and_ended(control, call, get):
    meeting = call("POST", "/meetings", {"title": "Demo", "record_on_start": True}).json()["data"]
    started = control("POST", "/sessions", {"meeting_id": meeting["id"]}).json()
    [recording_id] = started["recording_ids"]
    control("POST", "/clock", {"advance": 600})
    ended = control("POST", f"/sessions/{started['session_id']}/end").json()
    control("POST", "/clock", {"advance": 80})

    assert ended["ended_at"] == "2026-06-03T12:11:00.000Z"
    assert get(f"/recordings/{recording_id}")["status"] == "UPLOADED"


def test_a_recorded_meeting_is_made_in_one_call(control, get):
    options = {"kind": "track", "participants": 3, "layers": ["default"]}
    body = {"title": "Demo", "duration": 60, "options": options}
    [made] = control("POST", "/recordings", body).json()["recordings"]

    assert (made["title"], made["status"]) == ("Demo", "UPLOADED")
    [layer] = get(f"/recordings/{made['recording_id']}")["download_url"]["links"]
    assert len(layer["download_urls"]) == 3


def test_recorded_meetings_are_made_in_one_call(control, get):
    made = control("POST", "/recordings", {"count": 3, "every": 60, "status": "ERRORED"})
    assert made.status == 201
    assert [item["status"] for item in get("/recordings")] == ["ERRORED"] * 3


@pytest.mark.parametrize(("started_at", "status"), [("now", "INVOKED"), ("2026-06-04", None)])
def test_a_recorded_meeting_can_begin_now_or_later(control, started_at, status):
    [made] = control("POST", "/recordings", {"started_at": started_at}).json()["recordings"]
    assert made["status"] == status


def test_faults_are_added_listed_and_cleared(control, call):
    effects = [{"effect": "delay", "seconds": 0.01}, {"effect": "error", "status": 503}]
    added = control("POST", "/faults", {"effects": effects, "path": "recordings", "times": None})
    listed = control("GET", "/faults").json()["faults"]
    faulty = call("GET", "/recordings").status
    control("DELETE", "/faults")

    assert listed == [added.json()]
    assert (faulty, call("GET", "/recordings").status) == (503, 200)


@pytest.mark.parametrize(
    "effect",
    [
        {"effect": "delay", "seconds": 0},
        {"effect": "drop"},
        {"effect": "truncate", "part": 0.1},
        {"effect": "answer", "status": 204},
        {"effect": "stale", "status": "RECORDING"},
        {"effect": "overlay", "fields": {"status": "NEW"}},
        {"effect": "error", "status": 500},
        {"effect": "gateway_error", "status": 403},
        {"effect": "html"},
        {"effect": "empty"},
        {"effect": "garbage"},
        {"effect": "unsuccessful"},
        {"effect": "rate_limited", "retry_after": 5},
    ],
)
def test_every_effect_is_known_by_name(control, effect):
    assert control("POST", "/faults", {"effects": [effect]}).status == 201


def test_rate_limit_is_set_and_lifted(control, call):
    control("PUT", "/rate-limit", {"quota": 1, "window": 60, "block": 60})
    limited = [call("GET", "/recordings").status for _ in range(2)]
    control("PUT", "/rate-limit", {"quota": None})

    assert [*limited, call("GET", "/recordings").status] == [200, 429, 200]


def test_settings_are_set_one_by_one(control, world):
    control("PUT", "/settings", {"undocumented": {"first_page": 0}})
    settings = control("PUT", "/settings", {"reveals_secrets": True}).json()

    assert settings["reveals_secrets"] is world.reveals_secrets is True
    assert settings["undocumented"]["first_page"] == 0
    assert settings["undocumented"]["max_per_page"] == 100


def test_requests_are_listed(control, call):
    call("GET", "/recordings?per_page=5")
    call("GET", "/sessions")
    listed = control("GET", "/requests?path=/recordings").json()

    assert listed["count"] == 1
    assert listed["requests"][0]["query"] == "per_page=5"
    assert listed["requests"][0]["simulated_at"] == "2026-06-03T12:00:00.000Z"


def test_a_window_is_delivered_and_listed(simulator, control, receiver):
    webhook = simulator.webhooks.registrations.add(receiver.url)
    [made] = control("POST", "/recordings", {}).json()["recordings"]
    window = {"until": "now", "order": "reversed", "duplicates": 1}
    delivered = control("POST", "/deliveries", window).json()
    ended = control("GET", "/deliveries?event=meeting.ended&outcome=delivered").json()
    refused = control("GET", "/deliveries?outcome=refused").json()

    assert receiver.events[::2] == [
        ("recording.statusUpdate", "UPLOADING"),
        ("meeting.ended", "HOST_ENDED_MEETING"),
        ("recording.statusUpdate", "RECORDING"),
        ("meeting.started", None),
    ]
    assert (delivered["count"], ended["count"], refused["count"]) == (8, 2, 0)
    first = delivered["deliveries"][0]
    [attempt] = first.pop("attempts")
    assert first == {
        "event": "recording.statusUpdate",
        "occurred_at": "2026-06-03T11:59:40.000Z",
        "recording_id": made["recording_id"],
        "webhook_id": webhook.id,
        "url": receiver.url,
        "outcome": "delivered",
    }
    assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 200, None)
    assert attempt["uuid"] == receiver.posts[0].headers["rtk-uuid"]


def test_all_that_has_happened_is_delivered_unless_told(simulator, control, receiver):
    simulator.webhooks.registrations.add(receiver.url)
    control("POST", "/recordings", {"started_at": "2026-06-03T10:00:00Z"})
    assert control("POST", "/deliveries").json()["count"] == 5


def test_events_are_sent(simulator, control, receiver):
    simulator.webhooks.registrations.add(receiver.url)
    [first, last] = control("POST", "/recordings", {"count": 2}).json()["recordings"]
    control("POST", "/events", {"event": "meeting.started"})
    control("POST", "/events", {"event": "meeting.ended", "session_id": first["session_id"]})
    about = {"recording_id": first["recording_id"], "at": first["steps"][1]["at"]}
    control("POST", "/events", {"event": "recording.statusUpdate", **about})
    stream = {"event": "livestreaming.statusUpdate", "fields": {"streamKey": "canary"}}
    control("POST", "/events", {**stream, "duplicates": 1})

    bodies = [json.loads(post.body) for post in receiver.posts]
    sessions = [body["meeting"].get("sessionId") for body in bodies]
    assert sessions == [last["session_id"], first["session_id"], first["session_id"], None, None]
    assert bodies[2]["recording"]["status"] == "RECORDING"
    assert [body["streamKey"] for body in bodies[3:]] == ["canary"] * 2


def test_webhook_key_is_rotated(simulator, control, pool):
    before = simulator.webhooks.key.public_pem
    rotated = control("POST", "/webhook-key").json()["public_key"]
    published = pool.request("GET", simulator.webhook_key_url).json()["data"]["publicKey"]

    assert rotated == published != before


def test_delivery_rules_are_set(simulator, control, receiver):
    webhook = simulator.webhooks.registrations.add(receiver.url)
    control("POST", "/recordings", {})
    rules = {"retries": 0, "statuses": ["PAUSED"], "header_prefixes": ["dyte"]}
    settings = control("PUT", "/settings", {"deliveries": rules}).json()["deliveries"]
    receiver.answers = [503]
    [sent] = control("POST", "/events", {"event": "meeting.ended"}).json()["deliveries"]

    assert settings == {
        **rules,
        "retry_delay": 1.0,
        "timeout": 3.0,
        "bodies": "realtimekit",
        "beyond_loopback": False,
    }
    assert (sent["outcome"], len(sent["attempts"])) == ("given_up", 1)
    assert receiver.posts[0].headers["dyte-webhook-id"] == webhook.id


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clock", {"advance": -1}),
        ("POST", "/clock", {"forward": 1}),
        ("POST", "/clock", {"speed": "fast"}),
        ("POST", "/sessions", []),
        ("POST", "/sessions", {}),
        ("POST", "/recordings", {"status": "DONE"}),
        ("POST", "/recordings", {"options": {"kind": "hologram"}}),
        ("POST", "/recordings", {"options": {"colour": "blue"}}),
        ("POST", "/recordings", {"started_at": "yesterday"}),
        ("POST", "/faults", {"effects": [{"effect": "flood"}]}),
        ("POST", "/faults", {"effects": [{"effect": "delay", "seconds": -1}]}),
        ("POST", "/faults", {"effects": [{"effect": "stale", "status": "DONE"}]}),
        ("POST", "/faults", {"effects": [{"effect": "drop"}], "path": "("}),
        ("POST", "/faults", {}),
        ("PUT", "/rate-limit", {"quota": "many"}),
        ("PUT", "/settings", {"undocumented": {"first_page": 7}}),
        ("PUT", "/settings", {"undocumented": {"absent_session_file": "gone"}}),
        ("PUT", "/settings", {"undocumented": {"chat_format": "xml"}}),
        ("PUT", "/settings", {"undocumented": {"file_webhook_meeting": "none"}}),
        ("PUT", "/settings", {"deliveries": {"retries": -1}}),
        ("PUT", "/settings", {"deliveries": {"speed": "fast"}}),
        ("POST", "/deliveries", {"order": "random"}),
        ("POST", "/deliveries", {"since": "yesterday"}),
        ("POST", "/events", {}),
        ("POST", "/events", {"event": "recording.ready"}),
    ],
)
def test_what_makes_no_sense_is_refused(control, method, path, body):
    response = control(method, path, body)
    assert response.status == 400
    assert response.json()["error"]


def test_unknown_things_are_404(control):
    unknown = "97cb480d-5840-4528-ace3-919b5e386c68"
    assert control("POST", f"/sessions/{unknown}/end").status == 404
    assert control("GET", f"/recordings/{unknown}/media").status == 404
    assert control("GET", "/nothing").status == 404
    assert control("POST", "/events", {"event": "meeting.ended"}).status == 404
    about = {"event": "meeting.ended", "session_id": unknown}
    assert control("POST", "/events", about).status == 404
