"""The admin's form of periodic tasks."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from accounts.models import User
from jobs import schedules
from jobs.models import Job
from tests.jobs.durables import mark
from tests.people import add_staff, client_of_staff

URL = "/admin/django_celery_beat/periodictask/"
DELIVERY = "notifications.tasks.deliver_message"
SWEEP = "idempotency.tasks.forget_expired"


@pytest.fixture
def client(db: None) -> Client:
    return client_of_staff(add_staff())


def save(client: Client, url: str = f"{URL}add/", **fields: Any) -> list[str]:
    """What the form says against it."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.HOURS)
    form = {"name": "one", "regtask": mark.name, "run_in": "public", "enabled": "on", "interval": interval.pk}
    answer = client.post(url, {**form, "args": '["one"]', "kwargs": "{}", **fields})
    if answer.status_code == 302:
        return []
    errors = answer.context["adminform"].errors
    return [error for of_field in errors.values() for error in of_field]


def test_a_schedule_runs_once_on_the_platform_or_in_each_tenant(client: Client) -> None:
    assert save(client) == []
    assert save(client, name="two", regtask=SWEEP, run_in="tenants", args="[]") == []
    one, two = PeriodicTask.objects.get(name="one"), PeriodicTask.objects.get(name="two")
    assert [schedules.place_of(each).value for each in (one, two)] == ["public", "tenants"]
    page = client.get(URL).content.decode()
    assert "once, on the platform" in page
    assert "in each active tenant" in page


def test_the_form_shows_where_it_runs(client: Client) -> None:
    save(client, run_in="tenants")
    periodic = PeriodicTask.objects.get(name="one")
    answer = client.get(f"{URL}{periodic.pk}/change/")
    assert answer.context["adminform"].form["run_in"].value() == "tenants"
    assert save(client, f"{URL}{periodic.pk}/change/", run_in="public") == []
    periodic.refresh_from_db()
    assert schedules.place_of(periodic) == "public"


def test_the_form_offers_each_task_with_where_it_can_run(client: Client) -> None:
    page = client.get(f"{URL}add/").content.decode()
    assert f"{DELIVERY} (in each active tenant)" in page
    assert f"{SWEEP}_everywhere (once, on the platform)" in page
    assert "tenants.tasks.fill_spares (once, on the platform)" in page
    assert f"{SWEEP} (once, on the platform or in each active tenant)" in page
    assert schedules.FAN_OUT not in page


@pytest.mark.parametrize(
    ("task", "place"),
    [
        (DELIVERY, "public"),
        (f"{SWEEP}_everywhere", "tenants"),
        ("accounts.tasks.provision_tenant", "tenants"),
        ("tenants.tasks.fill_spares", "tenants"),
    ],
)
def test_a_task_is_refused_where_it_can_not_run(client: Client, task: str, place: str) -> None:
    args = json.dumps(["1"] if task in (DELIVERY, "accounts.tasks.provision_tenant") else [])
    [error] = save(client, regtask=task, run_in=place, args=args)
    assert f"{task} does not run " in error
    assert not PeriodicTask.objects.filter(name="one").exists()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"queue": "celery"}, "leave queue empty"),
        ({"exchange": "x"}, "leave exchange empty"),
        ({"routing_key": "x"}, "leave routing_key empty"),
        ({"priority": "0"}, "leave priority empty"),
        ({"expire_seconds": "0"}, "leave expire_seconds empty"),
        ({"expire_seconds": "0", "run_in": "tenants"}, "leave expire_seconds empty"),
        ({"args": '{"a": 1}'}, "args is"),
        ({"kwargs": "[]"}, "kwargs is"),
        ({"args": "[]"}, "missing 1 required positional argument"),
        ({"args": "[1, 2]"}, "takes 1 positional argument"),
        ({"regtask": "", "task": "no.such.task"}, "No app of this project has a task"),
        ({"regtask": schedules.FAN_OUT}, "schedule those"),
        ({"regtask": "", "task": "x" * 300}, "Need name of task"),
        ({"regtask": ""}, "Need name of task"),
        ({"run_in": "mars"}, "not one of the available choices"),
        ({"args": "[1"}, "Unable to parse JSON"),
    ],
)
def test_what_a_durable_job_can_not_be_is_refused_with_a_message(
    client: Client, fields: dict[str, str], told: str
) -> None:
    assert told in " ".join(save(client, **fields))
    assert not PeriodicTask.objects.filter(name="one").exists()


def test_an_old_schedule_with_a_queue_is_shown_and_can_be_mended(client: Client) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.HOURS)
    old = PeriodicTask.objects.create(
        name="one", task=mark.name, args='["one"]', interval=interval, queue="celery", headers='{"x": 1}'
    )
    assert "not: A run is a durable job" in client.get(URL).content.decode()
    assert client.get(f"{URL}{old.pk}/change/").status_code == 200
    assert save(client, f"{URL}{old.pk}/change/", queue="") == []
    old.refresh_from_db()
    assert schedules.run_of(old).args == ["one"]


def test_a_schedule_can_be_run_now_as_beat_would(client: Client) -> None:
    save(client)
    save(client, name="two", regtask=SWEEP, run_in="tenants", args="[]")
    chosen = list(PeriodicTask.objects.filter(name__in=["one", "two"]).values_list("pk", flat=True))
    form = {"action": "run_tasks", "_selected_action": chosen}
    assert "dispatched" in client.post(URL, form, follow=True).content.decode()
    assert "a run waits already" in client.post(URL, form, follow=True).content.decode()
    assert sorted(Job.objects.values_list("task", "schedule")) == [
        (schedules.FAN_OUT, "two"),
        (mark.name, "one"),
    ]


def test_who_may_only_look_changes_nothing(client: Client, db: None) -> None:
    save(client)
    User.objects.update(is_superuser=False)
    viewer = User.objects.get(email="sam@tenantry.example")
    assert viewer.is_staff
    viewer.user_permissions.add(*Permission.objects.filter(codename="view_periodictask"))
    chosen = list(PeriodicTask.objects.filter(name="one").values_list("pk", flat=True))
    for action in ("run_tasks", "disable_tasks", "toggle_tasks"):
        client.post(URL, {"action": action, "_selected_action": chosen}, follow=True)
        assert PeriodicTask.objects.get(name="one").enabled, action
    assert not Job.objects.exists()


def test_a_schedule_that_can_not_be_calculated_is_refused(client: Client) -> None:
    ages = IntervalSchedule.objects.create(every=2_000_000_000, period=IntervalSchedule.DAYS)
    [error] = save(client, interval=str(ages.pk))
    assert "can't be calculated: OverflowError" in error
