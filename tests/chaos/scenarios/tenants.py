import signal
import time

from tests.chaos.run import Run
from tests.chaos.tenants import Tenant

# From the change of a status until no body can begin that looked before.
GRACE = 0.5
FAR = 3600


def tenant_suspended(run: Run) -> None:
    """Some of its jobs wait, some have been claimed; all run after it is resumed."""
    tenant = run.chance.choice(run.tenants)
    with run.load():
        pass
    run.wait_for_quiet()
    with run.commands.hold("after-claim") as hold:
        run.probes("effect", 4, tenants=[tenant], countdown=2)
        run.probes("call", 4, tenants=[tenant])
        hold.wait(at_least=2)
        _turn(run, tenant, "suspended")
        time.sleep(GRACE)
        since = time.monotonic()
    with run.load(tenants=[other for other in run.tenants if other is not tenant], spread=run.pace.hard_limit):
        pass
    run.inactive.append((tenant.schema, since, time.monotonic()))
    _turn(run, tenant, "active")
    run.over()


def tenant_deleted(run: Run) -> None:
    """Some of its jobs wait, two have been claimed by a worker that freezes, and thaws when the schema is gone."""
    tenant = run.world.take_spare()
    with run.load(tenants=[*run.tenants, tenant]):
        pass
    run.wait_for_quiet()
    run.probes("effect", 3, tenants=[tenant], countdown=FAR)
    with run.commands.hold("after-claim") as hold:
        run.probes("effect", 1, tenants=[tenant])
        run.probes("call", 1, tenants=[tenant])
        held = hold.wait(at_least=2)
        run.world.signal_all(signal.SIGSTOP, "worker")
    run.world.start("worker-2")
    _turn(run, tenant, "deleting")
    run.wait(lambda: not run.world.sql("SELECT FROM tenants_tenant WHERE slug = %s", [tenant.slug]), "deletion")
    run.inactive.append((tenant.schema, time.monotonic(), float("inf")))
    run.over()
    run.thaw("worker", held)


def _turn(run: Run, tenant: Tenant, status: str) -> None:
    """As `tenants.services` does."""
    run.world.sql("UPDATE tenants_tenant SET status = %s WHERE slug = %s", [status, tenant.slug])
