"""Registering webhooks, and the key: RealtimeKit's webhook API, over HTTP and by the SDK."""

import cloudflare
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    ConflictError,
    InvalidWebhookError,
    SigningKey,
    Simulator,
    UnknownError,
)
from realtimekit_simulator import error as realtimekit_error

NINE = [
    "meeting.started",
    "meeting.ended",
    "meeting.participantJoined",
    "meeting.participantLeft",
    "meeting.chatSynced",
    "recording.statusUpdate",
    "livestreaming.statusUpdate",
    "meeting.transcript",
    "meeting.summary",
]
UNKNOWN = "97cb480d-5840-4528-ace3-919b5e386c68"
HOOK = {"name": "Ours", "url": "https://example.com/hook", "events": ["meeting.ended"]}


@pytest.fixture
def created(call):
    return call("POST", "/webhooks", HOOK).json()["data"]


class TestRegistration:
    def test_creates(self, call):
        response = call("POST", "/webhooks", HOOK)
        webhook = response.json()["data"]

        assert response.status == 201
        assert len(webhook.pop("id")) == 36
        assert webhook == {
            "name": "Ours",
            "url": "https://example.com/hook",
            "events": ["meeting.ended"],
            "enabled": True,
            "created_at": "2026-06-03T12:00:00.000Z",
            "updated_at": "2026-06-03T12:00:00.000Z",
        }

    def test_reads_one_and_all(self, get, created):
        assert get(f"/webhooks/{created['id']}") == created
        assert get("/webhooks") == [created]

    def test_all_is_the_list_of_events(self, get, created):
        assert get("/webhooks/all") == NINE

    def test_edits_what_is_given(self, call, clock, created):
        clock.advance(60)
        edited = call("PATCH", f"/webhooks/{created['id']}", {"enabled": False}).json()["data"]
        assert edited == {**created, "enabled": False, "updated_at": "2026-06-03T12:01:00.000Z"}

    def test_replaces_all(self, call, created):
        call("PATCH", f"/webhooks/{created['id']}", {"enabled": False})
        other = {"name": "Other", "url": "https://example.com/other", "events": NINE}
        replaced = call("PUT", f"/webhooks/{created['id']}", other).json()["data"]
        assert replaced == {**created, **other, "enabled": True}

    def test_deletes_and_says_what(self, call, get, created):
        deleted = call("DELETE", f"/webhooks/{created['id']}")
        assert (deleted.status, deleted.json()["data"]) == (200, created)
        assert get("/webhooks") == []

    @pytest.mark.parametrize(("webhook_id", "status"), [(UNKNOWN, 404), ("my-hook", 400)])
    def test_unknown_ids(self, call, webhook_id, status):
        for method, body in (("GET", None), ("PATCH", HOOK), ("PUT", HOOK), ("DELETE", None)):
            response = call(method, f"/webhooks/{webhook_id}", body)
            assert (response.status, response.json()["error"]["code"]) == (status, status)

    @pytest.mark.parametrize("missing", ["name", "url", "events"])
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_whole_webhooks_need_their_fields(self, call, created, method, missing):
        path = "/webhooks" if method == "POST" else f"/webhooks/{created['id']}"
        body = {name: value for name, value in HOOK.items() if name != missing}

        response = call(method, path, body)

        assert response.status == 400
        assert response.json() == {
            "success": False,
            "error": {"code": 400, "message": f'BAD_REQUEST: "{missing}" is required'},
        }

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"name": 7},
            {"url": "example.com/hook"},
            {"url": "ftp://example.com/hook"},
            {"url": "http://"},
            {"url": "http://[/"},
            {"url": None},
            {"events": "meeting.ended"},
            {"events": ["recording.ready"]},
            {"events": [{}]},
            {"enabled": "yes"},
        ],
    )
    def test_refuses_what_is_none(self, call, get, created, wrong):
        whole = {**HOOK, "url": "https://example.com/2", **wrong}
        one = f"/webhooks/{created['id']}"
        for method, path, body in (
            ("POST", "/webhooks", whole),
            ("PUT", one, whole),
            ("PATCH", one, wrong),
        ):
            response = call(method, path, body)
            assert response.status == 400
            assert f'"{next(iter(wrong))}" must be' in response.json()["error"]["message"]
        assert get("/webhooks") == [created]

    def test_refuses_a_url_that_another_has(self, call, created):
        other = call("POST", "/webhooks", {**HOOK, "url": "https://example.com/2"}).json()["data"]
        same_url = {"url": "https://example.com/hook"}

        assert call("POST", "/webhooks", HOOK).status == 409
        assert call("PATCH", f"/webhooks/{other['id']}", same_url).status == 409
        assert call("PATCH", f"/webhooks/{created['id']}", same_url).status == 200

    def test_needs_a_token(self, simulator, call):
        simulator.tokens.add("dns-only", has_realtime=False)
        assert call("GET", "/webhooks", token=None).status == 401
        assert call("POST", "/webhooks", HOOK, token="dns-only").status == 403

    def test_is_of_this_app(self, simulator, call):
        other = simulator.app_url.replace("5b1c9d1e", "00000000")
        assert call("GET", f"{other}/webhooks").status == 404

    def test_from_python_it_raises(self, simulator):
        registrations = simulator.webhooks.registrations
        webhook = registrations.add("http://127.0.0.1:9/hook")

        assert list(webhook.events) == NINE
        with pytest.raises(ConflictError):
            registrations.add("http://127.0.0.1:9/hook")
        with pytest.raises(InvalidWebhookError, match='"url" must be a valid uri'):
            registrations.add("hook")
        with pytest.raises(UnknownError):
            registrations.remove(UNKNOWN)


