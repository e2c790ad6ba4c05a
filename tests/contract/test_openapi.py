from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator

from service.api.app import create_app, path_table
from service.api.openapi import openapi_document
from tests.support.mounted_api import MountedApi
from tests.support.openapi import Document

# The contract's routes and the status of a success.
ROUTES = {
    ("POST", "/v1/classify"): "200",
    ("POST", "/v1/occupations"): "202",
    ("GET", "/v1/occupations"): "200",
    ("GET", "/v1/occupations/{id}"): "200",
    ("DELETE", "/v1/occupations/{id}"): "204",
    ("POST", "/v1/occupations/{id}/examples"): "202",
    ("GET", "/v1/occupations/{id}/examples"): "200",
    ("DELETE", "/v1/occupations/{id}/examples/{example_id}"): "204",
    ("POST", "/v1/occupations/{id}/suggest"): "200",
    ("GET", "/v1/occupations/{id}/versions"): "200",
    ("GET", "/v1/occupations/{id}/versions/{number}"): "200",
    ("GET", "/v1/occupations/{id}/versions/{number}/card"): "200",
    ("PUT", "/v1/occupations/{id}/champion"): "200",
    ("GET", "/v1/registrations"): "200",
    ("GET", "/v1/registrations/{id}"): "200",
    ("DELETE", "/v1/registrations/{id}"): "200",
    ("GET", "/livez"): "200",
    ("GET", "/readyz"): "200",
    ("GET", "/metrics"): "200",
}
DOCUMENT = Document(openapi_document(create_app()))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every request and reply body that the document declares, with its place."""
    for (method, path), operation in DOCUMENT.operations().items():
        for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{method} {path} {media_type}", body
        for status, reply in operation["responses"].items():
            for media_type, body in reply.get("content", {}).items():
                yield f"{method} {path} {status} {media_type}", body


def test_the_service_serves_this_document_and_a_page_that_shows_it(api: MountedApi) -> None:
    assert api.client.get("/openapi.json").json() == DOCUMENT.content
    page = api.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert api.client.get(asset).status_code == 200


def test_the_page_loads_nothing_from_another_host(api: MountedApi) -> None:
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', api.client.get("/docs").text)


def test_the_document_has_the_structure_of_openapi_3_1() -> None:
    assert DOCUMENT.content["openapi"].startswith("3.1.")
    OpenAPI.model_validate(DOCUMENT.content)


def test_every_schema_is_a_json_schema_of_the_2020_draft() -> None:
    for schema in DOCUMENT.content["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for _, body in _bodies():
        Draft202012Validator.check_schema(body["schema"])


def test_every_reference_leads_to_a_component_and_every_component_is_used() -> None:
    references = {node["$ref"] for node in _nodes(DOCUMENT.content) if "$ref" in node}
    components = {
        f"#/components/schemas/{name}" for name in DOCUMENT.content["components"]["schemas"]
    }
    assert references == components


def test_every_route_of_the_contract_is_documented_and_no_other() -> None:
    assert set(DOCUMENT.operations()) == set(ROUTES)


@pytest.mark.parametrize(("route", "status"), ROUTES.items())
def test_every_operation_declares_its_success_and_its_problems(
    route: tuple[str, str], status: str
) -> None:
    operation = DOCUMENT.operations()[route]
    # Which routes need a key is in test_access.py.
    refusals = set(operation["responses"]) & {"401", "403", "429"}
    assert set(operation["responses"]) - refusals == {status, "4XX", "5XX"}
    for error in ("4XX", "5XX", *refusals):
        content = operation["responses"][error]["content"]
        assert content == {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        }


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_tag() -> None:
    operations = DOCUMENT.operations().values()
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_every_parameter_of_a_path_is_declared() -> None:
    for (_, path), operation in DOCUMENT.operations().items():
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_every_example_validates_against_its_own_schema() -> None:
    examples = [(place, body) for place, body in _bodies() if "example" in body]
    for _, body in examples:
        DOCUMENT.validator(body["schema"]).validate(body["example"])
    shown = {place.split(" application")[0] for place, _ in examples}
    assert {
        "POST /v1/classify",
        "POST /v1/occupations",
        "POST /v1/occupations/{id}/suggest",
        "POST /v1/occupations/{id}/suggest 200",
    } <= shown


def test_every_default_validates_against_its_own_schema() -> None:
    for node in _nodes(DOCUMENT.content["components"]["schemas"]):
        if "default" in node and ("type" in node or "anyOf" in node or "$ref" in node):
            DOCUMENT.validator(node).validate(node["default"])


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/classify"), ("POST", "/v1/occupations")]
)
def test_the_example_of_a_request_can_be_sent_as_it_is(
    api: MountedApi, method: str, path: str
) -> None:
    operation = DOCUMENT.operations()[method, path]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert str(api.client.request(method, path, json=example).status_code) == ROUTES[method, path]


def test_the_document_refuses_what_the_service_refuses() -> None:
    validator = DOCUMENT.validator({"$ref": "#/components/schemas/ClassifyRequest"})
    assert validator.is_valid({"experiences": [{"text": "x"}]})
    refused: list[list[dict[str, Any]]] = [
        [],
        [{"text": "x"}] * 257,
        [{"text": "x" * 10_001}],
        [{"text": 3}],
        [{"text": "x", "note": 1}],
    ]
    for experiences in refused:
        assert not validator.is_valid({"experiences": experiences})


def test_every_documented_path_is_a_metric_label_of_its_own() -> None:
    table = path_table(create_app())
    for path in DOCUMENT.content["paths"]:
        assert table.label(path.format(id="sommelier", number=3, example_id=7)) == path
