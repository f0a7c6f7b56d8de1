"""The bench of the copy to S3: `archive_recording`'s code beside three other ways to copy.

    make bench-copy [SIZES=64,1024,4096]

Source and bucket are TLS servers on loopback; each copy runs in a process of its own. `splice`
reads and writes a buffer at a time, without S3's protocol and checksum: no upload can be faster.
Machines are noisy, so the ways take turns and the table shows medians. Trust its ratios more than
its absolute figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
WAYS = ("download", "splice", "upload_fileobj", "archive")
WARM_UP_BYTES = MIB
BUFFER_BYTES = MIB


@dataclass(frozen=True)
class Copy:
    """Measurements of one copy.

    `wall` and `cpu` are seconds by the clock and of processor time. `memory` is the peak in bytes
    above the idle process.
    """

    wall: float
    cpu: float
    memory: int


def download(origin: str, certificate: str) -> Callable[[int], None]:
    """Return a function that downloads with urllib3 and keeps no byte: the limit of the source."""
    http = _http(certificate)

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)
        while response.read(BUFFER_BYTES):
            pass
        response.release_conn()

    return copy


def splice(origin: str, certificate: str) -> Callable[[int], None]:
    """Return a function that reads and writes a buffer at a time, the least that any copy does."""
    http = _http(certificate)

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)

        def chunks() -> Iterator[bytes]:
            while chunk := response.read(BUFFER_BYTES):
                yield chunk

        url = f"{origin}/bucket/{size}"
        answer = http.request("PUT", url, body=chunks(), headers={"Content-Length": str(size)})
        response.release_conn()
        _expect(answer.status == 200)

    return copy


def upload_fileobj(origin: str, certificate: str) -> Callable[[int], None]:
    """Return a function that copies with boto3's `upload_fileobj` and its defaults."""
    http = _http(certificate)
    s3 = _s3(origin, certificate, {})

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)
        s3.upload_fileobj(response, "bucket", str(size))
        response.release_conn()

    return copy


def archive(origin: str, certificate: str) -> Callable[[int], None]:
    """Return a function that copies with the code that `archive_recording` uses."""
    sys.path.insert(0, str(ROOT / "functions"))
    from recordings.archive import Archive
    from recordings.copier import S3_CONFIG, Copier, Upload
    from recordings.media import Media

    context = ssl.create_default_context(cafile=certificate)
    media = Media(("https://127.0.0.1",), ssl_context=context)
    s3 = _s3(origin, certificate, {**S3_CONFIG, "max_pool_connections": 16})
    copier = Copier(s3, Archive(s3, "bucket"))

    def copy(size: int) -> None:
        file = media.open(_source(origin, size))
        upload = copier.begin(str(size), file, "recording")
        if not isinstance(upload, Upload):
            raise TypeError(
                "Expected a new upload, but the storage says it has the object. The bench's"
                " storage must answer HEAD with 404."
            )
        copier.copy(file, upload, lambda: False)

    return copy


def _source(origin: str, size: int) -> str:
    return f"{origin}/media/{size}/recording.mp4?X-Amz-Signature=none"


def _http(certificate: str) -> Any:
    import urllib3

    return urllib3.PoolManager(ca_certs=certificate, retries=False)


