"""The host of a deleted tenant rests, and some hosts are nobody's: what is left of an address is not a stranger's."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.unconfirmed import expire_tenant
from jobs.relay import deletion
from tenants.binding import bind_to_public
from tenants.errors import Conflict
from tenants.models import Domain, QuarantinedDomain, Tenant
from tenants.services import delete_tenant, register_tenant, suspend_tenant
from tenants.validators import validate_not_reserved
from tests.people import PASSWORD, add_staff, await_blocked, client_of_staff

OWNER = {"email": "mallory@example.org", "full_name": "Mallory", "password": PASSWORD}


def sign_up(slug: str = "initech") -> tuple[int, str]:
    client = APIClient(headers={"host": "localhost"})
    answer = client.post("/api/v1/tenants/", {"name": "Stranger", "slug": slug, "owner": OWNER})
    return answer.status_code, answer.json().get("code", "")


@pytest.fixture
def initech(db: None) -> Tenant:
    return registered()


def registered(status: str = "active") -> Tenant:
    with transaction.atomic():
        tenant = register_tenant(name="Initech", slug="initech")
    Tenant.objects.filter(pk=tenant.pk).update(status=status)
    Domain.objects.create(tenant=tenant, domain="shop.initech.example", is_primary=False)
    tenant.refresh_from_db()
    return tenant


def delete(tenant: Tenant, **options: Any) -> None:
    """As staff and the relay do."""
    delete_tenant(tenant, **options)
    assert deletion.delete_when_idle(tenant)


@pytest.mark.parametrize("prepare", [lambda tenant: None, suspend_tenant])
def test_a_deleted_tenants_slug_is_taken_for_a_while(initech: Tenant, prepare: Callable[[Tenant], None]) -> None:
    taken = sign_up("initech")
    prepare(initech)
    delete(initech)
    assert sign_up("initech") == taken == (409, "slug_taken")
    assert not Tenant.objects.filter(slug="initech").exists()
    assert not Domain.objects.filter(domain__contains="initech").exists()


def test_so_are_its_other_domains(initech: Tenant, acme: Tenant) -> None:
    delete(initech)
    with pytest.raises(Conflict, match=r"shop\.initech\.example belonged to a tenant that was deleted"):
        Domain.objects.create(tenant=acme, domain="shop.initech.example", is_primary=False)
    assert not Domain.objects.filter(domain="shop.initech.example").exists()


def test_for_90_days(initech: Tenant) -> None:
    delete(initech)
    for resting in QuarantinedDomain.objects.all():
        assert timedelta(days=89, hours=23) < resting.until - timezone.now() < timedelta(days=90, hours=1)
    QuarantinedDomain.objects.update(until=timezone.now() - timedelta(seconds=1))
    assert sign_up("initech")[0] == 202


def test_the_time_is_a_setting(initech: Tenant, settings: Settings) -> None:
    settings.HOST_QUARANTINE_DAYS = 0
    delete(initech)
    assert sign_up("initech")[0] == 202


def test_who_has_it_afterwards_may_leave_it_again(initech: Tenant) -> None:
    delete(initech)
    QuarantinedDomain.objects.update(until=timezone.now() - timedelta(seconds=1))
    again = registered()
    delete(again)
    assert sign_up("initech") == (409, "slug_taken")
    assert QuarantinedDomain.objects.count() == 2


def test_what_is_over_is_forgotten(initech: Tenant) -> None:
    old = QuarantinedDomain.objects.create(domain="old.localhost", until=timezone.now() - timedelta(days=1))
    delete(initech)
    assert not QuarantinedDomain.objects.filter(pk=old.pk).exists()


def test_one_that_is_freed_can_be_had(initech: Tenant) -> None:
    delete(initech)
    QuarantinedDomain.objects.get(domain="initech.localhost").delete()
    assert sign_up("initech")[0] == 202


def test_a_deletion_may_do_without(initech: Tenant) -> None:
    delete(initech, quarantine=False)
    assert sign_up("initech")[0] == 202


@pytest.mark.django_db
def test_a_tenant_that_was_never_served_leaves_nothing_behind() -> None:
    delete(registered("failed"))
    assert sign_up("initech")[0] == 202


def test_a_refused_deletion_changes_nothing(initech: Tenant) -> None:
    Tenant.objects.filter(pk=initech.pk).update(status="provisioning")
    with pytest.raises(Conflict):
        delete_tenant(initech)
    assert not QuarantinedDomain.objects.exists()


def test_who_signs_up_while_it_is_deleted_comes_too_late(committed_db: None) -> None:
    assert race(registered(), come, quarantine=True) == (409, "slug_taken")


# Other ways to it

SPELLINGS = ["INITECH", "Initech", "initech ", " initech", "initech.", "initech\u200b", "i\u0307nitech"]
SPELLINGS += ["\uff49nitech", "\u0131nitech", "xn--nitech-q4a"]


@pytest.mark.parametrize("slug", SPELLINGS)
def test_no_spelling_of_the_slug_leads_to_it(initech: Tenant, slug: str) -> None:
    delete(initech)
    assert sign_up(slug) in [(400, "invalid"), (409, "slug_taken")]
    assert {tenant.slug for tenant in Tenant.objects.all()} == {"acme", "globex"}


@pytest.mark.parametrize("domain", ["Shop.Initech.Example", "shop.initech.example.", " SHOP.initech.example"])
def test_no_spelling_of_another_domain_leads_to_it(initech: Tenant, acme: Tenant, domain: str) -> None:
    delete(initech)
    with pytest.raises(Conflict):
        Domain.objects.create(tenant=acme, domain=domain, is_primary=False)


def test_a_domain_is_found_however_it_was_written(acme: Tenant) -> None:
    Domain.objects.create(tenant=acme, domain="Shop.LocalHost.", is_primary=False)
    answer = APIClient(headers={"host": "SHOP.localhost"}).get("/api/v1/users/me/")
    assert answer.json()["code"] == "not_authenticated"


def test_no_domain_is_renamed_to_it(initech: Tenant, acme: Tenant) -> None:
    delete(initech)
    mine = Domain.objects.create(tenant=acme, domain="shop.acme.example", is_primary=False)
    for domain in ("initech.localhost", "shop.initech.example"):
        mine.domain = domain
        with pytest.raises(Conflict):
            mine.save()
    mine.refresh_from_db()
    assert mine.domain == "shop.acme.example"


def test_staff_renames_no_slug_to_it(initech: Tenant, acme: Tenant) -> None:
    delete(initech)
    client = client_of_staff(add_staff())
    form = {"name": "Acme", "timezone": "UTC", "slug": "initech"}
    form |= {"domains-TOTAL_FORMS": "0", "domains-INITIAL_FORMS": "0"}
    assert client.post(f"/admin/tenants/tenant/{acme.pk}/change/", form).status_code == 302
    acme.refresh_from_db()
    assert acme.slug == "acme"
    assert not Domain.objects.filter(domain="initech.localhost").exists()


def test_who_takes_its_other_domain_while_it_is_deleted_comes_too_late(committed_db: None, acme: Tenant) -> None:
    initech = registered()

    def take() -> str:
        bind_to_public()
        try:
            Domain.objects.create(tenant=acme, domain="Shop.initech.example", is_primary=False)
        except Conflict as refusal:
            return str(refusal.get_codes())
        finally:
            connection.close()
        return "taken"

    assert race(initech, take, quarantine=True) == "slug_taken"


def test_who_waits_for_one_that_nobody_confirmed_gets_its_host(committed_db: None) -> None:
    assert race(registered(), come, quarantine=False) == (202, "")


def race(tenant: Tenant, come: Callable[[], Any], *, quarantine: bool) -> Any:
    """What comes of it while the tenant is being deleted."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            delete_tenant(tenant, quarantine=quarantine)
            Tenant.objects.filter(pk=tenant.pk).delete()
            stranger = pool.submit(come)
            await_blocked()
        return stranger.result()


