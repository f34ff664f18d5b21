import os
import subprocess
import sys

import psycopg
import pytest
import redis

from devstack import CHECKOUT
from devstack.external import fresh_database, fresh_prefix
from devstack.ports import free_port
from devstack.servers import Stack


def devstack_test(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devstack", "test", "--", *argv]
    env = {**os.environ, "DATABASE_URL": "", "DATABASE_SUPERUSER_URL": "", "REDIS_URL": "", **environ}
    return subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60)


def superuser_url(stack: Stack) -> str:
    assert stack.superuser_url
    return stack.superuser_url


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("url", ["nonsense", "{scheme}://127.0.0.1:{port}/0", "{scheme}://nowhere.invalid/0"])
def test_a_wrong_url_gets_one_line_that_names_the_variable(stack: Stack, variable: str, url: str) -> None:
    scheme = {"DATABASE_URL": "postgres", "REDIS_URL": "redis"}[variable]
    done = devstack_test("true", **{**stack.env, variable: url.format(scheme=scheme, port=free_port())})
    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"devstack: {variable}")
    assert len(done.stderr.strip().splitlines()) == 1


def test_given_servers_are_used_and_left_as_they_were(stack: Stack) -> None:
    script = "env | grep -E '^(DATABASE_URL|REDIS_URL|REDIS_KEY_PREFIX)='; exit 7"
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        before = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
        done = devstack_test("sh", "-c", script, DATABASE_SUPERUSER_URL=superuser_url(stack), **stack.env)
        assert connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall() == before
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert done.returncode == 7
    assert seen["REDIS_URL"] == stack.env["REDIS_URL"]
    assert seen["REDIS_KEY_PREFIX"]
    server, name = seen["DATABASE_URL"].rsplit("/", 1)
    assert server == stack.env["DATABASE_URL"].rsplit("/", 1)[0]
    assert name.startswith("tenantry_test_")


def test_somebodys_own_broker_and_cache_do_not_reach_the_tests(stack: Stack) -> None:
    own = {"BROKER_URL": "amqp://broker.example//", "CACHE_URL": "redis://cache.example/0"}
    given = {**stack.env, **own, "DATABASE_SUPERUSER_URL": superuser_url(stack)}
    done = devstack_test("sh", "-c", 'echo "<$BROKER_URL> <$CACHE_URL>"', **given)
    assert done.stdout == "<> <>\n"


def test_they_reach_what_make_run_starts(stack: Stack) -> None:
    own = {"BROKER_URL": "amqp://broker.example//", "CACHE_URL": "redis://cache.example/0"}
    given = Stack(stack.folder, given={**stack.env, **own})
    assert own.items() <= given.env.items()


def test_a_given_role_that_may_create_databases_needs_no_superuser(stack: Stack) -> None:
    with psycopg.connect(superuser_url(stack), autocommit=True) as connection:
        connection.execute("CREATE ROLE maker LOGIN CREATEDB PASSWORD 'x'")
    assert stack.postgres
    given = {**stack.env, "DATABASE_URL": f"postgres://maker:x@127.0.0.1:{stack.postgres.port}/postgres"}

    done = devstack_test("sh", "-c", "echo $DATABASE_URL; echo superuser: ${DATABASE_SUPERUSER_URL:-none}", **given)

    url, superuser = done.stdout.splitlines()
    assert url.startswith(f"{given['DATABASE_URL'].rpartition('/')[0]}/tenantry_test_")
    assert superuser == "superuser: none"


def test_a_given_role_that_may_not_is_told_so_in_one_line(stack: Stack) -> None:
    done = devstack_test("true", **stack.env)
    assert done.returncode == 1
    assert done.stderr.strip() == "devstack: DATABASE_URL: permission denied to create database"


def test_a_fresh_database_goes_though_somebody_is_connected(stack: Stack) -> None:
    with fresh_database(stack.env["DATABASE_URL"], superuser_url=stack.superuser_url) as url:
        connection = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_a_fresh_database_takes_along_those_whose_names_begin_with_its_name(stack: Stack) -> None:
    with psycopg.connect(superuser_url(stack), autocommit=True) as connection:
        with fresh_database(stack.env["DATABASE_URL"], superuser_url=stack.superuser_url) as url:
            name = url.rpartition("/")[2]
            connection.execute(f"CREATE DATABASE {name}_gw0")
        found = connection.execute("SELECT FROM pg_database WHERE starts_with(datname, %s)", [name])
        assert found.rowcount == 0


def test_a_fresh_prefix_takes_its_keys_along_and_no_others(stack: Stack) -> None:
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as client:
        client.set("somebody's", "key")
        with fresh_prefix(stack.env["REDIS_URL"]) as prefix:
            client.set(f"{prefix}mine", "key")
        assert client.exists("somebody's") == 1
        assert client.exists(f"{prefix}mine") == 0
