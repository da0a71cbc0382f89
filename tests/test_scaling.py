"""Fitted exponents against laws that are known because the times were made from them."""

import numpy as np
import pytest

from reports.instances import group
from reports.scaling import all_series, scaling_table
from tests.test_reports import made_up


def records(power, sizes=(16, 32, 64, 128, 256, 512), batch=1, ratio=1, noise=0.0, **fields):
    rng = np.random.default_rng(0)
    for n in sizes:
        seconds = 1e-6 * n**power * np.exp(noise * rng.normal())
        times = {"gradient_seconds": seconds / 2, "total_seconds": seconds}
        yield made_up(n=n, **{"k": ratio * n, "batch": batch, **times, **fields})


@pytest.mark.parametrize("power", [0.0, 1.5, 3.0])
def test_an_exact_power_is_found_exactly(power):
    (series,) = all_series(group(records(power)))
    for phase in ("gradient", "total"):
        exponent = series.exponent(phase)
        assert exponent.value == pytest.approx(power, abs=1e-9)
        assert exponent.half_width == pytest.approx(0, abs=1e-6)
    assert (exponent.smallest, exponent.largest) == (64, 512)


def test_small_sizes_where_overhead_rules_do_not_count():
    flat = [made_up(n=n, k=n, total_seconds=1e-3) for n in (4, 8)]
    (series,) = all_series(group([*flat, *records(3.0, sizes=(64, 128, 256, 512))]))
    assert series.exponent("total").value == pytest.approx(3.0, abs=1e-9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """95 % over 200 draws: 8 or more misses in 200 at a true rate of 5 % are as likely as not, 25 are not (1e-5)."""
    rng, misses = np.random.default_rng(1), 0
    for _ in range(200):
        noisy = [made_up(n=n, k=n, total_seconds=1e-6 * n**2 * np.exp(0.1 * rng.normal())) for n in (64, 128, 256, 512)]
        (series,) = all_series(group(noisy))
        exponent = series.exponent("total")
        misses += abs(exponent.value - 2.0) > exponent.half_width
    assert misses < 25


def test_a_series_is_one_method_one_ratio_one_batch_and_three_sizes():
    mixed = [
        *records(2.0, ratio=1),
        *records(3.0, ratio=2),
        *records(1.0, batch=32),
        *records(2.0, sizes=(16, 32), method="blorc_too"),
    ]
    found = {(series.k_per_n, series.batch): series.exponent("total").value for series in all_series(group(mixed))}
    assert found == {
        (1.0, 1): pytest.approx(2.0),
        (2.0, 1): pytest.approx(3.0),
        (1.0, 32): pytest.approx(1.0),
    }


def test_a_failed_size_is_named_and_not_fitted():
    lost = made_up(n=1024, k=1024, status="timeout", gradient_seconds=None, total_seconds=None, error_relative=None)
    series = all_series(group([*records(2.0), lost]))
    table = scaling_table(series)
    (row,) = table.rows
    assert row[-1] == "n = 1024: timeout"
    assert row[-2] == "64 to 512"
    assert row[-4] == "2.00 ± 0.00"
