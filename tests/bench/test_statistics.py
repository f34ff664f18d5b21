"""What makes a figure: pairs that take turns, a median, and what chance does to ours against ours."""

import pytest

from bench.statistics import Outcome, Part, Round, compare, in_turn, interleaved, percentile


def part(value: float, *, target: float = 2, spread: float = 0, at_least: bool = True) -> Part:
    return Part("speed", [value], [1 + spread, 1 - spread], target=target, at_least=at_least)


def test_ours_and_theirs_take_turns_and_who_is_first_alternates() -> None:
    calls: list[str] = []

    def measured(name: str) -> str:
        calls.append(name)
        return f"{name}{len(calls)}"

    rounds = interleaved(lambda: measured("ours"), lambda: measured("theirs"), rounds=2)

    assert calls == ["ours", "theirs", "ours"] * 2
    assert rounds[0] == Round(ours="ours1", theirs="theirs2", again="ours3")
    assert rounds[1] == Round(ours="ours6", theirs="theirs5", again="ours4")


def test_several_peers_stand_between_ours_and_ours_and_their_order_alternates() -> None:
    calls: list[str] = []

    def measured(name: str) -> str:
        calls.append(name)
        return f"{name}{len(calls)}"

    peers = {"one": lambda: measured("one"), "two": lambda: measured("two")}
    rounds = in_turn(lambda: measured("ours"), peers, rounds=2)

    assert calls == ["ours", "one", "two", "ours", "ours", "two", "one", "ours"]
    assert rounds == {
        "one": [Round("ours1", "one2", "ours4"), Round("ours8", "one7", "ours5")],
        "two": [Round("ours1", "two3", "ours4"), Round("ours8", "two6", "ours5")],
    }


def test_without_a_target_a_part_is_reported_and_fails_nothing() -> None:
    reported = compare("speed", [Round(ours=1.0, theirs=2.0, again=1.0)], float)

    assert (reported.value, reported.target) == (0.5, None)
    assert Outcome([reported, part(3)], "ratio").holds
    assert Outcome([reported, part(1)], "ratio").worst.target == 2


def test_a_number_that_is_no_ratio_has_no_spread() -> None:
    assert Part("effects lost", [0], [], target=0, at_least=False).holds
    assert not Part("effects lost", [1], [], target=0, at_least=False).holds


def test_the_value_is_the_median_of_the_pairs_ratios() -> None:
    rounds = [Round(ours=30.0, theirs=10.0, again=30.0), Round(8.0, 2.0, 8.0), Round(100.0, 1.0, 100.0)]

    assert compare("speed", rounds, float, at_least=2).value == 4


def test_the_spread_is_how_far_half_of_the_null_ratios_stray() -> None:
    rounds = [Round(ours=9.0, theirs=1.0, again=10.0), Round(12.0, 1.0, 10.0), Round(15.0, 1.0, 10.0)]

    assert compare("speed", rounds, float, at_least=2).spread == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("value", "spread", "at_least", "holds"),
    [
        (2.0, 0.0, True, True),
        (1.9, 0.0, True, False),
        (1.9, 0.06, True, True),
        (1.9, 0.04, True, False),
        (2.0, 0.0, False, True),
        (2.1, 0.0, False, False),
        (2.1, 0.06, False, True),
        (2.1, 0.04, False, False),
        (0.0, 0.0, False, True),
    ],
)
def test_a_part_holds_if_the_median_meets_the_target_within_the_spread(
    value: float, spread: float, at_least: bool, holds: bool
) -> None:
    assert part(value, spread=spread, at_least=at_least).holds is holds


def test_a_figure_holds_if_each_of_its_parts_does() -> None:
    good, bad = part(3), part(1)

    assert Outcome([good, good], "ratio").holds
    assert not Outcome([good, bad], "ratio").holds
    assert Outcome([good, bad], "ratio").worst is bad


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (95, 10), (90, 9), (0, 1), (100, 10)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected
