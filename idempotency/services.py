"""A request that is sent again with its `Idempotency-Key` gets the first response again, and has one effect."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.status import is_success

from idempotency.errors import InProgress, KeyReused, TooManyKeys
from idempotency.models import KeptResponse
from limits.rates import count, give_back, longest_wait
from tenants.connection import connection

REPLAYED = "Idempotent-Replayed"


def respond_once(
    *, owner: str, key: str, fingerprint: str, respond: Callable[[], Response], older: Sequence[str] = ()
) -> Response:
    """Return what `respond` answers, or what it answered to this key before.

    The answer is kept in one transaction with what `respond` did. Only a 2xx is kept. Any other answer rolls back, and
    may be tried again with the same key. Raises InProgress while the first request still runs, KeyReused if the key
    came with another request, TooManyKeys if the organisation keeps as many as it may. `older` are fingerprints that
    the same request had, by earlier keys of the site or an earlier release.
    """
    with transaction.atomic(durable=True):
        _lock(owner, key)
        if (kept := _kept(owner, key)) is not None:
            return _replayed(kept, [fingerprint, *older])
        return _respond_and_keep(owner=owner, key=key, fingerprint=fingerprint, respond=respond)


def _respond_and_keep(*, owner: str, key: str, fingerprint: str, respond: Callable[[], Response]) -> Response:
    quota = _quota()
    counted = count(quota)
    if (wait := longest_wait(counted)) is not None:
        raise TooManyKeys(wait, counted)
    is_kept = False
    try:
        response = respond()
        is_kept = is_success(response.status_code)
    finally:
        if not is_kept:
            give_back(quota)
    if is_kept:
        _keep(response, owner=owner, key=key, fingerprint=fingerprint)
    else:
        transaction.set_rollback(True)
    return response


def _quota() -> dict[str, str]:
    """Whose responses are counted. `public` keeps one for each sign-up, and these have limits of their own."""
    schema = connection.schema_name
    return {} if schema == "public" else {"idempotency_key": schema}


def _lock(owner: str, key: str) -> None:
    """Until the transaction ends, nobody else gets past here with this key; whoever comes meanwhile need not wait."""
    with connection.cursor() as cursor:
        # Advisory locks are the database's, not the schema's. This statement comes before the look for what is kept: it
        # lets nobody in before the commit of who was first, and the look must see that.
        name = "\n".join(("idempotency", connection.schema_name, owner, key))
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        [locked] = cursor.fetchone()
    if not locked:
        raise InProgress


def _kept(owner: str, key: str) -> KeptResponse | None:
    KeptResponse.objects.filter(owner=owner, key=key, created_at__lte=_oldest_kept()).delete()
    return KeptResponse.objects.filter(owner=owner, key=key).first()


def _replayed(kept: KeptResponse, fingerprints: Sequence[str]) -> Response:
    if kept.fingerprint not in fingerprints:
        raise KeyReused
    return Response(json.loads(kept.body), status=kept.status, headers={**kept.headers, REPLAYED: "true"})


def _keep(response: Response, *, owner: str, key: str, fingerprint: str) -> None:
    if "no-store" in response.get("Cache-Control", ""):
        raise ImproperlyConfigured("A response that must not be stored can't be sent again: its view takes no key.")
    KeptResponse.objects.create(
        owner=owner,
        key=key,
        fingerprint=fingerprint,
        status=response.status_code,
        headers={name: value for name, value in response.items() if name != "Content-Type"},
        body=JSONRenderer().render(response.data).decode(),
    )


def forget_expired() -> int:
    """Delete the responses of the active schema that are older than IDEMPOTENCY_KEY_HOURS. Returns how many."""
    deleted, _ = KeptResponse.objects.filter(created_at__lte=_oldest_kept()).delete()
    return deleted


def forget_sign_up(slug: str) -> None:
    """Delete the responses to the sign-up of a tenant that is gone."""
    with schema_context("public"):
        KeptResponse.objects.filter(owner=slug).delete()


def _oldest_kept() -> datetime:
    return timezone.now() - timedelta(hours=settings.IDEMPOTENCY_KEY_HOURS)
