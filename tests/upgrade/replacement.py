"""The changes between two templates that lose data, or that CloudFormation refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Template = Mapping[str, Any]

# Properties whose change makes CloudFormation create a new, empty resource in place of the old one:
# createOnlyProperties and conditionalCreateOnlyProperties in CloudFormation's registry, as cfn-lint
# 1.58 ships it. Those of a function's events are properties of AWS::Lambda::EventSourceMapping.
CREATE_ONLY: Mapping[str, tuple[str, ...]] = {
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::DynamoDB::Table": ("TableName", "ImportSourceSpecification", "KeySchema"),
    "AWS::Events::EventBus": ("Name",),
    "AWS::Events::Rule": ("Name", "EventBusName"),
    "AWS::IAM::Role": ("Path", "RoleName"),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::Logs::QueryDefinition": (),
    "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix", "BucketNamespace"),
    "AWS::S3::BucketPolicy": ("Bucket",),
    "AWS::SNS::Topic": ("TopicName", "FifoTopic"),
    "AWS::SQS::Queue": ("FifoQueue", "QueueName"),
    "AWS::SQS::QueuePolicy": (),
    "AWS::SecretsManager::Secret": ("Name",),
    "AWS::Serverless::Api": ("StageName",),
    "AWS::Serverless::Function": ("FunctionName", "PackageType"),
    "event Api": ("RestApiId",),
    "event DynamoDB": ("Stream", "StartingPosition"),
    "event SQS": ("Queue",),
    "event Schedule": (),
}


def losses(old: Template, new: Template) -> Iterator[str]:
    """Yield each resource of the old template that an update to the new one deletes or replaces.

    The Metadata of resources, and the conditions on which they depend, are not compared.
    """
    before, after = dict(_resources(old)), dict(_resources(new))
    for name, resource in before.items():
        if name not in after:
            yield f"{name} is deleted"
        elif after[name]["Type"] != resource["Type"]:
            yield f"{name} is replaced: its type changes"
        else:
            for key in _changed(resource, after[name], CREATE_ONLY[resource["Type"]]):
                yield f"{name} is replaced: {key} changes"
            for attribute in _retyped(resource, after[name]):
                yield f"{name} is replaced: the type of its attribute {attribute} changes"


def refusals(old: Template, new: Template) -> Iterator[str]:
    """Yield each change of a table that CloudFormation or DynamoDB refuses.

    An update may create or delete one global index of a table, and can change no key and no
    projection of an index that exists (CloudFormation guide, AWS::DynamoDB::Table).
    """
    before, after = dict(_resources(old)), dict(_resources(new))
    for name, resource in before.items():
        if resource["Type"] != "AWS::DynamoDB::Table" or name not in after:
            continue
        indexes, wanted = _indexes(resource), _indexes(after[name])
        for index in sorted(indexes.keys() & wanted.keys()):
            for key in _changed(indexes[index], wanted[index], ("KeySchema", "Projection")):
                yield f"{name}: {key} of the index {index} changes under the same name"
        if len(created_or_deleted := sorted(indexes.keys() ^ wanted.keys())) > 1:
            listed = ", ".join(created_or_deleted)
            yield f"{name}: more than one index is created or deleted: {listed}"


def broken_promises(old: Template, new: Template) -> Iterator[str]:
    """Yield each parameter or output on which a deployed stack or its owner's code relies."""
    for section in ("Parameters", "Outputs"):
        for name in old[section].keys() - new[section].keys():
            yield f"{section}: {name} is gone"
    for name in new["Parameters"].keys() - old["Parameters"].keys():
        if "Default" not in new["Parameters"][name]:
            yield f"Parameters: {name} is new, and has no default"


def _resources(template: Template) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield resources by logical id, and the events of functions, which become resources."""
    for name, resource in template["Resources"].items():
        yield name, resource
        for event, source in resource.get("Properties", {}).get("Events", {}).items():
            yield f"{name}{event}", {**source, "Type": f"event {source['Type']}"}


def _changed(
    old: Mapping[str, Any], new: Mapping[str, Any], keys: tuple[str, ...]
) -> Iterator[str]:
    before, after = old.get("Properties", old), new.get("Properties", new)
    return (key for key in keys if before.get(key) != after.get(key))


def _retyped(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the attributes of a table's keys that change their type, which replaces the table."""
    before, after = (
        {
            definition["AttributeName"]: definition["AttributeType"]
            for definition in table.get("Properties", {}).get("AttributeDefinitions", ())
        }
        for table in (old, new)
    )
    return (name for name in before.keys() & after.keys() if before[name] != after[name])


def _indexes(table: Mapping[str, Any]) -> dict[str, Any]:
    indexes = table["Properties"].get("GlobalSecondaryIndexes", ())
    return {index["IndexName"]: index for index in indexes}
