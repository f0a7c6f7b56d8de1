"""The page to read and to try the API: what its document says of itself."""

from __future__ import annotations

import urllib3

from local.api_page import ApiPage


def test_the_page_says_that_it_signs_and_shows_nothing_that_cannot_be_tried() -> None:
    with ApiPage({}) as page:
        answer = urllib3.request("GET", page.url.replace("/api-docs/", "/openapi.json"))
    document = answer.json()

    used = {
        tag
        for path in document["paths"].values()
        for name, operation in path.items()
        if name in ("get", "post", "patch", "delete")
        for tag in operation["tags"]
    }
    assert {tag["name"] for tag in document["tags"]} == used
    assert "/webhooks/realtimekit" not in document["paths"]
    assert "securitySchemes" not in document["components"]
    assert "security" not in document
    assert document["info"]["description"].startswith("This page signs your requests")
