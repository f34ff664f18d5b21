"""From a request's host, or its `Tenant` header, to the tenant's schema."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost, ValidationError
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.cache import patch_vary_headers
from rest_framework.exceptions import APIException, NotFound, ParseError, PermissionDenied
from rest_framework.response import Response
from rest_framework.settings import api_settings
from structlog.contextvars import bound_contextvars

from tenants.binding import bind_to_public
from tenants.connection import connection, fetch_one, retry_on_broken_connection
from tenants.models import Tenant
from tenants.postgresql.internals import skip_health_check
from tenants.text import normalize_host
from tenants.validators import validate_slug

# On the public host it names the tenant, by its slug.
HEADER = "Tenant"
# Seconds after which a client may ask again for a tenant that is being provisioned, or that waits for staff
RETRY_SECONDS = 2
FAILED_RETRY_SECONDS = 600
MAX_PORT_LENGTH = len("65535")
FIELDS = [field.attname for field in Tenant._meta.concrete_fields]
COLUMNS = ", ".join(f"tenant.{field}" for field in FIELDS)
# Not by a join, which takes PostgreSQL half as long again to plan
FIND_BY_HOST = f"""
    SELECT {COLUMNS} FROM public.tenants_tenant tenant
    WHERE tenant.id = (SELECT domain.tenant_id FROM public.tenants_domain domain WHERE domain.domain = %s)
"""
FIND_BY_SLUG = f"SELECT {COLUMNS} FROM public.tenants_tenant tenant WHERE tenant.slug = %s"


class Unavailable(APIException):
    """The tenant exists, and is not served. `wait` becomes the Retry-After header, in seconds."""

    status_code = 503
    wait: int


class Provisioning(Unavailable):
    """The tenant's schema is being made."""

    default_code = "tenant_provisioning"
    default_detail = "This organisation is being set up; try again in a moment."
    wait = RETRY_SECONDS


class Failed(Unavailable):
    """Making the tenant's schema failed, and staff has to look at it."""

    default_code = "tenant_failed"
    default_detail = "This organisation could not be set up; ask the platform's staff."
    wait = FAILED_RETRY_SECONDS


class TenantMiddleware:
    """Bind the context to the tenant that the request names, until the response is closed.

    What the public host answers itself stays in `public` and gets PUBLIC_SCHEMA_URLCONF. A request that names no active
    tenant gets a problem response, and no view runs.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._respond(request)
        patch_vary_headers(response, [HEADER])
        return response

    def _respond(self, request: HttpRequest) -> HttpResponse:
        bind_to_public()
        try:
            tenant = tenant_of(request)
        except (APIException, Error) as error:
            response = _rendered(error, request)
            if response is None:
                raise
            return response
        if tenant is None:
            request.urlconf = settings.PUBLIC_SCHEMA_URLCONF
            return self.get_response(request)
        connection.set_tenant(tenant)
        with bound_contextvars(tenant=tenant.slug):
            return self.get_response(request)


def tenant_of(request: HttpRequest) -> Tenant | None:
    """Find the active tenant of the request: by its host, or on the public host by its header.

    Returns None for the public host itself. Raises ParseError for a bad host or header and for two that disagree,
    NotFound for an unknown tenant, and PermissionDenied, Provisioning or Failed for one that is not active.
    """
    host = host_of(request)
    slug = _slug(request)
    if host not in settings.PUBLIC_HOSTS:
        tenant = _find(FIND_BY_HOST, host, missing=f"No organisation has the host {host}.")
        if slug not in (None, tenant.slug):
            raise ParseError(
                f"The host {host} and the {HEADER} header name different organisations: leave out the header, or send "
                "it to the public host.",
                code="tenant_mismatch",
            )
    elif slug is not None:
        tenant = _find(FIND_BY_SLUG, slug, missing=f"No organisation has the slug {slug}.")
    else:
        return None
    _check_active(tenant)
    return tenant


def _find(statement: str, name: str, *, missing: str) -> Tenant:
    skip_health_check(connection)
    row = retry_on_broken_connection(lambda: fetch_one(statement, [name]))
    if row is None:
        raise NotFound(missing, code="tenant_not_found")
    tenant: Tenant = Tenant.from_db(connection.alias, FIELDS, row)
    return tenant


def _check_active(tenant: Tenant) -> None:
    match tenant.status:
        case Tenant.Status.ACTIVE:
            return
        case Tenant.Status.PROVISIONING:
            raise Provisioning
        case Tenant.Status.FAILED:
            raise Failed
        case _:
            raise PermissionDenied(f"This organisation is {tenant.status}.", code=f"tenant_{tenant.status}")


def host_of(request: HttpRequest) -> str:
    """The request's host in lower case, without a port.

    Raises ParseError for one that is not of this site, and for one that is not the target's: of the two, RFC 9112 takes
    the target, and a proxy may take either.
    """
    try:
        host, _, port = request.get_host().partition(":")
    except DisallowedHost:
        raise ParseError("The Host header names no host of this site.", code="bad_host") from None
    # Django takes a port of any length, which links in mails and answers would have, too.
    if len(port) > MAX_PORT_LENGTH:
        raise ParseError("The Host header names no port.", code="bad_host")
    host = normalize_host(host)
    if _target_host(request) not in (None, host):
        raise ParseError("The request's target and its Host header name different hosts.", code="bad_host")
    return host


def _target_host(request: HttpRequest) -> str | None:
    """The host in the request's target; None for a path alone, as nearly all clients send it. gunicorn tells the target
    as it was sent, if it can be parsed.
    """
    target = request.META.get("RAW_URI", "")
    if target.startswith("/") or target in ("", "*"):
        return None
    host, _, _ = urlsplit(target).netloc.partition(":")
    return normalize_host(host)


def _slug(request: HttpRequest) -> str | None:
    """The slug in the request's header. None if there is no header, or the public host has an answer of its own."""
    named = request.headers.get(HEADER)
    if named is None or has_answer(request.path_info, urlconf=settings.PUBLIC_SCHEMA_URLCONF):
        return None
    slug = named.strip().lower()
    try:
        validate_slug(slug)
    except ValidationError:
        raise ParseError(f"The {HEADER} header holds one slug, such as `{HEADER}: acme`.", code="bad_tenant") from None
    return slug


def has_answer(path: str, *, urlconf: str) -> bool:
    """Whether these URLs lead to something at this path: to more than the view `nowhere`, which is the last one."""
    try:
        return resolve(path, urlconf).url_name != "nowhere"
    except Resolver404:
        return False


def _rendered(error: Exception, request: HttpRequest) -> HttpResponse | None:
    """The response that DRF makes of an exception in a view, if it makes one. Middleware runs outside of DRF."""
    handler: Any = api_settings.EXCEPTION_HANDLER
    response: Response | None = handler(error, {"request": request, "view": None})
    return None if response is None else response.render()
