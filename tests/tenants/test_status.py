from collections.abc import Callable

import pytest
from django.db import transaction

from tenants import services
from tenants.errors import Conflict
from tenants.models import Tenant
from tests.people import at_once

Change = Callable[[Tenant], None]
STATUSES = ["provisioning", "active", "suspended", "deleting", "failed"]
CHANGES = [
    (services.suspend_tenant, {"active"}, "suspended"),
    (services.resume_tenant, {"suspended"}, "active"),
    (services.delete_tenant, {"active", "suspended", "failed"}, "deleting"),
    (services.restart_tenant, {"failed"}, "provisioning"),
]


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize(("change", "allowed", "after"), CHANGES)
def test_changes_of_status(
    acme: Tenant, globex: Tenant, before: str, change: Change, allowed: set[str], after: str
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=before)
    if before in allowed:
        change(acme)
    else:
        with pytest.raises(Conflict, match=f"acme is {before}; only a tenant that is"):
            change(acme)
    acme.refresh_from_db()
    globex.refresh_from_db()
    assert acme.status == (after if before in allowed else before)
    assert globex.status == "active"


@pytest.mark.parametrize("before", STATUSES)
def test_a_failure_is_of_provisioning_only(acme: Tenant, before: str) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status=before)
    assert services.fail_tenant(acme, reason="no disk") is (before == "provisioning")
    acme.refresh_from_db()
    expected = ("failed", "no disk") if before == "provisioning" else (before, "")
    assert (acme.status, acme.failure) == expected


def test_the_reason_goes_with_the_failure(acme: Tenant) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status="failed", failure="no disk")
    services.restart_tenant(acme)
    acme.refresh_from_db()
    assert acme.failure == ""


def test_of_two_changes_at_once_one_wins(committed_db: None, acme: Tenant) -> None:
    def change(service: Change) -> bool:
        try:
            with transaction.atomic():
                service(Tenant.objects.get(slug="acme"))
        except Conflict:
            return False
        return True

    suspended, again = at_once(*[lambda: change(services.suspend_tenant)] * 2)
    assert suspended != again


def test_the_status_in_memory_does_not_count(acme: Tenant) -> None:
    stale = Tenant.objects.get(pk=acme.pk)
    services.delete_tenant(acme)
    with pytest.raises(Conflict, match="acme is deleting"):
        services.suspend_tenant(stale)
