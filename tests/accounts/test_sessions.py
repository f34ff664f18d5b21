"""Sessions of staff that have ended."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from config.celery import app
from jobs import schedules
from tests.people import add_staff, client_of_staff

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
