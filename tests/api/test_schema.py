from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from config.codes import REGISTRY
from config.examples import EXAMPLES
from config.permissions import TABLE, Reach
from tenants.models import Tenant
from tests import contract
from tests.people import add_user, client_of

OF_BILLING = {"OrderRequest", "Order", "Invoice", "NewPaymentRequest", "Payment"}


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
    expected |= {"confirmations/", "password-resets/", "passwords/", "users/{id}/link/"}
    assert {f"/api/v1/{path}" for path in expected} <= schema["paths"].keys()


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_operation_says_how_it_may_fail(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        assert "default" not in operation["responses"], name
        assert {"400", "406", "429", "500", "503"} <= operation["responses"].keys(), name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"]
                codes = answer["content"]["application/problem+json"]["examples"]
                assert {REGISTRY[code].status for code in codes} == {int(status)}, name


def test_codes_of_an_operation(schema: dict[str, Any]) -> None:
    def codes(method: str, path: str, status: str) -> set[str]:
        answer = schema["paths"][f"/api/v1/{path}"][method]["responses"][status]
        return set(answer["content"]["application/problem+json"]["examples"])

    assert codes("post", "users/", "409") == {"email_taken", "request_in_progress"}
    assert codes("patch", "users/{id}/", "409") == {"last_owner"}
    assert codes("post", "tokens/", "401") == {"wrong_credentials"}
    assert "401" not in schema["paths"]["/api/v1/tenants/{slug}/"]["get"]["responses"]
    assert codes("post", "jobs/{id}/retry/", "409") == {"illegal_state"}
    assert "400" in schema["paths"]["/api/v1/users/"]["get"]["responses"]


def test_every_operation_has_a_summary(schema: dict[str, Any]) -> None:
    summaries = [operation["summary"] for _, operation in operations(schema)]
    assert len(summaries) == len(set(summaries))
    for summary in summaries:
        assert 5 <= len(summary) <= 60
        assert not summary.endswith(".")


def test_every_body_has_an_example(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        answers = [answer for status, answer in operation["responses"].items() if status < "300"]
        for body in [*answers, operation.get("requestBody", {})]:
            for content in body.get("content", {}).values():
                component = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                if "results" in component["properties"]:
                    items = component["properties"]["results"]["items"]
                    component = schema["components"]["schemas"][items["$ref"].rpartition("/")[2]]
                assert "example" in component, name


def test_an_example_is_what_its_component_says(schema: dict[str, Any]) -> None:
    components = schema["components"]["schemas"]
    for name in EXAMPLES.keys() & components.keys():
        example = components[name]["example"]
        validator = contract.validator({"$ref": f"#/components/schemas/{name}"})
        assert [error.message for error in validator.iter_errors(example)] == [], name
        assert example.keys() <= components[name]["properties"].keys()


def test_no_example_is_left_over(schema: dict[str, Any]) -> None:
    assert schema["components"]["schemas"].keys() >= EXAMPLES.keys() - OF_BILLING


def test_the_examples_of_requests_are_accepted(acme: Tenant, public_client: APIClient) -> None:
    ian = add_user(acme, "ian", "owner")
    add_user(acme, "abe", "owner")
    client = client_of(acme, ian)
    assert public_client.post("/api/v1/tenants/", EXAMPLES["SignUpRequest"]).status_code == 202
    if apps.is_installed("billing"):
        assert client.post("/api/v1/orders/", EXAMPLES["OrderRequest"]).status_code == 201
    assert client.post("/api/v1/users/", EXAMPLES["NewUserRequest"]).status_code == 201
    credentials = {**EXAMPLES["CredentialsRequest"], "email": ian.email}
    assert client.post("/api/v1/tokens/", credentials).status_code == 201
    reset = {**EXAMPLES["PasswordResetRequest"], "email": ian.email}
    assert client.post("/api/v1/password-resets/", reset).status_code == 202
    for path in ("confirmation", "password"):
        answer = client.post(f"/api/v1/{path}s/", EXAMPLES[f"{path.title()}Request"])
        assert answer.json()["code"] == "dead_link"
    assert client.patch("/api/v1/users/me/", EXAMPLES["PatchedMeChangeRequest"]).status_code == 200
    assert client.patch(f"/api/v1/users/{ian.pk}/", EXAMPLES["PatchedUserChangeRequest"]).status_code == 200


@pytest.mark.skipif(not apps.is_installed("billing"), reason="it has the orders")
def test_a_card_s_token_goes_in_and_never_comes_out(schema: dict[str, Any]) -> None:
    schemas = schema["components"]["schemas"]
    assert "payment_token" in schemas["OrderRequest"]["required"]
    assert "payment_token" not in schemas["Order"]["properties"]
    assert "id" not in schemas["OrderRequest"]["properties"]


def test_what_is_sent_is_not_what_is_answered(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        reference = body.get("schema", {}).get("$ref", "Request")
        assert reference.endswith("Request"), name


def test_ids_are_uuids(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "id":
                assert parameter["schema"] == {"type": "string", "format": "uuid"}, name
    for name, component in schema["components"]["schemas"].items():
        if "id" in component.get("properties", {}):
            assert component["properties"]["id"]["format"] == "uuid", name


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
    assert "password" in schemas["PersonRequest"]["required"]
    assert "password" not in schemas["NewUserRequest"]["required"]
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


def test_what_is_read_may_be_had_already(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        assert ("304" in operation["responses"]) == name.startswith("get "), name


def test_each_answer_lists_the_headers_that_it_may_have(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for status, answer in operation["responses"].items():
            headers = answer["headers"].keys()
            assert {"RateLimit", "RateLimit-Policy"} <= headers, name
            assert ("Location" in headers) == (status in ("201", "202")), name
            assert ("ETag" in headers) == (name.startswith("get ") and status in ("200", "304")), name
            assert ("WWW-Authenticate" in headers) == (status == "401"), name
            is_waiting = status in ("429", "503") or "`request_in_progress`" in answer["description"]
            assert ("Retry-After" in headers) == is_waiting, name


def test_a_page_of_another_origin_may_read_each_header_that_is_listed(schema: dict[str, Any]) -> None:
    answers = [answer for _, operation in operations(schema) for answer in operation["responses"].values()]
    listed = {header.lower() for answer in answers for header in answer["headers"]}
    assert "idempotent-replayed" in listed
    assert listed <= set(settings.CORS_EXPOSE_HEADERS)


def test_whom_an_operation_refuses_is_told_why(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        method, path = name.upper().split()[0], name.split()[1].removeprefix("/api/v1")
        row = TABLE[f"{method} {path}"]
        codes = {code for answer in operation["responses"].values() for code in _codes_of(answer)}
        assert ("not_authenticated" in codes) == (row.nobody is Reach.NO), name
        if Reach.NO in (row.member, row.admin, row.owner):
            assert "permission_denied" in codes, name


def _codes_of(answer: dict[str, Any]) -> set[str]:
    return set(answer.get("content", {}).get("application/problem+json", {}).get("examples", {}))


def test_a_page_of_the_example_is_ours(schema: dict[str, Any]) -> None:
    for name, component in schema["components"]["schemas"].items():
        if name.startswith("Paginated"):
            example = component["properties"]["next"]["example"]
            assert example.startswith("http://localhost:8000/api/v1/"), name
            assert '"' not in example
