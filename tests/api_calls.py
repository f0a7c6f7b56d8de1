"""Calls of the API as API Gateway makes them, and its answers as the OpenAPI document has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openapi_schema_validator import OAS31Validator

from doubles import ROOT, sample

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())


@dataclass
class Reply:
    """An answer as API Gateway would send it."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: Any


def resolved(node: Any) -> Any:
    """Return a part of the document, with its references followed where they stand alone."""
    while "$ref" in node:
        path = node["$ref"].removeprefix("#/").split("/")
        node = DOCUMENT
        for name in path:
            node = node[name]
    return node


def expect_documented(method: str, resource: str, reply: Reply) -> None:
    """Assert that the OpenAPI document has exactly this answer."""
    operation = DOCUMENT["paths"][resource][method.lower()]
    response = resolved(operation["responses"][str(reply.status)])
    content = response.get("content", {})
    if not content:
        assert reply.body is None
        return
    schema = {**content[reply.content_type]["schema"], "components": DOCUMENT["components"]}
    OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).validate(reply.body)
    for name, header in response.get("headers", {}).items():
        if name in reply.headers:
            OAS31Validator(header["schema"]).validate(reply.headers[name])
    undocumented = reply.headers.keys() - response.get("headers", {}).keys()
    assert undocumented == set()


def api_event(
    method: str,
    resource: str,
    query: Mapping[str, str | list[str]],
    headers: Mapping[str, str],
    body: str | None,
    **path: str,
) -> dict[str, Any]:
    """Return an event as API Gateway makes it."""
    values = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
    event: dict[str, Any] = sample("serve-catalogue.get-recording")
    event |= {"httpMethod": method, "resource": resource, "body": body}
    event["path"] = resource.format(**path)
    event["pathParameters"] = path or None
    event["multiValueQueryStringParameters"] = values or None
    event["queryStringParameters"] = {name: last[-1] for name, last in values.items()} or None
    event["multiValueHeaders"] |= {name: [value] for name, value in headers.items()}
    event["headers"] |= headers
    return event
