import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import check_password
from django.db import connection, transaction
from django_tenants.utils import schema_exists, tenant_context
from rest_framework.test import APIClient

from accounts import provisioning, services
from accounts.models import User
from jobs.models import Job
from notifications.models import Message
from tenants.models import Domain, SignUp, Tenant
from tenants.schemas import MIGRATION_LOCK
from tenants.services import create_schema
from tests.people import PASSWORD, at_once

RunJobs = Callable[..., int]
URL = "/api/v1/tenants/"
OWNER = {"email": "Ira@initech.example", "full_name": "Ira Ink", "password": PASSWORD}


def organisation(slug: str = "initech", **fields: Any) -> dict[str, Any]:
    return {"name": "Initech", "slug": slug, "owner": OWNER, **fields}


def signed_up(slug: str = "initech") -> Tenant:
    return services.sign_up(name="Initech", slug=slug, owner=OWNER)


@pytest.mark.django_db
def test_a_sign_up_is_accepted(public_client: APIClient) -> None:
    answer = public_client.post(URL, organisation(timezone="Europe/Berlin"))
    assert answer.status_code == 202
    assert answer.json() == {
        "slug": "initech",
        "name": "Initech",
        "status": "provisioning",
        "domain": "initech.localhost",
        "status_url": "http://localhost/api/v1/tenants/initech/",
    }
    assert answer["Location"] == answer.json()["status_url"]
    assert public_client.get(answer["Location"]).json()["status"] == "provisioning"
    assert Tenant.objects.get(slug="initech").timezone == "Europe/Berlin"


@pytest.mark.django_db
def test_the_password_waits_as_a_hash_and_travels_in_no_job(public_client: APIClient) -> None:
    public_client.post(URL, organisation())
    waiting = SignUp.objects.get()
    assert check_password(PASSWORD, waiting.password_hash)
    [job] = Job.objects.all()
    assert json.loads(job.args) == [str(waiting.tenant_id)]
    assert PASSWORD not in str(vars(job))
    assert waiting.password_hash not in str(vars(job))


def test_the_job_makes_the_tenant(public_client: APIClient, committed_db: None, run_jobs: RunJobs) -> None:
    public_client.post(URL, organisation())
    run_jobs()
    tenant = Tenant.objects.get(slug="initech")
    assert tenant.status == "active"
    assert not SignUp.objects.exists()
    assert not Job.objects.exists()
    with tenant_context(tenant):
        owner = User.objects.get()
        message = Message.objects.get()
    assert (owner.email, owner.role, owner.is_active) == ("Ira@initech.example", "owner", True)
    assert message.to == owner.email
    assert "http://initech.localhost:8000/link/?link=" in message.text
    assert not owner.is_confirmed
    credentials = {"email": owner.email, "password": PASSWORD}
    client = APIClient(headers={"host": "initech.localhost"})
    assert client.post("/api/v1/tokens/", credentials).status_code == 201


@pytest.mark.parametrize(
    "slug",
    [
        *("www", "api", "admin", "public", "static", "mail", "localhost", "pg-x", "xn--80ak6aa92e"),
        *("A", "a_b", "-a", "a-", "a" * 41, "1a", "", "ä", "a\x00b", "a.b", 7, None, ["a"]),
    ],
)
@pytest.mark.django_db
def test_no_such_slug(public_client: APIClient, slug: Any) -> None:
    answer = public_client.post(URL, organisation(slug))
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == {"#/slug"}


@pytest.mark.parametrize(
    ("owner", "pointer"),
    [
        ({"password": "short"}, "#/owner/password"),
        ({"password": "password"}, "#/owner/password"),
        ({"password": "Ira@initech.example"}, "#/owner/password"),
        ({"email": "ira"}, "#/owner/email"),
        ({"email": "ira@[127.0.0.1]"}, "#/owner/email"),
        ({"email": "ira@localhost"}, "#/owner/email"),
        ({"email": '"ira"@initech.example'}, "#/owner/email"),
        ({"email": "=?utf-8?q?ira?=@initech.example"}, "#/owner/email"),
        ({"email": "ira\u0131@initech.example"}, "#/owner/email"),
        ({"full_name": "Ira\nBcc: all@example.com"}, "#/owner/full_name"),
        ({"full_name": ""}, "#/owner/full_name"),
    ],
)
@pytest.mark.django_db
def test_no_such_owner(public_client: APIClient, owner: dict[str, str], pointer: str) -> None:
    answer = public_client.post(URL, organisation(owner={**OWNER, **owner}))
    assert answer.status_code == 400
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}


@pytest.mark.parametrize("email", ["ira@BÜCHER.example", "ira@bu\u0308cher.example", "ira@xn--bcher-kva.example"])
@pytest.mark.django_db
def test_an_owner_s_address_is_stored_in_one_form(public_client: APIClient, email: str) -> None:
    assert public_client.post(URL, organisation(owner={**OWNER, "email": email})).status_code == 202
    assert SignUp.objects.get().email == "ira@xn--bcher-kva.example"


