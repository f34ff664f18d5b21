"""What the documents say of the code."""

import re

from devstack import CHECKOUT


def test_env_example_has_every_setting() -> None:
    settings = (CHECKOUT / "config/settings.py").read_text()
    names = re.findall(r"""\benv(?:\.\w+)?\(\s*"([A-Z_]+)""", settings)
    example = (CHECKOUT / ".env.example").read_text()
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"^#?{name}=", example, flags=re.MULTILINE)] == []
