"""template.yaml is part of the program: here it agrees with the code, and with what we promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

import rights
from doubles import ROOT
from recordings import __version__, archiver, media, realtimekit, texts, webhook
from recordings.listing import ADDED, LISTED
from recordings.rows import RETENTION

FUNCTIONS = ROOT / "functions"
Resources = Mapping[str, Any]


@pytest.fixture
def resources(template: Mapping[str, Any]) -> Resources:
    found = template["Resources"]
    assert isinstance(found, dict)
    return found


def of_type(resources: Resources, type_: str) -> dict[str, Any]:
    return {name: resource for name, resource in resources.items() if resource["Type"] == type_}


def functions(resources: Resources) -> dict[str, Any]:
    found = of_type(resources, "AWS::Serverless::Function")
    return {name: function["Properties"] for name, function in found.items()}


def statements(role: Any) -> Iterator[Any]:
    """Yield a policy's statements, conditional ones included."""
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def test_each_handler_is_a_file_and_each_file_a_handler(resources: Resources) -> None:
    handlers = {properties["Handler"] for properties in functions(resources).values()}

    assert handlers == {f"{path.stem}.handler" for path in FUNCTIONS.glob("*.py")}


def test_each_function_is_given_exactly_the_variables_it_reads(resources: Resources) -> None:
    for name, properties in functions(resources).items():
        source = (FUNCTIONS / properties["Handler"]).with_suffix(".py").read_text()
        reads = set(re.findall(r'os\.environ\["(\w+)"\]', source))
        assert reads == set(properties["Environment"]["Variables"]), name


def test_each_parameter_has_a_description_that_is_a_sentence(template: Mapping[str, Any]) -> None:
    for name, parameter in template["Parameters"].items():
        assert parameter.get("Description", "").endswith("."), name


