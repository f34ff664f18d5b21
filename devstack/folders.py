"""Where the servers' files lie, and the account that PostgreSQL runs as.

PostgreSQL refuses to run as root. For root it runs as `nobody`, who can enter neither /root nor most checkouts, so its
files go below /var/tmp then.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from devstack import CHECKOUT, DevstackError
from devstack.watchdog import watchdog

ROOT = os.geteuid() == 0
_NAME = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:12]
# What `make run` keeps from one time to the next.
KEPT = Path("/var/tmp") / f"tenantry-{_NAME}" if ROOT else CHECKOUT / ".devstack"


class InUseError(DevstackError):
    """Another process holds KEPT."""


class Account(NamedTuple):
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account to drop to, or None when this process is unprivileged already."""
    if not ROOT:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def make_kept() -> Path:
    with contextlib.suppress(FileExistsError):
        make_passable(KEPT)
    status = KEPT.lstat()
    # Below /var/tmp somebody else may have guessed the name and made it first.
    if KEPT.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise DevstackError(f"{KEPT} belongs to somebody else: remove it and try again")
    return KEPT


def remove_kept() -> None:
    with kept():
        shutil.rmtree(KEPT)


def make_passable(folder: Path) -> None:
    """A new folder that PostgreSQL's account can pass through, but not list, whatever the umask is."""
    folder.mkdir(mode=0o700)
    if ROOT:
        folder.chmod(0o711)


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder that PostgreSQL's account can enter, removed at the end, or by the watchdog if there is none."""
    folder = watchdog().folder / secrets.token_hex(4)
    make_passable(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def kept() -> Iterator[Path]:
    """Holds KEPT for this process; the kernel lets go of it however the process ends."""
    with open(make_kept() / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError("a `make run` or `make shell` of this checkout is up already: stop it first") from None
        yield KEPT
