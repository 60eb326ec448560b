"""The simulation of a fleet, against what queueing theory and arithmetic say."""

import numpy as np
import pytest

from benchmarks import capacity
from benchmarks.capacity import Fleet, poisson, simulate

ONE = Fleet(most=1, start=0)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_instance_waits_as_theory_says(load: float) -> None:
    """Pollaczek and Khinchin: random arrivals, constant service s, so the mean wait is load * s / (2 - 2 load)."""
    service, rng = 0.004, np.random.default_rng(1)
    arrivals = poisson(rng, load / service, 2000)
    run = simulate(arrivals, np.full(len(arrivals), service), ONE)
    assert run.latencies.mean() == pytest.approx(service + load * service / (2 - 2 * load), rel=0.03)


def test_evenly_spaced_requests_below_its_rate_never_wait() -> None:
    run = simulate(np.arange(1000) * 0.01, np.full(1000, 0.009), ONE)
    assert run.latencies == pytest.approx(np.full(1000, 0.009))


def test_nobody_is_lost_and_nothing_is_beyond_the_most() -> None:
    rng = np.random.default_rng(2)
    arrivals = poisson(rng, 500, 60)
    run = simulate(arrivals, np.full(len(arrivals), 0.01), Fleet(most=3, start=1))
    assert len(run.latencies) == len(arrivals)
    assert (run.latencies >= 0.01 - 1e-12).all()
    assert run.instances.max() == 3


def test_more_traffic_never_wants_fewer_instances_and_the_processors_are_at_their_target() -> None:
    rng, medians = np.random.default_rng(3), []
    for rate in (10, 100, 400, 1000):
        arrivals = poisson(rng, rate, 240)
        run = simulate(arrivals, np.full(len(arrivals), 0.005), Fleet(start=1))
        medians.append(float(np.median(run.instances[120:])))
    assert medians == sorted(medians)
    assert medians[-1] == pytest.approx(1000 * 0.005 / capacity.TARGET, rel=0.15)


def test_a_start_makes_the_first_ones_wait() -> None:
    rng = np.random.default_rng(4)
    arrivals = poisson(rng, 600, 120)
    quick, slow = (
        simulate(arrivals, np.full(len(arrivals), 0.004), Fleet(start=start)).latencies.max() for start in (0.1, 5.0)
    )
    assert slow > 5 * quick


def test_it_goes_back_to_fewer() -> None:
    rng = np.random.default_rng(5)
    arrivals = np.concatenate([poisson(rng, 800, 120), 120 + poisson(rng, 20, 240)])
    run = simulate(arrivals, np.full(len(arrivals), 0.005), Fleet(start=1))
    assert run.instances[-1] < run.instances[100] / 3


def test_what_is_paid_by_hand() -> None:
    # Two requests at once are one time: 30 ms, paid as 100. One more a second later: 100 again.
    run = simulate([0.0, 0.0, 1.0], np.array([0.015, 0.015, 0.01]), ONE)
    assert run.billed == pytest.approx(0.2)
    expected = (0.2 * (24e-6 + 2.5e-6) + 3 * 0.4e-6) * capacity.MONTH / 1.0
    assert run.cost() == pytest.approx(expected)


def test_an_instance_that_never_rests_is_paid_for_all_of_its_time() -> None:
    run = simulate(np.arange(100) * 0.1, np.full(100, 0.1), ONE)
    assert run.billed == pytest.approx(10.0)
