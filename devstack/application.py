"""The product, as seen from outside: its environment, its release step, its first member of staff."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from devstack import CHECKOUT, DevstackError
from devstack.kept import Credentials, Kept
from devstack.processes import tool_path
from devstack.procfile import commands
from devstack.servers import Stack


def environment(environ: Mapping[str, str], stack: Stack, kept: Kept, port: int) -> dict[str, str]:
    """What config/settings.py reads; the user's own settings win, but for the servers' addresses."""
    defaults = {"SECRET_KEY": kept["secret_key"], "DEBUG": "1", "BASE_DOMAIN": "localhost", "LOG_JSON": "0"}
    fixed = {"PORT": str(port), "PATH": tool_path(), "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port}"}
    return {**defaults, **environ, **stack.env, **fixed}


def release(env: Mapping[str, str]) -> None:
    """Raises DevstackError with what the Procfile's release step printed."""
    failure = _run(["sh", "-c", commands()["release"]], env)
    if failure:
        raise DevstackError(f"the release step failed:\n{failure}")


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
