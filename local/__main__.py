"""The local stack from the command line: `python -m local up`, then the rest from another shell."""

from __future__ import annotations

import argparse
import base64
import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import urllib3

from . import stack
from .api_page import ApiPage
from .aws import MinistackError
from .simulator import (
    DEFAULT_TOKEN,
    Clock,
    DeliveryRules,
    RecordingOptions,
    Simulator,
    World,
)
from .stack import ROOT, SEED, WORK_DIR, DeploymentError, LocalStack

DESCRIPTION_FILE = WORK_DIR / "stack.json"
EVENTS = ROOT / "events"
WEBHOOK_EVENTS = ("meeting.ended", "recording.statusUpdate")


def up(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C, SIGTERM, or the end of the terminal; refuses to be a second one here."""
    if running := _running():
        sys.exit(f"A local stack is already running here: {running['aws_endpoint_url']}")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    # Half an hour has some 150 MB, which the emulator would hold in memory, several times over.
    small = RecordingOptions(file_size=12_000_000, audio_file_size=2_000_000)
    world = World(clock=Clock(speed=arguments.speed), seed=SEED, defaults=small)
    with (
        Simulator(
            world,
            port=arguments.realtimekit_port,
            # A function that starts cold may take longer than RealtimeKit's usual patience.
            delivery_rules=DeliveryRules(timeout=10),
            delivers_live=True,
        ) as simulator,
        LocalStack(stack.parameters(simulator), DEFAULT_TOKEN, port=arguments.port) as local,
    ):
        # Long enough ago that no webhook tells of it.
        recording = world.record_meeting(started_at=world.clock.now() - timedelta(hours=2))
        webhook_url = local.description["webhook_url"]
        simulator.webhooks.registrations.add(webhook_url, events=WEBHOOK_EVENTS)
        described = {
            **local.description,
            "realtimekit_url": simulator.url,
            "realtimekit_app_url": simulator.app_url,
        }
        DESCRIPTION_FILE.write_text(json.dumps(described, indent=2) + "\n")
        try:
            with ApiPage(described) as page:
                print(_welcome(described, recording.id, page.url), flush=True)
                stopped.wait()
        finally:
            DESCRIPTION_FILE.unlink(missing_ok=True)
    print("Stopped.")
    return 0


def invoke(arguments: argparse.Namespace) -> int:
    """Invoke a function with a file of events/; 1 if it failed."""
    described = _described()
    function = _function(described, arguments.function)
    answer = stack.client("lambda", described["aws_endpoint_url"]).invoke(
        FunctionName=function, Payload=_event(arguments.event).encode(), LogType="Tail"
    )
    print(base64.b64decode(answer.get("LogResult", "")).decode(), file=sys.stderr)
    print(answer["Payload"].read().decode())
    return 1 if "FunctionError" in answer else 0


def put_event(arguments: argparse.Namespace) -> int:
    """Put the entries of a file of events/ on the stack's bus; 1 if the bus refused one."""
    described = _described()
    entries = [
        {**entry, "EventBusName": described["event_bus"]["name"]}
        for entry in _entries(arguments.event)
    ]
    events = stack.client("events", described["aws_endpoint_url"])
    answer = events.put_events(Entries=entries)
    print(json.dumps(answer["Entries"]))
    return 1 if answer["FailedEntryCount"] else 0


def request(arguments: argparse.Namespace) -> int:
    """Call the API, signed; 1 if it answers with an error."""
    described = _described()
    answer = stack.request(described, arguments.method, arguments.path, body=arguments.body or None)
    print(f"HTTP {answer.status}", file=sys.stderr)
    body = answer.data.decode()
    try:
        print(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except ValueError:
        print(body)
    return 0 if answer.status < 400 else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run a command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("up", help="run the stack until Ctrl-C")
    command.add_argument("--port", type=int, default=0, help="AWS's; a free one by default")
    command.add_argument("--realtimekit-port", type=int, default=0, help="a free one by default")
    command.add_argument("--speed", type=float, default=1, help="of RealtimeKit's clock")
    command.set_defaults(run=up)
    command = commands.add_parser("invoke", help="invoke a function with a sample event")
    command.add_argument("function", help="such as ingest_recording")
    command.add_argument("event", help="a file of events/, without .json")
    command.set_defaults(run=invoke)
    command = commands.add_parser("put-event", help="put a sample entry on the event bus")
    command.add_argument("event", help="a file of events/, without .json")
    command.set_defaults(run=put_event)
    command = commands.add_parser("request", help="send a signed request to the API")
    command.add_argument("method", help="such as GET")
    command.add_argument("path", help="such as /recordings/<recording_id>")
    command.add_argument("body", nargs="?", help="JSON, where the route takes any")
    command.set_defaults(run=request)
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (MinistackError, DeploymentError) as error:
        sys.exit(f"The local stack did not start: {error}")
    return code


def _described() -> dict[str, Any]:
    return _running() or sys.exit("No local stack is running here; start one with: make up")


def _running() -> dict[str, Any] | None:
    """What `up` described, if it still answers: one that was killed left its description."""
    try:
        described: dict[str, Any] = json.loads(DESCRIPTION_FILE.read_text())
        url = f"{described['aws_endpoint_url']}/_ministack/health"
        urllib3.request("GET", url, retries=False, timeout=2)
    except (FileNotFoundError, urllib3.exceptions.HTTPError):
        return None
    return described


def _function(described: Mapping[str, Any], name: str) -> str:
    """By the handler's file, as in functions/, or by the template's name."""
    wanted = name.replace("_", "").replace("-", "").lower().removesuffix("function")
    names: dict[str, str] = {
        logical_id.removesuffix("Function").lower(): function["name"]
        for logical_id, function in described["functions"].items()
    }
    if wanted not in names:
        known = ", ".join(sorted(path.stem for path in (ROOT / "functions").glob("*.py")))
        sys.exit(f"There is no function {name}; there are {known}.")
    return names[wanted]


def _event(name: str) -> str:
    path = EVENTS / f"{name.removesuffix('.json')}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json")))
        sys.exit(f"There is no events/{path.name}; there are {known}.")
    return path.read_text()


