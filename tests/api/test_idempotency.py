import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import transaction
from django.utils.crypto import salted_hmac
from django_celery_beat.models import PeriodicTask
from django_tenants.utils import schema_context, tenant_context
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import User
from config.celery import app
from idempotency import services, tasks
from idempotency.models import KeptResponse
from idempotency.views import SECRETS
from jobs.models import Job
from jobs.relay import deletion
from tenants.connection import connection
from tenants.models import SignUp, Tenant
from tenants.services import delete_tenant
from tests.people import PASSWORD, add_user, at_once, await_blocked, client_of

BOB = {"email": "bob@acme.example", "full_name": "Bob", "password": PASSWORD, "role": "member"}
INITECH = {"name": "Initech", "slug": "initech", "owner": {**BOB, "email": "ann@initech.example"}}
INITECH["owner"].pop("role")  # type: ignore[attr-defined]
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def as_ada(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


def create(client: APIClient, body: Any = BOB, *, key: str = KEY) -> Any:
    return client.post("/api/v1/users/", body, headers={"idempotency-key": key})


def sign_up(client: APIClient, body: Any = INITECH, *, key: str = KEY) -> Any:
    return client.post("/api/v1/tenants/", body, headers={"idempotency-key": key})


def is_replay(response: Any) -> bool:
    return bool(response.headers.get("Idempotent-Replayed") == "true")


def people(tenant: Tenant) -> set[str]:
    with tenant_context(tenant):
        return set(User.objects.values_list("full_name", flat=True))


def kept(tenant: Tenant) -> list[KeptResponse]:
    with tenant_context(tenant):
        return list(KeptResponse.objects.all())


def age(hours: float) -> None:
    KeptResponse.objects.update(created_at=KeptResponse.objects.get().created_at - timedelta(hours=hours))


# The first response again


def test_the_same_request_gets_the_first_response_again_and_has_no_second_effect(
    as_ada: APIClient, acme: Tenant
) -> None:
    first, second = create(as_ada), create(as_ada)
    assert (first.status_code, is_replay(first)) == (201, False)
    assert (second.status_code, is_replay(second)) == (201, True)
    assert second.content == first.content
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    assert people(acme) == {"Ada of Acme", "Bob"}
    assert Job.objects.count() == 1


def test_a_sign_up_too_with_its_headers(public_client: APIClient, db: None) -> None:
    first, second = sign_up(public_client), sign_up(public_client)
    assert (first.status_code, is_replay(first)) == (202, False)
    assert (second.status_code, is_replay(second)) == (202, True)
    assert second.content == first.content
    assert second.headers["Location"] == first.headers["Location"]
    assert Tenant.objects.filter(slug="initech").count() == Job.objects.count() == 1


def test_it_comes_again_though_things_have_changed(as_ada: APIClient, acme: Tenant) -> None:
    first = create(as_ada)
    as_ada.patch(f"/api/v1/users/{first.json()['id']}/", {"full_name": "Robert"})
    assert create(as_ada).json() == first.json()


def test_without_a_key_nothing_is_kept(as_ada: APIClient, acme: Tenant) -> None:
    assert [as_ada.post("/api/v1/users/", BOB).status_code for _ in range(2)] == [201, 409]
    assert kept(acme) == []


def test_how_a_body_is_spelt_does_not_matter(as_ada: APIClient) -> None:
    first = create(as_ada)
    spelt = json.dumps(dict(reversed(BOB.items())), indent=1)
    headers = {"idempotency-key": KEY}
    again = as_ada.post("/api/v1/users/", spelt, content_type="application/json", headers=headers)
    assert (is_replay(again), again.content) == (True, first.content)


# Another request


@pytest.mark.parametrize(
    "change", [{"full_name": "Rob"}, {"email": "rob@acme.example"}, {"more": 1}, {"more": {"password": PASSWORD}}]
)
def test_another_body_with_the_same_key_is_refused(as_ada: APIClient, acme: Tenant, change: dict[str, Any]) -> None:
    create(as_ada)
    refused = create(as_ada, {**BOB, **change})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert people(acme) == {"Ada of Acme", "Bob"}


def test_another_key_is_another_request(as_ada: APIClient) -> None:
    create(as_ada)
    assert create(as_ada, key="another").json()["code"] == "email_taken"


def test_each_user_has_keys_of_their_own(as_ada: APIClient, acme: Tenant) -> None:
    create(as_ada)
    as_abe = client_of(acme, add_user(acme, "abe", "owner"))
    assert create(as_abe).json()["code"] == "email_taken"
    assert create(as_abe, {**BOB, "email": "rob@acme.example"}).status_code == 201


def test_each_tenant_has_keys_of_its_own(as_ada: APIClient, acme: Tenant, globex: Tenant) -> None:
    # The same person, by id, in both: nothing but the schema tells them apart.
    with tenant_context(acme):
        ada = User.objects.get()
    as_ada_elsewhere = client_of(globex, add_user(globex, "ada", "owner", id=ada.pk))
    create(as_ada)
    assert (is_replay(created := create(as_ada_elsewhere)), created.status_code) == (False, 201)
    assert people(globex) == {"Ada of Globex", "Bob"}


def test_each_slug_has_keys_of_its_own(public_client: APIClient, db: None) -> None:
    sign_up(public_client)
    other = sign_up(public_client, {**INITECH, "slug": "hooli"})
    assert (other.status_code, other.json()["slug"]) == (202, "hooli")
    assert sign_up(public_client, {**INITECH, "name": "Other"}).status_code == 422


# Keys


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb", "\x7f"])
def test_a_key_that_makes_no_sense_is_refused(as_ada: APIClient, acme: Tenant, key: str) -> None:
    refused = create(as_ada, key=key)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_idempotency_key")
    assert people(acme) == {"Ada of Acme"}


@pytest.mark.parametrize("key", ["x", "x" * 255, '"a key"', "%s'; --"])
def test_a_key_may_be_any_printable_text(as_ada: APIClient, key: str) -> None:
    assert [is_replay(create(as_ada, key=key)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("body", [[], "x", 5, None, {}, {"slug": ["initech"]}, {"slug": "x\0"}, {**INITECH, "slug": 5}])
def test_a_sign_up_that_makes_no_sense_is_refused_as_without_a_key(
    public_client: APIClient, db: None, body: Any
) -> None:
    text = json.dumps(body)
    refused = public_client.post(
        "/api/v1/tenants/", text, content_type="application/json", headers={"idempotency-key": KEY}
    )
    assert refused.status_code == 400
    assert not KeptResponse.objects.exists()


@pytest.mark.parametrize("depth", [400, 900, 990, 5000, 200_000])
def test_a_deep_body_is_no_500(as_ada: APIClient, depth: int) -> None:
    text = '{"email": ' + "[" * depth + "]" * depth + "}"
    refused = as_ada.post("/api/v1/users/", text, content_type="application/json", headers={"idempotency-key": KEY})
    assert refused.status_code == 400


# Errors


def test_an_error_is_not_kept_and_the_key_may_be_tried_again(as_ada: APIClient, acme: Tenant) -> None:
    assert create(as_ada, {**BOB, "email": "ada@acme.example"}).status_code == 409
    assert create(as_ada, {**BOB, "password": "short"}).status_code == 400
    assert kept(acme) == []
    assert create(as_ada).status_code == 201


@pytest.mark.parametrize("place", ["idempotency.models.KeptResponse.save", "accounts.services.send_link"])
def test_a_crash_before_the_commit_leaves_nothing(
    as_ada: APIClient, acme: Tenant, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    as_ada.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(place, lambda *args, **kwargs: 1 / 0)
        assert create(as_ada).status_code == 500
    assert (people(acme), kept(acme), Job.objects.count()) == ({"Ada of Acme"}, [], 0)
    assert (create(as_ada).status_code, is_replay(create(as_ada))) == (201, True)


def test_an_answer_that_is_no_success_rolls_back(acme: Tenant) -> None:
    def respond() -> Response:
        add_user(acme, "bob")
        return Response({}, status=409)

    services.respond_once(owner="x", key=KEY, fingerprint="x", respond=respond)
    assert people(acme) == set()
    assert not KeptResponse.objects.exists()


# A tenant that is gone


def gone(slug: str, **options: Any) -> None:
    """Deleted, as staff and the relay do it."""
    tenant = Tenant.objects.get(slug=slug)
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ACTIVE)
    delete_tenant(tenant, **options)
    Job.objects.all().delete()
    assert deletion.delete_when_idle(tenant)


def test_a_sign_ups_response_goes_with_its_tenant(public_client: APIClient, db: None) -> None:
    sign_up(public_client)
    sign_up(public_client, {**INITECH, "slug": "hooli"})
    gone("initech")
    refused = sign_up(public_client)
    assert (refused.status_code, refused.json()["code"]) == (409, "slug_taken")
    assert is_replay(sign_up(public_client, {**INITECH, "slug": "hooli"}))


def test_once_its_slug_is_free_a_sign_up_is_a_new_one(public_client: APIClient, db: None) -> None:
    sign_up(public_client)
    gone("initech")
    call_command("tenant", "free", "initech")
    again = sign_up(public_client)
    assert (again.status_code, is_replay(again)) == (202, False)
    assert Tenant.objects.filter(slug="initech").exists()


def test_so_it_is_after_an_unconfirmed_one_went(public_client: APIClient, db: None) -> None:
    sign_up(public_client)
    gone("initech", quarantine=False)
    assert not is_replay(sign_up(public_client, {**INITECH, "owner": {**INITECH["owner"], "email": "x@y.example"}}))  # type: ignore[dict-item]
    assert SignUp.objects.get().email == "x@y.example"


def test_a_deletion_that_is_rolled_back_takes_no_response(public_client: APIClient, db: None) -> None:
    first = sign_up(public_client)
    with transaction.atomic():
        Tenant.objects.filter(slug="initech").delete()
        transaction.set_rollback(True)
    assert sign_up(public_client).content == first.content


def test_responses_in_a_tenants_schema_are_no_sign_ups(
    as_ada: APIClient, acme: Tenant, public_client: APIClient
) -> None:
    """Whatever their owner is called."""
    sign_up(public_client)
    create(as_ada)
    with tenant_context(acme):
        KeptResponse.objects.update(owner="initech")
    gone("initech")
    assert len(kept(acme)) == 1


# At the same time


def test_while_the_first_still_runs_the_second_is_told_so_at_once(committed_db: None, acme: Tenant) -> None:
    client = client_of(acme, add_user(acme, "ada", "owner"))

    def impatient() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        return create(client)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{acme.schema_name}".accounts_user IN SHARE MODE')
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.extend(at_once(lambda: create(client))))
        thread.start()
        await_blocked()
        [second] = at_once(impatient)
    thread.join()
    assert (second.status_code, second.json()["code"]) == (409, "request_in_progress")
    assert second.headers["Retry-After"] == "1"
    assert (first[0].status_code, is_replay(first[0])) == (201, False)
    assert is_replay(create(client))


@pytest.mark.parametrize("round_", range(5))
def test_of_many_at_once_one_has_the_effect(committed_db: None, acme: Tenant, round_: int) -> None:
    add_user(acme, "ada", "owner")
    with tenant_context(acme):
        ada = User.objects.get()
    clients = [client_of(acme, ada) for _ in range(8)]
    answers = at_once(*[lambda client=client: create(client) for client in clients])
    assert [answer.status_code for answer in answers if not is_replay(answer)].count(201) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"request_in_progress"}
    assert people(acme) == {"Ada of Acme", "Bob"}
    assert Job.objects.count() == len(kept(acme)) == 1


def test_a_sign_up_at_once_too(committed_db: None, public_client: APIClient) -> None:
    answers = at_once(*[lambda: sign_up(public_client)] * 4)
    assert {answer.json().get("code") for answer in answers if answer.status_code != 202} <= {"request_in_progress"}
    assert Tenant.objects.filter(slug="initech").count() == Job.objects.count() == 1


# How long


def test_it_is_kept_for_a_day(as_ada: APIClient, acme: Tenant) -> None:
    create(as_ada)
    with tenant_context(acme):
        age(hours=23.9)
    assert is_replay(create(as_ada))
    with tenant_context(acme):
        age(hours=0.2)
    assert create(as_ada).json()["code"] == "email_taken"
    assert create(as_ada, {**BOB, "email": "rob@acme.example"}).status_code == 201
    assert len(kept(acme)) == 1


def test_what_is_old_is_deleted_every_night_and_everywhere(
    as_ada: APIClient, public_client: APIClient, acme: Tenant, run_jobs: Callable[..., int]
) -> None:
    sign_up(public_client)
    Job.objects.all().delete()  # making its schema would end the test's transaction
    age(hours=24.1)
    create(as_ada)
    with tenant_context(acme):
        age(hours=24.1)
    create(as_ada, {**BOB, "email": "rob@acme.example"}, key="young")
    with schema_context("public"):
        tasks.forget_expired_everywhere()
        run_jobs()
        assert not KeptResponse.objects.exists()
    assert [response.key for response in kept(acme)] == ["young"]


def test_the_release_step_schedules_that(db: None) -> None:
    schedule = PeriodicTask.objects.get(name="Forget old Idempotency-Keys")
    assert schedule.task in app.tasks
    assert schedule.enabled


# Secrets: whoever knows a key must not be able to try what they hold


@pytest.mark.parametrize("password", ["a guess", PASSWORD, f"{PASSWORD}!", "", None, 5, [], {"password": 1}])
def test_a_password_is_no_part_of_a_request(as_ada: APIClient, acme: Tenant, hashed: list[str], password: Any) -> None:
    first = create(as_ada)
    hashed.clear()
    again = create(as_ada, {**BOB, "password": password})
    assert (again.status_code, is_replay(again), again.content) == (201, True, first.content)
    assert hashed == []


@pytest.mark.parametrize(
    "owner",
    [
        {"password": "a guess"},
        {"email": "guess@initech.example"},
        {"full_name": "A Guess"},
        {"email": "guess@initech.example", "password": "a guess", "full_name": "A Guess", "more": 1},
    ],
)
def test_nobody_learns_who_signed_up_by_trying(public_client: APIClient, db: None, owner: dict[str, Any]) -> None:
    first = sign_up(public_client)
    guessed = sign_up(public_client, {**INITECH, "owner": {**INITECH["owner"], **owner}})  # type: ignore[dict-item]
    right = sign_up(public_client)
    assert [answer.status_code for answer in (guessed, right)] == [202, 202]
    assert guessed.content == right.content == first.content
    headers = [{**answer.headers, "X-Request-ID": ""} for answer in (guessed, right)]
    assert headers[0] == headers[1]


@pytest.mark.parametrize("owner", [None, {}, [], "x"])
def test_nor_by_leaving_the_owner_out(public_client: APIClient, db: None, owner: Any) -> None:
    first = sign_up(public_client)
    assert sign_up(public_client, {**INITECH, "owner": owner}).content == first.content
    assert sign_up(public_client, {"name": "Initech", "slug": "initech"}).content == first.content


def test_a_guess_after_the_password_was_changed_tells_no_more(
    public_client: APIClient, db: None, hashed: list[str]
) -> None:
    sign_up(public_client)
    SignUp.objects.update(password_hash="changed")
    hashed.clear()
    for password in (PASSWORD, "a guess"):
        assert is_replay(sign_up(public_client, {**INITECH, "owner": {**BOB, "password": password}}))
    assert hashed == []


def test_no_operation_that_takes_a_key_has_another_secret_in_its_body() -> None:
    """A payment token buys one thing once: it says which payment is meant."""
    generator: Any = SchemaGenerator
    schema = generator(urlconf="config.api").get_schema(public=True)
    parts = schema["components"]["schemas"]
    secrets = set()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            named = [parameter["name"] for parameter in operation.get("parameters", [])]
            if "Idempotency-Key" in named and path != "/api/v1/tenants/":
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                fields = parts[reference.split("/")[-1]]["properties"]
                secrets |= {name for name, terms in fields.items() if terms.get("writeOnly")}
    assert secrets - {"payment_token"} == SECRETS


@pytest.mark.parametrize("fallback", [False, True])
def test_a_request_of_before_the_upgrade_is_known_again(
    as_ada: APIClient, acme: Tenant, public_client: APIClient, settings: Settings, fallback: bool
) -> None:
    """Its fingerprint was of the whole body."""
    users, sign_ups = create(as_ada), sign_up(public_client)
    with tenant_context(acme):
        KeptResponse.objects.update(fingerprint=whole("/api/v1/users/", BOB))
    KeptResponse.objects.update(fingerprint=whole("/api/v1/tenants/", INITECH))
    if fallback:
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another"

    assert (create(as_ada).content, sign_up(public_client).content) == (users.content, sign_ups.content)
    assert create(as_ada, {**BOB, "full_name": "Rob"}).status_code == 422
    assert sign_up(public_client, {**INITECH, "name": "Other"}).status_code == 422


def whole(path: str, body: Any) -> str:
    canonical = json.dumps([path, body], sort_keys=True)
    return salted_hmac("idempotency", canonical, algorithm="sha256").hexdigest()


def test_no_password_can_be_read_or_guessed_from_what_is_kept(
    as_ada: APIClient, acme: Tenant, settings: Settings
) -> None:
    create(as_ada)
    [row] = kept(acme)
    assert PASSWORD not in str(vars(row))
    settings.SECRET_KEY = "another"
    assert create(as_ada).status_code == 422  # whoever lacks the key can't find out by trying


def test_a_request_is_known_again_after_the_sites_key_was_rotated(
    as_ada: APIClient, acme: Tenant, settings: Settings
) -> None:
    first = create(as_ada)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    again = create(as_ada)
    assert (again.status_code, again.json()) == (201, first.json())
    settings.SECRET_KEY_FALLBACKS = []
    assert create(as_ada).status_code == 422


def test_a_response_that_must_not_be_stored_is_refused(db: None) -> None:
    def respond() -> Response:
        return Response({"token": "secret"}, status=201, headers={"Cache-Control": "no-store"})

    with pytest.raises(ImproperlyConfigured, match="takes no key"):
        services.respond_once(owner="x", key=KEY, fingerprint="x", respond=respond)
    assert not KeptResponse.objects.exists()


def test_whoever_logs_in_twice_gets_two_tokens(as_ada: APIClient, acme: Tenant) -> None:
    credentials = {"email": "ada@acme.example", "password": PASSWORD}
    tokens = [
        as_ada.post("/api/v1/tokens/", credentials, headers={"idempotency-key": KEY, "authorization": ""}).json()
        for _ in range(2)
    ]
    assert tokens[0]["token"] != tokens[1]["token"]
    assert kept(acme) == []


def test_the_documentation_names_each_operation_that_takes_a_key_and_none_answers_with_a_secret() -> None:
    generator: Any = SchemaGenerator
    schema = generator(urlconf="config.api").get_schema(public=True)
    keyed = {
        path: operation
        for path, operations in schema["paths"].items()
        for operation in operations.values()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    of_billing = {path for path in keyed if path.startswith("/api/v1/orders/")}
    assert set(keyed) - of_billing == {"/api/v1/tenants/", "/api/v1/users/"}
    for operation in keyed.values():
        [response] = [response for status, response in operation["responses"].items() if status.startswith("2")]
        assert "Idempotent-Replayed" in response["headers"]
        [name] = [body["schema"]["$ref"].split("/")[-1] for body in response["content"].values()]
        properties = schema["components"]["schemas"][name]["properties"]
        readable = [field for field, terms in properties.items() if not terms.get("writeOnly")]
        assert not [field for field in readable if "password" in field or "token" in field or "secret" in field]
