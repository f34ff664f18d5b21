"""What is cached in one tenant is found in no other."""

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache, caches
from django.http import HttpResponse
from django.template import Context, Template
from django.utils.crypto import get_random_string
from django_tenants.utils import schema_context
from pytest_django import Settings

from tenants.binding import Unbound, unbind
from tenants.models import Tenant
from tests.people import add_staff, client_of_staff
from tests.poison import PLANTS, server

pytestmark = pytest.mark.django_db

LOOKS: dict[str, Callable[[str], Any]] = {
    "get": lambda key: cache.get(key),
    "get_many": lambda key: cache.get_many([key]).get(key),
    "has_key": lambda key: cache.has_key(key) or None,
    "in": lambda key: key in cache or None,
    "touch": lambda key: cache.touch(key, 60) or None,
    "delete": lambda key: cache.delete(key) or None,
    "get of another version": lambda key: cache.get(key, version=2),
}


@pytest.fixture
def key() -> str:
    return get_random_string(12)


@pytest.mark.parametrize("look", LOOKS)
def test_another_tenant_finds_nothing(acme: Tenant, globex: Tenant, key: str, look: str) -> None:
    with schema_context(acme.schema_name):
        cache.set(key, "acme's")
        cache.set(key, "acme's second", version=2)

    with schema_context(globex.schema_name):
        assert LOOKS[look](key) is None
    with schema_context("public"):
        assert LOOKS[look](key) is None

    with schema_context(acme.schema_name):
        assert LOOKS[look](key)


def test_two_tenants_count_each_by_itself(acme: Tenant, globex: Tenant, key: str) -> None:
    counts = []
    for tenant in (acme, globex, acme):
        with schema_context(tenant.schema_name):
            cache.add(key, 0)
            counts.append(cache.incr(key))
    assert counts == [1, 1, 2]


COUNTS: dict[str, Callable[[str], Any]] = {
    "incr": lambda key: cache.incr(key),
    "decr": lambda key: cache.decr(key),
    "incr_version": lambda key: cache.incr_version(key),
}


@pytest.mark.parametrize("count", COUNTS)
def test_what_counts_needs_a_value_of_its_own_tenant(acme: Tenant, globex: Tenant, key: str, count: str) -> None:
    with schema_context(acme.schema_name):
        cache.set(key, 1)
    with schema_context(globex.schema_name), pytest.raises(ValueError, match=key):
        COUNTS[count](key)
    with schema_context(acme.schema_name):
        assert cache.get(key) == 1
        COUNTS[count](key)


def test_many_are_stored_and_found_by_their_own_names(acme: Tenant, globex: Tenant, key: str) -> None:
    names = [f"{key}-{number}" for number in range(3)]
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            cache.set_many(dict.fromkeys(names[:2], tenant.slug))
            cache.get_or_set(names[2], tenant.slug)
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            assert cache.get_many(names) == dict.fromkeys(names, tenant.slug)


def test_without_a_tenant_nothing_is_stored(key: str) -> None:
    unbind()
    with pytest.raises(Unbound):
        cache.set(key, "nobody's")
    caches["shared"].set(key, "everybody's")
    assert caches["shared"].get(key) == "everybody's"


@pytest.mark.parametrize("engine", ["db", "cache", "cached_db"])
def test_staff_stay_logged_in_wherever_sessions_are_stored(settings: Settings, engine: str) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    client = client_of_staff(add_staff())

    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/").status_code == 200


def test_a_session_in_the_cache_is_unknown_in_another_schema(acme: Tenant) -> None:
    session = SessionStore()
    session["name"] = "sam"
    session.save()

    assert SessionStore(session.session_key).load() == {"name": "sam"}
    with schema_context(acme.schema_name):
        assert SessionStore(session.session_key).load() == {}


def test_a_deletion_in_one_tenant_leaves_the_others(acme: Tenant, globex: Tenant, key: str) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            cache.set_many({key: tenant.slug})
    with schema_context(acme.schema_name):
        cache.delete_many([key])
    with schema_context(globex.schema_name):
        assert cache.get(key) == "globex"


def test_a_cached_fragment_of_a_template_belongs_to_its_tenant(acme: Tenant, globex: Tenant, key: str) -> None:
    template = Template("{% load cache %}{% cache 60 name %}{{ slug }}{% endcache %}".replace("name", key))
    seen = []
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            seen.append(template.render(Context({"slug": tenant.slug})))
    assert seen == ["acme", "globex"]


def test_what_is_shared_on_purpose_has_an_alias_of_its_own(acme: Tenant, globex: Tenant, key: str) -> None:
    with schema_context(acme.schema_name):
        caches["shared"].set(key, "everybody's")
    with schema_context(globex.schema_name):
        assert caches["shared"].get(key) == "everybody's"
        assert cache.get(key) is None


# What Redis holds is data


@pytest.fixture
def planted(key: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name, in the cache `shared`, of something that somebody else has written there."""
    full = caches["shared"].make_key(key)
    PLANTS[request.param](full, tmp_path / "executed")
    yield key
    server().delete(full)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("planted", PLANTS, indirect=True)
def test_what_the_cache_has_not_written_is_missing(planted: str, caplog: pytest.LogCaptureFixture) -> None:
    shared = caches["shared"]
    assert shared.get(planted) is None
    assert shared.get(planted, "default") == "default"
    assert shared.get_many([planted, "other"]) == {}
    assert "counts as missing" in caplog.text
    assert shared.get_or_set(planted, "new") == "new"
    shared.set(planted, "mine")
    assert shared.get(planted) == "mine"


@pytest.mark.parametrize("planted", PLANTS, indirect=True)
def test_what_can_not_be_counted_on_makes_place_for_a_count(planted: str) -> None:
    with pytest.raises(ValueError, match=planted):
        caches["shared"].incr(planted)
    assert caches["shared"].add(planted, 1)
    assert caches["shared"].incr(planted) == 2


VALUES = [0, 1, -1, 1.5, True, None, "", "ü\0", [1, [2]], {"a": {"b": None}}, 2**70]
NO_VALUES = [b"x", {1, 2}, Decimal("1.5"), object(), float("nan"), HttpResponse(), date(2026, 1, 1)]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_json_comes_out_as_it_went_in(key: str, value: Any) -> None:
    for each in caches.all():
        each.set(key, value)
        assert each.get(key, "missing") == value
        assert each.get_many([key]) == {key: value}
        assert type(each.get(key)) is type(value)


@pytest.mark.parametrize("value", NO_VALUES, ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_when_it_is_stored(key: str, value: Any) -> None:
    for store in (cache.set, cache.add, cache.get_or_set, lambda key, value: cache.set_many({key: value})):
        with pytest.raises((TypeError, ValueError)):
            store(key, value)
    assert cache.get(key) is None
