"""The package that `make build` and `make package` make of the output of `sam build`."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from doubles import HANDLERS, ROOT
from local.package import services, settle, trim
from local.template import load

BUILD = ROOT / ".local/build"
PYTHON = ROOT / ".venv-runtime/bin/python"
SERVICES = {"dynamodb", "events", "s3", "secretsmanager", "sqs"}

# Also the clients that are made when they are first needed.
CLIENTS = """
import gc, importlib, sys
from botocore.client import BaseClient
module = importlib.import_module(sys.argv[1])
for value in list(vars(module).values()):
    if hasattr(value, "cache_info"):
        value()
clients = [one for one in gc.get_objects() if isinstance(one, BaseClient)]
print(*{client.meta.service_model.service_name for client in clients})
"""
ENDPOINTS = """
import boto3, sys
for region in sys.argv[2:]:
    for service in sys.argv[1].split(","):
        print(region, service, boto3.client(service, region_name=region).meta.endpoint_url)
"""


@pytest.fixture
def package() -> Path:
    assert BUILD.exists(), "make test builds the package"
    [found] = [path for path in BUILD.iterdir() if path.is_dir()]
    return found


def run(package: Path, source: str, *arguments: str) -> str:
    """Run code in the package, with an interpreter that has only the runtime client."""
    return subprocess.run(
        [PYTHON, "-c", source, *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_package_has_the_data_of_the_services_in_use_and_of_no_others(package: Path) -> None:
    kept = {path.name for path in (package / "botocore/data").iterdir() if path.is_dir()}

    assert kept == SERVICES


def test_the_services_in_use_are_those_that_the_functions_make_clients_of(package: Path) -> None:
    made = {name: set(run(package, CLIENTS, name).split()) for name in HANDLERS}

    assert set().union(*made.values()) == SERVICES
    assert made["receive_webhook"] == {"sqs"}
    assert made["ingest_recording"] == {"dynamodb", "secretsmanager"}


def test_an_endpoint_is_what_the_whole_of_boto3_makes_it_in_every_partition(
    package: Path,
) -> None:
    session = boto3.Session()
    client: Any = boto3.client
    regions = [
        session.get_available_regions("dynamodb", partition)[0]
        for partition in session.get_available_partitions()
        if session.get_available_regions("dynamodb", partition)
    ]
    whole = [
        f"{region} {service} {client(service, region_name=region).meta.endpoint_url}"
        for region in regions
        for service in sorted(SERVICES)
    ]

    found = run(package, ENDPOINTS, ",".join(sorted(SERVICES)), *regions)

    assert {"cn-north-1", "us-gov-east-1"} < set(regions)
    assert found.splitlines() == whole


def test_every_module_has_bytecode_that_is_not_held_against_its_source(package: Path) -> None:
    """Zipping changes the times that Python would compare."""
    sources = [path for path in package.rglob("*.py") if "templates" not in path.parts]
    compiled = [Path(importlib.util.cache_from_source(str(path))) for path in sources]

    flags = {path.read_bytes()[4:8] for path in compiled}

    assert flags == {b"\x01\x00\x00\x00"}


def test_what_scanners_look_for_stays_in_the_package(package: Path) -> None:
    for name in ("boto3", "botocore", "cryptography", "urllib3"):
        assert list(package.glob(f"{name}-*.dist-info/METADATA")), name


def test_a_built_template_deploys_what_was_built_and_nothing_else(
    tmp_path: Path, template: Mapping[str, Any]
) -> None:
    built = tmp_path / "template.yaml"
    built.write_text((ROOT / "template.yaml").read_text())

    settle(built, {"Runtime": "python3.12", "Architecture": "x86_64"})

    settled = load(built)
    function = settled["Globals"]["Function"]
    assert (function["Runtime"], function["Architectures"]) == ("python3.12", ["x86_64"])
    assert set(template["Parameters"]) - set(settled["Parameters"]) == {"Runtime", "Architecture"}
    assert settled["Conditions"] == template["Conditions"]
    assert settled["Resources"] == template["Resources"]
    assert settled["Outputs"] == template["Outputs"]


def test_the_package_for_this_machine_is_settled(package: Path) -> None:
    function = load(package.parent / "template.yaml")["Globals"]["Function"]

    assert function["Runtime"] == f"python3.{sys.version_info.minor}"
    assert function["Architectures"] in (["arm64"], ["x86_64"])


def test_the_built_template_names_what_a_release_takes(package: Path) -> None:
    template = load(package.parent / "template.yaml")

    functions = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    assert {properties["CodeUri"] for properties in functions} == {package.name}
    for properties in functions:
        assert (package / properties["Handler"]).with_suffix(".py").exists()
    published = template["Metadata"]["AWS::ServerlessRepo::Application"]
    assert Path(published["LicenseUrl"]).name == "LICENSE"
    assert Path(published["ReadmeUrl"]).name == "README.md"


@pytest.mark.parametrize(
    ("runtime", "architecture", "message"),
    [
        (
            "python3.11",
            "arm64",
            "Runtime cannot be python3.11: template.yaml allows python3.12, python3.13, python3.14.",
        ),
        (
            "python3.13",
            "aarch64",
            "Architecture cannot be aarch64: template.yaml allows arm64, x86_64.",
        ),
    ],
)
def test_what_the_template_refuses_is_refused_before_the_build(
    runtime: str, architecture: str, message: str
) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "local.package", runtime, architecture],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stderr.strip()) == (1, message)


def test_a_client_of_a_service_that_is_not_named_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("import boto3\nclient = boto3.client(NAME)\n")

    with pytest.raises(ValueError, match="line 2"):
        services(tmp_path)


def test_trimming_leaves_alone_the_files_that_a_package_shares_with_uvs_cache(
    tmp_path: Path,
) -> None:
    cache, package = tmp_path / "cache", tmp_path / "package"
    data = package / "botocore/data"
    for name in ("sqs/2012-11-05", "ec2/2016-11-15"):
        (data / name).mkdir(parents=True)
        model = {"metadata": {}, "documentation": "<p>Long</p>"}
        content = gzip.compress(json.dumps(model).encode())
        (data / name / "service-2.json.gz").write_bytes(content)
    for name in ("boto3/data", "boto3/examples", "bin", "cffi", "pycparser"):
        (package / name).mkdir(parents=True)
    (package / "handler.py").write_text("import boto3\nsqs = boto3.client('sqs')\n")
    endpoints = {"partitions": [{"partition": "aws", "services": {"sqs": {}, "ec2": {}}}]}
    cache.write_text(json.dumps(endpoints))
    os.link(cache, data / "endpoints.json")

    trim(package)

    assert json.loads(cache.read_text()) == endpoints
    assert json.loads((data / "endpoints.json").read_text()) == {
        "partitions": [{"partition": "aws", "services": {"sqs": {}}}]
    }
    [model_file] = data.glob("*/*/*")
    assert model_file == data / "sqs/2012-11-05/service-2.json"
    assert json.loads(model_file.read_text()) == {"metadata": {}, "documentation": ""}
