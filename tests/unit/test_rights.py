"""tests/rights.py itself, which compares the functions' calls with their roles."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

import rights
from doubles import APP_ID
from rights import Right

TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Copy": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "Handler": "copy.handler",
                "Role": {"Fn::GetAtt": ["CopyRole", "Arn"]},
                "LoggingConfig": {"LogGroup": {"Ref": "CopyLog"}},
                "Events": {
                    "Queue": {
                        "Type": "SQS",
                        "Properties": {"Queue": {"Fn::GetAtt": ["Jobs", "Arn"]}},
                    }
                },
            },
        },
        "CopyRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "Policies": [
                    {
                        "PolicyDocument": {
                            "Statement": [
                                {
                                    "Action": "dynamodb:Query",
                                    "Resource": {"Fn::Sub": "${Rows.Arn}/index/by_time"},
                                },
                                {
                                    "Fn::If": [
                                        "Archive",
                                        {
                                            "Action": ["s3:GetObject", "s3:PutObject"],
                                            "Resource": {
                                                "Fn::Sub": [
                                                    "arn:${AWS::Partition}:s3:::${To}/${RealtimeKitAppId}/*",
                                                    {"To": {"Ref": "ArchiveBucket"}},
                                                ]
                                            },
                                        },
                                        {"Ref": "AWS::NoValue"},
                                    ]
                                },
                                {
                                    "Action": "events:PutEvents",
                                    "Resource": {"Fn::GetAtt": ["Bus", "Arn"]},
                                    "Condition": {"StringEquals": {"events:source": "ours"}},
                                },
                            ]
                        }
                    }
                ]
            },
        },
    }
}
GRANTS = {
    Right("dynamodb:Query", "Rows/index/by_time"),
    Right("s3:GetObject", f"ArchiveBucket/{APP_ID}/*"),
    Right("s3:PutObject", f"ArchiveBucket/{APP_ID}/*"),
    Right("events:PutEvents", "Bus", "ours"),
}


def test_a_roles_rights_are_read_from_the_template() -> None:
    function = rights.function_of(TEMPLATE, "copy")

    assert rights.granted(TEMPLATE, function) == GRANTS
    assert rights.implied(function) == {
        Right("logs:CreateLogStream", "CopyLog"),
        Right("logs:PutLogEvents", "CopyLog"),
        Right("sqs:ReceiveMessage", "Jobs"),
        Right("sqs:DeleteMessage", "Jobs"),
        Right("sqs:GetQueueAttributes", "Jobs"),
    }


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "needs"),
    [
        ("dynamodb", "GetItem", {"TableName": "T"}, ["dynamodb:GetItem on T"]),
        (
            "dynamodb",
            "Query",
            {"TableName": "T", "IndexName": "i"},
            ["dynamodb:Query on T/index/i"],
        ),
        ("dynamodb", "Query", {"TableName": "T"}, ["dynamodb:Query on T"]),
        (
            "dynamodb",
            "BatchWriteItem",
            {"RequestItems": {"T": [], "U": []}},
            ["dynamodb:BatchWriteItem on T", "dynamodb:BatchWriteItem on U"],
        ),
        ("sqs", "SendMessageBatch", {"QueueUrl": "https://x/1/Q"}, ["sqs:SendMessage on Q"]),
        (
            "s3",
            "HeadObject",
            {"Bucket": "archive-bucket", "Key": "k"},
            ["s3:GetObject on ArchiveBucket/k"],
        ),
        ("s3", "UploadPart", {"Bucket": "b", "Key": "k"}, ["s3:PutObject on b/k"]),
        ("s3", "ListObjectVersions", {"Bucket": "b"}, ["s3:ListBucketVersions on b"]),
        (
            "s3",
            "DeleteObjects",
            {"Bucket": "b", "Delete": {"Objects": [{"Key": "k", "VersionId": "1"}]}},
            ["s3:DeleteObject on b/k", "s3:DeleteObjectVersion on b/k"],
        ),
        (
            "secretsmanager",
            "GetSecretValue",
            {"SecretId": "realtimekit-api-token"},
            ["secretsmanager:GetSecretValue on ApiTokenSecret"],
        ),
        (
            "events",
            "PutEvents",
            {"Entries": [{"EventBusName": "Bus", "Source": "ours"}]},
            ["events:PutEvents on Bus"],
        ),
        ("kms", "Decrypt", {"KeyId": "k"}, ["kms:Decrypt on ?"]),
        ("dynamodb", "ListTables", {}, ["dynamodb:ListTables on ?"]),
    ],
)
def test_a_call_needs_these_rights(
    service: str, operation: str, parameters: dict[str, Any], needs: list[str]
) -> None:
    assert sorted(map(str, rights.needed(service, operation, parameters))) == needs


@pytest.mark.parametrize(
    ("call", "denied"),
    [
        (Right("dynamodb:Query", "Rows/index/by_time"), []),
        (Right("dynamodb:Query", "Rows"), ["dynamodb:Query on Rows"]),
        (Right("dynamodb:Query", "Rows/index/other"), ["dynamodb:Query on Rows/index/other"]),
        (Right("dynamodb:PutItem", "Rows"), ["dynamodb:PutItem on Rows"]),
        (Right("s3:PutObject", f"ArchiveBucket/{APP_ID}/a/b.mp4"), []),
        (Right("s3:PutObject", "ArchiveBucket/other/b"), ["s3:PutObject on ArchiveBucket/other/b"]),
        (Right("events:PutEvents", "Bus", "ours"), []),
        (Right("events:PutEvents", "Bus", "theirs"), ["events:PutEvents on Bus"]),
        (Right("kms:Decrypt", "?"), ["kms:Decrypt on ?"]),
    ],
)
def test_what_is_not_granted_is_denied(call: Right, denied: list[str]) -> None:
    assert rights.denied(GRANTS, {call}) == denied


def test_what_no_call_needs_is_said() -> None:
    called = {
        Right("dynamodb:Query", "Rows/index/by_time"),
        Right("s3:PutObject", f"ArchiveBucket/{APP_ID}/a"),
        Right("events:PutEvents", "Bus", "ours"),
    }

    assert rights.unused(GRANTS, called) == [f"s3:GetObject on ArchiveBucket/{APP_ID}/*"]
    assert (
        rights.unused(GRANTS, called | {Right("s3:GetObject", f"ArchiveBucket/{APP_ID}/a")}) == []
    )


def test_only_what_is_called_while_a_handler_runs_is_its_own(dynamodb: Any) -> None:
    called: set[Right] = set()
    dynamodb.describe_table(TableName="WorkTable")
    with rights.calls.noted(called):
        dynamodb.get_item(TableName="WorkTable", Key={"work_id": {"S": "x"}})
        boto3.client("secretsmanager").create_secret(Name="s", SecretString=json.dumps({}))
    dynamodb.delete_table(TableName="WorkTable")

    assert called == {
        Right("dynamodb:GetItem", "WorkTable"),
        Right("secretsmanager:CreateSecret", "?"),
    }


def test_a_url_that_is_signed_is_a_call() -> None:
    called: set[Right] = set()
    with rights.calls.noted(called):
        boto3.client("s3").generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})

    assert called == {Right("s3:GetObject", "b/k")}
