"""Shared fixtures: tables made from the template, moto's AWS, and the simulated RealtimeKit."""

from __future__ import annotations

import base64
import gc
import io
import json
import logging
import os
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from doubles import API_TOKEN, APP_ID, HANDLERS, ROOT, Clock, Context, Signer, Upstream

# Before any handler is imported: handlers read their settings, and make their clients, at import.
os.environ.update(
    {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_METRICS_NAMESPACE": "RealtimeKitRecordings/tests",
        "APP_ID": APP_ID,
        "REALTIMEKIT_APP_URL": "http://127.0.0.1:9/nobody-listens-here",
        "API_TOKEN_SECRET_ARN": "realtimekit-api-token",
        "RECORDINGS_TABLE": "RecordingsTable",
        "WORK_TABLE": "WorkTable",
        "UPSTREAM_REQUESTS_PER_5_MINUTES": "1000",
        "EVENT_BUS_NAME": "EventBus",
        "ORGANIZATION_ID": "",
        "WEBHOOK_KEY_URL": "http://127.0.0.1:9/nobody-listens-here",
        "WEBHOOK_PUBLIC_KEY": "",
        "INGEST_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/IngestQueue",
        "ARCHIVE_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/ArchiveQueue",
        "URGENT_ARCHIVE_QUEUE_URL": (
            "https://sqs.eu-central-1.amazonaws.com/123456789012/UrgentArchiveQueue"
        ),
        "ARCHIVE_BUCKET": "archive-bucket",
        "ALLOWED_ORIGINS": "",
        "ARCHIVING": "on",
        "SESSION_FILES": "transcript,captions,summary,chat",
        "RETENTION_DAYS": "0",
        "QUEUE_URLS": (
            "ingest=https://sqs.eu-central-1.amazonaws.com/123456789012/IngestQueue,"
            "ingest_dead_letters=https://sqs.eu-central-1.amazonaws.com/123456789012/DeadLetters"
        ),
        "ARCHIVE_PART_MIB": "5",
        "MEDIA_HOSTS": "http://127.0.0.1",
    }
)
for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
    os.environ.pop(name, None)

import boto3
import pytest
import urllib3
from botocore.config import Config
from hypothesis import HealthCheck, settings
from moto import mock_aws
from moto.core.models import MockAWS
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models.dynamo_type import LimitedSizeDict

from local.aws import Ministack
from local.template import load
from realtimekit_simulator import Clock as SimulatedClock
from realtimekit_simulator import Simulator, World
from recordings.archive import Archive
from recordings.archiver import Archiver
from recordings.budget import UpstreamBudget
from recordings.catalogue import Catalogue
from recordings.copier import S3_CONFIG, Copier
from recordings.dynamodb import Table
from recordings.ingestion import Ingestion
from recordings.media import Media
from recordings.realtimekit import ApiToken, Observe, RealtimeKit
from recordings.worklist import Worklist

