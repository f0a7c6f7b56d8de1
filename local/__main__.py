"""Commands that run the local stack and call it.

Run `python -m local up` in one shell. The other commands find that stack from another shell.
"""

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

from realtimekit_recordings.api import Api
from realtimekit_recordings.page.server import PageServer
from realtimekit_simulator import (
    DEFAULT_TOKEN,
    Clock,
    DeliveryRules,
    RecordingOptions,
    Simulator,
    World,
)

from . import examples, stack
from .api_page import ApiPage
from .aws import MinistackError
from .stack import ROOT, SEED, WEBHOOK_EVENTS, WORK_DIR, DeploymentError, LocalStack

DESCRIPTION_FILE = WORK_DIR / "stack.json"
EVENTS = ROOT / "events"
# The examples are announced all at once. With the default budget, some would wait for minutes.
_LARGE_BUDGET = {"UpstreamRequestsPer5Minutes": "3500"}


def up(arguments: argparse.Namespace) -> int:
    """Run the local stack until Ctrl-C, SIGTERM, or the end of the terminal.

    Exit with a message if a local stack already runs in this checkout.
    """
    if running := _running_description():
        sys.exit(
            f"A local stack is already running in this checkout, at {running['aws_endpoint_url']}."
            " Use that one, or stop it with Ctrl-C in its shell."
        )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    world = _world(arguments.speed)
    with (
        Simulator(
            world,
            port=arguments.realtimekit_port,
            # 10 s: a cold start on this machine may exceed RealtimeKit's own delivery timeout.
            delivery_rules=DeliveryRules(timeout=10),
            delivers_live=True,
        ) as simulator,
        LocalStack(
            stack.parameters(simulator) | _LARGE_BUDGET | dict(arguments.parameter),
            DEFAULT_TOKEN,
            port=arguments.port,
        ) as local,
    ):
        recording_id = _fill(simulator, local, with_examples=arguments.examples)
        addresses = {
            "realtimekit_url": simulator.url,
            "realtimekit_app_url": simulator.app_url,
        }
        _serve({**local.description, **addresses}, recording_id, stopped)
    print("Stopped.")
    return 0


def _fill(simulator: Simulator, local: LocalStack, *, with_examples: bool) -> str:
    """Record meetings and register the webhook. Return the id of the recording to try first.

    That recording ended before the webhook was registered, so RealtimeKit never announces it.
    """
    world = simulator.world
    recording = world.record_meeting(started_at=world.clock.now() - timedelta(hours=2))
    webhook_url = local.description["webhook_url"]
    simulator.webhooks.registrations.add(webhook_url, events=WEBHOOK_EVENTS)
    if with_examples:
        made = examples.record(simulator)
        threading.Thread(target=examples.announce, args=(simulator, made), daemon=True).start()
    return recording.id


def _world(speed: float) -> World:
    """Return a simulated world whose recordings can be played and whose sessions leave all files.

    The files are small, because half an hour of video has some 150 MB, and the emulator would hold
    several copies of it in memory.
    """
    return World(
        clock=Clock(speed=speed),
        seed=SEED,
        defaults=RecordingOptions(playable=True),
        default_session_files=examples.ALL_FILES,
    )


def _serve(described: dict[str, Any], recording_id: str, stopped: threading.Event) -> None:
    """Write the stack's description for the other commands, and wait until the stack is stopped."""
    DESCRIPTION_FILE.write_text(json.dumps(described, indent=2) + "\n")
    try:
        api = Api(described["api_url"], stack.session(), "the local stack")
        with ApiPage(described) as page, PageServer(api, announce=_announce) as catalogue:
            api.wake()
            print(_welcome(described, recording_id, page.url, catalogue.address), flush=True)
            stopped.wait()
    finally:
        DESCRIPTION_FILE.unlink(missing_ok=True)


def _announce(address: str) -> None:
    print(f"To open the catalogue in another browser:\n\n  {address}\n", flush=True)


def invoke(arguments: argparse.Namespace) -> int:
    """Invoke a function with a sample event from events/. Return 1 if the function failed."""
    described = _description_or_exit()
    function = _function_name(described, arguments.function)
    answer = stack.client("lambda", described["aws_endpoint_url"]).invoke(
        FunctionName=function, Payload=_read_event(arguments.event).encode(), LogType="Tail"
    )
    print(base64.b64decode(answer.get("LogResult", "")).decode(), file=sys.stderr)
    print(answer["Payload"].read().decode())
    return 1 if "FunctionError" in answer else 0


def put_event(arguments: argparse.Namespace) -> int:
    """Put the entries of a file in events/ on the event bus. Return 1 if the bus refused one."""
    described = _description_or_exit()
    entries = [
        {**entry, "EventBusName": described["event_bus"]["name"]}
        for entry in _read_entries(arguments.event)
    ]
    events = stack.client("events", described["aws_endpoint_url"])
    answer = events.put_events(Entries=entries)
    print(json.dumps(answer["Entries"]))
    return 1 if answer["FailedEntryCount"] else 0


