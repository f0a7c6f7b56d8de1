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
    """Noon, until a test advances it."""
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
    """Requests to the simulated app, by path below its base, with a valid token."""

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
    """The `data` of a successful GET."""

    def get(path: str, **options: Any) -> Any:
        response = call("GET", path, **options)
        assert response.status == 200, response.data
        return response.json()["data"]

    return get


@pytest.fixture
def control(simulator: Simulator, call: Request) -> Request:
    """Requests to the control API, without a token."""

    def control(method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        return call(method, f"{simulator.url}/_simulator{path}", body, token=None)

    return control


class Post(NamedTuple):
    """What a webhook's receiver got."""

    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> tuple[str, str | None]:
        """The event's name, and the recording's status or the reason if there is one."""
        content = json.loads(self.body)
        return content["event"], content.get("recording", content).get(
            "status", content.get("reason")
        )


class Receiver:
    """A server that webhooks are posted to; answers as `answers` say, one by one, then 200.

    None is no answer: it closes the connection.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int | Response | None] = []
        self._server = Server("127.0.0.1", 0, self._application)
        self.url = f"http://127.0.0.1:{self._server.port}/webhook"

    @property
    def told(self) -> list[tuple[str, str | None]]:
        return [post.told for post in self.posts]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    @IncomingRequest.application
    def _application(self, request: IncomingRequest) -> Response:
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
    """Without a server; impatient, so that tests need not be patient."""
    rules = DeliveryRules(retry_delay=0.01, timeout=60)
    return Webhooks(world, key=SigningKey(private_key), rules=rules)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until something is there, for at most five minutes."""

    def eventually(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 300
        while not (found := look()):
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.01)
        return found

    return eventually
