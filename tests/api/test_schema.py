from contextlib import closing
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tenants.models import Tenant


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator
    described: dict[str, Any] = generator(urlconf="config.api").get_schema(public=True)
    return described


def test_the_schema_is_valid_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--urlconf", "config.api")
    assert "openapi: 3" in capsys.readouterr().out


def test_the_paths_are_those_of_both_hosts(schema: dict[str, Any]) -> None:
    expected = {"tenants/", "tenants/{slug}/", "tokens/", "tokens/current/", "users/", "users/{id}/", "users/me/"}
    assert {f"/api/v1/{path}" for path in expected} <= schema["paths"].keys()


def test_every_operation_may_answer_with_a_problem(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}, (method, path)
    problem = schema["components"]["responses"]["Problem"]
    assert list(problem["content"]) == ["application/problem+json"]
    assert "Problem" in schema["components"]["schemas"]


@pytest.mark.parametrize("path", ["tenants/", "users/", "orders/", "orders/{id}/payments/"])
def test_each_creating_post_takes_an_idempotency_key(schema: dict[str, Any], path: str) -> None:
    operation = schema["paths"].get(f"/api/v1/{path}", {}).get("post")
    if operation is None:
        pytest.skip("needs billing")
    assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]]
    assert "Idempotent-Replayed" in operation["responses"]["201" if path != "tenants/" else "202"]["headers"]


def test_what_needs_no_token_says_so(schema: dict[str, Any]) -> None:
    for requirement in schema["paths"]["/api/v1/users/"]["post"]["security"]:
        assert "token" in requirement
    assert {} in schema["security"]
    for path in ("/api/v1/tenants/", "/api/v1/tokens/"):
        # openapi-python-client takes any requirement of an operation's own for a token.
        assert "security" not in schema["paths"][path]["post"]


def test_a_client_may_set_the_tenants_header_once_for_all(schema: dict[str, Any]) -> None:
    scheme = schema["components"]["securitySchemes"]["tenant"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Tenant")
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            requirements = operation.get("security", schema["security"])
            assert [("tenant" in requirement) for requirement in requirements] == [False, True], (method, path)


def test_the_servers_are_this_host_and_the_tenants(schema: dict[str, Any]) -> None:
    here, own = schema["servers"]
    assert here["url"] == "/"
    assert own["url"] == "http://{slug}.localhost:8000"
    assert own["variables"]["slug"]["default"] == "acme"


def test_requests_and_answers_are_described_apart(schema: dict[str, Any]) -> None:
    schemas = schema["components"]["schemas"]
    assert "password" in schemas["NewUserRequest"]["required"]
    assert "id" not in schemas["NewUserRequest"]["properties"]
    assert {"id", "created_at"} <= set(schemas["CreatedUser"]["required"])


def test_no_password_is_ever_answered(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert "assword" not in str(operation["responses"]), path
    for name in ("User", "CreatedUser", "Tenant", "SignedUp", "Token"):
        assert "password" not in schema["components"]["schemas"][name]["properties"]


@pytest.mark.parametrize("host", ["localhost", "acme.localhost"])
@pytest.mark.parametrize("debug", [True, False])
def test_the_documentation_is_on_both_hosts(acme: Tenant, host: str, debug: bool) -> None:
    # A token is of no use here, and must do no harm: the public host has no table to look it up in.
    client = APIClient(headers={"host": host, "authorization": "Bearer " + "a" * 64})
    with override_settings(DEBUG=debug):
        page = client.get("/api/v1/docs/", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert b"swagger-ui" in page.content
        schema = client.get("/api/v1/schema/?format=json")
        assert schema.json()["info"]["title"] == "Tenantry"


@pytest.mark.django_db
def test_the_documentation_s_files_are_served() -> None:
    client = APIClient(headers={"host": "localhost"})
    page = client.get("/api/v1/docs/", headers={"accept": "text/html"}).content.decode()
    assert "/static/drf_spectacular_sidecar/" in page
    files = ["drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js", "admin/css/base.css"]
    for file in files:
        with closing(client.get(f"/static/{file}")) as answer:
            assert answer.status_code == 200