def request(arguments: argparse.Namespace) -> int:
    """Send a signed request to the API and print the answer. Return 1 for an HTTP error."""
    described = _description_or_exit()
    answer = stack.request(described, arguments.method, arguments.path, body=arguments.body or None)
    print(f"HTTP {answer.status}", file=sys.stderr)
    body = answer.data.decode()
    try:
        print(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except ValueError:
        print(body)
    return 0 if answer.status < 400 else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the command, and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (MinistackError, DeploymentError) as error:
        sys.exit(f"The local stack did not start: {error}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="Run the local stack until Ctrl-C."))
    command = commands.add_parser("invoke", help="Invoke a function with a sample event.")
    command.add_argument("function", help="Name of the function, for example ingest_recording.")
    command.add_argument("event", help="Name of a file in events/, without .json.")
    command.set_defaults(run=invoke)
    command = commands.add_parser("put-event", help="Put a sample entry on the event bus.")
    command.add_argument("event", help="Name of a file in events/, without .json.")
    command.set_defaults(run=put_event)
    command = commands.add_parser("request", help="Send a signed request to the API.")
    command.add_argument("method", help="HTTP method, for example GET.")
    command.add_argument("path", help="Path and query, for example /recordings/<recording_id>.")
    command.add_argument("body", nargs="?", help="JSON body, for routes that take one.")
    command.set_defaults(run=request)
    return parser


def _add_up(command: argparse.ArgumentParser) -> None:
    """Add the options of `up` to its parser."""
    command.add_argument(
        "--port", type=int, default=0, help="Port of the emulated AWS. Default: any free port."
    )
    command.add_argument(
        "--realtimekit-port",
        type=int,
        default=0,
        help="Port of the simulated RealtimeKit. Default: any free port.",
    )
    command.add_argument(
        "--speed",
        type=float,
        default=1,
        help="Speed of RealtimeKit's clock: with 60, a minute passes in a second. Default: 1.",
    )
    command.add_argument(
        "--examples",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Record and announce some meetings, so that the catalogue is not empty. Default: yes.",
    )
    command.add_argument(
        "--parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Set a parameter of the template, such as RetentionDays=30. May be repeated.",
    )
    command.set_defaults(run=up)


def _parameter(text: str) -> tuple[str, str]:
    """Return the name and the value of a template's parameter. Raises `ArgumentTypeError`."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as RetentionDays=30")
    return name, value


def _description_or_exit() -> dict[str, Any]:
    return _running_description() or sys.exit(
        "No local stack is running in this checkout. Start one with: make up"
    )


def _running_description() -> dict[str, Any] | None:
    """Return the description of the running stack, or `None` if no stack answers.

    A killed stack leaves its description file behind, so this also calls the emulator.
    """
    try:
        described: dict[str, Any] = json.loads(DESCRIPTION_FILE.read_text())
        url = f"{described['aws_endpoint_url']}/_ministack/health"
        urllib3.request("GET", url, retries=False, timeout=2)
    except (FileNotFoundError, urllib3.exceptions.HTTPError):
        return None
    return described


def _function_name(described: Mapping[str, Any], name: str) -> str:
    """Return the deployed name of a function, given its file's name or its logical ID."""
    wanted = name.replace("_", "").replace("-", "").lower().removesuffix("function")
    names: dict[str, str] = {
        logical_id.removesuffix("Function").lower(): function["name"]
        for logical_id, function in described["functions"].items()
    }
    if wanted not in names:
        known = ", ".join(sorted(path.stem for path in (ROOT / "functions").glob("*.py")))
        sys.exit(f"There is no function {name}. Choose one of: {known}.")
    return names[wanted]


def _read_event(name: str) -> str:
    path = EVENTS / f"{name.removesuffix('.json')}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json")))
        sys.exit(f"There is no file events/{path.name}. Choose one of: {known}.")
    return path.read_text()


def _read_entries(name: str) -> list[dict[str, Any]]:
    """Return the bus entries of a file in events/, or exit with a message if it has no entries."""
    entries: list[dict[str, Any]] = json.loads(_read_event(name))
    if not isinstance(entries, list):
        known = ", ".join(sorted(file.stem for file in EVENTS.glob("eventbridge-entry.*.json")))
        sys.exit(
            f"events/{name.removesuffix('.json')}.json is a function's event, not an event bus"
            f" entry. Choose one of: {known}. To send this event to a function, use: make invoke"
        )
    return entries


def _welcome(described: Mapping[str, Any], recording_id: str, page_url: str, catalogue: str) -> str:
    return f"""
The stack is up; Ctrl-C stops it. {DESCRIPTION_FILE.relative_to(ROOT)} lists its resources.

  The catalogue, to look   {catalogue}
  AWS (emulated)           {described["aws_endpoint_url"]}
  The catalogue's API      {described["api_url"]}
  API page, to try calls   {page_url}
  RealtimeKit (simulated)  {described["realtimekit_url"]}/_simulator

Set these for the AWS command line, for AWS SDKs, and for realtimekit-recordings:

  export AWS_ENDPOINT_URL={described["aws_endpoint_url"]} \\
    AWS_REGION={described["region"]} AWS_DEFAULT_REGION={described["region"]} \\
    AWS_ACCESS_KEY_ID={described["aws_access_key_id"]} \\
    AWS_SECRET_ACCESS_KEY={described["aws_secret_access_key"]} \\
    REALTIMEKIT_RECORDINGS_API_URL={described["api_url"]}

The catalogue's address lets one browser in; the next one is printed then. A meeting was
recorded two hours ago, and no webhook was sent for it. From another shell, announce the
meeting's end and read the recording:

  make put-event EVENT=eventbridge-entry.meeting-ended
  make request METHOD=GET API_PATH=/recordings
  make request METHOD=GET API_PATH=/recordings/{recording_id}

For later meetings the simulator sends webhooks. Record another meeting:

  curl -s -X POST {described["realtimekit_url"]}/_simulator/recordings \\
    -H 'Content-Type: application/json' -d '{{"title": "Planning"}}'
"""


if __name__ == "__main__":
    sys.exit(main())
