"""`/schema/` costs a process once in each format."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.people import add_user, client_of

URL = "/api/v1/schema/"
FORMATS = ["application/vnd.oai.openapi", "application/yaml", "application/vnd.oai.openapi+json", "application/json"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each schema that was made."""
    made: list[Any] = []
    get_schema: Any = SchemaGenerator.get_schema

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(get_schema(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(SchemaGenerator, "get_schema", counted)
    return made


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_made_once_for_everybody(acme: Tenant, globex: Tenant, made: list[Any], format: str) -> None:
    asking = [
        APIClient(headers={"host": "localhost"}),
        APIClient(headers={"host": "acme.localhost"}),
        client_of(acme, add_user(acme, "ada", "owner")),
        client_of(globex, add_user(globex, "gus")),
    ]
    answers = [client.get(URL, headers={"accept": format}) for client in asking]
    assert len(made) <= 1
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == len({answer["ETag"] for answer in answers}) == 1
    assert {answer["Content-Type"].split(";")[0] for answer in answers} == {format}
    assert {answer["Content-Disposition"].startswith("inline") for answer in answers} == {True}


def test_all_formats_say_the_same(acme: Tenant) -> None:
    client = APIClient(headers={"host": "acme.localhost"})
    answers = [client.get(URL, headers={"accept": format}) for format in FORMATS]
    for answer in answers:
        # JSON is YAML, too.
        assert yaml.safe_load(answer.content) == answers[2].json()
    assert len({answer["ETag"] for answer in answers}) == 2


def test_who_has_it_is_not_sent_it_again(acme: Tenant, made: list[Any]) -> None:
    client = APIClient(headers={"host": "acme.localhost"})
    etag = client.get(URL)["ETag"]
    made.clear()
    again = client.get(URL, headers={"if-none-match": etag})
    assert (again.status_code, again.content, again["ETag"], made) == (304, b"", etag, [])


@pytest.mark.parametrize("accept", ["application/json; indent=2", "*/*", "text/html", "application/problem+json"])
def test_what_a_client_accepts_makes_no_more_of_them(acme: Tenant, made: list[Any], accept: str) -> None:
    client = APIClient(headers={"host": "acme.localhost", "accept": accept})
    statuses = {client.get(URL).status_code for _ in range(3)}
    assert statuses <= {200, 406}
    assert len(made) <= 1


def test_at_a_method_that_is_not_offered_nothing_is_made(
    acme: Tenant, made: list[Any], client_for: Callable[[Tenant], APIClient]
) -> None:
    assert client_for(acme).post(URL, {}).status_code == 405
    assert client_for(acme).get(f"{URL}?lang=de").status_code == 400
    assert made == []