def test_a_missing_setting_stops_a_function_at_init_with_its_name() -> None:
    started = subprocess.run(
        [sys.executable, "-c", "import follow_up"],
        cwd=FUNCTIONS,
        env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode == 1
    assert started.stderr.splitlines()[-1] == "KeyError: 'INGEST_QUEUE_URL'"


def test_each_function_has_a_role_and_a_log_group_of_its_own(resources: Resources) -> None:
    roles = [str(properties["Role"]) for properties in functions(resources).values()]
    groups = [
        str(properties["LoggingConfig"]["LogGroup"]) for properties in functions(resources).values()
    ]

    assert len(set(roles)) == len(roles)
    assert len(set(groups)) == len(groups)


def test_lambdas_own_log_lines_are_left_out_only_where_no_log_line_is_filtered(
    template: Mapping[str, Any], resources: Resources
) -> None:
    """Metrics are log lines without a level, which count as INFO (AWS docs, log-level filtering)."""
    quiet = {
        properties["Handler"]: properties["LoggingConfig"]
        for properties in functions(resources).values()
        if "SystemLogLevel" in properties["LoggingConfig"]
    }

    assert template["Conditions"]["LogsInfo"] == {"Fn::Equals": [{"Ref": "LogLevel"}, "INFO"]}
    assert quiet.keys() == {
        "receive_webhook.handler",
        "ingest_recording.handler",
        "publish_changes.handler",
    }
    for logging in quiet.values():
        assert logging["LogFormat"] == {"Fn::If": ["LogsInfo", "JSON", "Text"]}
        assert logging["SystemLogLevel"]["Fn::If"][:2] == ["LogsInfo", "WARN"]
        assert "ApplicationLogLevel" not in logging


def test_every_log_is_kept_for_a_limited_time(resources: Resources) -> None:
    for group in of_type(resources, "AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_no_policy_says_star(resources: Resources) -> None:
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"], name
        for statement in statements(role):
            assert statement["Resource"] != "*", name
            assert "*" not in str(statement["Action"]), name


def test_no_function_may_delete_a_recording(resources: Resources) -> None:
    for role in of_type(resources, "AWS::IAM::Role").values():
        for statement in statements(role):
            if "RecordingsTable" in str(statement["Resource"]):
                assert "dynamodb:DeleteItem" not in statement["Action"]


@pytest.mark.parametrize("handler", [path.stem for path in FUNCTIONS.glob("*.py")])
def test_a_role_grants_what_lambda_needs_for_its_functions_log_and_sources(
    template: Mapping[str, Any], handler: str
) -> None:
    """tests/rights.py proves what the code needs, and that a role grants no more."""
    function = rights.function_of(template, handler)

    assert rights.denied(rights.granted(template, function), rights.implied(function)) == []
    assert (ROOT / f"tests/functional/test_{handler}.py").exists()


def test_every_queue_is_encrypted(resources: Resources) -> None:
    """checkov does not count SQS's own key, so its finding is suppressed."""
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True


def test_every_queue_that_is_worked_on_has_a_dead_letter_queue(resources: Resources) -> None:
    queues = of_type(resources, "AWS::SQS::Queue")
    worked_on = {name for name in queues if not name.endswith("DeadLetterQueue")}

    assert worked_on == {"IngestQueue", "ArchiveQueue", "UrgentArchiveQueue"}
    for name in worked_on:
        target = queues[name]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]
        assert target["Fn::GetAtt"][0] in queues.keys() - worked_on
    for name in queues.keys() - worked_on:
        assert queues[name]["Properties"]["MessageRetentionPeriod"] == 14 * 86_400


def queue_sources(resources: Resources) -> list[tuple[Any, Any]]:
    """Return the functions that work on a queue, each with its event source."""
    return [
        (function, source["Properties"])
        for function in functions(resources).values()
        for source in function["Events"].values()
        if source["Type"] == "SQS"
    ]


def test_a_message_is_invisible_for_six_times_as_long_as_a_function_may_take(
    resources: Resources,
) -> None:
    assert len(queue_sources(resources)) == 3
    for function, source in queue_sources(resources):
        queue = resources[source["Queue"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] == 6 * function["Timeout"]


def test_partial_failures_are_asked_for(resources: Resources) -> None:
    for _, source in queue_sources(resources):
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_new_account_has_concurrency_left_for_webhooks(
    template: Mapping[str, Any], resources: Resources
) -> None:
    """A new account has 10 concurrent executions; SQS takes no less than 2 for a queue."""
    limits = [
        template["Parameters"][source["ScalingConfig"]["MaximumConcurrency"]["Ref"]]["Default"]
        for _, source in queue_sources(resources)
    ]
    one_each = {"FollowUpFunction", "SweepRecordingsFunction", "PublishChangesFunction"}

    assert limits == [2, 2, 2]
    assert sum(limits) + len(one_each) == 9


def test_every_rule_has_a_dead_letter_queue_that_it_may_send_to(resources: Resources) -> None:
    rules = of_type(resources, "AWS::Events::Rule")
    allowed = str(resources["EventRulesMaySend"]["Properties"]["PolicyDocument"]["Statement"][0])

    assert set(rules) == {"MeetingEndedRule", "RecordingStatusUpdateRule"}
    for name, rule in rules.items():
        [target] = rule["Properties"]["Targets"]
        assert target["DeadLetterConfig"]["Arn"] == {
            "Fn::GetAtt": ["EventRuleDeadLetterQueue", "Arn"]
        }
        assert name in allowed


def test_no_url_of_an_event_reaches_the_queue(resources: Resources) -> None:
    for rule in of_type(resources, "AWS::Events::Rule").values():
        [target] = rule["Properties"]["Targets"]
        assert not re.search(r"(?i)url", str(target["InputTransformer"]))


def test_the_catalogue_outlives_the_stack_and_its_mistakes(resources: Resources) -> None:
    table = resources["RecordingsTable"]

    assert table["DeletionPolicy"] == "Retain"
    assert table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["DeletionProtectionEnabled"] is True


def test_every_table_is_on_demand_encrypted_and_restorable(resources: Resources) -> None:
    for table in of_type(resources, "AWS::DynamoDB::Table").values():
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert properties["PointInTimeRecoverySpecification"] == {
            "PointInTimeRecoveryEnabled": True
        }


def test_what_is_over_expires_by_the_attribute_that_the_code_writes(resources: Resources) -> None:
    time_to_live = resources["WorkTable"]["Properties"]["TimeToLiveSpecification"]

    assert time_to_live == {"AttributeName": "expires_at", "Enabled": True}
    assert '"expires_at"' in (FUNCTIONS / "recordings/worklist.py").read_text()
    assert "TimeToLiveSpecification" not in resources["RecordingsTable"]["Properties"]


def test_no_index_carries_a_url(resources: Resources) -> None:
    for index in resources["RecordingsTable"]["Properties"]["GlobalSecondaryIndexes"]:
        assert index["Projection"]["ProjectionType"] == "INCLUDE"
        assert "artifacts" not in index["Projection"]["NonKeyAttributes"]


def test_every_index_holds_what_the_list_says_and_no_more(resources: Resources) -> None:
    properties = resources["RecordingsTable"]["Properties"]
    for index in properties["GlobalSecondaryIndexes"]:
        keys = {key["AttributeName"] for key in [*properties["KeySchema"], *index["KeySchema"]]}
        held = keys | set(index["Projection"]["NonKeyAttributes"])
        more = {"labelled", *ADDED} if index["IndexName"] == "by_label" else set()
        assert held - {"app_id"} == set(LISTED) | more


def test_files_are_erased_by_who_erases_recordings(resources: Resources) -> None:
    erasers = {
        name
        for name, role in of_type(resources, "AWS::IAM::Role").items()
        for statement in statements(role)
        if "s3:Delete" in str(statement["Action"])
    }

    assert erasers == {"ArchiveRecordingRole", "ServeCatalogueRole", "SweepRecordingsRole"}
    [policy] = resources["SweepRecordingsRole"]["Properties"]["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        condition, chosen = statement.get("Fn::If", ["", statement])[:2]
        rights = str(chosen["Action"])
        if "s3:Delete" in rights or "s3:ListBucketVersions" in rights:
            assert condition == "EraseOldFiles"
        if "events:" in rights:
            assert condition == "Retain"


def test_the_api_is_signed_for_and_needs_no_right_to_the_function(resources: Resources) -> None:
    properties = resources["Api"]["Properties"]

    assert resources["Api"]["Type"] == "AWS::Serverless::Api"
    assert properties["Auth"] == {
        "DefaultAuthorizer": "AWS_IAM",
        "InvokeRole": "NONE",
        # API Gateway answers a browser's preflights itself.
        "AddDefaultAuthorizerToCorsPreflight": False,
    }
    for name, function in functions(resources).items():
        for event in function["Events"].values():
            open_to_all = event["Properties"].get("Auth") == {"Authorizer": "NONE"}
            assert open_to_all is (name == "ReceiveWebhookFunction")


def test_a_browser_may_send_what_a_signed_request_needs(resources: Resources) -> None:
    cors = resources["Api"]["Properties"]["Cors"]

    assert cors["AllowHeaders"].strip("'").split(",") == [
        "Authorization",
        "Content-Type",
        "If-Match",
        "If-None-Match",
        "X-Amz-Content-Sha256",
        "X-Amz-Date",
        "X-Amz-Security-Token",
    ]
    # With it, a browser would send cookies, and `*` would be wrong.
    assert "AllowCredentials" not in cors


def test_without_allowed_origins_no_answer_of_the_gateway_and_no_bucket_names_one(
    template: Mapping[str, Any], resources: Resources
) -> None:
    assert template["Parameters"]["AllowedOrigins"]["Default"] == ""
    condition = template["Conditions"]["AllowOrigins"]
    assert condition == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AllowedOrigins"}, ""]}]}
    bucket = resources["ArchiveBucket"]["Properties"]["CorsConfiguration"]["Fn::If"]
    assert (bucket[0], bucket[2]) == ("AllowOrigins", {"Ref": "AWS::NoValue"})
    api = resources["Api"]["Properties"]
    any_origin = {"Fn::If": ["AllowOrigins", "'*'", {"Ref": "AWS::NoValue"}]}
    assert api["Cors"]["AllowOrigin"] == any_origin
    for answer in api["GatewayResponses"].values():
        headers = answer["ResponseParameters"]["Headers"]
        assert headers["Access-Control-Allow-Origin"] == any_origin


@pytest.mark.parametrize(
    ("origins", "is_accepted"),
    [
        ("", True),
        ("https://app.example.com", True),
        ("https://app.example.com:8443,http://localhost:3000,http://127.0.0.1:5173", True),
        ("*", False),
        ("https://*.example.com", False),
        ("http://app.example.com", False),
        ("https://app.example.com/", False),
        ("https://app.example.com, https://b.example.com", False),
        ("null", False),
        ("https://App.example.com", False),
    ],
)
def test_an_origin_is_named_as_a_browser_names_it(
    template: Mapping[str, Any], origins: str, is_accepted: bool
) -> None:
    pattern = template["Parameters"]["AllowedOrigins"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, origins)) is is_accepted


def test_throttling_and_integration_failures_are_told_as_503(resources: Resources) -> None:
    """RealtimeKit gives an event up on a 429."""
    responses = resources["Api"]["Properties"]["GatewayResponses"]

    assert {name: answer["StatusCode"] for name, answer in responses.items()} == {
        "THROTTLED": 503,
        "QUOTA_EXCEEDED": 503,
        "INTEGRATION_FAILURE": 503,
        "INTEGRATION_TIMEOUT": 503,
        "DEFAULT_5XX": 503,
        "MISSING_AUTHENTICATION_TOKEN": 403,
        "ACCESS_DENIED": 403,
        "INVALID_SIGNATURE": 403,
        "EXPIRED_TOKEN": 403,
    }
    for answer in responses.values():
        content_type = answer["ResponseParameters"]["Headers"]["Content-Type"]
        assert content_type == "'application/problem+json'"
        problem = json.loads(answer["ResponseTemplates"]["application/json"])
        assert problem["status"] == answer["StatusCode"]


def test_changes_are_told_in_order_and_none_is_dropped_in_silence(resources: Resources) -> None:
    stream = resources["RecordingsTable"]["Properties"]["StreamSpecification"]
    source = functions(resources)["PublishChangesFunction"]["Events"]["Changes"]["Properties"]

    assert stream == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["BisectBatchOnFunctionError"] is True
    assert source["StartingPosition"] == "TRIM_HORIZON"
    assert source["DestinationConfig"]["OnFailure"] == {
        "Type": "SQS",
        "Destination": {"Fn::GetAtt": ["PublishDeadLetterQueue", "Arn"]},
    }


def test_who_receives_webhooks_may_do_nothing_but_queue_them(resources: Resources) -> None:
    [logs, queue] = statements(resources["ReceiveWebhookRole"])

    assert logs["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert queue["Action"] == "sqs:SendMessage"
    assert queue["Resource"] == {"Fn::GetAtt": ["IngestQueue", "Arn"]}


def test_the_webhooks_function_imports_nothing_that_it_does_not_use() -> None:
    """RealtimeKit waits for this cold start, so it loads no DynamoDB, Secrets Manager or router."""
    source = (
        "import os, sys\n"
        "os.environ.update(INGEST_QUEUE_URL='q', ORGANIZATION_ID='', WEBHOOK_PUBLIC_KEY='',"
        " WEBHOOK_KEY_URL='https://api.realtime.cloudflare.com/x', AWS_DEFAULT_REGION='x')\n"
        "import receive_webhook\n"
        "print(*sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", source],
        cwd=FUNCTIONS,
        capture_output=True,
        text=True,
        check=True,
    )

    unused = {
        "boto3.dynamodb.types",
        "recordings.dynamodb",
        "recordings.catalogue",
        "recordings.realtimekit",
        "aws_lambda_powertools.event_handler",
        "aws_lambda_powertools.utilities.batch",
        "pydantic",
    }
    assert "recordings.webhook" in found.stdout.split()
    assert unused & set(found.stdout.split()) == set()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.realtime.cloudflare.com/.well-known/webhooks.json", True),
        ("https://api.dyte.io/.well-known/webhooks.json", True),
        ("http://127.0.0.1:8787/.well-known/webhooks.json", True),
        ("http://api.realtime.cloudflare.com/.well-known/webhooks.json", False),
        ("https://api.realtime.cloudflare.com.evil.example/x", False),
        ("https://evilcloudflare.com/x", False),
        ("https://user@api.realtime.cloudflare.com/x", False),
    ],
)
def test_the_webhooks_key_comes_from_realtimekit(
    template: Mapping[str, Any], url: str, allowed: bool
) -> None:
    pattern = template["Parameters"]["WebhookKeyUrl"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, url)) is allowed
    assert pattern == webhook.KEY_URL.pattern


