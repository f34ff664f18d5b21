"""What the figures beside peers on PostgreSQL rest on."""

import os
import re

import psycopg
import pytest

from bench.postgresql_peers import PEERS, PostgresqlPeer
from bench.system import RECORDS
from devstack import CHECKOUT
from tests.peers.peer import PEERS as FOLDER


def test_records_are_counted_by_home_and_number_and_dated_by_their_first() -> None:
    union = """
        SELECT home, text FROM (
            VALUES ('acme', '0 100.5'), ('acme', '1 102.25'), ('acme', '1 250'), ('globex', '0 101')
        ) AS note (home, text)
    """
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute(RECORDS.format(union=union)).fetchone() == (4, 3, 102.25)
        nothing = f"SELECT * FROM ({union}) AS each WHERE false"
        assert connection.execute(RECORDS.format(union=nothing)).fetchone() == (0, 0, 0)


@pytest.mark.parametrize("like", PEERS, ids=lambda like: like.peer.name)
def test_the_page_tells_the_version_that_is_locked(like: PostgresqlPeer) -> None:
    page = (CHECKOUT / "docs/explanation/performance.md").read_text()

    assert f"{like.peer.title} {like.peer.version()}" in page


@pytest.mark.parametrize("like", PEERS, ids=lambda like: like.peer.name)
def test_a_peer_has_psycopg_and_django_in_the_versions_that_we_have(like: PostgresqlPeer) -> None:
    ours, theirs = (_locked(path) for path in ("requirements.txt", f"{FOLDER}/{like.peer.name}/requirements.txt"))

    for name in ("django", "psycopg", "psycopg-binary"):
        assert theirs[name] == ours[name]


def _locked(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?==([\w.]+)", (CHECKOUT / path).read_text(), flags=re.MULTILINE))
