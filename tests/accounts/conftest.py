import pytest
from rest_framework.test import APIClient

from accounts.models import User
from tenants.models import Tenant
from tests.people import add_user, client_of


@pytest.fixture
def ada(acme: Tenant) -> User:
    """Owner of acme."""
    return add_user(acme, "ada", "owner")


@pytest.fixture
def amy(acme: Tenant) -> User:
    """Admin of acme."""
    return add_user(acme, "amy", "admin")


@pytest.fixture
def alan(acme: Tenant) -> User:
    """Member of acme."""
    return add_user(acme, "alan")


@pytest.fixture
def gus(globex: Tenant) -> User:
    """Owner of globex."""
    return add_user(globex, "gus", "owner")


@pytest.fixture
def as_ada(acme: Tenant, ada: User) -> APIClient:
    return client_of(acme, ada)


@pytest.fixture
def as_amy(acme: Tenant, amy: User) -> APIClient:
    return client_of(acme, amy)


@pytest.fixture
def as_alan(acme: Tenant, alan: User) -> APIClient:
    return client_of(acme, alan)
