"""The short form of every scenario, on one stack of its own. SEED= plays another one than usual."""

import os
from collections.abc import Iterator

import pytest

from tests.chaos.mutants import MUTANTS
from tests.chaos.pace import SHORT
from tests.chaos.run import play
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.world import World, new_world

SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with new_world(SHORT) as world:
        yield world


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_job_ends_once_at_home_and_in_time(world: World, name: str) -> None:
    result = play(world, SCENARIOS[name], name, SEED)
    assert result.jobs > 0
    assert result.details == [], f"SEED={SEED}"


def test_every_scenario_is_there_to_catch_a_mutant() -> None:
    by_counts = {mutant.scenario for mutant in MUTANTS if not mutant.scenario.endswith(".py")}
    assert by_counts == set(SCENARIOS)
