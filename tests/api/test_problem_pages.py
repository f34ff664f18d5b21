"""`type` of an error leads to a page that explains it, on whichever host the error came from."""

import ast

import pytest
from django.test import Client
from rest_framework import exceptions

from config.codes import REGISTRY
from devstack import CHECKOUT
from tenants.models import Tenant

pytestmark = pytest.mark.django_db
ROOMS = ("accounts", "billing", "config", "idempotency", "jobs", "limits", "notifications", "tenants")
HOSTS = ["localhost", "acme.localhost", "nobody.localhost", "elsewhere.example"]
#: Of `errors`' entries, which have no pages.
OF_FIELDS = {
    "max_length",
    "not_printable",
    "read_only",
    "repeated",
    "required",
    "reserved",
    "unknown_field",
    "unknown_timezone",
    "weak_password",
    "wrong_password",
    "wrong_type",
}


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_explains_every_code(host: str) -> None:
    for code, problem in REGISTRY.items():
        page = Client(headers={"host": host}).get(problem.type)
        assert page.status_code == 200
        assert page["Content-Type"] == "text/html; charset=utf-8"
        assert page.content.decode().count("<section") == 1
        assert f"<code>{code}</code>" in page.content.decode()


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_lists_all_codes(host: str) -> None:
    page = Client(headers={"host": host}).get("/problems/").content.decode()
    assert page.count("<section") == len(REGISTRY)


@pytest.mark.parametrize("status", [status for status in Tenant.Status if status != "active"])
def test_a_tenant_that_is_not_served_says_why(acme: Tenant, status: str) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=status)
    client = Client(headers={"host": "acme.localhost"})
    refusal = client.get("/api/v1/orders/").json()
    assert refusal["type"] == f"/problems/tenant_{status}"
    assert client.get(refusal["type"]).status_code == 200


def test_a_page_for_no_code() -> None:
    for path in ("/problems/nonsense", "/problems/not_found/", "/problems/%00"):
        answer = Client(headers={"host": "localhost"}).get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = Client(headers={"host": "localhost"}).post("/problems/")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_every_code_that_the_source_names_is_registered() -> None:
    named = {code for room in ROOMS for path in (CHECKOUT / room).rglob("*.py") for code in codes_in(path.read_text())}
    assert {"slug_taken", "email_taken", "invalid_token", "request_in_progress"} <= named
    assert named - REGISTRY.keys() - OF_FIELDS == set()


def codes_in(source: str) -> set[str]:
    """What is given to `code=` or `default_code =`, or follows a detail in the call of an APIException."""
    codes: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "code":
            codes |= texts_in(node.value)
        if isinstance(node, ast.Assign) and any("default_code" in ast.unparse(target) for target in node.targets):
            codes |= texts_in(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in vars(exceptions) and len(node.args) == 2:
            codes |= texts_in(node.args[1])
    return codes


def texts_in(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_code_of_the_framework_is_registered() -> None:
    of_drf = {kind.default_code for kind in vars(exceptions).values() if hasattr(kind, "default_code")}
    # A bare APIException or an unknown one is a mistake of ours, which config/problems.py answers with server_error.
    assert of_drf - REGISTRY.keys() == {"error"}


def test_a_title_and_a_text_for_every_code() -> None:
    for code, problem in REGISTRY.items():
        assert code == problem.code
        assert 400 <= problem.status < 600
        assert problem.meaning.endswith(".")
        assert problem.remedy.endswith(".")
