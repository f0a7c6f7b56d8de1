import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import rsa
from werkzeug.wrappers import Request as IncomingRequest
from werkzeug.wrappers import Response

from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Clock,
    DeliveryRules,
    SigningKey,
    Simulator,
    Webhooks,
    World,
)
from realtimekit_simulator.server import Server

Request = Callable[..., urllib3.BaseHTTPResponse]


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at noon until a test advances it."""
    return Clock(datetime(2026, 6, 3, 12, tzinfo=UTC), speed=0)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock=clock, seed=1)


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    with Simulator(world) as simulator:
        yield simulator


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False, timeout=60) as pool:
        yield pool


@pytest.fixture
def call(simulator: Simulator, pool: urllib3.PoolManager) -> Request:
    """Send requests to the simulated app, by path below its base, with a valid token."""

    def call(
        method: str, path: str, body: Any = None, token: str | None = DEFAULT_TOKEN, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            options["body"] = json.dumps(body)
        url = path if path.startswith("http") else simulator.app_url + path
        return pool.request(method, url, headers=headers, **options)

    return call


@pytest.fixture
def get(call: Request) -> Callable[..., Any]:
    """Return the `data` of a successful GET."""

    def get(path: str, **options: Any) -> Any:
        response = call("GET", path, **options)
        assert response.status == 200, response.data
        return response.json()["data"]

    return get


@pytest.fixture
def control(simulator: Simulator, call: Request) -> Request:
    """Send requests to the control API, without a token."""

    def control(method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        return call(method, f"{simulator.url}/_simulator{path}", body, token=None)

    return control


class Post(NamedTuple):
    """Post that a receiver of webhooks got."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> tuple[str, str | None]:
        """Name of the event, and the recording's status or the reason of the end."""
        content = json.loads(self.body)
        return content["event"], content.get("recording", content).get(
            "status", content.get("reason")
        )


class Receiver:
    """Server that webhooks are posted to; it gives `answers` in order, then 200.

    The answer None closes the connection.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int | Response | None] = []
        self._server = Server("127.0.0.1", 0, IncomingRequest.application(self._respond))
        self.url = f"http://127.0.0.1:{self._server.port}/webhook"

    @property
    def events(self) -> list[tuple[str, str | None]]:
        return [post.event for post in self.posts]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def _respond(self, request: IncomingRequest) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posts.append(Post(headers, request.get_data()))
        answer = self.answers.pop(0) if self.answers else 200
        if answer is None:
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response()
        return answer if isinstance(answer, Response) else Response(status=answer)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="session")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def webhooks(world: World, private_key: rsa.RSAPrivateKey) -> Webhooks:
    """Return webhooks without a server, with short retry delays so that tests are fast."""
    rules = DeliveryRules(retry_delay=0.01, timeout=60)
    return Webhooks(world, key=SigningKey(private_key), rules=rules)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until a function returns something true, for at most five minutes; return it."""

    def eventually(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 300
        while not (found := look()):
            assert time.monotonic() < deadline, "still false after five minutes"
            time.sleep(0.01)
        return found

    return eventually
