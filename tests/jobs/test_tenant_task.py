"""Plain tasks: each runs in the schema that it was called in, and in no other, however it was dispatched."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Signature, chain, chord, current_app, group, signature
from django_tenants.utils import schema_context

from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of, where_ran
from tests.jobs.probes import (
    applies,
    errback,
    fails,
    forward,
    inline_errback,
    nest,
    own,
    probe,
    replaced,
    replaced_by,
    retries_by_itself,
    sleeps,
    tries_again,
)

pytestmark = pytest.mark.usefixtures("one_child")


@pytest.fixture
def a(acme: Tenant) -> str:
    """Acme's schema."""
    return str(acme.schema_name)


@pytest.fixture
def g(globex: Tenant) -> str:
    """Globex's schema."""
    return str(globex.schema_name)


def expect(homes: dict[str, str]) -> None:
    """That these bodies ran, each once in its schema, and no other body."""
    eventually(lambda: homes.keys() <= {run["name"] for run in probes.ran()}, f"{list(homes)} ran")
    assert {name: where_ran(name) for name in {run["name"] for run in probes.ran()}} == {
        name: [schema] for name, schema in homes.items()
    }


def test_delay_and_apply_async_take_the_schema_of_the_call(a: str, g: str) -> None:
    for schema in (a, g, "public"):
        with schema_context(schema):
            probe.delay(f"delay in {schema}")
            probe.apply_async((f"apply_async in {schema}",))
    probe.delay("afterwards")

    expect(
        {f"{how} in {schema}": schema for how in ("delay", "apply_async") for schema in (a, g, "public")}
        | {"afterwards": "public"}
    )


def test_the_callers_own_headers_neither_hide_the_tenant_nor_leak_it(a: str, g: str) -> None:
    headers = {"trace": "abc"}
    for schema in (a, g):
        with schema_context(schema):
            probe.apply_async((schema,), headers=headers)

    expect({a: a, g: g})
    assert headers == {"trace": "abc"}


@pytest.mark.parametrize("header", [{"schema": "public"}, {"schema": "pg_catalog", "durable": True}, "public", None])
def test_a_caller_cant_set_the_tenants_header(a: str, header: Any) -> None:
    with schema_context(a):
        probe.apply_async(("mine",), headers={"tenantry": header})

    expect({"mine": a})


def test_forwarded_headers_dont_take_their_tenant_along(a: str, g: str) -> None:
    with schema_context(a):
        headers = {"tenantry": {"schema": a}, "id": "not mine"}
        forward.delay("acme")
    with schema_context(g):
        probe.apply_async(("globex",), headers=headers)

    expect({"acme": a, "acme's child": a, "globex": g})


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: probe.s("built"), id="s"),
        pytest.param(lambda: probe.si("built"), id="si"),
        pytest.param(lambda: probe.signature(("built",), headers={"trace": "abc"}), id="task.signature"),
        pytest.param(lambda: probe.subtask(("built",)), id="subtask"),
        pytest.param(lambda: current_app.signature("tests.jobs.probes.probe", args=("built",)), id="app.signature"),
        pytest.param(lambda: signature("tests.jobs.probes.probe", args=("built",)), id="celery.signature"),
        pytest.param(lambda: Signature(probe, args=("built",)), id="Signature"),
        pytest.param(lambda: Signature.from_dict(json.loads(json.dumps(probe.s("built")))), id="json"),
        pytest.param(lambda: probe.s("built").set(countdown=0).clone(), id="clone"),
        pytest.param(lambda: chain(probe.si("first"), probe.si("built")), id="chain"),
        pytest.param(lambda: group(probe.s("first"), probe.s("built")), id="group"),
        pytest.param(lambda: chord([probe.s("first")], probe.si("built")), id="chord"),
        pytest.param(lambda: probe.map(["built"]), id="map"),
        pytest.param(lambda: probe.starmap([("built",)]), id="starmap"),
        pytest.param(lambda: probe.chunks([("first",), ("built",)], 1), id="chunks"),
    ],
)
def test_a_signature_keeps_the_tenant_that_it_was_built_in(a: str, g: str, build: Callable[[], Signature[Any]]) -> None:
    """One that was built in `public` takes its sender's."""
    with schema_context(a):
        built_in_acme = build()
    built_in_public = build()

    for sender in (g, "public"):
        _send_from(sender, built_in_acme.clone(), runs_in=a)
    for sender in (g, "public"):
        _send_from(sender, built_in_public.clone(), runs_in=sender)


