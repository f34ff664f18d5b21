"""Fails each test in which the API answers what the schema does not list, or not as the schema says.

A plugin of tests/conftest.py. A middleware compares every answer of every test with the schema: status, type,
a problem's code, headers and the body. Web servers that a test starts report in the same way if their settings are
`tests.recorded_settings`.
"""

import json
import os
import tempfile
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from drf_spectacular.generators import SchemaGenerator

from config.codes import REGISTRY
from config.openapi_headers import HEADERS
from config.permissions import PREFIX, path_of
from config.problems import MEDIA_TYPE
from idempotency.services import REPLAYED

#: Names the file to which this process, and those that it starts, write each answer.
RECORD = "TENANTRY_CONTRACT_RECORD"
MIDDLEWARE = "tests.contract.ContractMiddleware"


class Answer(NamedTuple):
    """What a client got."""

    method: str
    path: str
    status: int
    type: str
    body: str
    headers: dict[str, str]


class ContractMiddleware:
    """Stands before all others, and takes notes of what the client gets. They are read later: no test waits."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path_info.startswith(f"/{PREFIX}/") and not response.streaming:
            answer = answer_of(request, response)
            with Path(os.environ[RECORD]).open("a") as record:
                record.write(json.dumps(answer) + "\n")
        return response


def answer_of(request: HttpRequest, response: HttpResponse) -> Answer:
    content_type, body, headers = response.get("Content-Type", ""), response.content.decode(), dict(response.items())
    return Answer(str(request.method), request.path_info, response.status_code, content_type, body, headers)


def mistakes_of(answer: Answer) -> list[str]:
    """In what an answer departs from the schema. Addresses that are not in the schema have no mistakes."""
    try:
        route = resolve(answer.path, urlconf="config.api").route
    except Resolver404:
        return []
    path = path_of(route)
    if path not in operations():
        return [f"{path} is not in the schema"]
    operation = operations()[path].get("get" if answer.method == "HEAD" else answer.method.lower())
    if operation is None:
        is_fine = answer.status < 400 or _code(answer) in REGISTRY
        return [] if is_fine else ["the code is not registered"]
    listed = operation["responses"].get(str(answer.status))
    if listed is None:
        return [f"the status is not listed (code {_code(answer)})"]
    return [*_header_mistakes(answer, listed["headers"]), *_body_mistakes(answer, listed)]


def _header_mistakes(answer: Answer, listed: dict[str, Any]) -> list[str]:
    described = {*HEADERS, REPLAYED}
    unlisted = [name for name in answer.headers if name in described - listed.keys()]
    missing = [name for name in listed if HEADERS.get(name, {}).get("required") and name not in answer.headers]
    return [f"the header {name} is not listed" for name in unlisted] + [f"{name} is missing" for name in missing]


def _body_mistakes(answer: Answer, listed: dict[str, Any]) -> list[str]:
    if "content" not in listed:
        return ["there is a body"] if answer.body else []
    [(media_type, content)] = listed["content"].items()
    if answer.type != media_type:
        return [f"the type is {answer.type}"]
    if answer.status >= 400 and answer.method != "HEAD" and _code(answer) not in content["examples"]:
        return [f"the code {_code(answer)} is not listed"]
    if answer.method == "HEAD":
        return []
    errors = validator(content["schema"]).iter_errors(json.loads(answer.body))
    return [f"{error.json_path}: {error.message}" for error in errors]


def _code(answer: Answer) -> Any:
    return json.loads(answer.body).get("code") if answer.type == MEDIA_TYPE else None


@cache
def schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator
    described: dict[str, Any] = generator(urlconf="config.api").get_schema(public=True)
    return described


@cache
def operations() -> dict[str, dict[str, Any]]:
    """By path, as config/permissions.py writes it, and by method."""
    return {path.removeprefix(f"/{PREFIX}"): methods for path, methods in schema()["paths"].items()}


def validator(of: dict[str, Any]) -> Any:
    """Compares a value with a part of the schema."""
    return _validator(json.dumps(of))


@cache
def _validator(of: str) -> Any:
    document = {"components": {"schemas": schema()["components"]["schemas"]}, **json.loads(of)}
    return jsonschema.Draft4Validator(_as_json_schema(document))


def _as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 has `nullable` where JSON Schema has the type null."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {key: _as_json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [{"type": "null"}, converted]} if node.get("nullable") is True else converted


def pytest_configure(config: pytest.Config) -> None:
    descriptor, os.environ[RECORD] = tempfile.mkstemp(prefix="tenantry-contract-")
    os.close(descriptor)
    settings.MIDDLEWARE.insert(0, MIDDLEWARE)


def pytest_unconfigure(config: pytest.Config) -> None:
    Path(os.environ[RECORD]).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    if mistakes := take_mistakes():
        pytest.fail("These answers are not in the schema:\n" + "\n".join(mistakes), pytrace=False)
    return result


def take_mistakes() -> list[str]:
    """What is wrong with the answers since the last call."""
    record = Path(os.environ[RECORD])
    answers = [Answer(*json.loads(line)) for line in record.read_text().splitlines()]
    os.truncate(record, 0)
    return [
        f"{answer.method} {answer.path}: {answer.status}: {mistake}"
        for answer in answers
        for mistake in mistakes_of(answer)
    ]
