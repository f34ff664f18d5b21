"""For pytest's -p: the product is broken by CHAOS_MUTANT before any test."""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """After pytest-django, which sets Django up."""
    from tests.chaos.saboteur.mutations import MUTATIONS

    MUTATIONS[os.environ["CHAOS_MUTANT"]]()