def _send_from(sender: str, signature: Signature[Any], *, runs_in: str) -> None:
    probes.broker().delete(probes.RAN)
    with schema_context(sender):
        signature.apply_async()
    eventually(lambda: where_ran("built"), "the signature's task ran")
    assert {run["schema"] for run in probes.ran()} == {runs_in}


def test_a_signature_of_two_tenants_at_once(a: str, g: str) -> None:
    with schema_context(a):
        in_acme = probe.si("acme")
    with schema_context(g):
        in_globex = probe.si("globex")

    group(in_acme, in_globex, probe.si("public")).delay()
    chain(in_acme.clone(), in_globex.clone()).delay()

    eventually(lambda: len(probes.ran()) == 5, "all ran")
    assert where_ran("acme") == [a, a]
    assert where_ran("globex") == [g, g]
    assert where_ran("public") == ["public"]


def test_send_task_by_name(a: str) -> None:
    with schema_context(a):
        current_app.send_task("tests.jobs.probes.probe", ("by name",))

    expect({"by name": a})


def test_nested_dispatch(a: str, g: str) -> None:
    for schema in (a, g):
        with schema_context(schema):
            nest.delay(schema)

    expect({a: a, f"{a}'s child": a, g: g, f"{g}'s child": g})


def test_link_runs_at_home_or_in_its_own_tenant(a: str, g: str) -> None:
    with schema_context(g):
        link_of_globex = probe.si("globex's link")
    link = probe.si("link")
    with schema_context(a):
        probe.apply_async(("acme",), link=[link, link_of_globex])

    expect({"acme": a, "link": a, "globex's link": g})


@pytest.mark.parametrize(("signature", "name"), [(errback, "errback"), (inline_errback, "inline errback")])
def test_link_error_runs_at_home_or_in_its_own_tenant(a: str, g: str, signature: Any, name: str) -> None:
    in_public = signature.s()
    with schema_context(g):
        in_globex = signature.s()
    with schema_context(a):
        fails.apply_async(("acme",), link_error=[in_public, in_globex])

    eventually(lambda: len(where_ran(name)) == 2, "both errbacks ran")
    assert set(where_ran(name)) == {a, g}


@pytest.mark.parametrize(("signature", "name"), [(errback, "errback"), (inline_errback, "inline errback")])
def test_link_error_runs_once_for_a_task_that_the_parent_process_ends(a: str, signature: Any, name: str) -> None:
    with schema_context(a):
        sleeps.apply_async(("acme", 60, True), soft_time_limit=0.2, time_limit=0.4, link_error=signature.s())
        eventually(lambda: where_ran(name), "the errback ran")
        probe.delay("afterwards")
    eventually(lambda: where_ran("afterwards"), "a later task ran")
    assert where_ran(name) == [a]


def test_a_chord_runs_at_home_header_and_body(a: str, g: str) -> None:
    for schema in (a, g):
        with schema_context(schema):
            chord([probe.s(f"{schema} 1"), probe.s(f"{schema} 2")])(probe.si(f"{schema} body"))

    expect({f"{schema} {part}": schema for schema in (a, g) for part in ("1", "2", "body")})


def test_a_chords_failed_header_calls_the_bodys_errback_at_home(a: str) -> None:
    with schema_context(a):
        body = chord([probe.s("header"), fails.s("bad header")])(probe.si("body").on_error(errback.s()))

    eventually(lambda: where_ran("errback"), "the errback ran")
    assert where_ran("errback") == [a]
    assert where_ran("body") == []
    assert results_of(body.id) == {a: "FAILURE"}


