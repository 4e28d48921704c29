"""The figures are scikit-learn's and SciPy's; their intervals hold the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from convnext.regression.metrics import figures_of, intervals_of, result_of, rows_of


@pytest.mark.parametrize("count", [2, 3, 50, 1000])
@pytest.mark.parametrize("noise", [0.0, 0.1, 5.0])
def test_they_are_the_libraries(count: int, noise: float) -> None:
    rng = np.random.default_rng(count)
    true = rng.normal(3, 2, count).round(1)  # with ties
    predicted = (true + noise * rng.normal(size=count)).round(1)
    found = figures_of(predicted, true)
    assert found["r2"] == pytest.approx(r2_score(true, predicted), abs=1e-12)
    assert found["mae"] == pytest.approx(mean_absolute_error(true, predicted), abs=1e-12)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(true, predicted), abs=1e-12)
    if len(set(predicted)) > 1 and len(set(true)) > 1:
        assert found["spearman"] == pytest.approx(spearmanr(true, predicted).statistic, abs=1e-12)


def test_where_nothing_varies_they_are_numbers_all_the_same() -> None:
    same = np.full(5, 7.0)
    assert figures_of(same, same) == {"r2": 1.0, "mae": 0.0, "rmse": 0.0, "spearman": 0.0}
    assert figures_of(same + 1, same)["r2"] == 0.0 == r2_score(same, same + 1)
    assert figures_of(np.empty(0), np.empty(0)) == {"r2": 0.0, "mae": 0.0, "rmse": 0.0, "spearman": 0.0}
    assert "r2" not in intervals_of(same + 1, same)


def test_of_several_targets_those_with_a_unit_are_not_averaged() -> None:
    true = np.array([[1.0, 100.0], [2.0, np.nan], [3.0, 300.0], [4.0, 150.0]])
    predicted = np.array([[1.0, 110.0], [2.0, 5.0], [3.0, 290.0], [4.0, 160.0]])
    rows = rows_of(predicted, true, ("a", "b"))
    assert [row["count"] for row in rows] == [4, 3]
    result = result_of(rows, 4)
    assert result.keys() == {"r2", "spearman", "count"}
    assert result["r2"] == pytest.approx((1 + rows[1]["r2"]) / 2)


def test_an_interval_stays_sane_where_most_draws_are_of_one_value() -> None:
    """It reached down to -4e15."""
    rng = np.random.default_rng(0)
    true = np.zeros(30)
    true[3] = 1.0
    low, high = intervals_of(0.5 * true + 0.02 * rng.normal(size=30), true)["r2"]
    assert -10 < low <= high <= 1


def test_intervals_hold_the_truth() -> None:
    """Of 300 samples of 60 pictures each, at least 88 of 100 intervals hold the figure of all pictures."""
    rng = np.random.default_rng(0)
    true = rng.gamma(3, 2, 200_000)
    predicted = true + rng.normal(0, 1 + 0.2 * true)
    whole = figures_of(predicted, true)
    hits = dict.fromkeys(whole, 0)
    for _ in range(300):
        own = rng.choice(len(true), 60)
        ends = intervals_of(predicted[own], true[own])
        for name, (low, high) in ends.items():
            hits[name] += low <= whole[name] <= high
            assert low <= figures_of(predicted[own], true[own])[name] <= high
    assert min(hits.values()) >= 0.88 * 300, hits
