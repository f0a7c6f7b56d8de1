"""Rights: what each function calls in AWS is what its role grants, no less and no more.

While a functional test runs a handler, each call to AWS is compared with the function's role, and a
call that the role does not grant fails the test. When all tests of a handler have passed, each right
that no call needed fails the session. The rights that Lambda needs, for event sources and the log,
follow from the template.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest
from botocore import handlers as botocore_handlers

from doubles import APP_ID, ROOT
from local.template import load

Template = Mapping[str, Any]

# Where a right is not the call's own name (Service Authorization Reference, and S3's "Required
# permissions for Amazon S3 API operations").
_RIGHTS = {
    "s3:HeadObject": ["s3:GetObject"],
    "s3:CreateMultipartUpload": ["s3:PutObject"],
    "s3:UploadPart": ["s3:PutObject"],
    "s3:CompleteMultipartUpload": ["s3:PutObject"],
    "s3:ListParts": ["s3:ListMultipartUploadParts"],
    "s3:ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:GetObjectLockConfiguration": ["s3:GetBucketObjectLockConfiguration"],
    # To delete a version, "you must always specify the s3:DeleteObject permission", and the other one.
    "s3:DeleteObjects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "sqs:SendMessageBatch": ["sqs:SendMessage"],
    "sqs:DeleteMessageBatch": ["sqs:DeleteMessage"],
    "sqs:ChangeMessageVisibilityBatch": ["sqs:ChangeMessageVisibility"],
}
# Lambda makes these calls with the function's role (Lambda's guide, event source mappings).
_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
_QUEUE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_STREAM = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")

_HANDLERS = {path.stem for path in (ROOT / "functions").glob("*.py")}
# Names in the tests, and their names in the template.
_NAMES = {"realtimekit-api-token": "ApiTokenSecret"}
_BUCKET = re.compile(r"archive-[0-9a-f-]{36}|archive-bucket")


@dataclass(frozen=True, slots=True)
class Right:
    """An action on a resource; in a grant the resource may be a pattern."""

    action: str
    resource: str
    source: str | None = None
    """The condition on `events:source`, where there is one; the source of a call."""

    def covers(self, call: Right) -> bool:
        return (
            self.action == call.action
            and fnmatchcase(call.resource, self.resource)
            and self.source in (None, call.source)
        )

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def function_of(template: Template, handler: str) -> Mapping[str, Any]:
    """Return the template's properties of a module of `functions/`."""
    [properties] = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        and resource["Properties"]["Handler"] == f"{handler}.handler"
    ]
    found: Mapping[str, Any] = properties
    return found


def granted(template: Template, function: Mapping[str, Any]) -> set[Right]:
    """Return all rights that a role grants, conditional ones included."""
    role = template["Resources"][function["Role"]["Fn::GetAtt"][0]]["Properties"]
    found = set()
    for policy in role["Policies"]:
        for statement in map(_chosen, policy["PolicyDocument"]["Statement"]):
            condition = statement.get("Condition", {}).get("StringEquals", {})
            for action in _listed(statement["Action"]):
                for resource in _listed(_chosen(statement["Resource"])):
                    found.add(Right(action, _resource(resource), condition.get("events:source")))
    return found


def implied(function: Mapping[str, Any]) -> set[Right]:
    """Return the rights that Lambda itself needs, for the function's log and event sources."""
    log = function["LoggingConfig"]["LogGroup"]["Ref"]
    found = {Right(action, log) for action in _LOGS}
    for event in function["Events"].values():
        source = event["Properties"]
        if event["Type"] == "SQS":
            found |= {Right(action, _resource(source["Queue"])) for action in _QUEUE}
        if event["Type"] == "DynamoDB":
            stream = _resource(source["Stream"])
            found |= {Right(action, stream) for action in _STREAM}
            found.add(Right("dynamodb:ListStreams", f"{stream}/*"))
            failed = source["DestinationConfig"]["OnFailure"]["Destination"]
            found.add(Right("sqs:SendMessage", _resource(failed)))
    return found


def needed(service: str, operation: str, parameters: Mapping[str, Any]) -> set[Right]:
    """Return the rights that a call needs. An unknown target is `?`, which no role grants."""
    call = f"{service}:{operation}"
    return {
        Right(action, resource, source)
        for action in _RIGHTS.get(call, [call])
        for resource, source in _targets(service, parameters)
    }