def test_there_is_no_second_stage_that_no_throttle_covers(resources: Resources) -> None:
    """SAM adds a public stage "Stage" unless the API says its OpenAPI version."""
    assert resources["Api"]["Properties"]["OpenApiVersion"] == "3.0.1"


def test_no_token_is_a_parameter(template: Mapping[str, Any]) -> None:
    assert "SecretString" not in template["Resources"]["ApiTokenSecret"]["Properties"]
    assert "GenerateSecretString" not in template["Resources"]["ApiTokenSecret"]["Properties"]
    assert [name for name in template["Parameters"] if "Token" in name] == [
        "ApiTokenSecretArn",
        "ApiTokenSecretName",
    ]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.cloudflare.com/client/v4", True),
        ("https://proxy.example:8443/v4", True),
        ("http://127.0.0.1:8787/client/v4", True),
        ("http://localhost:8787", True),
        ("http://api.cloudflare.com/client/v4", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost@evil.example/", False),
        ("https://user:pass@api.cloudflare.com", False),
        ("https://api.cloudflare.com/v4?x=1", False),
        ("ftp://api.cloudflare.com", False),
    ],
)
def test_the_token_goes_over_https_or_stays_on_this_machine(
    template: Mapping[str, Any], url: str, allowed: bool
) -> None:
    pattern = template["Parameters"]["RealtimeKitApiUrl"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, url)) is allowed


