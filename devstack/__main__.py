"""The commands behind the Makefile."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import NoReturn

from honcho import environ as dotenv

from devstack import CHECKOUT, DevstackError, application, folders, kept
from devstack.external import fresh_database, fresh_prefix
from devstack.folders import InUseError
from devstack.processes import tool_path
from devstack.run import DEFAULT_PORT, run, running_stack
from devstack.servers import temporary_stack
from devstack.watchdog import watchdog

SERVERS = ("DATABASE_URL", "DATABASE_SUPERUSER_URL", "REDIS_URL")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    arguments = _arguments()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        match arguments.command:
            case "run":
                run(_environ())
            case "clean":
                folders.remove_kept()
            case "test":
                return test(arguments.argv)
            case "exec":
                return execute(arguments.argv)
    except (DevstackError, PermissionError) as error:
        print(f"\ndevstack: {error}", file=sys.stderr)
        return 1
    finally:
        watchdog().close()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="start everything, play the main job, serve")
    commands.add_parser("clean", help="remove the data of `run`")
    for name, servers in (("test", "servers or databases that nobody else uses"), ("exec", "the data of `run`")):
        commands.add_parser(name, help=f"run a program on {servers}").add_argument("argv", nargs="+")
    return parser.parse_args()


def test(argv: list[str]) -> int:
    given = {name: value for name, value in _environ().items() if name in SERVERS}
    with (
        temporary_stack(given, durable=False) as stack,
        fresh_database(stack.env["DATABASE_URL"], superuser_url=stack.superuser_url) as database_url,
        fresh_prefix(stack.env["REDIS_URL"]) as prefix,
    ):
        fresh = {
            "DATABASE_URL": database_url,
            "DATABASE_SUPERUSER_URL": stack.superuser_url or "",
            "REDIS_KEY_PREFIX": prefix,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "PATH": tool_path(),
            # Not in the checkout, where a second `make test` at the same time would write its own.
            "COVERAGE_FILE": str(stack.folder / "coverage"),
        }
        return _call(argv, {**os.environ, **stack.env, **fresh})


def execute(argv: list[str]) -> int:
    """On the servers of a `run` that is up, or else on ones that stay up as long as the program."""
    environ = _environ()
    try:
        with folders.kept(), running_stack(environ) as stack:
            return _call(argv, application.environment(environ, stack, kept.load(), DEFAULT_PORT))
    except InUseError:
        return _call(argv, application.remembered(environ))


def _environ() -> dict[str, str]:
    """The environment over `.env`."""
    file = CHECKOUT / ".env"
    return {**(dotenv.parse(file.read_text()) if file.exists() else {}), **os.environ}


def _call(argv: list[str], env: Mapping[str, str]) -> int:
    """In this process's group: a terminal's Ctrl-C reaches the program too, and is its business alone."""
    with subprocess.Popen(argv, cwd=CHECKOUT, env=env) as process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return process.wait()
        finally:
            if process.returncode is None:
                process.terminate()


def _stop(number: int, frame: object) -> NoReturn:
    """Unwinds the `with` blocks, once: a second, impatient Ctrl-C must not cut off what they do."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    print("\nstopping", flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
