"""The bench in one run: cold starts, the life and cost of a recording, a page of the list.

    make bench

docs/performance.md explains the tables.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from local.stack import ROOT

from . import list_page
from .cold_start import (
    BARE_BOTO3,
    BARE_SDK,
    EMPTY,
    OURS,
    ROUNDS,
    SAM_BUILD,
    SAM_BUILD_COLD,
    SAME_CALLS,
    SIZES,
    THROTTLED_MB,
    Results,
    measure,
    measure_throttled,
    plain_package,
    variants,
)
from .cost import costs
from .cpu_share import FULL_MB, mechanism
from .life import LIVES, Count, Function, package, play, play_lives
from .units import Units, by_index
from .wire import Wire

Life = tuple[Count, Units]
MIB = 1024 * 1024
# Targets for ingest_recording with 256 MB: its cold start divided by the other variant's, at most.
TARGETS = {SAM_BUILD_COLD: 0.35, SAM_BUILD: 0.35, BARE_SDK: 0.18, BARE_BOTO3: 0.6, SAME_CALLS: 0.6}


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        help="Number of rounds, each of which measures every cold start once.",
    )
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory(dir=ROOT / ".local") as name,
        Wire(Path(name)) as wire,
        # The looks for files of sessions would be the busiest, and are no part of each life.
        play(wire, Path(name), SessionFiles="") as played,
    ):
        played.play_life()
        played.invoke_other_functions()
        compared = variants(played, Path(name))
        results = measure(wire, compared, rounds)
        throttled = measure_throttled(wire, compared, rounds)
        functions = played.functions
    with tempfile.TemporaryDirectory(dir=ROOT / ".local") as name, Wire(Path(name)) as wire:
        lives = list(play_lives(wire, Path(name)))
    print_packages()
    print_cold_starts(results)
    print_targets(results, throttled)
    print_life(lives)
    print_cost(lives, functions, results)
    print("\nA page of the list, with a small and a large table\n")
    list_page.main()


def print_packages() -> None:
    """Print the sizes of both packages: zipped as uploaded, and unzipped as Lambda unpacks it."""
    print(f"{'package, MiB':22} {'zipped':>8} {'unzipped':>9}")
    for name, folder in (("make build", package()), ("sam build", plain_package())):
        files = [path for path in folder.rglob("*") if path.is_file()]
        unzipped = sum(path.stat().st_size for path in files)
        print(f"{name:22} {_zipped(folder, files) / MIB:8.1f} {unzipped / MIB:9.1f}")


def _zipped(folder: Path, files: Iterable[Path]) -> int:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))
    return content.tell()


def print_cold_starts(results: Results) -> None:
    """Print a line for each function and memory size.

    The ratios divide the function's cold start, warm time or memory by the other variant's.
    """
    print(
        f"\n{'':18} {'MB':>5} {'cold ms':>8} {'init':>5} {'÷ empty':>8} {'÷ same calls':>13}"
        f" {'÷ sam build':>12} {'warm ms':>8} {'÷ same calls':>13} {'MiB':>4} {'same calls':>11}"
    )
    for name in dict.fromkeys(name for name, _ in results if name):
        ours, same = results[name, OURS], results[name, SAME_CALLS]
        for size in SIZES:
            others = (results["", EMPTY], same, results[name, SAM_BUILD])
            empty, calls, plain = (ours.cold(size) / other.cold(size) for other in others)
            print(
                f"{name:18} {size:5} {ours.cold(size) * 1000:8.0f} {ours.init() * 1000:5.0f}"
                f" {empty:8.1f} {calls:13.2f} {plain:12.2f} {ours.warm(size) * 1000:8.1f}"
                f" {ours.warm(size) / same.warm(size):13.2f}"
                f" {ours.peak_bytes() / MIB:4.0f} {same.peak_bytes() / MIB:11.0f}"
            )


def print_targets(results: Results, throttled: Results) -> None:
    """Print the cold start of ingest_recording beside each variant, with targets and clock time."""
    name = "ingest_recording"
    ours, by_clock = results[name, OURS], throttled[name, OURS]
    print(f"\nCold start of {name} with {THROTTLED_MB} MB, beside other ways")
    print(f"by the clock: with the share of a processor limited by {mechanism()}\n")
    print(
        f"{'':24} {'cold ms':>8} {'ours ÷ it':>10} {'target':>7}"
        f" {'by the clock':>13} {'ours ÷ it':>10} {'warm ms':>8} {'MiB':>4}"
    )
    for variant, target in {OURS: 1.0, **TARGETS}.items():
        other, clock = results[name, variant], throttled[name, variant]
        cold = other.cold(THROTTLED_MB)
        print(
            f"{variant:24} {cold * 1000:8.0f} {ours.cold(THROTTLED_MB) / cold:10.2f} {target:7.2f}"
            f" {clock.throttled() * 1000:13.0f} {by_clock.throttled() / clock.throttled():10.2f}"
            f" {other.warm(FULL_MB) * 1000:8.2f} {other.peak_bytes() / MIB:4.0f}"
        )


def print_life(lives: Sequence[Life]) -> None:
    """Print the calls, invocations and write units of the recordings' lives."""
    print("\nOrdinary life of a recording, counted from the functions' requests\n")
    print(f"{'':26}" + "".join(f"{name:>20}" for name in LIVES))
    parts = [
        (" calls", [count.calls for count, _ in lives]),
        (" invocations", [count.invocations for count, _ in lives]),
        (" write units", [Counter(by_index(units.writes)) for _, units in lives]),
    ]
    for unit, counted in parts:
        for name in sorted(set().union(*counted)):
            columns = "".join(f"{each[name]:20}" for each in counted)
            print(f"{name:26}{columns}{unit}")


def print_cost(lives: Sequence[Life], functions: dict[str, Function], results: Results) -> None:
    """Print what a million recordings cost, in US dollars, for each of the lives."""
    warm = {
        name: results[name, OURS].warm(function.memory_mb) for name, function in functions.items()
    }
    bills = [costs(count, units, functions, warm) for count, units in lives]
    print(f"\n{'a million recordings cost':26}" + "".join(f"{name:>27}" for name in LIVES))
    for name in bills[0]:
        columns = "".join(f"{bill[name][0]:>18} {bill[name][1]:8.2f}" for bill in bills)
        print(f"{name:26}{columns}")
    totals = "".join(f"{sum(dollars for _, dollars in bill.values()):27.2f}" for bill in bills)
    print(f"{'total':26}{totals}")


if __name__ == "__main__":
    main()