def test_the_defaults_are_current(template: Mapping[str, Any]) -> None:
    assert template["Parameters"]["Runtime"]["Default"] == "python3.13"
    assert template["Parameters"]["Architecture"]["Default"] == "arm64"


def test_every_dead_letter_queue_has_an_alarm(resources: Resources) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm").values()
    watched = {
        alarm["Properties"]["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for alarm in alarms
        if alarm["Properties"].get("MetricName") == "ApproximateNumberOfMessagesVisible"
    }

    queues = of_type(resources, "AWS::SQS::Queue")
    assert watched == {name for name in queues if name.endswith("DeadLetterQueue")}


def test_the_bucket_is_private_encrypted_versioned_and_outlives_the_stack(
    resources: Resources,
) -> None:
    bucket = resources["ArchiveBucket"]
    properties = bucket["Properties"]

    for kept in (bucket, resources["ArchiveBucketPolicy"]):
        assert (kept["DeletionPolicy"], kept["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    ]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}


def test_the_bucket_is_reached_over_tls_only(resources: Resources) -> None:
    policy = resources["ArchiveBucketPolicy"]["Properties"]["PolicyDocument"]

    [statement] = policy["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Action"] == "s3:*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [
        {"Fn::GetAtt": ["ArchiveBucket", "Arn"]},
        {"Fn::Sub": "${ArchiveBucket.Arn}/*"},
    ]


def test_what_a_crash_leaves_is_removed_but_not_while_its_copy_may_go_on(
    resources: Resources,
) -> None:
    rules = resources["ArchiveBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]

    [days] = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in rules
        if "AbortIncompleteMultipartUpload" in rule
    ]
    assert days * timedelta(days=1) > RETENTION


def test_files_are_written_below_the_apps_own_prefix_and_by_one_function(
    resources: Resources,
) -> None:
    writers = [
        (name, statement["Resource"]["Fn::Sub"][0])
        for name, role in of_type(resources, "AWS::IAM::Role").items()
        for statement in statements(role)
        if "s3:PutObject" in statement["Action"]
    ]

    assert writers == [
        ("ArchiveRecordingRole", "arn:${AWS::Partition}:s3:::${Bucket}/${RealtimeKitAppId}/*")
    ]


def test_files_are_in_the_owners_bucket_and_in_nobody_elses_of_that_name(
    resources: Resources,
) -> None:
    owner = {"Fn::If": ["OwnBucket", {"Ref": "AWS::AccountId"}, {"Ref": "ArchiveBucketOwner"}]}
    files = [
        statement
        for role in of_type(resources, "AWS::IAM::Role").values()
        for statement in statements(role)
        if "s3:" in str(statement["Action"])
    ]

    assert files
    for statement in files:
        assert statement["Condition"] == {"StringEquals": {"aws:ResourceAccount": owner}}


def test_all_that_archives_can_be_switched_off(resources: Resources) -> None:
    conditional = {name for name, resource in resources.items() if "Condition" in resource}

    assert conditional - {"ApiTokenSecret", "AlarmTopic", "RetentionAnnouncedAlarm"} == {
        name
        for name in resources
        if name.startswith(("Archive", "UrgentArchive", "Artifacts", "RecordingsAtRisk"))
    }


def test_the_event_that_begins_a_sweep_is_tried_again(resources: Resources) -> None:
    """The next tick only goes on with what was begun."""
    [retries] = [
        function["EventInvokeConfig"]["MaximumRetryAttempts"]
        for function in functions(resources).values()
        if function["Handler"] == "sweep_recordings.handler"
    ]
    assert retries == 2


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        (".r2.cloudflarestorage.com,storage.googleapis.com,.amazonaws.com", True),
        ("media.example.org", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://media.example.org", False),
        ("https://media.example.org", False),
        ("*.example.org", False),
        ("com", False),
        ("", False),
    ],
)
def test_media_come_over_https_or_from_this_machine(
    template: Mapping[str, Any], hosts: str, allowed: bool
) -> None:
    pattern = template["Parameters"]["MediaHosts"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, hosts)) is allowed


