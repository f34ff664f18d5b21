"""`make test-next`, up to the point where it would install anything."""

import os
import subprocess
import sys

import pytest

from devstack import CHECKOUT, next_django

LOCK = """\
distro==1.9.0 \\
    --hash=sha256:aa
django==5.2.19 \\
    --hash=sha256:bb
    # via tenantry (pyproject.toml)
django-celery-beat==2.9.0 \\
    --hash=sha256:cc
"""


def test_django_alone_leaves_the_lock() -> None:
    left = next_django.without_django(LOCK)
    assert [line.split("==")[0] for line in left.splitlines() if "==" in line] == ["distro", "django-celery-beat"]
    assert "sha256:bb" not in left


def test_an_interpreter_that_is_named_is_taken_if_it_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXT_PYTHON", sys.executable)
    expected = sys.executable if sys.version_info >= next_django.OLDEST_PYTHON else None
    assert next_django.find_python() == expected


def test_without_a_python_it_is_skipped_in_one_line() -> None:
    env = {**os.environ, "NEXT_PYTHON": "/no/python"}
    script = [sys.executable, "devstack/next_django.py"]
    done = subprocess.run(script, cwd=CHECKOUT, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert "skipped: it needs Python 3.12 or newer" in line
