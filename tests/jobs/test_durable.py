"""Durable jobs, the plain path, with a real relay and worker."""

from django.db import transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import eventually
from tests.jobs.probes import probe


def test_a_committed_job_runs_once_at_home_and_leaves_its_result(worker: Process, relay: Process, acme: Tenant) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        job_id = probe.delay_on_commit("durable")
        assert Job.objects.get(id=job_id).tenant_id == acme.id

    eventually(lambda: not Job.objects.exists(), "the job ended")
    assert [(ran["name"], ran["schema"]) for ran in probes.ran()] == [("durable", acme.schema_name)]
    with schema_context(acme.schema_name):
        assert TaskResult.objects.get(task_id=job_id).status == "SUCCESS"
    assert not TaskResult.objects.filter(task_id=job_id).exists()