def test_every_alarm_says_the_address_of_its_heading_in_the_runbook(resources: Resources) -> None:
    runbook = (ROOT / "docs/operations.md").read_text()
    anchors = {
        heading.lower().replace(" ", "-")
        for heading in re.findall("^### (.+)$", runbook, re.MULTILINE)
    }
    shared = {"throttledalarm", "realtimekit-is-down"}

    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        text = alarm["Properties"]["AlarmDescription"]["Fn::Sub"]
        _, _, anchor = text.partition(". Runbook: ${RunbookUrl}#")
        assert anchor in anchors, name
        assert anchor == name.lower() or anchor in shared, name
        assert name in runbook


def test_every_alarms_text_is_read_as_a_sentence_and_fits_into_cloudwatch(
    resources: Resources,
) -> None:
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        text = alarm["Properties"]["AlarmDescription"]["Fn::Sub"]
        assert re.match(r"[A-Za-z_]+ .+\. Runbook: ", text), name
        # CloudWatch takes 1,024; the address of the runbook comes on top.
        assert len(text) < 300, name


def test_a_tick_that_does_not_run_is_an_alarm(resources: Resources) -> None:
    """A throttled or disabled tick is no invocation and no error: the metric has no data."""
    missing_is_bad = {
        name: alarm["Properties"]
        for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items()
        if alarm["Properties"]["TreatMissingData"] == "breaching"
    }
    every_minute = {
        name
        for name, properties in functions(resources).items()
        for event in properties["Events"].values()
        if event["Properties"].get("Schedule") == "rate(1 minute)"
    }

    assert every_minute == {"FollowUpFunction", "SweepRecordingsFunction"}
    assert set(missing_is_bad) == {"FollowUpStoppedAlarm", "SweepsStoppedAlarm"}
    assert {
        properties["Dimensions"][0]["Value"]["Ref"] for properties in missing_is_bad.values()
    } == every_minute
    for properties in missing_is_bad.values():
        assert (properties["Namespace"], properties["MetricName"]) == ("AWS/Lambda", "Invocations")
        assert (properties["ComparisonOperator"], properties["Threshold"]) == (
            "LessThanThreshold",
            1,
        )
        assert properties["Period"] * properties["EvaluationPeriods"] == 900


