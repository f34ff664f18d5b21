"""What can be asked of the admin's lists by their addresses: of each model that is registered, whoever did it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import get_resolver

from tests.people import add_staff, client_of_staff

# Characters and numbers that filters can't read, and dates that Python or PostgreSQL doesn't have
ODD = ["\0", "x", "", "-1", "9" * 30, "10000-01-01", "0000-00-00", "9999-12-31T23:59:59-23:00", "a" * 2000, "\ud7ff"]
ODD_DATES = [
    *({"year": year} for year in ("0", "-1", "9999", "10000", "x", "\0", "9" * 30)),
    *({"year": "2024", "month": month} for month in ("0", "13", "x")),
    {"year": "9999", "month": "12"},
    {"year": "9999", "month": "12", "day": "31"},
    {"year": "2023", "month": "2", "day": "29"},
    {"month": "x"},
    {"day": "99"},
]


@pytest.fixture
def client(db: None) -> Client:
    return client_of_staff(add_staff())


def model_admins() -> list[Any]:
    # Loads config/public_urls.py, which decides what the admin shows.
    assert get_resolver("config.public_urls").url_patterns
    registered = list(admin.site._registry.values())
    assert len(registered) >= 10
    return registered


def path_of(model_admin: Any) -> str:
    return f"/admin/{model_admin.opts.app_label}/{model_admin.opts.model_name}/"


def filters_of(model_admin: Any) -> set[str]:
    return {named if isinstance(named, str) else named[0] for named in model_admin.list_filter}


def names_of(model: type[Model]) -> list[str]:
    """Columns, and relations either way."""
    return [field.name for field in model._meta.get_fields()]


def names_beyond(model: type[Model]) -> Iterator[str]:
    for field in model._meta.get_fields():
        if field.is_relation and isinstance(field.related_model, type):
            yield from (f"{field.name}__{name}" for name in names_of(field.related_model))


def test_no_list_is_filtered_by_what_no_filter_offers(client: Client) -> None:
    for model_admin in model_admins():
        model, path = model_admin.model, path_of(model_admin)
        offered = filters_of(model_admin)
        own = [name for name in names_of(model) if name not in offered]
        asked = [f"{name}{end}" for name in own for end in ("", "__startswith=a", "__foo=1", "__gte=x", "__regex=^a")]
        asked += [f"{name}__startswith=a" for name in names_beyond(model) if name not in offered]
        asked += [f"{name}__startswith=a" for name in offered]
        for query in [*asked, "nonsense=1", "nonsense__exact=1", "pk=1", "__=1"]:
            answer = client.get(f"{path}?{query}")
            assert answer.status_code == 400, (path, query)
            assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "auth_token_set__digest__startswith=a",
        "password__startswith=md5",
        "totpdevice__key__startswith=a",
        "staticdevice__token_set__token__startswith=a",
        "logentry__user__password__startswith=md5",
        "groups__user__password__startswith=md5",
        "id__foo=1",
        "created_at__gte=x",
        "is_staff__startswith=T",
        "_to_field=password",
    ],
)
def test_nothing_of_an_account_is_guessed(client: Client, query: str) -> None:
    assert client.get(f"/admin/accounts/user/?{query}").status_code == 400


def test_what_filters_offer_is_answered_whatever_the_value(committed_db: None) -> None:
    client = client_of_staff(add_staff())  # PostgreSQL refuses some, which would end a transaction of the test
    for model_admin in model_admins():
        path = path_of(model_admin)
        changelist = client.get(path).context["cl"]
        parameters = [name for shown in changelist.filter_specs for name in shown.expected_parameters()]
        for name in parameters:
            assert model_admin.lookup_allowed(name, ""), name
            for value in ODD:
                answer = client.get(path, {name: value}, follow=True)
                assert answer.status_code == 200, (path, name, value)


def test_so_are_dates(client: Client) -> None:
    with_dates = [model_admin for model_admin in model_admins() if model_admin.date_hierarchy]
    assert with_dates
    for model_admin in with_dates:
        path, field = path_of(model_admin), model_admin.date_hierarchy
        assert client.get(path, {f"{field}__year": "2024", f"{field}__month": "2"}).status_code == 200
        for parts in ODD_DATES:
            answer = client.get(path, {f"{field}__{part}": value for part, value in parts.items()}, follow=True)
            assert answer.status_code == 200, (path, parts)


@pytest.mark.parametrize(
    "query",
    ["is_staff__exact=1", "is_active__exact=0", "q=sam", "o=1", "p=1", "all=", "is_staff__exact=1&_facets=True"],
)
def test_filters_of_the_page_work(client: Client, query: str) -> None:
    answer = client.get(f"/admin/accounts/user/?{query}")
    assert answer.status_code == 200
    assert len(answer.context["cl"].result_list) == (0 if query == "is_active__exact=0" else 1)


def test_a_filter_by_a_relation_works(client: Client) -> None:
    assert client.get("/admin/admin/logentry/?content_type__id__exact=1").status_code == 200
    assert client.get("/admin/tenants/signup/?tenant__status__exact=failed").status_code == 200
