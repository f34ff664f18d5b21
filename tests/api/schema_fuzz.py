"""Sends what the schema allows, and what it forbids, and compares the answers with it: as each kind of client."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import schemathesis
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from accounts.models import User
from tenants.models import Tenant
from tests import contract
from tests.people import add_user

ROLES = ("anonymous", "member", "admin", "owner")
#: Nobody of them may see what is another's.
PEERS = ("member", "colleague")
PUBLIC = "/api/v1/tenants/"
Environ = dict[str, Any]


class People:
    """Clients of acme whom nothing that they send can harm: each request finds them as they were."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        roles = {"member": "member", "colleague": "member", "admin": "admin", "owner": "owner"}
        self.users = {name: add_user(tenant, name, role) for name, role in roles.items()}
        self.secrets: dict[str, str] = {}
        self.tokens: list[AuthToken] = []
        with tenant_context(tenant):
            for name, user in self.users.items():
                token, self.secrets[name] = AuthToken.objects.create(user=user)
                self.tokens.append(token)

    def restore(self) -> None:
        with tenant_context(self.tenant):
            User.objects.bulk_update(self.users.values(), ["email", "full_name", "role", "is_active", "password"])
            AuthToken.objects.bulk_create(self.tokens, ignore_conflicts=True)


def application(people: People) -> Callable[[Environ, Any], Iterable[bytes]]:
    """The product, which finds the host that an address belongs to."""
    product = get_wsgi_application()

    def serve(environ: Environ, start_response: Any) -> Iterable[bytes]:
        people.restore()
        is_public = environ["PATH_INFO"].startswith(PUBLIC)
        return product({**environ, "HTTP_HOST": "localhost" if is_public else "acme.localhost"}, start_response)

    return serve


def run(people: People, role: str, *, folder: Path, seed: int, seconds: int) -> Iterator[str]:
    """Yields what is wrong, as that kind of client finds it."""
    settings: dict[str, Any] = {
        "seed": seed,
        "max-time": seconds,
        "continue-on-failure": True,
        "base-url": "http://acme.localhost",
        "generation": {"max-examples": 10, "database": "none"},
    }
    if role != "anonymous":
        settings["auth"] = {"wfc": {"path": str(_write_people(people, folder)), "user": role, "peers": list(PEERS)}}
    loaded = schemathesis.openapi.from_dict(
        copy.deepcopy(contract.schema()), config=SchemathesisConfig.from_dict(settings)
    )
    loaded.app = application(people)
    for event in from_schema(loaded).execute():
        yield from _complaints(event)


def _write_people(people: People, folder: Path) -> Path:
    path = folder / "people.json"
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {secret}"}]}
        for name, secret in people.secrets.items()
    ]
    path.write_text(json.dumps({"auth": entries}))
    return path


def _complaints(event: Any) -> Iterator[str]:
    if isinstance(event, events.ScenarioFinished):
        for case, checks in event.recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    answer = event.recorder.interactions[case].response
                    body = answer.content[:300].decode(errors="replace") if answer else ""
                    yield f"{event.phase.value} {event.label}: {check.name}: {failure.title}: {failure.message}\n{body}\n{check.failure_info.code_sample}"
    elif isinstance(event, events.NonFatalError):
        yield f"{event.label}: {event.value!r}"
    elif isinstance(event, events.FatalError):
        yield f"{event.exception!r}"
