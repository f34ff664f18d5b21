"""Where the secret of a mailed link is, while real processes work: in the mail, and nowhere else."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from devstack.api import Api
from devstack.processes import wait_until
from jobs.models import Job

SLUG = "initech-links"
OWNER = {"email": "ira@initech.example", "full_name": "Ira Ink", "password": "correct horse battery"}
ANN = {"email": "ann@initech.example", "full_name": "Ann Ash", "role": "member"}
LINK = re.compile(r"(http://\S+)\?link=([0-9a-f]{32})([0-9a-f]{64})")


def mailed(email: str, number: int) -> tuple[str, str, str]:
    """The page, id and secret of the link in the mail with this number to an address, once it has come.

    All test processes share the log, so only mails of this organisation count.
    """

    def found() -> list[tuple[str, str, str]]:
        lines = Path(os.environ["TENANTRY_MAIL_LOG"]).read_text().splitlines()
        links = [LINK.search(mail["body"]) for mail in map(json.loads, lines) if email in mail["to"]]
        return [(link[1], link[2], link[3]) for link in links if link and f"//{SLUG}." in link[1]]

    wait_until(lambda: len(found()) >= number, seconds=60, what=f"mail {number} to {email}")
    return found()[number - 1]


def test_the_secret_of_a_link_is_in_the_mail_alone(product: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    with closing(Api("localhost", product, say=print)) as public:
        public.post("tenants/", {"name": "Initech", "slug": SLUG, "owner": OWNER})
        confirm_page, id, to_confirm = mailed(OWNER["email"], 1)
    assert confirm_page == f"http://{SLUG}.localhost:{product}/link/"
    opened = on_page(product, "GET", params={"link": id + to_confirm})
    assert (opened.status_code, "Confirm it" in opened.text) == (200, True)
    assert on_page(product, "POST", data={"link": id + to_confirm}).status_code == 200
    assert on_page(product, "GET", params={"link": id + to_confirm}).status_code == 410

    with closing(Api(f"{SLUG}.localhost", product, say=print)) as api:
        api.log_in(OWNER["email"], OWNER["password"])
        ann = api.post("users/", ANN)
        _, first, unused = mailed(ANN["email"], 1)
        api.post(f"users/{ann['id']}/link/", {})
        _, second, to_set = mailed(ANN["email"], 2)
        assert first == second
        api.post("passwords/", {"link": second + to_set, "password": "another horse battery"})
        api.post("password-resets/", {"email": ANN["email"]})
        _, third, to_reset = mailed(ANN["email"], 3)
        api.post("passwords/", {"link": third + to_reset, "password": "a third horse battery"})
        api.log_in(ANN["email"], "a third horse battery")
    wait_until(lambda: not Job.objects.exists(), seconds=60, what="all jobs done")

    logs = "\n".join(log.read_text() for log in tmp_path_factory.getbasetemp().glob("product*/*.log"))
    assert "/link/" in logs
    assert tables_with(id)
    in_redis = "\n".join(everything_in_redis())
    for secret in (to_confirm, unused, to_set, to_reset):
        assert tables_with(secret) == []
        assert secret not in in_redis
        assert secret not in logs


def on_page(port: int, method: str, **request: Any) -> httpx.Response:
    headers = {"Host": f"{SLUG}.localhost:{port}"}
    return httpx.request(method, f"http://127.0.0.1:{port}/link/", headers=headers, trust_env=False, **request)


def tables_with(text: str) -> list[str]:
    """The tables of all schemas in which a row has this text."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = []
        for schema, table in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM "{schema}"."{table}" AS line WHERE line::text LIKE %s', [f"%{text}%"])
            if cursor.fetchone() != (0,):
                found.append(f"{schema}.{table}")
    return found


def everything_in_redis() -> Iterator[str]:
    with closing(Redis.from_url(settings.REDIS_URL)) as redis:
        for key in redis.scan_iter():
            match redis.type(key):
                case b"string":
                    yield str(redis.get(key))
                case b"list":
                    yield str(redis.lrange(key, 0, -1))
                case b"hash":
                    yield str(redis.hgetall(key))
                case b"set":
                    yield str(redis.smembers(key))
                case b"zset":
                    yield str(redis.zrange(key, 0, -1))
                case other:
                    raise AssertionError(f"{key!r} is a {other!r}")
