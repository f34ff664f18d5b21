"""The product, as seen from outside: its environment, its release step, its first member of staff."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from devstack import CHECKOUT, DevstackError
from devstack.folders import KEPT, InUseError
from devstack.kept import Credentials, Kept
from devstack.processes import tool_path
from devstack.procfile import commands
from devstack.servers import Stack

ENVIRONMENT = KEPT / "environment.json"


def environment(environ: Mapping[str, str], stack: Stack, kept: Kept, port: int) -> dict[str, str]:
    """What config/settings.py reads; the user's own settings win, but for the servers' addresses."""
    defaults = {"SECRET_KEY": kept["secret_key"], "DEBUG": "1", "BASE_DOMAIN": "localhost", "LOG_JSON": "0"}
    fixed = {"PORT": str(port), "PATH": tool_path(), "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port}"}
    return {**defaults, **environ, **stack.env, **fixed}


def remember(env: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """What a later command needs to join this run's servers."""
    ENVIRONMENT.touch(mode=0o600)
    ENVIRONMENT.write_text(json.dumps({name: value for name, value in env.items() if environ.get(name) != value}))


def remembered(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the run that is up; raises InUseError if it isn't that far, or isn't a run."""
    if not ENVIRONMENT.exists():
        raise InUseError("another `make shell` is open, or a `make run` is just starting: try again later")
    return {**environ, **json.loads(ENVIRONMENT.read_text())}


def forget() -> None:
    ENVIRONMENT.unlink(missing_ok=True)


def release(env: Mapping[str, str]) -> None:
    """Raises DevstackError with what the Procfile's release step printed."""
    failure = _run(["sh", "-c", commands()["release"]], env)
    if failure:
        raise DevstackError(f"the release step failed:\n{failure}")


def write_role_defaults(env: Mapping[str, str]) -> None:
    """As the release step does, for processes with this environment."""
    failure = _run([sys.executable, "manage.py", "role_defaults", "--write"], env)
    if failure:
        raise DevstackError(f"writing the role's defaults failed:\n{failure}")


def create_staff(env: Mapping[str, str], staff: Credentials) -> None:
    variables = {
        "DJANGO_SUPERUSER_EMAIL": staff["email"],
        "DJANGO_SUPERUSER_FULL_NAME": staff["full_name"],
        "DJANGO_SUPERUSER_PASSWORD": staff["password"],
    }
    failure = _run([sys.executable, "manage.py", "createsuperuser", "--noinput"], {**env, **variables})
    if failure and "already taken" not in failure:
        raise DevstackError(f"creating the staff user failed:\n{failure}")


def _run(command: Sequence[str], env: Mapping[str, str]) -> str:
    """What it printed, if it failed."""
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}" if done.returncode else ""
