"""Whatever the schema allows is accepted, whatever it forbids is refused, and each answer is one that it lists.

Four kinds of clients try, always with the same seed. `make fuzz MINUTES=20` takes other seeds, and longer.
"""

import json
import logging
import os
import random
from pathlib import Path

import pytest
from django.apps import apps

from tenants.models import Tenant
from tests import contract

pytest.importorskip("schemathesis", reason="schemathesis is not installed: make setup-check, or make fuzz")
from tests.api import schema_fuzz

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
SEED = int(os.environ.get("FUZZ_SEED") or (random.getrandbits(32) if MINUTES else 1))
# Of each phase for each operation. CI sends more, and takes two minutes.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
# Without a limit of time each phase ends when it has sent its examples.
LIMITS = {"max-time": int(60 * MINUTES / len(schema_fuzz.ROLES))} if MINUTES else {}


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("role", schema_fuzz.ROLES)
def test_a_client_finds_what_the_schema_says(
    committed_db: None, acme: Tenant, tmp_path: Path, caplog: pytest.LogCaptureFixture, role: str
) -> None:
    caplog.set_level(logging.ERROR)
    people = schema_fuzz.People(acme)
    generation = {"max-examples": EXAMPLES, "database": "none"}

    mistakes = schema_fuzz.find_mistakes(people, role, folder=tmp_path, seed=SEED, generation=generation, **LIMITS)

    found = sorted(set(mistakes))
    assert not found, f"FUZZ_SEED={SEED} finds:\n\n" + "\n\n".join(found)


@pytest.mark.skipif(not apps.is_installed("billing"), reason="it has one of the rules")
def test_what_json_schema_can_t_express_is_told() -> None:
    assert len(schema_fuzz.RULES) <= 10
    text = json.dumps(contract.schema())
    assert [rule for rule in schema_fuzz.RULES if rule.told not in text] == []
