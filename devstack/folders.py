"""Where the servers' files lie, and the account that PostgreSQL runs as.

PostgreSQL refuses to run as root. For root it runs as `nobody`, who can enter neither /root nor most checkouts, so its
files go below /var/tmp then.
"""

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

KEPT = CHECKOUT / ".devstack"


class InUseError(DevstackError):
    """Another process holds the folder."""


class Account(NamedTuple):
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account to drop to, or None when this process is unprivileged already."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def shared() -> Path:
    """A folder of this checkout's that `nobody` can enter; only for root."""
    name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:12]
    folder = Path("/var/tmp") / f"tenantry-{name}"
    folder.mkdir(mode=0o755, exist_ok=True)
    status = folder.lstat()
    # The name can be guessed, so somebody else may have made it first.
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise DevstackError(f"{folder} is not ours alone: remove it and try again")
    return folder


def remove_kept() -> None:
    with held(KEPT):
        shutil.rmtree(KEPT)
        if unprivileged():
            shutil.rmtree(shared())


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder that PostgreSQL's account can enter, removed at the end, or by the watchdog if there is none."""
    folder = watchdog().folder / secrets.token_hex(4)
    folder.mkdir(mode=0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it however the process ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                "a `make run` or `make shell` of this checkout is up already: stop that one first"
            ) from None
        yield
