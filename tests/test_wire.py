"""What the tests that read the wire rely on."""

import redis
from django.conf import settings

from tests.wire import commands

SCRIPT = "return redis.call('INCRBY', KEYS[1], 1)"


def test_another_runs_scripts_are_not_this_ones() -> None:
    client = redis.Redis.from_url(settings.REDIS_URL)
    other = redis.Redis.from_url(settings.REDIS_URL)
    with commands("counted") as sent:
        client.eval(SCRIPT, 1, f"{settings.REDIS_KEY_PREFIX}counted")
        other.eval(SCRIPT, 1, "another run's counted")
    client.delete(f"{settings.REDIS_KEY_PREFIX}counted", "another run's counted")
    assert [command.split()[0] for command in sent] == ["EVAL", "INCRBY"]
