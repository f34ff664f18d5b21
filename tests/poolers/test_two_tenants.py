"""The product behind a connection pooler."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django_tenants.utils import tenant_context

from billing.models import Invoice
from devstack import folders
from devstack.ports import answers, free_port
from devstack.processes import Process
from tenants.connection import connection
from tenants.models import Tenant
from tenants.role import effective_defaults, role_defaults, verify_role
from tests.people import add_user, client_of
from tests.tools import find_tool

CONFIGURATION = """\
[databases]
{name} = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {pooler_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = session
"""
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Tea", "quantity": 2, "unit_amount": 1250}],
}


@pytest.fixture
def pgbouncer() -> Iterator[int]:
    """The port of a PgBouncer in front of this test's database."""
    database = connection.settings_dict
    port = free_port()
    account = folders.unprivileged()
    program = find_tool("pgbouncer")
    assert program
    with folders.temporary() as folder:
        users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
        _write(users, '"{USER}" "{PASSWORD}"\n'.format_map(database))
        _write(
            configuration,
            CONFIGURATION.format(
                name=database["NAME"],
                host=database["HOST"],
                port=database["PORT"] or 5432,
                pooler_port=port,
                users=users,
            ),
        )
        command = [program, str(configuration)]
        log = folder / "pgbouncer.log"
        with Process("PgBouncer", command, log=log, cwd=Path("/"), account=account, ready=lambda: answers(port)):
            yield port


def _write(file: Path, text: str) -> None:
    """For this account's eyes only, or those of the one that PgBouncer runs as, which refuses to be root."""
    file.touch(mode=0o600)
    file.write_text(text)
    if account := folders.unprivileged():
        os.chown(file, *account)


@pytest.fixture
def pooled(committed_db: None, pgbouncer: int) -> Iterator[None]:
    """This process reaches its database through PgBouncer."""
    direct = {name: connection.settings_dict[name] for name in ("HOST", "PORT")}
    connection.close()
    connection.settings_dict.update(HOST="127.0.0.1", PORT=pgbouncer)
    yield
    connection.close()
    connection.settings_dict.update(direct)


@pytest.mark.needs("pgbouncer")
@pytest.mark.usefixtures("pooled")
def test_orders_of_two_tenants_are_paid_behind_pgbouncer(
    acme: Tenant, globex: Tenant, pgbouncer: int, run_jobs: Callable[..., int]
) -> None:
    clients = {tenant: client_of(tenant, add_user(tenant, "ada")) for tenant in (acme, globex)}

    orders = {tenant: client.post("/api/v1/orders/", ORDER) for tenant, client in clients.items()}
    run_jobs()

    assert connection.connection.info.port == pgbouncer
    for tenant, order in orders.items():
        assert order.status_code == 201
        with tenant_context(tenant):
            [invoice] = Invoice.objects.all()
        assert (str(invoice.order_id), invoice.status) == (order.json()["id"], "paid")


@pytest.mark.needs("pgbouncer")
@pytest.mark.usefixtures("pooled")
def test_sessions_behind_pgbouncer_have_the_roles_defaults(pgbouncer: int) -> None:
    assert effective_defaults() == role_defaults()
    assert connection.connection.info.port == pgbouncer
    verify_role()
