"""What is tried is all that there is: a new endpoint, parameter or header without its cases fails here."""

from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from config import permissions, public_urls, urls
from config.permissions import TABLE, ByTable, Reach
from tests import contract
from tests.isolation.cases import CASES, FILTERS, HEADERS, IDS_IN_BODIES, OUTSIDE, PAGING
from tests.isolation.organisations import Organisation
from tests.isolation.router import OPERATIONS, PATHS, described, parameters

DOCUMENTATION = {"GET /schema/", "GET /docs/"}


def test_every_operation_has_its_row_and_its_case() -> None:
    assert OPERATIONS.keys() == TABLE.keys()
    assert OPERATIONS.keys() == CASES.keys()


def test_the_schema_has_every_operation_but_its_own() -> None:
    in_schema = {f"{method.upper()} {path}" for path, methods in contract.operations().items() for method in methods}
    assert in_schema == OPERATIONS.keys() - DOCUMENTATION


def test_no_host_serves_more() -> None:
    served: list[Any] = [urls, public_urls]
    tenants, publics = ({str(one.pattern) for one in host.urlpatterns} for host in served)
    assert tenants | publics == OUTSIDE
    assert tenants == OUTSIDE - {"admin/"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_view_decides_for_itself(operation: str) -> None:
    view: Any = OPERATIONS[operation].cls
    assert list(view.permission_classes) == [ByTable]
    assert view.get_permissions is APIView.get_permissions
    decided = {"permission_classes", "authentication_classes", "filter_backends"}
    assert not OPERATIONS[operation].initkwargs.keys() & decided, "@action or as_view() has one"
    filters = api_settings.DEFAULT_FILTER_BACKENDS
    assert getattr(view, "filter_backends", filters) == filters
    if TABLE[operation].nobody is Reach.NO:
        assert view.authentication_classes == api_settings.DEFAULT_AUTHENTICATION_CLASSES


@pytest.mark.parametrize("operation", [name for name, row in TABLE.items() if Reach.OWN in row])
def test_a_view_with_rows_says_which_are_one_s_own(operation: str) -> None:
    view: Any = OPERATIONS[operation].cls
    assert hasattr(view, "own") or not hasattr(view, "queryset")


def test_an_operation_without_a_row_answers_nobody(at_acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    contract.operations()  # the answer is compared with the schema, which needs the row
    client = at_acme.client_of(at_acme.add("owner"))
    others = {operation: row for operation, row in TABLE.items() if operation != "GET /users/me/"}
    monkeypatch.setattr(permissions, "TABLE", others)
    with pytest.raises(ImproperlyConfigured, match=r"GET /users/me/ has no row: add one to TABLE"):
        client.get("/api/v1/users/me/")


def test_every_parameter_of_a_query_has_its_case() -> None:
    known = {name for operation in OPERATIONS for name in parameters(operation)} - {"format", "script"}
    assert known - PAGING <= FILTERS.keys()
    if apps.is_installed("billing"):
        assert known == FILTERS.keys() | PAGING


def test_every_header_has_its_case() -> None:
    sent = {one["name"].lower() for name in OPERATIONS.keys() - DOCUMENTATION for one in _headers_of(name)}
    schemes = contract.schema()["components"]["securitySchemes"].values()
    sent |= {one.get("name", "authorization").lower() for one in schemes}
    assert sent | set(settings.CORS_ALLOW_HEADERS) <= HEADERS.keys()
    assert "idempotency-key" in sent


def _headers_of(operation: str) -> list[dict[str, Any]]:
    return [one for one in described(operation).get("parameters", []) if one["in"] == "header"]


def test_no_body_takes_an_id() -> None:
    components = contract.schema()["components"]["schemas"]
    requests = {name: one for name, one in components.items() if name.endswith("Request")}
    ids = {
        f"{name}.{field}"
        for name, one in requests.items()
        for field, terms in one["properties"].items()
        if "uuid" in str(terms)
    }
    assert ids == IDS_IN_BODIES


def test_there_is_something_to_try() -> None:
    assert len(OPERATIONS) > 15
    assert "/users/{id}/" in PATHS
    assert "/tenants/{slug}/" in PATHS
