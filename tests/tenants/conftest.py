"""What tests of database sessions share."""

from collections.abc import Iterator

import pytest

from tenants.connection import connection
from tests.tenants.observer import Observer, observing


@pytest.fixture(scope="module")
def observer() -> Iterator[Observer]:
    """Sees what was committed, from a session of its own."""
    with observing() as observer:
        yield observer


@pytest.fixture
def own_session(committed_db: None) -> Iterator[None]:
    """A session that nobody had before, and nobody has afterwards."""
    connection.close()
    yield
    connection.close()
