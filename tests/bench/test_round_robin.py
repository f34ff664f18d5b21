from bench.round_robin import Start, ideal


def begun(starts: list[Start]) -> list[tuple[float, str]]:
    return [(start.began, start.tenant) for start in starts]


def test_tenants_with_work_take_turns_on_the_same_instants() -> None:
    run = [Start("noisy", 0, instant) for instant in (1, 2, 3, 4)] + [Start("quiet", 0, instant) for instant in (5, 6)]

    assert begun(ideal(run)) == [
        (1, "noisy"),
        (2, "quiet"),
        (3, "noisy"),
        (4, "quiet"),
        (5, "noisy"),
        (6, "noisy"),
    ]


def test_nobody_is_served_before_they_came() -> None:
    run = [Start("noisy", 0, instant) for instant in (1, 2, 3)] + [Start("quiet", 2.5, 4)]

    assert begun(ideal(run)) == [(1, "noisy"), (2, "noisy"), (3, "noisy"), (4, "quiet")]


def test_who_comes_stands_last_in_the_ring() -> None:
    run = [Start(tenant, 0, instant) for tenant, instant in (("a", 1), ("a", 2), ("b", 3), ("b", 4))]
    late = Start("c", 1.5, 5)

    assert begun(ideal([*run, late])) == [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")]


def test_a_tenants_own_jobs_stay_in_their_order() -> None:
    run = [Start("a", created, instant) for created, instant in ((0, 3), (1, 4))]

    assert [start.created for start in ideal(run)] == [0, 1]


def test_an_ideal_run_is_its_own_replay() -> None:
    run = [Start(tenant, 0, instant) for instant, tenant in enumerate("abcabca", start=1)]

    assert begun(ideal(run)) == begun(run)


def test_a_wait_ends_with_the_bodys_start() -> None:
    assert Start("a", created=1, began=3).wait == 2
