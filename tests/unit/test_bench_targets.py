"""The bench compares targets with medians of alternating pairs, and says when one is missed."""

from __future__ import annotations

import pytest

from bench.targets import Target, line, ratios, report, rounds

FASTER = Target("times faster", 10.0, at_least=True)
SHARE = Target("share", 0.35)


def test_pairs_alternate() -> None:
    order: list[str] = []
    clock = iter(range(100))

    def measure(name: str) -> float:
        order.append(name)
        return float(next(clock))

    found = rounds({name: lambda name=name: measure(name) for name in ("a", "b")})  # type: ignore[misc]
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a", "a", "b"]
    assert [len(each) for each in found.values()] == [5, 5]
    with pytest.raises(ValueError, match="at least 5"):
        rounds({}, 4)


def test_the_median_decides_and_the_spread_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = ratios([20.0, 20.0, 20.0, 20.0, 20.0], [1.0, 2.1, 2.5, 1.9, 4.0])  # median 9.5
    assert report([(FASTER, found), (SHARE, [0.3, 0.34, 0.2, 0.9, 0.9])]) == ["times faster"]
    first, second = capsys.readouterr().out.splitlines()
    assert "9.52" in first
    assert "[5.00 to 20.00, 5 pairs]" in first
    assert first.endswith("target >= 10  MISSED")
    assert second.endswith("target <= 0.35  holds")


def test_a_ratio_that_is_no_number_is_a_miss() -> None:
    assert line(SHARE, [float("nan")]).endswith("MISSED")
    assert not FASTER.holds(float("nan"))
