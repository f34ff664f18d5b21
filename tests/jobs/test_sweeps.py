"""The relay's sweeps: for rows that nobody else will ever touch again."""

from threading import Event

import pytest
from django.db import transaction

from jobs.claim import NO_TOKEN
from jobs.models import Job
from jobs.relay import line, maintenance
from tenants.models import Tenant
from tenants.services import delete_tenant
from tests.jobs.claims import OVER, change, claim, dispatch, held
from tests.jobs.durables import PARKING, result_of, sql
from tests.people import at_once

VANISHED = f"tag = NULL, attempt = 1, token = gen_random_uuid(), next_send_at = clock_timestamp(), {OVER}"
# Where a job may be that no worker runs.
PLACES = {
    "in line": "tag = 1",
    "sent": "tag = NULL, sends = 1, next_send_at = clock_timestamp() + interval '10 seconds'",
    "due later": "tag = NULL, due_at = '2999-01-01', next_send_at = '2999-01-01'",
    "parked": f"tag = NULL, next_send_at = {PARKING}",
    "its worker vanished": VANISHED,
}
BEGUN = {"its worker vanished": VANISHED, "tried again": "tag = NULL, attempt = 1, retries = 1"}


@pytest.mark.parametrize("place", [place for place in PLACES if place not in BEGUN])
def test_what_no_claim_takes_because_it_expired_is_ended_wherever_it_is(acme: Tenant, place: str) -> None:
    job_id = dispatch(acme)
    change(job_id, f"{PLACES[place]}, expires_at = clock_timestamp()")
    assert claim(job_id) is None
    maintenance.run_maintenance()
    assert not Job.objects.exists()
    assert result_of(acme.schema_name, job_id).status == "REVOKED"


@pytest.mark.parametrize("place", BEGUN)
def test_what_has_begun_does_not_expire(acme: Tenant, place: str) -> None:
    """The outside world may have been called."""
    job_id = dispatch(acme)
    change(job_id, f"{BEGUN[place]}, expires_at = clock_timestamp()")
    maintenance.run_maintenance()
    assert held(job_id).attempt == 2


def test_what_expires_while_it_runs_goes_on(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    change(lease.id, "expires_at = clock_timestamp()")
    maintenance.run_maintenance()
    assert str(Job.objects.get().token) == lease.token


@pytest.mark.parametrize("place", PLACES)
def test_what_a_tenant_that_is_gone_has_left_is_forgotten(acme: Tenant, place: str) -> None:
    change(dispatch(acme), f"{PLACES[place]}, tenant_id = '{NO_TOKEN}'")
    forget()
    assert not Job.objects.exists()


def forget() -> None:
    """What a relay does, as soon as each row's time has come."""
    past = "due_at = '2000-01-01', next_send_at = '2000-01-01'"
    sql(f"UPDATE public.jobs_job SET {past} WHERE next_send_at < {PARKING}")
    line.wake()
    assert line.mark(10) == []
    maintenance.run_maintenance()


def test_what_commits_when_its_tenant_is_gone_is_forgotten(doomed: Tenant) -> None:
    inserted, gone = Event(), Event()

    def request() -> None:
        with transaction.atomic():
            dispatch(doomed)
            assert Job.objects.exists()  # the row is on the server
            inserted.set()
            assert gone.wait(10)

    def drop() -> None:
        assert inserted.wait(10)
        delete_tenant(doomed)
        maintenance.run_maintenance()
        assert not Tenant.objects.filter(slug="doomed").exists()
        gone.set()

    at_once(request, drop)
    assert Job.objects.exists()
    forget()
    assert not Job.objects.exists()
