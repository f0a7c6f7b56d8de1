"""Deliveries: what is posted, signed how, how often, in which order, and what is remembered."""

import base64
import json
import socket
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from werkzeug.wrappers import Response

from realtimekit_simulator import (
    Clock,
    DeliveryRules,
    RecordingOptions,
    Simulator,
    Status,
    World,
)

NOON = datetime(2026, 6, 3, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)
# On a slow machine, too, nothing is sent twice.
PATIENT = DeliveryRules(timeout=60)

WHOLE_MEETING = [
    ("meeting.started", None),
    ("recording.statusUpdate", "RECORDING"),
    ("meeting.ended", "HOST_ENDED_MEETING"),
    ("recording.statusUpdate", "UPLOADING"),
    ("recording.statusUpdate", "UPLOADED"),
]


@pytest.fixture
def webhook(webhooks, receiver):
    return webhooks.registrations.add(receiver.url)


@pytest.fixture
def recording(world):
    return world.record_meeting(started_at=NOON, duration=600)


@pytest.fixture
def deliver(webhooks):
    """All of the meeting at noon."""
    return lambda **options: webhooks.deliver(NOON, TOMORROW, **options)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def verify(public_key, post, header="rtk-signature"):
    signature = base64.b64decode(post.headers[header], validate=True)
    public_key.verify(signature, post.body, padding.PKCS1v15(), hashes.SHA256())


class TestPost:
    def test_is_signed_over_its_very_bytes(
        self, deliver, recording, webhook, receiver, private_key
    ):
        deliver()

        assert len(receiver.posts) == 5
        for post in receiver.posts:
            verify(private_key.public_key(), post)
            with pytest.raises(InvalidSignature):
                verify(private_key.public_key(), post._replace(body=post.body + b" "))

    def test_carries_the_documented_headers(self, webhooks, recording, webhook, receiver):
        webhooks.send("meeting.ended")
        [post] = receiver.posts

        assert post.headers["content-type"] == "application/json"
        assert post.headers["rtk-webhook-id"] == webhook.id
        assert str(uuid.UUID(post.headers["rtk-uuid"])) == post.headers["rtk-uuid"]
        assert not [name for name in post.headers if name.startswith("dyte-")]

    @pytest.mark.parametrize("prefixes", [("rtk", "dyte"), ("dyte",)])
    def test_can_carry_dytes_headers(
        self, webhooks, recording, webhook, receiver, private_key, prefixes
    ):
        webhooks.rules = DeliveryRules(header_prefixes=prefixes)
        webhooks.send("meeting.ended")
        [post] = receiver.posts

        verify(private_key.public_key(), post, "dyte-signature")
        assert post.headers["dyte-webhook-id"] == webhook.id
        assert "dyte-uuid" in post.headers
        assert ("rtk-signature" in post.headers) == ("rtk" in prefixes)

    def test_is_signed_with_the_rotated_key_at_once(self, webhooks, recording, webhook, receiver):
        webhooks.send("meeting.started")
        webhooks.rotate_key()
        webhooks.send("meeting.ended")
        rotated = load_pem_public_key(webhooks.key.public_pem.encode())

        verify(rotated, receiver.posts[1])
        with pytest.raises(InvalidSignature):
            verify(rotated, receiver.posts[0])