def _entries(name: str) -> list[dict[str, Any]]:
    """Return the bus entries of a file of events/; exit with a message if the file has none."""
    entries: list[dict[str, Any]] = json.loads(_event(name))
    if not isinstance(entries, list):
        known = ", ".join(sorted(file.stem for file in EVENTS.glob("eventbridge-entry.*.json")))
        sys.exit(
            f"events/{name.removesuffix('.json')}.json is what a function receives, and no entry"
            f" for the event bus; those are {known}. For a function there is: make invoke"
        )
    return entries


def _welcome(described: Mapping[str, Any], recording_id: str, page_url: str) -> str:
    return f"""
The stack is up; Ctrl-C stops it. All of it is described in {DESCRIPTION_FILE.relative_to(ROOT)}.

  AWS (emulated)           {described["aws_endpoint_url"]}
  The catalogue's API      {described["api_url"]}
  … to read and to try     {page_url}
  RealtimeKit (simulated)  {described["realtimekit_url"]}/_simulator

For the AWS command line and SDKs, and for realtimekit-recordings:

  export AWS_ENDPOINT_URL={described["aws_endpoint_url"]} \\
    AWS_REGION={described["region"]} AWS_DEFAULT_REGION={described["region"]} \\
    AWS_ACCESS_KEY_ID={described["aws_access_key_id"]} \\
    AWS_SECRET_ACCESS_KEY={described["aws_secret_access_key"]} \\
    REALTIMEKIT_RECORDINGS_API_URL={described["api_url"]}

A meeting was recorded, and nobody told of it. From another shell, announce its end, and read it:

  make put-event EVENT=eventbridge-entry.meeting-ended
  make request METHOD=GET API_PATH=/recordings
  make request METHOD=GET API_PATH=/recordings/{recording_id}

Webhooks are delivered as things happen in RealtimeKit. Have another meeting recorded:

  curl -s -X POST {described["realtimekit_url"]}/_simulator/recordings \\
    -H 'Content-Type: application/json' -d '{{"title": "Planning"}}'
"""


if __name__ == "__main__":
    sys.exit(main())
