"""Whether tests/contract.py notices when the API answers what the schema does not list."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, RequestFactory, override_settings

from config import api, problems
from config.permissions import path_of
from config.problems import MEDIA_TYPE
from tenants.models import Tenant
from tests import contract
from tests.people import add_user, client_of

ORDERS = "/api/v1/orders/"
TOKEN = {"token": "a" * 64, "expires_at": "2026-11-26T09:00:00Z"}
MADE = {"Location": "http://acme.localhost/api/v1/tokens/current/"}
WRONG = problems.render(401, code="wrong_credentials", detail="")
WRONG.headers["WWW-Authenticate"] = "Bearer"
Middleware = Callable[[HttpRequest], HttpResponse]


def teapot(get_response: Middleware) -> Middleware:
    """A middleware whose answer no schema lists."""
    return lambda request: JsonResponse({}, status=418)


def mistakes(method: str, path: str, answer: HttpResponse) -> list[str]:
    request = RequestFactory().generic(method.upper(), path)
    return contract.mistakes_of(contract.answer_of(request, answer))


with_teapot = override_settings(MIDDLEWARE=[contract.MIDDLEWARE, "tests.test_contract.teapot"])


@pytest.mark.xfail(strict=True, raises=pytest.fail.Exception, reason="The answer is not in the schema")
@pytest.mark.django_db
def test_an_answer_that_is_not_listed_fails_its_test() -> None:
    with with_teapot:
        Client().get(ORDERS)


@pytest.mark.django_db
def test_a_mistake_names_the_request() -> None:
    with with_teapot:
        Client().get(ORDERS)
    assert contract.take_mistakes() == ["GET /api/v1/orders/: 418: the status is not listed (code None)"]
    assert contract.take_mistakes() == []


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (problems.render(418, code="invalid", detail=""), "the status is not listed"),
        (problems.render(401, code="invalid_token", detail=""), "the code invalid_token is not listed"),
        (problems.render(400, code="made_up", detail=""), "the code made_up is not listed"),
        (JsonResponse({"code": "invalid"}, status=400), "the type is application/json"),
        (HttpResponse("<h1>Not Found</h1>", status=404), "the type is text/html"),
        (JsonResponse({"detail": "", "code": "invalid"}, status=400, content_type=MEDIA_TYPE), "'type' is a required"),
        (JsonResponse(TOKEN, status=200), "the status is not listed"),
        (JsonResponse({**TOKEN, "token": 7}, status=201), "$.token: 7 is not of type 'string'"),
        (JsonResponse({"token": "a"}, status=201), "'expires_at' is a required property"),
        (JsonResponse([TOKEN], status=201, safe=False), "is not of type 'object'"),
        (problems.render(401, code="wrong_credentials", detail=""), "WWW-Authenticate is missing"),
        (JsonResponse(TOKEN, status=201, headers={"ETag": "x"}), "the header ETag is not listed"),
    ],
)
def test_what_is_a_mistake(answer: HttpResponse, mistake: str) -> None:
    found = mistakes("post", "/api/v1/tokens/", answer)
    assert mistake in "\n".join(found)


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("post", "/api/v1/tokens/", JsonResponse(TOKEN, status=201)),
        ("post", "/api/v1/tokens/", JsonResponse(TOKEN, status=201, headers=MADE)),
        ("post", "/api/v1/tokens/", WRONG),
        ("head", ORDERS, HttpResponse(content_type="application/json")),
        ("delete", ORDERS, problems.render(405, code="method_not_allowed", detail="")),
        ("options", ORDERS, JsonResponse({})),
        ("get", "/api/v1/schema/", HttpResponse("openapi: 3.0.3")),
        ("get", "/nowhere/", HttpResponse(status=404)),
    ],
)
def test_what_is_none(method: str, path: str, answer: HttpResponse) -> None:
    assert mistakes(method, path, answer) == []


def test_a_method_that_is_not_in_the_schema_has_registered_codes() -> None:
    answer = problems.render(405, code="made_up", detail="")
    assert mistakes("delete", ORDERS, answer) == ["the code is not registered"]


def test_null_is_what_the_schema_says(acme: Tenant) -> None:
    client = client_of(acme, add_user(acme, "ada", "owner"))
    page = client.get(ORDERS)
    assert page.json()["next"] is None
    assert mistakes("get", ORDERS, page) == []
    [mistake] = mistakes("get", ORDERS, JsonResponse({**page.json(), "results": None}))
    assert "results" in mistake


def test_every_address_of_both_hosts_is_in_the_schema() -> None:
    routes: list[Any] = [*api.public_urls, *api.tenant_urls]
    paths = {path_of(f"api/v1/{route.pattern}") for route in routes if route.name not in ("schema", "docs")}
    assert paths == contract.operations().keys()


def test_the_middleware_stands_first() -> None:
    assert settings.MIDDLEWARE[0] == contract.MIDDLEWARE
