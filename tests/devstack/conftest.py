from collections.abc import Iterator

import pytest

from devstack.servers import Stack, temporary_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Embedded servers of these tests' own, whatever DATABASE_URL says: they are stopped and killed here."""
    with temporary_stack() as stack:
        yield stack