class TestTimes:
    def test_a_meetings_events_come_in_the_order_of_a_real_ones(
        self, deliver, recording, webhook, receiver
    ):
        deliver()
        assert receiver.told == WHOLE_MEETING

    def test_all_leave_and_the_meeting_ends_before_the_upload(self, world, webhooks, webhook):
        session = world.start_session(world.create_meeting(record_on_start=True))
        world.end_session(session, at=NOON + timedelta(minutes=10))

        deliveries = webhooks.deliver(NOON, TOMORROW)

        seconds = [(d.message.occurred_at - NOON).total_seconds() for d in deliveries]
        assert [d.message.event for d in deliveries][2] == "meeting.ended"
        assert seconds == [0, 3, 660, 660, 680]

    @pytest.mark.parametrize(
        ("statuses", "told"),
        [
            (
                tuple(Status),
                ["INVOKED", "RECORDING", "PAUSED", "RECORDING", "UPLOADING", "UPLOADED"],
            ),
            (("UPLOADED", "ERRORED"), ["UPLOADED"]),
        ],
    )
    def test_statuses_that_are_sent_can_be_chosen(self, world, webhooks, receiver, statuses, told):
        webhooks.registrations.add(receiver.url, events=["recording.statusUpdate"])
        webhooks.rules = DeliveryRules(statuses=statuses)
        recording = world.start_recording(world.start_session(world.create_meeting()))
        world.pause(recording, at=NOON + timedelta(seconds=10))
        world.resume(recording, at=NOON + timedelta(seconds=20))
        world.stop(recording, at=NOON + timedelta(seconds=30))

        webhooks.deliver(NOON, TOMORROW)

        assert [status for _, status in receiver.told] == told

    def test_one_that_never_uploads_is_never_said_to_have(self, world, deliver, webhook, receiver):
        options = RecordingOptions(upload_seconds=None)
        world.record_meeting(started_at=NOON, duration=600, options=options)
        deliver()
        assert receiver.told == WHOLE_MEETING[:-1]

    def test_a_window_delivers_what_is_in_it(self, webhooks, recording, webhook, receiver):
        webhooks.deliver(NOON + timedelta(seconds=603), NOON + timedelta(seconds=623))
        assert receiver.told == WHOLE_MEETING[2:4]


class TestSubscription:
    def test_each_webhook_gets_what_it_asked_for(self, webhooks, deliver, recording, receiver):
        for number, events in enumerate((["meeting.ended"], ["recording.statusUpdate"], [])):
            webhooks.registrations.add(f"{receiver.url}/{number}", events=events)

        deliveries = deliver()

        assert [(d.webhook.url[-1], d.message.event) for d in deliveries] == [
            ("1", "recording.statusUpdate"),
            ("0", "meeting.ended"),
            ("1", "recording.statusUpdate"),
            ("1", "recording.statusUpdate"),
        ]

    def test_a_disabled_webhook_gets_nothing(self, webhooks, deliver, recording, webhook, receiver):
        webhooks.registrations.change(webhook.id, {"enabled": False})
        assert deliver() == receiver.posts == []

    def test_nothing_is_posted_beyond_this_machine(self, webhooks, recording):
        for url in (
            "http://192.0.2.1/hook",
            "https://example.com/hook",
            "http://127.0.0.1.example.com/hook",
            "http://127.0.0.1@example.com/hook",
            "http://0.0.0.0/hook",
            "http://[2001:db8::1]/hook",
        ):
            webhooks.registrations.add(url)

        deliveries = webhooks.send("meeting.ended")

        assert [(d.outcome, d.attempts) for d in deliveries] == [("blocked", ())] * 6

    def test_unless_that_is_allowed(self, webhooks, recording):
        webhooks.registrations.add("http://nowhere.invalid/hook")
        webhooks.rules = DeliveryRules(beyond_loopback=True, retries=0)

        [delivery] = webhooks.send("meeting.ended")

        assert (delivery.outcome, delivery.attempts[0].error) == ("given_up", "NameResolutionError")

    def test_this_machine_can_be_called_localhost(self, webhooks, recording, receiver):
        webhooks.registrations.add(receiver.url.replace("127.0.0.1", "localhost"))
        [delivery] = webhooks.send("meeting.ended")
        assert delivery.outcome == "delivered"