def test_a_chord_of_two_tenants_is_refused(a: str, g: str) -> None:
    with schema_context(a):
        body = probe.si("body")
    with schema_context(g):
        header = [probe.s("1"), probe.s("2")]

    with pytest.raises(ValueError, match="build both in one tenant"):
        chord(header, body).delay()


def test_a_chord_of_chains_of_two_tenants_is_refused_before_its_first_task_runs(a: str, g: str) -> None:
    with schema_context(a):
        body, first = probe.si("body"), probe.si("first")
    with schema_context(g):
        last = probe.si("last")

    with pytest.raises(ValueError, match="build both in one tenant"):
        chord([first | last, first | probe.si("other")], body).delay()
    with schema_context(a):
        probe.delay("afterwards")
    expect({"afterwards": a})


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: probe.si("substitute"), id="task"),
        pytest.param(lambda: chain(probe.si("first"), probe.si("substitute")), id="chain"),
        pytest.param(lambda: group(probe.si("first"), probe.si("substitute")), id="group"),
        pytest.param(lambda: chord([probe.si("first")], probe.si("substitute")), id="chord"),
        pytest.param(lambda: probe.map(["substitute"]), id="map"),
    ],
)
def test_a_task_cant_be_replaced_by_another_tenants(a: str, g: str, build: Callable[[], Signature[Any]]) -> None:
    """What takes its place would have its result in another tenant, and the task would be started for ever."""
    with schema_context(g):
        substitute = build()
    with schema_context(a):
        result = replaced_by.delay(substitute)

    eventually(lambda: results_of(result.id) == {a: "FAILURE"}, "it says that it failed")
    expect({"replaced": a})


def test_replace_runs_at_home(a: str) -> None:
    with schema_context(a):
        result = replaced.delay("acme")

    expect({"acme": a, "acme's substitute": a})
    eventually(lambda: results_of(result.id) == {a: "SUCCESS"}, "the substitute's result took the place")


@pytest.mark.parametrize("wander_to", [None, "public", "globex"])
def test_retry_runs_at_home_though_the_body_went_elsewhere(a: str, g: str, wander_to: str | None) -> None:
    with schema_context(a):
        result = tries_again.delay("acme", g if wander_to == "globex" else wander_to)

    eventually(lambda: results_of(result.id) == {a: "SUCCESS"}, "the second try ended")
    assert where_ran("acme") == [a, a]


def test_autoretry_runs_at_home(a: str) -> None:
    with schema_context(a):
        result = retries_by_itself.delay("acme")

    eventually(lambda: results_of(result.id) == {a: "FAILURE"}, "the tries ran out")
    assert where_ran("acme") == [a, a]


def test_a_task_class_of_ones_own_is_at_home_hooks_included(a: str) -> None:
    with schema_context(a):
        succeeds = own.delay("succeeds")
        failing = own.delay("fails", fail=True)

    eventually(lambda: ended(failing.id), "both ended")
    assert (results_of(succeeds.id), results_of(failing.id)) == ({a: "SUCCESS"}, {a: "FAILURE"})
    assert {run["name"]: run["schema"] for run in probes.ran()} == dict.fromkeys(
        ("succeeds", "on_success", "fails", "on_failure"), a
    )


def test_a_nested_eager_call_runs_in_its_tenant_and_the_outer_goes_on_in_its_own(a: str, g: str) -> None:
    with schema_context(g):
        inner = probe.si("inner")
        failing = fails.si("inner fails")
    with schema_context(a):
        applies.delay("outer", inner)
        applies.delay("failing outer", failing)

    expect(
        {"outer before": a, "inner": g, "outer after": a}
        | {"failing outer before": a, "inner fails": g, "failing outer after": a}
    )
