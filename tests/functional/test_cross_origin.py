"""The API's answers to pages of other origins (CORS), by the parameter AllowedOrigins."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

import serve_catalogue
from api_calls import api_event
from doubles import ROOT, Context

FIRST, SECOND = "https://app.example.com", "http://localhost:3000"
ONE = "/recordings/{recording_id}"
NO_ID = {"recording_id": "nonsense"}


@pytest.fixture(scope="module")
def with_origins() -> Any:
    """Import the handler a second time, as it is deployed with two allowed origins."""
    file = ROOT / "functions" / "serve_catalogue.py"
    spec = importlib.util.spec_from_file_location("with_origins", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLOWED_ORIGINS", f"{FIRST},{SECOND}")
        spec.loader.exec_module(module)
    return module


def headers(module: Any, method: str, resource: str, origin: str, **path: str) -> dict[str, Any]:
    """Return the status of an answer as `status`, and its headers."""
    asked = {"Origin": origin} if origin else {}
    answer = module.handler(api_event(method, resource, {}, asked, None, **path), Context())
    found = {name: ",".join(values) for name, values in answer["multiValueHeaders"].items()}
    return {"status": answer["statusCode"], **found}


@pytest.mark.parametrize(
    ("method", "resource", "path", "status"),
    [
        ("GET", "/openapi.json", {}, 200),
        ("GET", ONE, NO_ID, 400),
        ("PATCH", ONE, NO_ID, 400),
        ("GET", "/no/such/route", {}, 404),
    ],
)
@pytest.mark.parametrize("origin", [FIRST, SECOND])
def test_answers_and_errors_name_the_allowed_origin_that_asked(
    with_origins: Any, method: str, resource: str, path: dict[str, str], status: int, origin: str
) -> None:
    found = headers(with_origins, method, resource, origin, **path)

    assert found["status"] == status
    assert found["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in found
    assert found["Access-Control-Expose-Headers"] == "ETag,Location,Retry-After"
    assert found["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["", "null", "https://evil.example", f"{FIRST}.evil.example", "http://app.example.com"],
)
def test_no_other_origin_is_named(with_origins: Any, origin: str) -> None:
    found = headers(with_origins, "GET", "/openapi.json", origin)

    assert "Access-Control-Allow-Origin" not in found


def test_without_allowed_origins_nothing_is_said_of_origins() -> None:
    found = headers(serve_catalogue, "GET", "/openapi.json", FIRST)

    assert found["status"] == 200
    assert [name for name in found if name.startswith("Access-Control") or name == "Vary"] == []
