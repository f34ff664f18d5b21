"""Schemas: a new tenant's, and those of 200 tenants when a release migrates them."""

import time
from collections.abc import Mapping
from itertools import count

from bench.database import Database
from bench.driver import Driver
from bench.statistics import Outcome, compare, interleaved, medians
from bench.tenants import add_tenants
from bench.world import CALLS, World
from devstack import DevstackError

SIGN_UPS = 7
TENANTS = 200
ROUNDS = 3
# Where the target is far
FEWER_ROUNDS = 2
OURS, THEIRS = "migrate_tenants", "migrate_schemas"
# Back to before the release: the last migration of the bench's app is undone.
SET_BACK = """
    ALTER TABLE "{home}".work_note DROP COLUMN priority;
    DELETE FROM "{home}".django_migrations WHERE app = 'work' AND name = '0002_note_priority';
"""
ADDED = "SELECT count(*) FROM pg_indexes WHERE indexname = 'note_priority' AND schemaname = ANY(%s)"
FORGET = """
    DELETE FROM public.tenants_domain USING public.tenants_tenant tenant
    WHERE tenant.id = tenant_id AND schema_name = '{pattern}';
    DELETE FROM public.tenants_tenant WHERE schema_name = '{pattern}';
    DROP SCHEMA "{pattern}" CASCADE;
"""


def new_schema(world: World) -> Outcome:
    """Sign-up's, with a spare at hand, against django-tenants' create-and-migrate."""
    numbers = count()
    with world.tenantry([], count=1) as system:
        system.call("fill_spares", count=2 * SIGN_UPS)

        def created(call: str) -> float:
            seconds: float = system.call(call, slug=f"new-{next(numbers)}")
            return seconds

        rounds = interleaved(lambda: created("take_spare"), lambda: created("create_and_migrate"), rounds=SIGN_UPS)
    part = compare("seconds for a schema", rounds, float, at_most=0.02)
    note = "the spare's transaction and the job's look at it; the normal way runs all migrations in one process"
    return Outcome([part], "ratio of seconds", {"note": note, **medians(rounds)})


def migrate_tenants(world: World) -> Outcome:
    """200 tenants, Python's start included: one AddField and AddIndex, and nothing to do."""
    with world.tenantry_database("tenantry") as (database, pattern):
        env = world.tenantry_environment(database)
        homes = ["public", *_tenants(world, database, pattern, env)]

        def idle(command: str) -> float:
            began = time.perf_counter()
            world.manage(command, env)
            return time.perf_counter() - began

        def adding(command: str) -> float:
            for home in homes:
                database.sql(SET_BACK.format(home=home))
            seconds = idle(command)
            [(added,)] = database.sql(ADDED, [homes])
            if added != len(homes):
                raise DevstackError(f"{command} migrated {added} of {len(homes)} schemas")
            return seconds

        additions = interleaved(lambda: adding(OURS), lambda: adding(THEIRS), rounds=ROUNDS)
        idlings = interleaved(lambda: idle(OURS), lambda: idle(THEIRS), rounds=FEWER_ROUNDS)
    parts = [
        compare("AddField and AddIndex", additions, float, at_most=0.06),
        compare("nothing to do", idlings, float, at_most=0.06),
    ]
    detail = {"AddField and AddIndex, seconds": medians(additions), "nothing to do, seconds": medians(idlings)}
    return Outcome(parts, "ratio of seconds", detail)


def _tenants(world: World, database: Database, pattern: str, env: Mapping[str, str]) -> list[str]:
    """200 that are active, as if migrated the normal way, and the spares that there usually are."""
    homes = add_tenants(database, TENANTS, pattern=pattern, tables=())
    database.sql(FORGET.format(pattern=pattern))
    with Driver(CALLS, env=env, log=world.folder / "tenants.log") as driver:
        driver.call("fill_spares", count=3)
    return homes
