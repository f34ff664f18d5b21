import os
from pathlib import Path

import pytest
import schemathesis as _s

from tenants.models import Tenant
from tests.api import schema_fuzz


@pytest.mark.parametrize("role", schema_fuzz.ROLES)
def test_it(committed_db: None, acme: Tenant, tmp_path: Path, role: str) -> None:
    people = schema_fuzz.People(acme)
    found = list(schema_fuzz.run(people, role, folder=tmp_path, seed=1, seconds=int(os.environ.get("FUZZ_SECONDS", "25"))))
    Path(f"/tmp/fuzz-{role}.txt").write_text("\n=====\n".join(found))
    assert not found
