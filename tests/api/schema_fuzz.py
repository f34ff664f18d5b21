"""Sends what the schema allows, and what it forbids, and compares the answers with it: as each kind of client."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import schemathesis
from django.core.wsgi import get_wsgi_application
from django_tenants.utils import schema_context, tenant_context
from knox.models import AuthToken
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.transport.wsgi import WSGITransport

from accounts.models import User
from tenants.models import Tenant
from tests import contract
from tests.people import add_user

ROLES = ("anonymous", "member", "admin", "owner")
#: Neither may see what is the other's alone.
PEERS = ("member", "colleague")
PUBLIC = "/api/v1/tenants/"
Environ = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """Why the server may refuse what JSON Schema allows: `code` and where, and the words that tell clients of it."""

    code: str
    place: str
    told: str


#: What JSON Schema can't express. At most ten, and each is told in the schema.
RULES = (
    Rule("weak_password", r"#/(owner/)?password", "not among the most common ones"),
    Rule("required|wrong_password", r"#/(old_)?password", "A new one needs it"),
    Rule("reserved", r"#/slug", "Some names are reserved"),
    Rule("unknown_timezone", r"#/timezone", "of the IANA time zone database"),
    Rule("blank|not_printable|null_characters_not_allowed", r".*", "more than spaces and no control characters"),
    Rule("invalid|max_length", r"#/(owner/)?email", "addresses and date-times are checked further"),
    Rule("invalid", r".*_(after|before)", "addresses and date-times are checked further"),
    Rule("invalid|min_value|max_value", r"#/lines", "the sum of quantity times unit_amount"),
    Rule("invalid", r"cursor", "as it is"),
    Rule("idempotency_key_reused", r"", "Another request with it gets 422"),
)


class People:
    """Clients of acme whom nothing that they send can harm: each request finds them as they were."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        roles = {"member": "member", "colleague": "member", "admin": "admin", "owner": "owner"}
        self.users = [add_user(tenant, name, role) for name, role in roles.items()]
        with tenant_context(tenant):
            made = [AuthToken.objects.create(user=user) for user in self.users]
        self.tokens = [token for token, _ in made]
        self.secrets = dict(zip(roles, [secret for _, secret in made], strict=True))

    def restore(self) -> None:
        with schema_context("public"):
            Tenant.objects.bulk_update([self.tenant], ["name", "timezone", "is_confirmed"])
        with tenant_context(self.tenant):
            User.objects.bulk_update(self.users, ["email", "full_name", "role", "is_active", "password"])
            AuthToken.objects.bulk_create(self.tokens, ignore_conflicts=True)

    def write(self, path: Path) -> None:
        """As schemathesis reads clients' headers."""
        headers = {
            name: {"name": "Authorization", "value": f"Bearer {secret}"} for name, secret in self.secrets.items()
        }
        entries = [{"name": name, "fixedHeaders": [header]} for name, header in headers.items()]
        path.write_text(json.dumps({"auth": entries}))


def application(people: People) -> Callable[[Environ, Any], Iterable[bytes]]:
    """The product, which takes each address for one of the host that has it."""
    product = get_wsgi_application()

    def serve(environ: Environ, start_response: Any) -> Iterable[bytes]:
        is_public = environ["PATH_INFO"].startswith(PUBLIC)
        answer = product({**environ, "HTTP_HOST": "localhost" if is_public else "acme.localhost"}, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS"):
            people.restore()
        return answer

    return serve


def find_mistakes(people: People, role: str, *, folder: Path, **settings: Any) -> Iterator[str]:
    """Play a client in this role. Yields each answer that the schema does not say, and its request."""
    people.write(folder / "people.json")
    settings |= {"continue-on-failure": True, "base-url": "http://acme.localhost"}
    if role != "anonymous":
        settings["auth"] = {"wfc": {"path": str(folder / "people.json"), "user": role, "peers": list(PEERS)}}
    api = schemathesis.openapi.from_dict(_of_one_host(), config=SchemathesisConfig.from_dict(settings))
    api.app = application(people)
    api.hook("filter_failure")(is_mistake)
    with mock.patch.object(WSGITransport, "send", _without_sockets(WSGITransport.send)):
        for event in from_schema(api).execute():
            yield from _described(event)


def _of_one_host() -> dict[str, Any]:
    """The schema, without the header that names a tenant: it comes as a security scheme, and is no credential."""
    api = deepcopy(contract.schema())
    api.pop("security", None)
    api["components"]["securitySchemes"].pop("tenant", None)
    for methods in api["paths"].values():
        for operation in methods.values():
            operation["security"] = [needs for needs in operation.get("security", []) if "tenant" not in needs]
    return api


def _without_sockets(send: Callable[..., Any]) -> Callable[..., Any]:
    """The checks of authorization pass on settings of sockets, which their transport to WSGI doesn't know."""
    sockets = ("max_redirects", "verify", "cert", "proxies")
    return lambda self, case, **kwargs: send(self, case, **{k: v for k, v in kwargs.items() if k not in sockets})


def is_mistake(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure is more than one of RULES."""
    if not isinstance(failure, schemathesis.openapi.checks.RejectedPositiveData):
        return True
    problem = response.json()
    refusals = [(one["code"], one.get("pointer") or one.get("parameter")) for one in problem.get("errors", [])]
    return not all(_is_told(code, place) for code, place in refusals or [(problem["code"], "")])


def _is_told(code: str, place: str) -> bool:
    return any(re.fullmatch(rule.code, code) and re.fullmatch(rule.place, place) for rule in RULES)


def _described(event: Any) -> Iterator[str]:
    match event:
        case events.NonFatalError():
            yield f"{event.label}: {event.value!r}"
        case events.FatalError():
            yield repr(event.exception)
        case events.ScenarioFinished():
            for case_id, checks in event.recorder.checks.items():
                answer = event.recorder.interactions[case_id].response
                body = answer.content[:500].decode(errors="replace") if answer else ""
                for failed in [check.failure_info for check in checks if check.failure_info]:
                    lines = (event.phase.value, failed.failure.title, failed.failure.message, failed.code_sample, body)
                    yield "\n".join(lines)
