"""What logs look like, on a terminal and elsewhere."""

import os
import subprocess
import sys

import pytest

from devstack import CHECKOUT

ESCAPE = "\x1b"
LOG = """
import logging.config
from config import logs

logging.config.dictConfig(logs.config(json={json}, level="INFO"))
logging.getLogger("shop").warning("sold out")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("shop").exception("failed")
"""


def logged(*, json: bool | None, terminal: bool, **environ: str) -> str:
    """What a process logs whose standard error is a terminal, or else a pipe."""
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    ours, theirs = os.openpty() if terminal else os.pipe()
    argv = [sys.executable, "-c", LOG.format(json=json)]
    subprocess.run(argv, cwd=CHECKOUT, env={**env, **environ}, stderr=theirs, check=True)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    return text


def test_a_terminal_has_colours() -> None:
    assert ESCAPE in logged(json=None, terminal=True)


@pytest.mark.parametrize("json", [None, False, True])
def test_files_and_pipes_have_none(json: bool | None) -> None:
    text = logged(json=json, terminal=False)
    assert "sold out" in text
    assert "ZeroDivisionError" in text
    assert ESCAPE not in text


def test_a_person_may_ask_for_none() -> None:
    text = logged(json=None, terminal=True, NO_COLOR="1")
    assert "sold out" in text
    assert "ZeroDivisionError" in text
    assert ESCAPE not in text


def test_an_empty_wish_is_none() -> None:
    """As no-color.org has it."""
    assert ESCAPE in logged(json=None, terminal=True, NO_COLOR="")