def test_the_sdk_manages_webhooks_at_its_strictest(simulator, world):
    app = {"account_id": world.account_id, "app_id": world.app_id}
    with cloudflare.Cloudflare(
        api_token=DEFAULT_TOKEN,
        base_url=simulator.api_url,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        webhooks = client.realtime_kit.webhooks
        created = webhooks.create_webhook(**app, **HOOK).data
        edited = webhooks.edit_webhook(created.id, events=NINE, **app).data
        replaced = webhooks.replace_webhook(created.id, **{**HOOK, "name": "New"}, **app).data
        one = webhooks.get_webhook_by_id(created.id, **app).data
        listed = webhooks.get_webhooks(**app).data
        deleted = webhooks.delete_webhook(created.id, **app).data
        with pytest.raises(cloudflare.NotFoundError):
            webhooks.get_webhook_by_id(created.id, **app)

    assert (created.url, created.enabled) == ("https://example.com/hook", True)
    assert edited.events == NINE
    assert one.name == replaced.name == listed[0].name == deleted.name == "New"


class TestKey:
    def test_is_published_to_anyone(self, simulator, call):
        response = call("GET", f"{simulator.url}/.well-known/webhooks.json", token=None)
        content = response.json()
        pem = content["data"].pop("publicKey")

        assert simulator.webhook_key_url == f"{simulator.url}/.well-known/webhooks.json"
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert content == {"success": True, "data": {}, "message": ""}
        assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
        assert pem.endswith("\n-----END PUBLIC KEY-----")
        assert load_pem_public_key(pem.encode()).key_size == 2048

    def test_stays_until_rotated(self, simulator, pool):
        def published():
            return pool.request("GET", simulator.webhook_key_url).json()["data"]["publicKey"]

        first = published()
        assert published() == first
        simulator.webhooks.rotate_key()
        assert published() != first

    def test_can_be_given(self, world, pool, private_key):
        with Simulator(world, signing_key=SigningKey(private_key)) as simulator:
            content = pool.request("GET", simulator.webhook_key_url).json()

        published = load_pem_public_key(content["data"]["publicKey"].encode())
        assert published == private_key.public_key()

    def test_can_be_unavailable(self, simulator, pool):
        simulator.faults.add(realtimekit_error(503), path=r"^/\.well-known/")

        statuses = [pool.request("GET", simulator.webhook_key_url).status for _ in range(2)]

        assert statuses == [503, 200]
        assert [request.status for request in simulator.requests] == [503, 200]
