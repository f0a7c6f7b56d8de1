"""The simulator as a program: `realtimekit-simulator --port 8787 --speed 60`."""

import argparse
import signal
import threading

from .clock import Clock
from .simulator import Simulator
from .world import DEFAULT_TOKEN, World


def main() -> None:
    """Serve until interrupted or terminated."""
    arguments = _arguments()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    world = World(
        clock=Clock(speed=arguments.speed),
        seed=arguments.seed,
        media_base_url=arguments.media_base_url,
    )
    with Simulator(world, port=arguments.port, delivers_live=True) as simulator:
        for token in arguments.token:
            simulator.tokens.add(token)
        print(f"app      {simulator.app_url}", flush=True)
        print(f"token    {DEFAULT_TOKEN}", flush=True)
        print(f"control  {simulator.url}/_simulator", flush=True)
        stopped.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="realtimekit-simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8787, help="0 for any free one")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per real one")
    parser.add_argument("--seed", type=int, help="for the same ids in every run")
    parser.add_argument("--token", action="append", default=[], help="another valid API token")
    parser.add_argument("--media-base-url", help="where the media is, if not on this server")
    return parser.parse_args()


if __name__ == "__main__":
    main()
