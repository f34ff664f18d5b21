"""Plain tasks: each runs in the schema that it was called in, and in no other."""

from django.db import connection
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import eventually
from tests.jobs.probes import probe


def test_a_task_runs_where_it_was_called(worker: Process, acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            probe.delay(tenant.slug)
    probe.delay("public")

    eventually(lambda: len(probes.ran()) == 3, "three tasks ran")
    where = {ran["name"]: ran["schema"] for ran in probes.ran()}
    assert where == {"acme": acme.schema_name, "globex": globex.schema_name, "public": "public"}
    assert connection.schema_name == "public"