class TestRetries:
    @pytest.fixture
    def send(self, webhooks, recording):
        def send():
            [delivery] = webhooks.send("meeting.ended")
            return delivery.outcome, [one.status or one.error for one in delivery.attempts]

        return send

    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_any_2xx_is_a_success(self, send, webhook, receiver, status):
        receiver.answers = [status]
        assert send() == ("delivered", [status])

    @pytest.mark.parametrize("status", [304, 400, 401, 404, 408, 429, 499])
    def test_what_is_below_500_is_never_tried_again(self, send, webhook, receiver, status):
        receiver.answers = [status]
        assert send() == ("refused", [status])

    def test_a_redirect_is_not_followed(self, send, webhook, receiver):
        receiver.answers = [Response(status=308, headers={"Location": receiver.url})]
        assert send() == ("refused", [308])
        assert len(receiver.posts) == 1

    def test_a_5xx_is_tried_again_until_it_is_accepted(self, send, webhook, receiver):
        receiver.answers = [503, 500, 599]
        assert send() == ("delivered", [503, 500, 599, 200])

    def test_each_try_has_the_same_body_and_its_own_uuid(
        self, webhooks, send, webhook, receiver, private_key
    ):
        receiver.answers = [503, 502]
        send()
        uuids = [post.headers["rtk-uuid"] for post in receiver.posts]

        assert len(set(uuids)) == 3
        assert len({post.body for post in receiver.posts}) == 1
        assert [attempt.uuid for attempt in webhooks.log.all()[0].attempts] == uuids
        for post in receiver.posts:
            verify(private_key.public_key(), post)

    def test_three_retries_and_no_more(self, send, webhook, receiver):
        receiver.answers = [503] * 10
        assert send() == ("given_up", [503, 503, 503, 503])

    def test_number_of_retries_can_be_chosen(self, webhooks, send, webhook, receiver):
        webhooks.rules = DeliveryRules(retries=0)
        receiver.answers = [503]
        assert send() == ("given_up", [503])

    def test_a_second_is_waited_between_tries_unless_told(self):
        rules = DeliveryRules()
        assert (rules.retries, rules.retry_delay, rules.timeout) == (3, 1.0, 3.0)

    def test_nobody_there_is_tried_again(self, webhooks, send, free_port):
        webhooks.registrations.add(f"http://127.0.0.1:{free_port}/hook")
        assert send() == ("given_up", ["NewConnectionError"] * 4)

    def test_a_time_out_is_tried_again(self, webhooks, send):
        webhooks.rules = DeliveryRules(retries=1, retry_delay=0, timeout=0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            webhooks.registrations.add(f"http://127.0.0.1:{silent.getsockname()[1]}/hook")
            assert send() == ("given_up", ["ReadTimeoutError"] * 2)

    def test_a_connection_closed_without_an_answer_is_tried_again(self, send, webhook, receiver):
        receiver.answers = [None]
        assert send() == ("delivered", ["ProtocolError", 200])

    @pytest.mark.parametrize(
        "answer", [Response("cut", headers={"Content-Length": "9"}), Response(b"x" * 10_000_000)]
    )
    def test_only_the_status_of_an_answer_counts(self, send, webhook, receiver, answer):
        receiver.answers = [answer]
        assert send() == ("delivered", [200])

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"retries": -1}, "retries and their delay are 0 or more"),
            ({"retry_delay": -1}, "retries and their delay are 0 or more"),
            ({"timeout": 0}, "a timeout is more"),
            ({"bodies": "zoom"}, "'zoom' is neither realtimekit nor dyte"),
            ({"statuses": ["DONE"]}, "'DONE' is not a valid Status"),
        ],
    )
    def test_rules_that_make_no_sense_are_refused(self, wrong, why):
        with pytest.raises(ValueError, match=why):
            DeliveryRules(**wrong)


