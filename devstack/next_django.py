"""Runs the tests on the next Django, in an environment of its own: `make test-next`.

It takes the locked dependencies, and the next Django in place of the locked one. Where there is no Python for that, or
no Django, it says so in one line and succeeds.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

DJANGO = "Django>=6.1,<6.2"
OLDEST_PYTHON = (3, 12)
CANDIDATES = ("python3", "python", "python3.12", "python3.13", "python3.14")

LOCK = Path("requirements-dev.txt")
VENV = Path(".venv-next")
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".tenantry-stamp"


def main() -> None:
    base = find_python()
    if base is None:
        skip("it needs Python 3.12 or newer: name one, make NEXT_PYTHON=/path/to/python3.13 test-next")
    if not is_current():
        make_venv(base)
    command = [str(PYTHON), "-m", "devstack", "test", "--", "python", "-m", "pytest", *sys.argv[1:]]
    os.execv(PYTHON, command)


def find_python() -> str | None:
    """The interpreter that NEXT_PYTHON names, or else the first on the PATH that is new enough."""
    named = os.environ.get("NEXT_PYTHON")
    for candidate in [named] if named else CANDIDATES:
        if is_new_enough(candidate):
            return candidate
    return None


def is_new_enough(python: str) -> bool:
    check = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([python, "-c", check], capture_output=True).returncode == 0
    except OSError:
        return False


def is_current() -> bool:
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == expected_stamp()


def expected_stamp() -> str:
    """A virtual environment belongs to its lock and to its place: it does not survive a move."""
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {DJANGO} {Path.cwd()}\n"


def make_venv(base: str) -> None:
    print(f"· making {VENV}", flush=True)
    run(base, "-m", "venv", "--clear", str(VENV))
    # Without dependencies, because django-celery-beat 2.9 refuses Django 6.1.
    pip_install = (str(PYTHON), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--no-input")
    others = VENV / "requirements.txt"
    others.write_text(without_django(LOCK.read_text()))
    print("· installing dependencies", flush=True)
    run(*pip_install, "--require-hashes", "--only-binary=:all:", "-r", str(others))
    run(*pip_install, DJANGO)
    STAMP.write_text(expected_stamp())


def without_django(lock: str) -> str:
    """The lock without Django's entry, which is a line and the indented ones below it."""
    return re.sub(r"^django==.*\n(?:[ \t].*\n)*", "", lock, flags=re.MULTILINE)


def run(*command: str) -> None:
    """Run a command, or skip the tests with the last line of what it says."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [f"{command[0]} failed"]
        skip(lines[-1])


def skip(reason: str) -> NoReturn:
    print(f"The tests on the next Django ({DJANGO}) are skipped: {reason}")
    sys.exit(0)


if __name__ == "__main__":
    main()
