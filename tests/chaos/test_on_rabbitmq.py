"""The short form of the scenarios in which the broker has a part, on RabbitMQ. SEED= plays another one than usual."""

from collections.abc import Iterator

import pytest

from tests.chaos.pace import SHORT
from tests.chaos.rabbitmq import ON_RABBITMQ, new_rabbitmq_world
from tests.chaos.run import play
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.test_scenarios import SEED
from tests.chaos.world import World

pytestmark = pytest.mark.needs("rabbitmq-server")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with new_rabbitmq_world(SHORT) as world:
        yield world


@pytest.mark.parametrize("name", ON_RABBITMQ)
def test_every_job_ends_once_at_home_and_in_time(world: World, name: str) -> None:
    result = play(world, SCENARIOS[name], name, SEED)
    assert result.jobs > 0
    assert result.details == [], f"SEED={SEED}"
