"""What the figure `steady` is measured by: the product's own statements and relay, whatever these become."""

import pytest
from django_tenants.utils import schema_context

from bench.tenantry.costs import let_pass, statement_costs
from jobs.models import Job
from tenants.models import Tenant


def number_of_jobs() -> int:
    with schema_context("public"):
        return Job.objects.count()


@pytest.fixture
def homes(committed_db: None, acme: Tenant, globex: Tenant) -> list[str]:
    return [acme.schema_name, globex.schema_name]


def test_jobs_pass_and_leave_no_row(homes: list[str]) -> None:
    let_pass(homes, 2000)

    assert number_of_jobs() == 0


def test_each_statement_is_timed_as_often_as_asked(homes: list[str]) -> None:
    costs = statement_costs(homes, 4)

    assert {name: len(seconds) for name, seconds in costs.items()} == dict.fromkeys(
        ["dispatch", "trigger", "WAKE", "MARK"], 4
    )
    assert all(second > 0 for seconds in costs.values() for second in seconds)
    assert number_of_jobs() == 0
