"""Fails each test in which the API answers what the schema does not list, or not as the schema says.

A plugin of tests/conftest.py. A middleware compares every answer of every test with the schema: status, type,
a problem's code, and the body. Web servers that a test starts report in the same way if their settings are
`tests.recorded_settings`.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from drf_spectacular.generators import SchemaGenerator

from config.codes import REGISTRY
from config.problems import MEDIA_TYPE

#: Names the file to which this process and those that it starts write what is not listed.
REPORT = "TENANTRY_CONTRACT_REPORT"
MIDDLEWARE = "tests.contract.ContractMiddleware"
PARAMETER = re.compile(r"\{\w+\}|<(?:\w+:)?\w+>|\(\?P<\w+>[^)]*\)")


class ContractMiddleware:
    """Stands before all others, so that it sees what the client gets."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for mistake in mistakes_of(request, response):
            with Path(os.environ[REPORT]).open("a") as report:
                report.write(f"{request.method} {request.path}: {response.status_code}: {mistake}\n")
        return response


def mistakes_of(request: HttpRequest, response: HttpResponse) -> list[str]:
    """In what an answer departs from the schema. Addresses that are not in the schema have no mistakes."""
    try:
        route = resolve(request.path_info, urlconf="config.api").route
    except Resolver404:
        return []
    path = path_of(route)
    if path not in operations():
        return [f"{path} is not in the schema"]
    method = "get" if request.method == "HEAD" else str(request.method).lower()
    operation = operations()[path].get(method)
    is_problem = response.status_code >= 400
    if operation is None:
        return [] if not is_problem or _code(response) in REGISTRY else ["the code is not registered"]
    answer = operation["responses"].get(str(response.status_code))
    if answer is None:
        return [f"the status is not listed (code {_code(response)})"]
    if "content" not in answer:
        return ["there is a body"] if response.content else []
    [media_type, content] = next(iter(answer["content"].items()))
    if response["Content-Type"] != media_type:
        return [f"the type is {response['Content-Type']}"]
    if is_problem and _code(response) not in content["examples"]:
        return [f"the code {_code(response)} is not listed"]
    if request.method == "HEAD":
        return []
    errors = _validator(json.dumps(content["schema"])).iter_errors(json.loads(response.content))
    return [f"{error.json_path}: {error.message}" for error in errors]


def path_of(route: str) -> str:
    """A route of Django's as a path whose parameters have no names."""
    return PARAMETER.sub("{}", "/" + route.replace("^", "").removesuffix("$"))


def _code(response: HttpResponse) -> Any:
    return json.loads(response.content).get("code") if response.get("Content-Type") == MEDIA_TYPE else None


@cache
def schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator
    described: dict[str, Any] = generator(urlconf="config.api").get_schema(public=True)
    return described


@cache
def operations() -> dict[str, dict[str, Any]]:
    """By path, whose parameters have no names, and by method."""
    return {PARAMETER.sub("{}", path): methods for path, methods in schema()["paths"].items()}


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
    from django.conf import settings

    descriptor, os.environ[REPORT] = tempfile.mkstemp(prefix="tenantry-contract-")
    os.close(descriptor)
    settings.MIDDLEWARE.insert(0, MIDDLEWARE)


def pytest_unconfigure(config: pytest.Config) -> None:
    Path(os.environ[REPORT]).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    if mistakes := take_report():
        pytest.fail(f"These answers are not in the schema:\n{mistakes}", pytrace=False)
    return result


def take_report() -> str:
    """What was written since the last call."""
    report = Path(os.environ[REPORT])
    text = report.read_text()
    if text:
        report.write_text("")
    return text