class TestDisorder:
    def test_reversed(self, deliver, recording, webhook, receiver):
        deliver(order="reversed")
        assert receiver.told == WHOLE_MEETING[::-1]

    def test_shuffled_the_same_way_by_the_same_seed(self, deliver, recording, webhook, receiver):
        for seed in (1, 1, 2):
            deliver(order="shuffled", seed=seed)
        first, again, other = (receiver.told[start : start + 5] for start in (0, 5, 10))

        assert first == again
        assert sorted(map(str, first)) == sorted(map(str, WHOLE_MEETING))
        assert WHOLE_MEETING != first != other

    def test_duplicates_are_deliveries_of_their_own(self, deliver, recording, webhook, receiver):
        deliver(duplicates=19)

        assert receiver.told == [told for told in WHOLE_MEETING for _ in range(20)]
        assert len({post.headers["rtk-uuid"] for post in receiver.posts}) == 100

    def test_an_event_on_demand_can_be_duplicated(self, webhooks, recording, webhook, receiver):
        webhooks.send("meeting.ended", duplicates=2)
        assert receiver.told == [("meeting.ended", "HOST_ENDED_MEETING")] * 3

    def test_lost_ones_are_never_posted_but_told_of(self, deliver, recording, webhook, receiver):
        outcomes = [[d.outcome for d in deliver(duplicates=9, lost=0.5, seed=3)] for _ in range(2)]

        assert outcomes[0] == outcomes[1]
        assert 10 < outcomes[0].count("lost") < 40
        assert len(receiver.posts) == 2 * outcomes[0].count("delivered")

    @pytest.mark.parametrize(("lost", "posts"), [(0, 5), (1, 0)])
    def test_none_or_all_can_be_lost(self, deliver, recording, webhook, receiver, lost, posts):
        deliver(lost=lost)
        assert len(receiver.posts) == posts

    def test_a_window_can_be_delivered_again(self, deliver, recording, webhook, receiver):
        deliver()
        deliver()
        assert receiver.told == WHOLE_MEETING * 2
        assert len({post.body for post in receiver.posts}) == 5

    def test_many_at_once(self, world, deliver, webhook, receiver):
        recordings = world.record_meetings(20, started_at=NOON, every=1, duration=60)
        deliveries = deliver(concurrency=8)

        assert {d.outcome for d in deliveries} == {"delivered"}
        assert len(receiver.posts) == 100
        occurred = [d.message.occurred_at for d in deliveries]
        assert occurred == sorted(occurred)
        assert {d.message.recording_id for d in deliveries} - {None} == {r.id for r in recordings}

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"order": "random"}, "'random' is no order"),
            ({"duplicates": -1}, "duplicates are 0 or more"),
            ({"lost": 1.5}, "a probability is from 0 to 1"),
            ({"concurrency": 0}, "max_workers must be greater than 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, deliver, recording, webhook, receiver, wrong, why
    ):
        with pytest.raises(ValueError, match=why):
            deliver(**wrong)
        assert receiver.posts == []


class TestLog:
    def test_remembers_each_delivery_and_its_attempts(self, webhooks, recording, webhook, receiver):
        receiver.answers = [503]
        webhooks.send("recording.statusUpdate", at=TOMORROW)
        [delivery] = webhooks.log.all()
        refused, accepted = delivery.attempts

        assert (delivery.message.event, delivery.message.occurred_at) == (
            "recording.statusUpdate",
            TOMORROW,
        )
        assert delivery.message.recording_id == recording.id
        assert delivery.message.body == receiver.posts[0].body
        assert delivery.webhook == webhook
        assert [(one.number, one.status) for one in delivery.attempts] == [(1, 503), (2, 200)]
        assert refused.started_at <= refused.ended_at <= accepted.started_at <= accepted.ended_at

    def test_can_be_cleared(self, webhooks, recording, webhook):
        webhooks.send("meeting.ended")
        webhooks.log.clear()
        assert webhooks.log.all() == []