def come() -> tuple[int, str]:
    bind_to_public()
    try:
        return sign_up("initech")
    finally:
        connection.close()


def test_one_that_nobody_confirmed_leaves_its_other_domains_too(initech: Tenant, acme: Tenant) -> None:
    created_at = timezone.now() - timedelta(days=8)
    Tenant.objects.filter(pk=initech.pk).update(is_confirmed=False, created_at=created_at, status="failed")
    with transaction.atomic():
        assert expire_tenant(tenant_id=str(initech.pk)) == "deleting"
    initech.refresh_from_db()
    assert deletion.delete_when_idle(initech)
    assert Domain.objects.create(tenant=acme, domain="shop.initech.example", is_primary=False).pk
    assert sign_up("initech")[0] == 202


def test_one_that_staff_deletes_rests_though_nobody_confirmed_it(initech: Tenant) -> None:
    Tenant.objects.filter(pk=initech.pk).update(is_confirmed=False)
    delete(initech)
    assert sign_up("initech") == (409, "slug_taken")


@pytest.mark.parametrize("name", ["Initech", "INITECH.localhost", "initech.localhost."])
def test_staff_frees_it_in_any_spelling(initech: Tenant, name: str) -> None:
    delete(initech)
    call_command("tenant", "free", name)
    assert sign_up("initech")[0] == 202


# RFC 2142, certificates, mail, proxies, names that resolve to oneself, servers with numbers, and the platform's own
RESERVED = """
    abuse noc security postmaster hostmaster webmaster usenet news www uucp ftp info marketing sales support
    admin administrator ssladmin root acme-challenge mta-sts autoconfig autodiscover openpgpkey dkim dmarc bimi
    wpad isatap localhost localdomain loopback broadcasthost invalid onion arpa
    ns ns1 ns12 dns2 mx mx1 mail mail-2 smtp imap pop3 www2 web01 api2 v1 cdn3 vpn
    api app static docs status billing login sso tenant tenants signup tenantry me livez metrics
    """.split()  # noqa: SIM905  # a list of some hundred quoted words is no easier to read


@pytest.mark.parametrize("slug", RESERVED)
def test_a_reserved_slug(slug: str) -> None:
    with pytest.raises(ValidationError, match="is reserved"):
        validate_not_reserved(slug)


@pytest.mark.parametrize("slug", ["acme", "globex", "initech", "mailchimp", "team42", "nsa", "api-first", "web-shop"])
def test_others_are_free(slug: str) -> None:
    validate_not_reserved(slug)