# Machines are shared: how long an example takes says nothing.
settings.register_profile(
    "shared",
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
# For `make coverage`, which the hosted CI runs.
settings.register_profile("thorough", settings.get_profile("shared"), max_examples=200)
# For a second run, on another Python: what the examples find does not depend on it.
settings.register_profile("quick", settings.get_profile("shared"), max_examples=10)
settings.load_profile("shared")


# Before any handler makes a client, too.
pytest_plugins = ["rights"]


@pytest.fixture(scope="session")
def template() -> Mapping[str, Any]:
    """Return template.yaml as CloudFormation reads it."""
    return load(ROOT / "template.yaml")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that `make test-dynalite` sets."""
    parser.addoption("--dynamodb-endpoint", help="of a DynamoDB to use in moto's place")


def pytest_collection_finish() -> None:
    """Look for garbage more rarely, and not among all that was imported: a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_configure(config: pytest.Config) -> None:
    """Send all clients of DynamoDB there, before any handler makes one."""
    if endpoint := config.getoption("--dynamodb-endpoint"):
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = endpoint


_TABLE_PROPERTIES = (
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
)


@pytest.fixture(scope="module")
def moto() -> Iterator[MockAWS]:
    """Moto's AWS, for a module's tests, because its start takes a third of a test's set-up."""
    # A session reads AWS's service models once: moto would have a new one for each start.
    with mock_aws(config={"core": {"reset_boto3_session": False}}) as mock:
        yield mock


@pytest.fixture
def dynamodb(template: Mapping[str, Any], moto: MockAWS, request: pytest.FixtureRequest) -> Any:
    """Return DynamoDB with the template's tables, by logical name; all of AWS is moto's, and empty.

    With `--dynamodb-endpoint` the tables are there, made anew for each test.
    """
    moto.reset()
    is_moto = not request.config.getoption("--dynamodb-endpoint")
    client = boto3.client("dynamodb")
    for name in [] if is_moto else client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
        _wait(client, "table_not_exists", name)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::DynamoDB::Table":
            properties = {
                key: value
                for key, value in resource["Properties"].items()
                if key in _TABLE_PROPERTIES
            }
            client.create_table(TableName=name, **properties)
            if not is_moto:
                _wait(client, "table_exists", name)
    return client


def _wait(client: Any, event: str, table: str) -> None:
    client.get_waiter(event).wait(TableName=table, WaiterConfig={"Delay": 0, "MaxAttempts": 10_000})


@pytest.fixture
def rows_of_400_kb(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto measure a row as DynamoDB does: binary in raw bytes, without replaced values.

    (DynamoDB guide, item sizes and formats.)
    """

    def size(value: Any) -> int:
        is_text = value.type == "B" and isinstance(value.value, str)
        return len(base64.b64decode(value.value)) if is_text else int(value.size())

    def put(row: dict[str, Any], name: str, value: Any) -> None:
        after = {**row, name: value}
        if sum(len(key.encode()) + size(one) for key, one in after.items()) > 400 * 1024:
            raise ItemSizeTooLarge
        dict.__setitem__(row, name, value)

    monkeypatch.setattr(LimitedSizeDict, "__setitem__", put)


@pytest.fixture
def recordings_table(dynamodb: Any) -> Table:
    return Table(dynamodb, "RecordingsTable")


@pytest.fixture
def work_table(dynamodb: Any) -> Table:
    return Table(dynamodb, "WorkTable")


@pytest.fixture
def catalogue(recordings_table: Table) -> Catalogue:
    return Catalogue(recordings_table, APP_ID)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worklist(work_table: Table, clock: Clock) -> Worklist:
    return Worklist(work_table, clock)


@pytest.fixture
def secretsmanager(dynamodb: Any) -> Any:
    """Return a client of Secrets Manager, which has the API token."""
    client = boto3.client("secretsmanager")
    client.create_secret(
        Name="realtimekit-api-token", SecretString=json.dumps({"api_token": API_TOKEN})
    )
    return client


@pytest.fixture
def token(secretsmanager: Any) -> ApiToken:
    return ApiToken(secretsmanager, "realtimekit-api-token")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager() as pool:
        yield pool


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Yield RealtimeKit at 10:30, where time stands still. Its first meeting has the samples' ids."""
    origin = datetime(2026, 6, 3, 10, 30, tzinfo=UTC)
    world = World(clock=SimulatedClock(origin, speed=0), seed=1, app_id=APP_ID)
    with Simulator(world) as running:
        running.tokens.add(API_TOKEN)
        yield running


@pytest.fixture
def observe() -> Observe:
    """Return an observer that ignores the requests to RealtimeKit; modules may replace it."""
    return lambda name, unit, value: None


@pytest.fixture
def ingestion(
    simulator: Simulator,
    catalogue: Catalogue,
    worklist: Worklist,
    work_table: Table,
    token: ApiToken,
    clock: Clock,
    http: urllib3.PoolManager,
    observe: Observe,
) -> Ingestion:
    return Ingestion(
        realtimekit=RealtimeKit(
            simulator.app_url,
            token,
            UpstreamBudget(work_table, APP_ID, 1000, clock),
            http,
            urllib3.Timeout(connect=5, read=5),
            observe,
        ),
        catalogue=catalogue,
        worklist=worklist,
        now=clock,
    )


@pytest.fixture(scope="session")
def storage() -> Iterator[str]:
    """Yield the URL of the emulator's S3, which checks checksums and conditions. moto does not."""
    with Ministack(ROOT / ".local") as emulator:
        yield emulator.url


@pytest.fixture
def s3(storage: str) -> Any:
    """Return a client of the emulator's S3, as `Copier` needs it. The other clients are moto's."""
    return boto3.client(
        "s3",
        endpoint_url=storage,
        # The emulator's root, by whom presigned URLs are checked.
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # A fault that stays is tried twice, not with a minute's patience.
        config=Config(
            proxies={},
            signature_version="s3v4",
            retries={"mode": "standard", "max_attempts": 2},
            **S3_CONFIG,
        ),
    )


@pytest.fixture
def bucket(s3: Any) -> str:
    """Return the name of a new, versioned bucket."""
    name = f"archive-{uuid.uuid4()}"
    location = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=location)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def archive(s3: Any, bucket: str) -> Archive:
    return Archive(s3, bucket)


@pytest.fixture
def copier(s3: Any, archive: Archive) -> Copier:
    """Return a copier with the smallest parts that S3 takes."""
    return Copier(s3, archive, part_size=5 * 1024 * 1024)


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """The context that all tests share: to load the certificates takes 0.1 s each time."""
    return ssl.create_default_context()


@pytest.fixture
def media(tls: ssl.SSLContext) -> Media:
    """Return a client for files on this machine that gives up after 5 s of silence."""
    timeout = urllib3.Timeout(connect=5, read=5)
    return Media(("http://127.0.0.1",), timeout=timeout, ssl_context=tls)


@pytest.fixture
def archiver(
    ingestion: Ingestion, media: Media, archive: Archive, copier: Copier, clock: Clock
) -> Archiver:
    return Archiver(
        realtimekit=ingestion.realtimekit,
        catalogue=ingestion.catalogue,
        worklist=ingestion.worklist,
        media=media,
        archive=archive,
        copier=copier,
        now=clock,
    )


@pytest.fixture
def logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Return everything logged so far, metrics included."""
    log = io.StringIO()
    for name in HANDLERS:
        for handler in logging.getLogger(name).handlers:
            monkeypatch.setattr(handler, "stream", log)

    def read() -> str:
        captured = capsys.readouterr()
        return log.getvalue() + captured.out + captured.err

    return read


@pytest.fixture
def checks(worklist: Worklist, clock: Clock) -> Callable[[], dict[str, str]]:
    """Return a function that returns the causes of all pending checks, by key."""

    def read() -> dict[str, str]:
        clock.advance(8 * 86_400)
        found = {check.key: check.cause for check in worklist.due(limit=1000)}
        clock.advance(-8 * 86_400)
        return found

    return read


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def successor() -> Signer:
    """Return the signer that follows after a rotation of the key."""
    return Signer()