def _s3(origin: str, certificate: str, config: Mapping[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=origin,
        verify=certificate,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        config=Config(proxies={}, **{**config, "s3": {**config.get("s3", {}), **_BY_PATH}}),
    )


_BY_PATH = {"addressing_style": "path"}


def _expect(succeeded: bool) -> None:
    if not succeeded:
        raise RuntimeError("The copy failed: the storage did not answer PUT with 200.")


def measure_here(way: str, size: int, origin: str, certificate: str) -> Copy:
    """Measure one copy in this process.

    The process must be new, because its idle memory is subtracted from the peak.
    """
    makers = {maker.__name__: maker for maker in (download, splice, upload_fileobj, archive)}
    copy = makers[way](origin, certificate)
    copy(WARM_UP_BYTES)
    idle = _memory("VmRSS")
    # Reset the peak of the resident memory, VmHWM (Linux, proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    wall, cpu = time.perf_counter(), _cpu()
    copy(size)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return Copy(wall, cpu, _memory("VmHWM") - idle)


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith(name)]
    return int(line.split()[1]) * 1024


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(sizes: list[int], rounds: int) -> dict[tuple[int, str], list[Copy]]:
    """Run all rounds and return the copies by size and way; each copy has a process of its own."""
    from .tls_storage import tls_storage

    copies_by_case: dict[tuple[int, str], list[Copy]] = {
        (size, way): [] for size in sizes for way in WAYS
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        tls_storage(Path(folder), [WARM_UP_BYTES, *sizes]) as (origin, certificate),
    ):
        for number in range(rounds):
            for (size, way), copies in copies_by_case.items():
                print(f"round {number + 1}: {way}, {size // MIB} MiB  ", end="\r", file=sys.stderr)
                command = [sys.executable, "-m", "bench.archive_copy", "--one", way, str(size)]
                process = subprocess.run(
                    [*command, origin, str(certificate)],
                    cwd=ROOT,
                    env={"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"},
                    stdout=subprocess.PIPE,
                    check=True,
                )
                copies.append(Copy(**json.loads(process.stdout)))
    return copies_by_case


def table(copies_by_case: Mapping[tuple[int, str], list[Copy]]) -> Iterator[str]:
    """Yield the lines of the table, then archive's worst figures beside their targets."""
    yield f"{'':22} {'MB/s':>6} {'÷ splice':>9} {'÷ boto3':>8} {'CPU s/GiB':>10} {'memory MiB':>11}"
    worst = {"÷ splice": 9e9, "÷ boto3": 9e9, "memory": 0.0}
    for (size, way), copies in copies_by_case.items():
        wall = statistics.median(copy.wall for copy in copies)
        cpu = statistics.median(copy.cpu for copy in copies) * 1024 * MIB / size
        memory = statistics.median(copy.memory for copy in copies) / MIB
        to = {
            other: _ratio(copies_by_case[size, other], copies)
            for other in ("splice", "upload_fileobj")
        }
        yield (
            f"{size // MIB:5} MiB {way:15} {size / wall / 1e6:5.0f} {to['splice']:9.2f}"
            f" {to['upload_fileobj']:8.2f} {cpu:10.2f} {memory:11.0f}"
        )
        if way == "archive":
            worst["÷ splice"] = min(worst["÷ splice"], to["splice"])
            worst["÷ boto3"] = min(worst["÷ boto3"], to["upload_fileobj"])
            worst["memory"] = max(worst["memory"], memory)
    yield "archive, worst figures of all sizes:"
    yield f"  {worst['÷ splice']:.2f} of splice's speed (target: at least 0.65)"
    yield f"  {worst['÷ boto3']:.2f} times upload_fileobj's speed (target: at least 1.5)"
    yield f"  {worst['memory']:.0f} MiB of memory above idle (target: below 64)"


def _ratio(base: list[Copy], copies: list[Copy]) -> float:
    """Return the median over the rounds of how many times as fast the copies are as the base."""
    return statistics.median(b.wall / c.wall for b, c in zip(base, copies, strict=True))


def main() -> None:
    """Print the table; with --one, measure one copy and print it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="64,1024,4096", help="Sizes of the file in MiB, separated by commas."
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="Number of rounds, each of which copies every case once.",
    )
    parser.add_argument(
        "--one",
        nargs=4,
        metavar=("WAY", "SIZE", "ORIGIN", "CERTIFICATE"),
        help="Measure one copy of SIZE bytes in this process. For the bench's own use.",
    )
    arguments = parser.parse_args()
    if arguments.one:
        way, size, origin, certificate = arguments.one
        print(json.dumps(asdict(measure_here(way, int(size), origin, certificate))))
        return
    sizes = [int(size) * MIB for size in arguments.sizes.split(",")]
    for line in table(measure(sizes, arguments.rounds)):
        print(line)


if __name__ == "__main__":
    main()
