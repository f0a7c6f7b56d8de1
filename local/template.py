"""The template as data, and its packaging as `sam package` does it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A YAML loader that knows CloudFormation's short forms, such as !Ref."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode), f"!{suffix} takes no mapping"  # noqa: S101
    value = loader.construct_scalar(node)
    return {name: value.split(".", 1) if suffix == "GetAtt" else value}


_Loader.add_multi_constructor("!", _intrinsic)


def load(path: Path) -> dict[str, Any]:
    """Return the template with its short forms written out: !Ref x becomes {"Ref": x}.

    Raise `ValueError` if the file is not a mapping.
    """
    loaded = yaml.load(path.read_text(), _Loader)  # noqa: S506
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} is not a template: its top level must be a mapping.")
    return loaded


def package(path: Path, upload: Callable[[str, bytes], str], bootstrap: str | None = None) -> str:
    """Upload each folder of code and return the template's text with the uploads' addresses.

    `upload` takes a name and a zip file's bytes, and returns an s3:// address. With a `bootstrap`
    script, the functions run on `provided.al2023` by that script, which is added to each package.
    The IAM statements are then adapted to the emulator's IAM.
    """
    template = load(path)
    addresses: dict[str, str] = {}
    for properties in _functions(template):
        folder = properties.get("CodeUri")
        if folder is not None:
            if folder not in addresses:
                zipped = _zip(path.parent / folder, bootstrap)
                addresses[folder] = upload(f"{len(addresses)}.zip", zipped)
            properties["CodeUri"] = addresses[folder]
        if bootstrap and "Runtime" in properties:
            properties["Runtime"] = "provided.al2023"
    if bootstrap:
        _adapt_rights(template)
    return json.dumps(template)


def _adapt_rights(template: Mapping[str, Any]) -> None:
    """Change the statements on which the emulator's IAM differs from AWS's, for three reasons.

    - ministack wants the right SendMessageBatch, which AWS includes in SendMessage: add it.
    - ministack does not know the condition keys events:source and aws:ResourceAccount: remove
      conditions that use them.
    - ministack does not speak TLS, which the bucket's policy requires: remove the policy.
    """
    for statement in statements(template):
        if statement["Action"] == "sqs:SendMessage":
            statement["Action"] = ["sqs:SendMessage", "sqs:SendMessageBatch"]
        if re.search("events:source|aws:ResourceAccount", str(statement.get("Condition"))):
            del statement["Condition"]
    for name, resource in list(template["Resources"].items()):
        if resource["Type"] == "AWS::S3::BucketPolicy":
            del template["Resources"][name]


def statements(template: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the statements of all roles' policies.

    A statement that depends on a template condition is yielded as if the condition were true.
    """
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def _functions(template: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield template["Globals"]["Function"]
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            yield resource["Properties"]


def _zip(folder: Path, bootstrap: str | None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
        if bootstrap:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, bootstrap)
    return content.getvalue()