def test_every_function_that_is_refused_concurrency_is_an_alarm(resources: Resources) -> None:
    watched = {
        alarm["Properties"]["Dimensions"][0]["Value"]["Ref"]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["MetricName"] == "Throttles"
    }

    assert watched == functions(resources).keys()


def test_the_apis_5xx_are_an_alarm(resources: Resources) -> None:
    alarm = resources["ApiErrorsAlarm"]["Properties"]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/ApiGateway", "5XXError")
    assert alarm["Dimensions"] == [
        {"Name": "ApiName", "Value": resources["Api"]["Properties"]["Name"]}
    ]


def test_realtimekits_outage_is_an_alarm_within_fifteen_minutes(resources: Resources) -> None:
    watched = {}
    for name in ("RealtimeKitSilentAlarm", "RealtimeKitFailingAlarm"):
        alarm = resources[name]["Properties"]
        watched[name] = alarm["MetricName"]
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 900
        assert alarm["DatapointsToAlarm"] == 2

    assert watched == {
        "RealtimeKitSilentAlarm": "UpstreamNoAnswer",
        "RealtimeKitFailingAlarm": "Upstream5xx",
    }


def test_the_runbook_explains_every_cause_of_realtimekits_that_health_names() -> None:
    runbook = (ROOT / "docs/operations.md").read_text()
    table = runbook[: runbook.index("## Alarms")]

    for cause in (
        "unauthorized",
        "unavailable",
        "throttled",
        "budget_spent",
        "not_found",
        "unintelligible",
        "other_region",
    ):
        assert f"`{cause}`" in table
    assert causes(realtimekit.RealtimeKitError) == {
        "Unauthorized",
        "Unavailable",
        "Throttled",
        "BudgetSpent",
        "NotFound",
        "Unintelligible",
    }


