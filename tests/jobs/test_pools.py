"""What a pool without hard time limits leaves to others."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs.conftest import ended, eventually, results_of
from tests.jobs.durables import groups, lingers, mark
from tests.jobs.hooked import hooked
from tests.jobs.probes import ran
from tests.people import add_user, client_of


@pytest.fixture
def relay(committed_db: None, tmp_path: Path) -> Iterator[Process]:
    """One that soon sends again."""
    command = ["python", "manage.py", "relay"]
    with Process("relay", command, log=tmp_path / "relay.log", env={"JOB_FIRST_RESEND": "0.2"}) as relay:
        yield relay


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_a_pool_without_hard_limits_leaves_jobs_outside_of_a_transaction_to_prefork(
    acme: Tenant, start_worker: Callable[..., Process], pool: str
) -> None:
    with schema_context(acme.schema_name):
        ids = [lingers.delay_on_commit(f"job {n}", 0) for n in range(3)]
        atomic = mark.delay_on_commit("atomic")
        plain = lingers.delay("plain", 0)
    worker = start_worker("-P", pool, "-c", "1", JOB_FIRST_RESEND="0.2")
    eventually(lambda: ended(atomic) and ended(plain.id), "what may run there")
    eventually(lambda: Job.objects.exclude(error="").filter(sends__gt=2).count() == 3, "refused, again and again")
    assert worker.output.count("has no hard time limits") == 1
    assert groups(acme.schema_name) == ["atomic", "plain"]
    for job in Job.objects.all():
        assert (str(job.pk) in ids, job.state, job.attempt, job.kills, job.lost) == (True, "waiting", 0, 0, 0)
    shown = client_of(acme, add_user(acme, "ada", "owner")).get(f"/api/v1/jobs/{ids[0]}/").json()
    assert shown["state"] == "pending"
    assert "Start a worker with the prefork pool" in shown["error"]

    worker.stop()
    start_worker("-c", "1")
    eventually(lambda: not Job.objects.exists(), "done")
    assert groups(acme.schema_name) == ["atomic", "job 0", "job 1", "job 2", "plain"]
    assert [results_of(job_id) for job_id in ids] == [{acme.schema_name: "SUCCESS"}] * 3


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_hooks_are_at_home_in_every_pool(
    start_worker: Callable[..., Process], acme: Tenant, globex: Tenant, pool: str
) -> None:
    start_worker("-P", pool, "-c", "2")
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            hooked.delay_on_commit(home=tenant.schema_name, deeds={"on_success": "cancel"})
            hooked.delay(home=tenant.schema_name, deeds={"on_success": "cancel"})
    hooks = ["before_start", "body", "on_success", "after_return"]
    eventually(lambda: sorted(note["name"] for note in ran()) == sorted(4 * hooks), "all ended")

    for note in ran():
        assert note["schema"] == note["believed"] == note["arguments"][1]["home"]
