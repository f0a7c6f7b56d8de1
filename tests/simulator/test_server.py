"""The server itself: connections, and its end."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from doubles import end_with_parent
from realtimekit_simulator import DEFAULT_TOKEN, Delay, Simulator

ROOT = Path(__file__).parents[2]


def test_a_connection_serves_many_requests(simulator, pool, call):
    for _ in range(5):
        assert call("GET", "/recordings").status == 200
    assert pool.connection_from_url(simulator.url).num_connections == 1


def test_a_chunked_request_leaves_the_connection_usable(simulator):
    headers = {"Authorization": f"Bearer {DEFAULT_TOKEN}", "Content-Type": "application/json"}
    path = simulator.app_url.removeprefix(simulator.url) + "/meetings"

    with closing(http.client.HTTPConnection("127.0.0.1", _port(simulator.url))) as connection:
        for _ in range(2):
            chunks = iter([b'{"title":', b'"Planning"}'])
            connection.request("POST", path, chunks, headers, encode_chunked=True)
            response = connection.getresponse()
            assert json.loads(response.read())["data"]["title"] == "Planning"


def test_a_head_request_leaves_the_connection_usable(simulator, pool, call):
    assert call("HEAD", "/recordings").data == b""
    assert call("GET", "/recordings").status == 200
    assert pool.connection_from_url(simulator.url).num_connections == 1


def test_listens_on_loopback_only(simulator):
    assert simulator.url.startswith("http://127.0.0.1:")


def test_once_stopped_it_leaves_nothing_behind(world, pool):
    before = set(threading.enumerate())
    with Simulator(world) as simulator:
        simulator.faults.add(Delay(60))
        pool.request("GET", f"{simulator.url}/_simulator")
        waiting = threading.Thread(target=_expect_a_cut, args=(pool, simulator.app_url))
        waiting.start()
        while not simulator.requests:
            time.sleep(0.005)
        url = simulator.url
    waiting.join()

    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", _port(url)), timeout=1)


def _port(url):
    return int(url.rsplit(":")[-1])


def _expect_a_cut(pool, url):
    with pytest.raises(urllib3.exceptions.ProtocolError):
        pool.request("GET", url)


def test_runs_by_itself_until_terminated(pool, receiver, eventually):
    command = [sys.executable, "-m", "realtimekit_simulator", "--port", "0", "--token", "another"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent
    ) as process:
        lines = dict(process.stdout.readline().split() for _ in range(3))
        response = pool.request(
            "GET", f"{lines['app']}/recordings", headers={"Authorization": "Bearer another"}
        )
        hook = {"name": "Ours", "url": receiver.url, "events": ["meeting.started"]}
        authorization = {"Authorization": "Bearer another"}
        pool.request("POST", f"{lines['app']}/webhooks", json=hook, headers=authorization)
        meeting = pool.request("POST", f"{lines['control']}/meetings", json={}).json()
        meeting_id = {"meeting_id": meeting["meeting_id"]}
        pool.request("POST", f"{lines['control']}/sessions", json=meeting_id)
        eventually(lambda: receiver.told == [("meeting.started", None)])
        process.terminate()

    assert response.status == 200
    assert lines["token"] == "local-realtimekit-token"
    assert lines["control"].endswith("/_simulator")
    assert process.returncode == 0