class TestLive:
    """As things happen, without being asked."""

    @pytest.fixture
    def simulator(self, world, receiver):
        rules = DeliveryRules(retry_delay=0.01, timeout=60)
        with Simulator(world, delivery_rules=rules, delivers_live=True) as simulator:
            simulator.webhooks.registrations.add(receiver.url)
            yield simulator

    def test_delivers_when_the_clock_gets_there(self, simulator, world, receiver, eventually):
        session = world.start_session(world.create_meeting(record_on_start=True))
        eventually(lambda: receiver.told == WHOLE_MEETING[:1])
        world.clock.advance(600)
        eventually(lambda: receiver.told == WHOLE_MEETING[:2])
        world.end_session(session, reason="HOST_ENDED_MEETING")
        eventually(lambda: receiver.told == WHOLE_MEETING[:4])
        world.clock.advance(60)
        eventually(lambda: receiver.told == WHOLE_MEETING)

    def test_delivers_each_event_once_while_time_flies(self, receiver, eventually):
        world = World(clock=Clock(speed=2_000))
        with Simulator(world, delivery_rules=PATIENT, delivers_live=True) as simulator:
            simulator.webhooks.registrations.add(receiver.url)
            for _ in range(3):
                world.record_meeting(started_at=world.clock.now(), duration=60)
            eventually(lambda: len(receiver.posts) >= 15)
            world.clock.speed = 100_000
            time.sleep(0.2)

        assert sorted(map(str, receiver.told)) == sorted(map(str, WHOLE_MEETING * 3))

    def test_misses_nothing_that_is_done_while_it_looks(self, receiver, eventually):
        world = World(clock=Clock())
        with Simulator(world, delivery_rules=PATIENT, delivers_live=True) as simulator:
            simulator.webhooks.registrations.add(receiver.url, events=["meeting.started"])
            for _ in range(40):
                world.start_session(world.create_meeting(), at=world.clock.now())
                time.sleep(0.005)
            eventually(lambda: len(receiver.posts) == 40)

    def test_leaves_the_past_alone(self, simulator, world, receiver, eventually):
        world.record_meeting(started_at=NOON - timedelta(days=1))
        world.start_session(world.create_meeting())
        eventually(lambda: receiver.posts)
        assert receiver.told == [("meeting.started", None)]

    def test_goes_on_after_a_webhook_has_failed(self, simulator, world, receiver, eventually):
        receiver.answers = [400, 503]
        world.record_meeting(started_at=NOON, duration=600)
        world.clock.advance(3600)
        eventually(lambda: len(receiver.posts) == 6)
        assert receiver.told[-1] == ("recording.statusUpdate", "UPLOADED")

    def test_is_not_done_unless_asked_for(self, world, receiver):
        with Simulator(world) as simulator:
            simulator.webhooks.registrations.add(receiver.url)
            assert not [thread for thread in threading.enumerate() if thread.name == "webhooks"]

    def test_ends_with_the_simulator_even_between_tries(self, world, receiver, eventually):
        receiver.answers = [503]
        rules = DeliveryRules(retry_delay=3600)
        before = set(threading.enumerate())
        with Simulator(world, delivery_rules=rules, delivers_live=True) as simulator:
            simulator.webhooks.registrations.add(receiver.url)
            world.start_session(world.create_meeting())
            eventually(lambda: receiver.posts)
            stopping = time.monotonic()

        assert time.monotonic() - stopping < 60
        [delivery] = simulator.webhooks.log.all()
        assert (delivery.outcome, len(delivery.attempts)) == ("given_up", 1)
        left = {thread.name for thread in set(threading.enumerate()) - before}
        assert not left & {"webhooks", "simulator"}


def test_a_receiver_that_verifies_survives_a_rotation_and_an_absent_key(
    simulator, world, receiver, pool
):
    """The story that all this is for, told by a receiver that knows nothing but the URL."""
    webhook = simulator.webhooks.registrations.add(receiver.url)
    world.record_meeting(started_at=NOON, duration=600)
    simulator.webhooks.deliver(NOON, NOON + timedelta(seconds=60))
    simulator.webhooks.rotate_key()
    simulator.webhooks.deliver(NOON + timedelta(seconds=60), TOMORROW)

    pem = pool.request("GET", simulator.webhook_key_url).json()["data"]["publicKey"]
    current = load_pem_public_key(pem.encode())

    for post in receiver.posts[:2]:
        with pytest.raises(InvalidSignature):
            verify(current, post)
    for post in receiver.posts[2:]:
        verify(current, post)
        assert post.headers["rtk-webhook-id"] == webhook.id
    assert json.loads(receiver.posts[-1].body)["recording"]["status"] == "UPLOADED"