def test_a_slug_is_taken_once(public_client: APIClient, acme: Tenant) -> None:
    before = (Tenant.objects.count(), Domain.objects.count())
    answer = public_client.post(URL, organisation("acme"))
    assert (answer.status_code, answer.json()["code"]) == (409, "slug_taken")
    assert (Tenant.objects.count(), Domain.objects.count()) == before
    assert not SignUp.objects.exists()
    assert not Job.objects.exists()


def test_of_a_race_for_a_slug_one_wins(committed_db: None) -> None:
    def post() -> int:
        return APIClient(headers={"host": "localhost"}).post(URL, organisation()).status_code

    assert sorted(at_once(post, post, post)) == [202, 409, 409]
    assert Tenant.objects.filter(slug="initech").count() == 1
    assert SignUp.objects.count() == 1
    assert Job.objects.count() == 1


@pytest.fixture
def obstacle(committed_db: None) -> Iterator[Tenant]:
    """A tenant to be provisioned, in whose schema a migration will fail."""
    tenant = signed_up()
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{tenant.schema_name}"')
        cursor.execute(f'CREATE TABLE "{tenant.schema_name}".accounts_user ()')
    return tenant


def test_a_failure_is_kept_with_its_reason(public_client: APIClient, obstacle: Tenant, run_jobs: RunJobs) -> None:
    run_jobs()
    obstacle.refresh_from_db()
    assert obstacle.status == "failed"
    assert "accounts_user" in obstacle.failure
    shown = public_client.get(f"{URL}initech/").json()
    assert shown == {"slug": "initech", "name": "Initech", "status": "failed", "domain": "initech.localhost"}
    again = public_client.post(URL, organisation())
    assert (again.status_code, again.json()["code"]) == (409, "sign_up_failed")


def test_staff_can_try_again_after_a_failure(obstacle: Tenant, run_jobs: RunJobs) -> None:
    run_jobs()
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE "{obstacle.schema_name}".accounts_user')
    services.retry_sign_up(obstacle)
    assert (obstacle.status, obstacle.failure) == ("provisioning", "")
    run_jobs()
    obstacle.refresh_from_db()
    assert obstacle.status == "active"


def test_a_crash_after_the_schema_is_made_up_for(committed_db: None, run_jobs: RunJobs) -> None:
    tenant = signed_up()
    create_schema(tenant)
    run_jobs()
    tenant.refresh_from_db()
    assert tenant.status == "active"


@pytest.mark.django_db
def test_a_crash_before_the_commit_leaves_nothing(acme: Tenant) -> None:
    tenant = waiting_in(acme)
    with transaction.atomic():
        provisioning.open_tenant(tenant_id=str(tenant.pk))
        transaction.set_rollback(True)
    tenant.refresh_from_db()
    assert tenant.status == "provisioning"
    assert SignUp.objects.filter(tenant=tenant).exists()
    with tenant_context(tenant):
        assert not User.objects.exists()
        assert not Message.objects.exists()


@pytest.mark.django_db
def test_a_tenant_is_opened_once(acme: Tenant) -> None:
    tenant = waiting_in(acme)
    assert provisioning.open_tenant(tenant_id=str(tenant.pk))
    assert provisioning.open_tenant(tenant_id=str(tenant.pk)) is None
    with tenant_context(tenant):
        assert User.objects.count() == 1
        assert Message.objects.count() == 1


@pytest.mark.parametrize("status", ["active", "suspended", "deleting"])
@pytest.mark.django_db
def test_only_a_waiting_tenant_is_opened(acme: Tenant, status: str) -> None:
    tenant = waiting_in(acme)
    Tenant.objects.update(status=status)
    assert provisioning.open_tenant(tenant_id=str(tenant.pk)) is None
    provisioning.give_up_tenant(tenant_id=str(tenant.pk), reason="late")
    tenant.refresh_from_db()
    assert (tenant.status, tenant.failure) == (status, "")


@pytest.fixture
def impatient(committed_db: None) -> Iterator[None]:
    """Each session of the database waits for a lock for a moment only, whoever owns it."""
    database = f'ALTER DATABASE "{connection.settings_dict["NAME"]}"'
    with connection.cursor() as cursor:
        cursor.execute(f"{database} SET lock_timeout = '50ms'")
    connection.close()
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"{database} RESET lock_timeout")
    connection.close()


def test_trouble_with_the_database_is_tried_again(impatient: None, run_jobs: RunJobs) -> None:
    tenant = signed_up()
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, tenant.schema_name])
        run_jobs()
    tenant.refresh_from_db()
    assert (tenant.status, Job.objects.get().retries) == ("provisioning", 1)
    run_jobs(ahead=True)
    tenant.refresh_from_db()
    assert tenant.status == "active"


def test_a_tenant_that_is_gone_is_not_provisioned(committed_db: None, run_jobs: RunJobs) -> None:
    tenant = signed_up()
    Tenant.objects.filter(slug="initech").delete()
    assert run_jobs() == 1
    assert not schema_exists(tenant.schema_name)
    assert not Job.objects.exists()


def waiting_in(tenant: Tenant) -> Tenant:
    """acme, as if it had been signed up and its schema were just complete."""
    SignUp.objects.create(tenant=tenant, email="a@acme.example", full_name="Ada", password_hash="!")
    Tenant.objects.filter(pk=tenant.pk).update(status="provisioning")
    return tenant
