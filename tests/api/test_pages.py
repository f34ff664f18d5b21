"""Lists: their pages, their order, and what a client that has a page already gets."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.http import QueryDict
from django_tenants.utils import tenant_context
from rest_framework.test import APIClient

from notifications.models import Message
from tenants.connection import connection
from tenants.models import Tenant
from tests.people import add_user, client_of

URL = "/api/v1/messages/"


@pytest.fixture
def client(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


@pytest.fixture
def messages(acme: Tenant) -> list[str]:
    """Seven, by subject, oldest first."""
    subjects = [f"{number}" for number in range(7)]
    with tenant_context(acme):
        for subject in subjects:
            Message.objects.create(subject=subject)
    return subjects


def change(tenant: Tenant, *subjects: str) -> None:
    with tenant_context(tenant):
        for subject in subjects:
            Message.objects.filter(subject=subject).update(attempts=1)


def subjects_of(page: dict[str, Any]) -> list[str]:
    return [message["subject"] for message in page["results"]]


def pages(client: APIClient, url: str, link: str = "next") -> Iterator[dict[str, Any]]:
    following: str | None = url
    while following:
        page = client.get(following).json()
        yield page
        following = page[link]


@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        ("", "6543210"),
        ("&ordering=-created_at", "6543210"),
        ("&ordering=created_at", "0123456"),
        ("&ordering=updated_at", "0234561"),
        ("&ordering=-updated_at", "1654320"),
    ],
)
def test_pages_in_order_forward_and_back(
    client: APIClient, acme: Tenant, messages: list[str], ordering: str, expected: str
) -> None:
    change(acme, "1")
    forward = list(pages(client, f"{URL}?page_size=2{ordering}"))
    parts = [expected[:2], expected[2:4], expected[4:6], expected[6:]]
    assert ["".join(subjects_of(page)) for page in forward] == parts
    assert forward[0]["previous"] is None
    back = list(pages(client, forward[-1]["previous"], "previous"))
    assert ["".join(subjects_of(page)) for page in back] == parts[2::-1]
    again = client.get(back[-1]["next"]).json()
    assert "".join(subjects_of(again)) == parts[1]


@pytest.mark.parametrize("ordering", ["updated_at", "-updated_at"])
def test_rows_of_one_time_are_paged_through(
    client: APIClient, acme: Tenant, messages: list[str], ordering: str
) -> None:
    """As those are that a migration gave `updated_at`."""
    with tenant_context(acme), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notifications_message DISABLE TRIGGER set_updated_at")
        cursor.execute("UPDATE notifications_message SET updated_at = '2020-01-01T00:00:00Z'")
    turned = pages(client, f"{URL}?page_size=2&ordering={ordering}")
    assert sorted(subject for page in turned for subject in subjects_of(page)) == messages


def test_what_changes_meanwhile_comes_again_and_hides_nothing(
    client: APIClient, acme: Tenant, messages: list[str]
) -> None:
    turned = pages(client, f"{URL}?page_size=2&ordering=updated_at")
    found = subjects_of(next(turned))
    change(acme, "0", "3")
    found += [subject for page in turned for subject in subjects_of(page)]
    assert "".join(found) == "01" + "245603"


def test_a_page_whose_rows_are_gone_leads_back(client: APIClient, acme: Tenant, messages: list[str]) -> None:
    page = client.get(f"{URL}?page_size=5").json()
    with tenant_context(acme):
        Message.objects.filter(subject__in="01").delete()
    empty = client.get(page["next"]).json()
    assert (empty["results"], empty["next"]) == ([], None)
    assert "".join(subjects_of(client.get(empty["previous"]).json())) == "65432"


@pytest.mark.parametrize("ordering", ["subject", "-id", "", "updated_at,id", "%00"])
def test_an_ordering_of_nothing_names_its_parameter(client: APIClient, ordering: str) -> None:
    answer = client.get(f"{URL}?ordering={ordering}")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == ["ordering"]


def test_a_cursor_of_another_ordering_is_refused(client: APIClient, messages: list[str]) -> None:
    link = client.get(f"{URL}?page_size=2&ordering=updated_at").json()["next"]
    of_jobs = link.replace("messages", "jobs").replace("ordering=updated_at&", "")
    for url in (link.replace("ordering=updated_at", "ordering=created_at"), of_jobs):
        answer = client.get(url)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "cursor")


# What people look for


def test_users_are_found_by_their_times(client: APIClient, acme: Tenant) -> None:
    ann = add_user(acme, "ann")
    url = "/api/v1/users/"

    def names(query: str) -> list[str]:
        return [user["email"].partition("@")[0] for user in client.get(f"{url}?{query}").json()["results"]]

    created = client.get(f"{url}{ann.pk}/").json()
    assert names(f"created_after={created['created_at']}") == ["ann"]
    assert names(f"created_before={created['created_at']}") == ["ann", "ada"]
    changed = client.patch(f"{url}{ann.pk}/", {"full_name": "Ann Other"}).json()
    assert changed["updated_at"] > created["updated_at"]
    assert changed == client.get(f"{url}{ann.pk}/").json()
    assert names(f"updated_after={changed['updated_at']}") == ["ann"]
    assert names(f"updated_before={created['updated_at']}") == ["ada"]


@pytest.mark.parametrize("size", ["0", "201", "-1", "abc", "1e1", "٣", "1_0", "9999999"])
def test_a_size_that_no_page_has_names_its_parameter(client: APIClient, size: str) -> None:
    answer = client.get(f"{URL}?page_size={size}")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == ["page_size"]


@pytest.mark.parametrize("name", ["created_after", "created_before", "updated_after", "updated_before"])
def test_a_time_of_nothing_names_its_parameter(client: APIClient, name: str) -> None:
    answer = client.get(f"/api/v1/users/?{name}=yesterday")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [name]


# A cursor is of one list


def test_a_cursor_of_another_list_is_refused(client: APIClient, acme: Tenant) -> None:
    add_user(acme, "ann")
    add_user(acme, "bob")
    link = client.get("/api/v1/users/?page_size=1").json()["next"]
    for path in ("messages", "jobs"):
        answer = client.get(link.replace("/users/", f"/{path}/"))
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "cursor")


@pytest.mark.parametrize(
    ("asked", "changed"),
    [("", "&status=queued"), ("&status=queued", ""), ("&status=queued", "&status=sent"), ("", "&ordering=created_at")],
)
def test_a_cursor_of_other_filters_is_refused(client: APIClient, messages: list[str], asked: str, changed: str) -> None:
    cursor = QueryDict(client.get(f"{URL}?page_size=2{asked}").json()["next"].partition("?")[2])["cursor"]
    answer = client.get(f"{URL}?cursor={quote(cursor)}{changed}")
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "cursor")
    assert client.get(f"{URL}?cursor={quote(cursor)}{asked}").status_code == 200


def test_the_size_of_a_page_may_change_on_the_way(client: APIClient, messages: list[str]) -> None:
    link = client.get(f"{URL}?page_size=2").json()["next"]
    page = client.get(link.replace("page_size=2", "page_size=3")).json()
    assert "".join(subjects_of(page)) == "432"