def test_the_runbook_lists_the_rights_to_a_bucket_in_another_account(resources: Resources) -> None:
    """Its policy has to allow what the roles' own policies do."""
    runbook = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| `(\w+)Arn` \| (.*s3:.*) \| (.*) \|$", runbook, re.MULTILINE)
    documented = {
        role: tuple({*re.findall(r"s3:\w+", actions)} for actions in cells) for role, *cells in rows
    }
    granted: dict[str, tuple[set[str], set[str]]] = {}
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for statement in statements(role):
            actions = (
                [statement["Action"]]
                if isinstance(statement["Action"], str)
                else statement["Action"]
            )
            if actions[0].startswith("s3:"):
                on_files = "/*" in str(statement["Resource"])
                granted.setdefault(name, (set(), set()))[not on_files].update(actions)

    assert documented == granted


def test_every_proof_in_the_threat_model_is_a_test() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text()))
    tests = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = {
        name for text in tests for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    }

    assert len(named) > 25
    assert named - defined == set()


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs/promises.md").read_text()
    promises = re.findall(r"^\| (\*\*.+?) \| (.+) \|$", page, re.MULTILINE)

    assert len(promises) > 10
    for promise, tests in promises:
        assert "::" in tests, promise
        for path, test in re.findall(r"`([\w/]+\.py)::(\w+)`", tests):
            source = (ROOT / "tests" / path).read_text()
            assert re.search(rf"^\s*def {test}\(", source, re.MULTILINE), test


def test_every_alarm_reaches_somebody_and_says_when_it_is_over(resources: Resources) -> None:
    topic = [{"Fn::If": ["CreateAlarmTopic", {"Ref": "AlarmTopic"}, {"Ref": "AlarmTopicArn"}]}]

    for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmActions"] == topic
        assert alarm["Properties"]["OKActions"] == topic


def test_who_reads_no_queue_and_no_stream_is_watched_for_errors(resources: Resources) -> None:
    """Only its callers wait for the API's function, and they see its errors."""
    watched = {
        alarm["Properties"]["Dimensions"][0]["Value"]["Ref"]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["MetricName"] == "Errors"
    }
    readers = {
        name
        for name, properties in functions(resources).items()
        for event in properties.get("Events", {}).values()
        if event["Type"] in ("SQS", "DynamoDB")
    }

    assert watched == functions(resources).keys() - readers - {"ServeCatalogueFunction"}


def causes(error: type[Exception]) -> set[str]:
    """Return the causes of an error's kinds, in the form of metric names."""
    kinds = [error, *(kind for child in error.__subclasses__() for kind in [child])]
    found = {
        str(getattr(kind, "cause", "unknown"))
        for kind in [*kinds, *(grand for child in kinds for grand in child.__subclasses__())]
    }
    return {cause.title().replace("_", "") for cause in found - {"unknown"}}


def emitted_metrics() -> set[str]:
    """Return the names of the metrics that the functions may emit."""
    sources = [*FUNCTIONS.glob("*.py"), *FUNCTIONS.glob("recordings/*.py")]
    source = "\n".join(path.read_text() for path in sources)
    named = re.findall(r'(?:add_metric|_observe)\(\s*"(\w+)"', source)
    tabled = re.findall(r'\("(\w+)", sweep\.', source)
    statuses = {realtimekit._class_of(status) for status in (0, 200, 302, 404, 429, 500)}
    archive = {archiver.OUT_OF_TIME, archiver.NOT_OFFERED, archiver.NOT_THERE}
    archive |= {archiver.COPY_LOST}
    own = {cause.title().replace("_", "") for cause in archive}
    upstream = causes(realtimekit.RealtimeKitError)
    files = causes(media.MediaError) | causes(texts.EmptyTextError) | causes(texts.NotTextError)
    return {
        *named,
        *tabled,
        *statuses,
        *(f"Postponed{cause}" for cause in upstream),
        *(f"ArchivePostponed{cause}" for cause in upstream | own | files),
    }


def dashboard_metrics(resources: Resources) -> set[str]:
    text, variables = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    body = json.loads(text)
    assert set(re.findall(r"\${(\w+)}", text)) - resources.keys() == variables.keys()
    return {
        metric[1]
        for widget in body["widgets"]
        for metric in widget["properties"]["metrics"]
        if metric[0] == "RealtimeKitRecordings/${AWS::StackName}"
    }


def test_the_dashboard_shows_every_metric_and_no_other(resources: Resources) -> None:
    assert dashboard_metrics(resources) == emitted_metrics()


