"""The tenants of a run, signed up as anybody would, and the driver's own tables."""

import secrets
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devstack.api import Api
from devstack.processes import wait_until

if TYPE_CHECKING:
    from tests.chaos.world import World

NOTES = "CREATE TABLE public.chaos_job (id uuid PRIMARY KEY, home text, task text, due timestamptz, doomed boolean)"
EFFECTS = 'CREATE TABLE "{schema}".chaos_effect (job uuid, home text, early boolean, at timestamptz)'
EMPTIED = (
    "chaos_effect",
    "django_celery_results_taskresult",
    "billing_order",
    "billing_orderline",
    "billing_invoice",
    "billing_invoicecounter",
    "billing_payment",
    "notifications_message",
)
EMPTIED_IN_PUBLIC = ("jobs_job", "chaos_job", "chaos_effect", "django_celery_results_taskresult")


@dataclass(frozen=True)
class Tenant:
    slug: str
    schema: str
    owner: str
    token: str


def sign_up(world: "World", slugs: list[str]) -> dict[str, Tenant]:
    password = secrets.token_urlsafe(12)
    with closing(_api(world, "localhost")) as public:
        for slug in slugs:
            owner = {"email": f"ada@{slug}.example", "full_name": f"Ada of {slug}", "password": password}
            public.post("tenants/", {"name": slug.title(), "slug": slug, "owner": owner})
    active = "SELECT slug, schema_name FROM tenants_tenant WHERE status = 'active'"
    wait_until(lambda: len(world.sql(active)) == len(slugs), seconds=120, what="all tenants active")
    wait_until(world.is_quiet, seconds=60, what="all links sent")
    schemas = dict(world.sql(active))
    _confirm(world, list(schemas.values()))
    make_tables(world, list(schemas.values()))
    return {slug: _log_in(world, slug, schemas[slug], password) for slug in slugs}


def _confirm(world: "World", schemas: list[str]) -> None:
    """Mails to an address that is not confirmed are few."""
    world.sql("UPDATE tenants_tenant SET is_confirmed = true")
    for schema in schemas:
        world.sql(f'UPDATE "{schema}".accounts_user SET is_confirmed = true')


def make_tables(world: "World", schemas: list[str]) -> None:
    """For what is promised, and for what comes of it."""
    world.sql(NOTES)
    for schema in dict.fromkeys(["public", *schemas]):
        world.sql(EFFECTS.format(schema=schema))


def _log_in(world: "World", slug: str, schema: str, password: str) -> Tenant:
    owner = f"ada@{slug}.example"
    with closing(_api(world, f"{slug}.localhost")) as api:
        return Tenant(slug=slug, schema=schema, owner=owner, token=api.log_in(owner, password))


def _api(world: "World", host: str) -> Api:
    return Api(host, world.port, say=lambda _: None)


def tables_of(world: "World") -> list[str]:
    """Those that hold traces of jobs, in every schema there is."""
    found = world.sql(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE"
        " CASE WHEN schemaname = 'public' THEN tablename = ANY(%s) ELSE tablename = ANY(%s) END",
        [list(EMPTIED_IN_PUBLIC), list(EMPTIED)],
    )
    return [name for (name,) in found]
