from collections.abc import Callable

import pytest
from django.apps import apps
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_results.models import TaskResult
from django_tenants.utils import tenant_context

from billing.apps import schedule_reminders
from config.celery import app
from jobs import schedules
from tenants.models import Tenant

NAME = "Remind of unpaid invoices"


@pytest.mark.django_db
def test_the_release_step_has_made_one_daily_schedule_of_a_task_that_exists() -> None:
    schedule = PeriodicTask.objects.get(name=NAME)
    assert schedule.task in app.tasks
    assert schedule.enabled
    assert (schedule.crontab.minute, schedule.crontab.hour, schedule.crontab.day_of_week) == ("0", "6", "*")


@pytest.mark.django_db
def test_another_release_keeps_what_the_admin_changed() -> None:
    noon, _ = CrontabSchedule.objects.get_or_create(minute="0", hour="12")
    PeriodicTask.objects.filter(name=NAME).update(enabled=False, crontab=noon)
    schedule_reminders(using="default", apps=apps)
    schedule = PeriodicTask.objects.get(name=NAME)
    assert (schedule.enabled, schedule.crontab) == (False, noon)


def test_a_tenants_migration_makes_none(acme: Tenant) -> None:
    PeriodicTask.objects.all().delete()
    with tenant_context(acme):
        schedule_reminders(using="default", apps=apps)
    assert not PeriodicTask.objects.exists()


@pytest.mark.django_db
def test_reminders_run_in_each_tenant_or_are_dispatched_there_by_the_platform(
    acme: Tenant, globex: Tenant, run_jobs: Callable[[], int]
) -> None:
    in_each = PeriodicTask(name="each", task="billing.tasks.remind_unpaid_invoices", headers='{"run_in": "tenants"}')
    for schedule in (PeriodicTask.objects.get(name=NAME), in_each):
        schedules.dispatch(schedules.run_of(schedule))
        assert run_jobs() == 3
    for tenant in (acme, globex):
        with tenant_context(tenant):
            assert set(TaskResult.objects.values_list("task_name", "status")) == {(in_each.task, "SUCCESS")}
            assert TaskResult.objects.count() == 2


@pytest.mark.django_db
def test_reminders_do_not_run_on_the_platform() -> None:
    with pytest.raises(schedules.NotSchedulable, match="in each active tenant"):
        schedules.run_of(PeriodicTask(name="one", task="billing.tasks.remind_unpaid_invoices"))
