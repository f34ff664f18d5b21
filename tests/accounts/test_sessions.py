"""Sessions of staff: when they end, and that none comes back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_tenants.utils import tenant_context

from accounts.models import User
from accounts.second_factor import renew_second_factor
from config.celery import app
from jobs import schedules
from tenants.models import Tenant
from tests.people import PASSWORD, add_staff, add_user, client_of_staff

RunJobs = Callable[..., int]


@pytest.mark.django_db
def test_they_go_every_night_and_the_others_stay(run_jobs: RunJobs) -> None:
    sam = add_staff()
    old, young = client_of_staff(sam), client_of_staff(sam)
    ended = timezone.now() - timedelta(seconds=1)
    Session.objects.filter(pk=old.session.session_key).update(expire_date=ended)

    schedule = PeriodicTask.objects.get(name="Forget expired sessions")
    assert (schedule.enabled, schedule.task in app.tasks) == (True, True)
    schedules.dispatch(schedules.run_of(schedule))
    run_jobs()

    assert [session.pk for session in Session.objects.all()] == [young.session.session_key]
    assert young.get("/admin/").status_code == 200


# What ends them

RIGHTS = ("is_active", "is_staff", "is_superuser")


@pytest.fixture
def sue(db: None) -> User:
    return add_staff(email="sue@tenantry.example", full_name="Sue Staff")


def is_in(client: Client) -> bool:
    return bool(client.get("/admin/").status_code == 200)


def edit(client: Client, user: User, *, without: str = "") -> None:
    """The form with all rights but one."""
    form = {"email": user.email, "full_name": user.full_name, **{right: "on" for right in RIGHTS if right != without}}
    assert client.post(f"/admin/accounts/user/{user.pk}/change/", form).status_code == 302


@pytest.mark.parametrize("right", ["is_active", "is_staff"])
def test_none_comes_back_with_the_right_to_the_admin(sue: User, right: str) -> None:
    boss = client_of_staff(add_staff())
    old, unused = client_of_staff(sue), client_of_staff(sue)
    assert is_in(old)

    edit(boss, sue, without=right)
    assert not is_in(old)
    edit(boss, sue)

    assert [is_in(client) for client in (old, unused, boss)] == [False, False, True]
    assert is_in(client_of_staff(sue))


@pytest.mark.parametrize("right", ["is_active", "is_staff"])
def test_nor_does_one_when_code_takes_it(sue: User, right: str) -> None:
    old = client_of_staff(sue)
    for value in (False, True):
        setattr(sue, right, value)
        sue.save(update_fields=[right])
    assert not is_in(old)


@pytest.mark.django_db
@pytest.mark.parametrize("right", ["is_active", "is_staff"])
def test_who_takes_their_own_right_is_out(right: str) -> None:
    sam = add_staff()
    client = client_of_staff(sam)
    edit(client, sam, without=right)
    assert not is_in(client)
    User.objects.update(is_active=True, is_staff=True)
    assert not is_in(client)


def test_none_ends_when_the_change_is_rolled_back(sue: User) -> None:
    old = client_of_staff(sue)
    with transaction.atomic():
        sue.is_active = False
        sue.save()
        transaction.set_rollback(True)
    assert is_in(old)


def test_a_superuser_who_is_none_any_more_goes_on_with_fewer_rights(sue: User) -> None:
    boss, old = client_of_staff(add_staff()), client_of_staff(sue)
    assert old.get("/admin/accounts/user/").status_code == 200
    edit(boss, sue, without="is_superuser")
    assert [is_in(old), old.get("/admin/accounts/user/").status_code] == [True, 403]


def test_a_password_that_somebody_else_sets_ends_them(sue: User) -> None:
    boss, old = client_of_staff(add_staff()), client_of_staff(sue)
    # The same password: it is another hash.
    form: dict[str, Any] = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert boss.post(f"/admin/accounts/user/{sue.pk}/password/", form).status_code == 302
    assert not is_in(old)
    assert is_in(boss)


def test_so_does_a_password_that_is_taken(sue: User) -> None:
    boss, old = client_of_staff(add_staff()), client_of_staff(sue)
    boss.post(f"/admin/accounts/user/{sue.pk}/password/", {"usable_password": "false", "unset-password": "x"})
    assert not is_in(old)


def test_so_does_a_new_second_factor_which_deletes_the_old_one(sue: User) -> None:
    old, boss = client_of_staff(sue), client_of_staff(add_staff())
    renew_second_factor(sue)
    assert not is_in(old)
    assert not Session.objects.filter(pk=old.session.session_key).exists()
    assert is_in(boss)


def test_what_happens_to_a_tenants_users_ends_none(sue: User, acme: Tenant) -> None:
    client = client_of_staff(sue)
    with tenant_context(acme):
        User(pk=sue.pk, email="ada@acme.example", full_name="Ada", is_active=False).save()
    add_user(acme, "alan")
    assert is_in(client)