def _targets(service: str, parameters: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    if service == "events":
        entries = parameters.get("Entries", [])
        return [(entry["EventBusName"], entry["Source"]) for entry in entries]
    return [(resource, None) for resource in _RESOURCES.get(service, _unknown)(parameters)]


def _unknown(_: Mapping[str, Any]) -> list[str]:
    return ["?"]


def _tables(parameters: Mapping[str, Any]) -> list[str]:
    index = f"/index/{parameters['IndexName']}" if "IndexName" in parameters else ""
    tables = parameters.get("RequestItems") or [parameters.get("TableName", "?")]
    return [f"{table}{index}" for table in tables]


def _objects(parameters: Mapping[str, Any]) -> list[str]:
    """Return the objects that an operation is about; the bucket, if it names none."""
    bucket = _BUCKET.sub("ArchiveBucket", parameters.get("Bucket", "?"))
    objects = parameters.get("Delete", {}).get("Objects", [parameters])
    return [f"{bucket}/{one['Key']}" if "Key" in one else bucket for one in objects]


def _queues(parameters: Mapping[str, Any]) -> list[str]:
    return [parameters.get("QueueUrl", "?").rpartition("/")[2]]


def _secrets(parameters: Mapping[str, Any]) -> list[str]:
    secret = parameters.get("SecretId", "?")
    return [_NAMES.get(secret, secret)]


_RESOURCES = {"dynamodb": _tables, "s3": _objects, "sqs": _queues, "secretsmanager": _secrets}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _chosen(value: Any) -> Any:
    """Resolve conditions as with the template's defaults: optional resources are the stack's."""
    while isinstance(value, Mapping) and "Fn::If" in value:
        value = value["Fn::If"][1]
    return value


def _resource(value: Any) -> str:
    """Return an ARN's logical name in the template, and the rest of the ARN."""
    value = _chosen(value)
    if "Ref" in value:
        return str(value["Ref"])
    if "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        return f"{name}/stream" if attribute == "StreamArn" else str(name)
    text = value["Fn::Sub"]
    text, given = text if isinstance(text, list) else (text, {})
    names = {name: _resource(of) for name, of in given.items()} | {"RealtimeKitAppId": APP_ID}
    text = text.removeprefix("arn:${AWS::Partition}:s3:::")
    return re.sub(r"\$\{(\w+)(?:\.\w+)?\}", lambda found: names.get(found[1], found[1]), text)


# --- what was called ---


class Calls:
    """The rights that handlers' calls needed, by handler: kept for the session."""

    def __init__(self) -> None:
        self.of: dict[str, set[Right]] = {}
        self._into: set[Right] | None = None

    @contextlib.contextmanager
    def noted(self, into: set[Right]) -> Iterator[None]:
        """Attribute calls from any thread to the handler that runs."""
        before, self._into = self._into, into
        try:
            yield
        finally:
            self._into = before

    def note(self, params: Any, model: Any, **_: Any) -> None:
        """Note a call or a signed URL, by botocore's event `provide-client-params`."""
        if (into := self._into) is not None:
            into.update(needed(model.service_model.signing_name, model.name, params))


calls = Calls()
# Each client takes these over when it is made: this module comes before all handlers.
botocore_handlers.BUILTIN_HANDLERS.append(("provide-client-params", calls.note))


def denied(grants: Collection[Right], called: Collection[Right]) -> list[str]:
    """Return the calls that the role does not grant."""
    return sorted(str(call) for call in called if not any(one.covers(call) for one in grants))


def unused(grants: Collection[Right], called: Collection[Right]) -> list[str]:
    """Return the rights that no call needed."""
    return sorted(str(one) for one in grants if not any(one.covers(call) for call in called))


@pytest.fixture(autouse=True)
def within_its_rights(template: Template, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test whose handler called AWS without its role's right."""
    called: dict[str, set[Right]] = {}
    for name in _HANDLERS & sys.modules.keys():
        watched = _watched(sys.modules[name].handler, called.setdefault(name, set()))
        monkeypatch.setattr(sys.modules[name], "handler", watched)
    yield
    for name, seen in called.items():
        calls.of.setdefault(name, set()).update(seen)
        grants = granted(template, function_of(template, name))
        assert denied(grants, seen) == [], f"{name} is not granted what it calls"


def _watched(handler: Callable[..., Any], called: set[Right]) -> Callable[..., Any]:
    def watched(event: Any, context: Any) -> Any:
        with calls.noted(called):
            return handler(event, context)

    return watched


# --- the session's end ---

_passed: dict[str, set[str]] = {}
_complaints: list[str] = []
_proven: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each functional test that passed; with workers, the controller hears of all."""
    path, _, name = report.nodeid.partition("::")
    if report.when == "call" and report.passed and path.startswith("tests/functional/"):
        _passed.setdefault(path, set()).add(name.partition("[")[0])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over a worker's calls to the controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["calls"] = {
            handler: [(one.action, one.resource, one.source) for one in seen]
            for handler, seen in calls.of.items()
        }


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over a worker's calls."""
    for handler, seen in getattr(node, "workeroutput", {}).get("calls", {}).items():
        calls.of.setdefault(handler, set()).update(Right(*one) for one in seen)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Compare calls and rights of each handler whose tests all ran and passed."""
    result = yield
    options = session.config.option
    if not (hasattr(session.config, "workerinput") or options.keyword or options.markexpr):
        template = load(ROOT / "template.yaml")
        for path in sorted(_passed):
            _judge(template, path)
        session.testsfailed += len(_complaints)
    return result


def _judge(template: Template, path: str) -> None:
    tests = set(re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE))
    handler = path.rpartition("/test_")[2].removesuffix(".py")
    if handler not in _HANDLERS or not tests <= _passed[path]:
        return
    function = function_of(template, handler)
    called = implied(function) | calls.of.get(handler, set())
    in_vain = unused(granted(template, function), called)
    _complaints.extend(f"{handler} is granted {one}, and never needs it" for one in in_vain)
    if not in_vain:
        _proven.append(handler)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for complaint in _complaints:
        terminalreporter.write_line(f"RIGHTS {complaint}", red=True)
    if _proven:
        terminalreporter.write_line(f"rights are the least of {', '.join(_proven)}")
