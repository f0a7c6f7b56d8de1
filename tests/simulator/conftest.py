import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from local.simulator import DEFAULT_TOKEN, Clock, Simulator, World

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
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
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