def test_every_alarm_on_a_metric_of_ours_is_on_one_that_is_emitted(resources: Resources) -> None:
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        if properties["Namespace"] == {"Fn::Sub": "RealtimeKitRecordings/${AWS::StackName}"}:
            assert properties["MetricName"] in emitted_metrics(), name
            assert properties["Dimensions"] == [{"Name": "service", "Value": "recordings"}], name


def test_saved_queries_look_into_all_logs_for_what_is_logged(resources: Resources) -> None:
    sources = "\n".join(path.read_text() for path in FUNCTIONS.glob("*.py"))

    for name, query in of_type(resources, "AWS::Logs::QueryDefinition").items():
        text = query["Properties"]["QueryString"]
        for message in re.findall(r"filter message = '(.+)'", text):
            assert f'"{message}"' in sources, name
    looked_into = resources["RecordingQuery"]["Properties"]["LogGroupNames"]
    named = {group.get("Ref") or group["Fn::If"][1]["Ref"] for group in looked_into}
    assert named == of_type(resources, "AWS::Logs::LogGroup").keys()


LAMBDAS_OWN_LINES = [
    "[ERROR] ValueError: no such thing\nTraceback (most recent call last):\n  File …",
    "[ERROR] Runtime.ImportModuleError: Unable to import module 'follow_up': No module named 'x'",
    "2026-06-03T10:00:00.000Z 8f507cfc Task timed out after 50.05 seconds",
    "RequestId: 8f507cfc Error: Runtime exited with error: signal: killed\nRuntime.ExitError",
    "REPORT RequestId: 8f507cfc\tDuration: 50000.00 ms\tStatus: timeout",
    "INIT_REPORT Init Duration: 92.30 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError",
    '{"time":"…","type":"platform.report","record":{"requestId":"8f507cfc","status":"timeout"}}',
    '{"time":"…","type":"platform.initRuntimeDone","record":{"phase":"init","status":"error"}}',
    # The runtime client's line of an uncaught error, if the log's format is JSON.
    '{"timestamp": "…", "log_level": "ERROR", "errorMessage": "no such thing"}',
]
LAMBDAS_QUIET_LINES = [
    "INIT_START Runtime Version: python:3.13.v64\tRuntime Version ARN: arn:aws:lambda:…",
    "START RequestId: 8f507cfc Version: $LATEST",
    "REPORT RequestId: 8f507cfc\tDuration: 12.10 ms\tBilled Duration: 13 ms\tMemory Size: 256 MB",
    '{"level":"INFO","message":"postponed","cause":"unavailable"}',
    '{"level":"INFO","message":"recording ingested","status":"ERRORED"}',
    '{"time":"…","type":"platform.report","record":{"requestId":"8f507cfc","status":"success"}}',
]


def test_the_errors_query_finds_the_plain_text_of_crashes_and_kills(resources: Resources) -> None:
    """Lambda and its runtime client write those lines as plain text, not as our JSON."""
    text = resources["ErrorsQuery"]["Properties"]["QueryString"]
    [pattern] = re.findall(r"@message like /(.+)/", text)

    for line in LAMBDAS_OWN_LINES:
        assert re.search(pattern, line), line
    for line in LAMBDAS_QUIET_LINES:
        assert not re.search(pattern, line), line


def test_every_output_is_described_and_every_function_says_its_log(
    template: Mapping[str, Any], resources: Resources
) -> None:
    outputs = template["Outputs"]
    logs = {
        output["Value"]["Ref"] for name, output in outputs.items() if name.endswith("LogGroupName")
    }

    for name, output in outputs.items():
        assert re.fullmatch(r"The [^\n]+\.", output.get("Description", "")), name
        assert output.get("Condition") == _condition(resources, output["Value"]), name
    assert logs == of_type(resources, "AWS::Logs::LogGroup").keys()
    # A query of CloudWatch Logs Insights takes 50 log groups at most.
    assert len(logs) < 50


def _condition(resources: Resources, value: Any) -> str | None:
    """Return the condition of the resource that an output names, if it names one outright."""
    match value:
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            return resources[name].get("Condition") if name in resources else None
        case {"Fn::If": ["CreateBucket", *_]}:
            return "Archive"
    return None


def test_the_project_has_one_version(template: Mapping[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert template["Outputs"]["Version"]["Value"] == __version__ == project["version"]
    published = template["Metadata"]["AWS::ServerlessRepo::Application"]
    assert published["SemanticVersion"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
