"""How much work is taken on while the loop is late, and that it comes back by itself."""

import pytest

from support_service.guard.overload import LATE_CHECKS_BEFORE_SHEDDING, MIN_SHARE, LoadShedder

LAG = 0.3


@pytest.fixture
def overload():
    """A bound of 0.3 s and 10 requests."""
    return LoadShedder(LAG, 10)


def let_in(overload, of=1600):
    return sum(overload.rejection_reason(1) is None for _ in range(of)) / of


def test_single_late_sample_sheds_nothing(overload):
    for _ in range(10):
        for _ in range(LATE_CHECKS_BEFORE_SHEDDING - 1):
            overload.record_lag(10)
        overload.record_lag(0)
    assert let_in(overload) == 1


def test_late_samples_halve_the_admitted_share(overload):
    """Some requests are always admitted."""
    shares = []
    for _ in range(LATE_CHECKS_BEFORE_SHEDDING + 6):
        overload.record_lag(LAG * 1.01)
        shares.append(let_in(overload))
    assert shares[LATE_CHECKS_BEFORE_SHEDDING - 2 : LATE_CHECKS_BEFORE_SHEDDING + 2] == pytest.approx(
        [1, 1 / 2, 1 / 4, 1 / 8], rel=0.02
    )
    assert shares[-1] == pytest.approx(MIN_SHARE, rel=0.02)
    assert overload.rejection_reason(1) == "lag"


def test_admission_recovers_with_hysteresis(overload):
    """Between half the limit and the limit nothing changes; below, it recovers step by step."""
    for _ in range(LATE_CHECKS_BEFORE_SHEDDING + 6):
        overload.record_lag(LAG * 2)
    for _ in range(20):
        overload.record_lag(LAG * 0.9)
    assert let_in(overload) == pytest.approx(MIN_SHARE, rel=0.02)
    shares = []
    for _ in range(10):
        overload.record_lag(LAG * 0.4)
        shares.append(let_in(overload))
    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] == 1


def test_lag_limit_of_0_sheds_nothing():
    """Concurrent requests are admitted up to their limit."""
    overload = LoadShedder(0, 10)
    for _ in range(100):
        overload.record_lag(100)
    assert [overload.rejection_reason(number) for number in (1, 10, 11)] == [None, None, "requests"]
