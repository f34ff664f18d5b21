"""What `make run` remembers from one time to the next: secrets and credentials that it made up."""

import json
import os
import secrets
from pathlib import Path
from typing import TypedDict

from devstack.folders import KEPT

FILE = KEPT / "kept.json"


class Credentials(TypedDict):
    email: str
    full_name: str
    password: str


class Organisation(TypedDict):
    slug: str
    name: str
    owner: Credentials
    member: Credentials


class Kept(TypedDict):
    secret_key: str
    staff: Credentials
    organisations: list[Organisation]


def load(file: Path = FILE) -> Kept:
    """Made and written down before anything uses it, so that a run that was cut off can go on where it stood."""
    if not file.exists():
        _write(file, _new())
    kept: Kept = json.loads(file.read_text())
    return kept


def _new() -> Kept:
    return {
        "secret_key": secrets.token_urlsafe(48),
        "staff": _person("staff@tenantry.example", "Sam Staff"),
        "organisations": [
            _organisation("acme", "Acme", "Ada Ace", "Alan Apt"),
            _organisation("globex", "Globex", "Gus Gale", "Gina Glow"),
        ],
    }


def _organisation(slug: str, name: str, owner: str, member: str) -> Organisation:
    people = [_person(f"{person.split()[0].lower()}@{slug}.example", person) for person in (owner, member)]
    return {"slug": slug, "name": name, "owner": people[0], "member": people[1]}


def _person(email: str, full_name: str) -> Credentials:
    return {"email": email, "full_name": full_name, "password": secrets.token_urlsafe(12)}


def _write(file: Path, kept: Kept) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(kept, indent=2))
    os.replace(new, file)
