"""`.env.example` and config/settings.py, compared both ways."""

import re
import runpy
from collections.abc import Iterator
from typing import Any, ClassVar

import environ
import pytest
from honcho import environ as dotenv

from devstack import CHECKOUT
from devstack.__main__ import SERVERS

EXAMPLE = (CHECKOUT / ".env.example").read_text()
NAMES = re.findall(r"^#([A-Z_]+)=", EXAMPLE, flags=re.MULTILINE)
#: With all of its lines in force, as `make` and honcho read it.
STATED = dotenv.parse(re.sub(r"^#(?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE))
#: Of others than the settings
READ_BY_MAKE = "DATABASE_SUPERUSER_URL"
READ_BY_WEB = dict(re.findall(r'env\.\w+\("(\w+)", default=(\d+)', (CHECKOUT / "config/gunicorn.py").read_text()))
#: Letter by letter, and not as django-environ reads others
KEYS = ("SECRET_KEY", "SECRET_KEY_FALLBACKS")


class Reader(environ.Env):  # type: ignore[misc]  # it has no types
    """Where nothing is set but what the settings insist on; it notes what they read."""

    ENVIRON: ClassVar[dict[str, str]] = {}
    reads: ClassVar[dict[str, tuple[Any, Any]]] = {}

    def get_value(self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False) -> Any:
        self.reads[var] = (cast, default)
        return super().get_value(var, cast, default, parse_default)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[Any, Any]]]:
    """The type and the default of each variable that the settings read, by its name."""
    monkeypatch.setattr(environ, "Env", Reader)
    runpy.run_path(str(CHECKOUT / "config/settings.py"))
    yield Reader.reads
    Reader.reads.clear()


def test_it_has_each_variable_once_and_no_others(reads: dict[str, tuple[Any, Any]]) -> None:
    assert len(reads) > 30
    assert sorted(NAMES) == sorted([*reads, *KEYS, READ_BY_MAKE, *READ_BY_WEB])


def test_it_states_the_defaults(reads: dict[str, tuple[Any, Any]]) -> None:
    wrong = {name: default for name, (cast, default) in reads.items() if not is_stated(name, cast, default)}
    assert wrong == {}


def is_stated(name: str, cast: Any, default: Any) -> bool:
    """An empty line says that there is no default."""
    if name not in STATED:
        return not default
    expected = environ.Env.parse_value(default, cast) if isinstance(default, str) else default
    return bool(environ.Env.parse_value(STATED[name], cast) == expected)


def test_what_others_read() -> None:
    assert READ_BY_MAKE in SERVERS
    assert len(READ_BY_WEB) == 3
    assert {name: STATED[name] for name in READ_BY_WEB} == READ_BY_WEB
