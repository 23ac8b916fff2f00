"""AIM keeps to its declared schedule and learns the table."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.sections import TableSettings
from dagster_project.table import marginals, mbi_inference
from dagster_project.table.aim import fit_aim, most_memory, recommended_rounds
from dagster_project.table.estimation import TableFit, estimate, independent_model
from dagster_project.table.measurements import (
    Measurement,
    MechanismCounts,
    TableMeasurement,
    TableSelection,
)

NAMES = ("a", "b", "c", "d")
SIZES = (3, 2, 4, 3)


class Recorder:
    """Stands in for the secure generator: no noise, the best score wins, and all is written down"""

    def __init__(self) -> None:
        self.measured: list[tuple[tuple[int, ...], float]] = []
        self.selected: list[tuple[int, float, float]] = []

    def discrete_gaussian(self, shape, *, sigma):
        self.measured.append((tuple(shape), sigma))
        return np.zeros(shape, dtype=np.int64)

    def exponential_mechanism(self, scores, *, epsilon, sensitivity):
        self.selected.append((len(scores), epsilon, sensitivity))
        return int(np.argmax(scores))


def records(n: int = 4000) -> np.ndarray:
    """a drives b and c; d is on its own."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, n)
    b = np.where(rng.random(n) < 0.9, a == 2, rng.integers(0, 2, n))
    c = np.where(rng.random(n) < 0.7, a, 3)
    return np.stack([a, b, c, rng.integers(0, 3, n)], 1).astype(np.int16)


def mechanisms(marginals, rounds, *, sigma=2.0):
    selection = TableSelection(method="aim", epsilon=0.5, rounds=rounds) if rounds else None
    return {
        "measurement": TableMeasurement(sigma=sigma, marginals=marginals),
        "selection": selection,
    }


def fit(
    codes,
    generator,
    *,
    rounds=3,
    names=NAMES,
    sizes=SIZES,
    sigma=2.0,
    n_public=4000,
    selections_per_fit=1,
    **settings,
) -> TableFit:
    return fit_aim(
        codes,
        sizes=sizes,
        names=names,
        n_public=n_public,
        **mechanisms(len(sizes) + rounds, rounds, sigma=sigma),
        settings=TableSettings(selections_per_fit=selections_per_fit, **settings),
        generator=generator,
    )


@pytest.fixture(scope="module")
def noiseless() -> tuple[TableFit, Recorder, list[float]]:
    recorder, fractions = Recorder(), []
    result = fit_aim(
        records(),
        sizes=SIZES,
        names=NAMES,
        n_public=4000,
        **mechanisms(len(SIZES) + 3, 3),
        settings=TableSettings(selections_per_fit=1),
        generator=recorder,
        progress=lambda fraction, text: fractions.append(fraction),
    )
    return result, recorder, fractions


def test_the_mechanisms_that_ran_are_those_declared(noiseless):
    result, recorder, _ = noiseless
    counts = MechanismCounts(measurements=len(NAMES) + 3, selections=3)
    assert counts == (7, 3)
    assert len(recorder.measured) == len(result.measurements) == counts.measurements
    assert {sigma for _, sigma in recorder.measured} == {2.0}
    assert recorder.selected == [(6, 0.5, 1.0)] * counts.selections
    assert [m.names for m in result.measurements[:4]] == [(name,) for name in NAMES]


def test_the_schedule_does_not_depend_on_the_data():
    schedules = []
    for codes in (records(200), np.zeros((0, 4), dtype=np.int16), np.zeros((5, 4), dtype=np.int16)):
        recorder = Recorder()
        fit(codes, recorder, rounds=2, selections_per_fit=2, final_iterations=5)
        schedules.append((len(recorder.measured), recorder.selected))
    assert schedules == [(6, [(6, 0.5, 1.0), (5, 0.5, 1.0)])] * 3


def test_pairs_selected_between_two_fits_form_a_forest_while_they_can():
    result = fit(records(), Recorder(), rounds=5, selections_per_fit=5, final_iterations=5)
    chosen = [set(m.names) for m in result.measurements[4:]]
    assert chosen[:2] == [{"a", "c"}, {"a", "b"}]
    assert "d" in chosen[2]  # b and c depend on each other, but are linked through a
    assert len({frozenset(pair) for pair in chosen}) == 5


def test_dependent_pairs_are_found_first(noiseless):
    result, _, _ = noiseless
    assert {m.names for m in result.measurements[4:6]} == {("a", "b"), ("a", "c")}


def test_without_noise_the_model_is_right_about_every_pair(noiseless):
    result, _, fractions = noiseless
    assert result.model.total == 4000
    for (i, j), exact in marginals.two_way(records(), SIZES).items():
        # d is independent of the rest up to sampling: its pairs differ by chance alone.
        assert marginals.tvd(result.model.marginal((NAMES[i], NAMES[j])), exact) < 0.03
    for m in result.measurements[:6]:
        np.testing.assert_allclose(4000 * result.model.marginal(m.names), m.values, atol=2)
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_with_noise_two_fits_differ_and_both_are_near():
    codes = records()
    fits = [fit(codes, SecureGenerator(), sigma=5.0, selections_per_fit=2) for _ in range(2)]
    values = [np.concatenate([m.values.ravel() for m in f.measurements[:4]]) for f in fits]
    assert (values[0] != values[1]).any()
    for result in fits:
        assert (
            marginals.tvd(result.model.marginal(("a", "c")), marginals.count(codes, SIZES, (0, 2)))
            < 0.05
        )


def test_a_saved_fit_is_read_back(noiseless, tmp_path):
    result, _, _ = noiseless
    result.save(tmp_path)
    loaded = TableFit.load(tmp_path)
    for ours, theirs in zip(result.measurements, loaded.measurements, strict=True):
        assert (ours.names, ours.sigma) == (theirs.names, theirs.sigma)
        np.testing.assert_array_equal(ours.values, theirs.values)
    rngs = [np.random.default_rng(1) for _ in range(2)]
    np.testing.assert_array_equal(
        result.model.sample(100, rngs[0]), loaded.model.sample(100, rngs[1])
    )


def test_the_model_keeps_to_its_size():
    limit = 8.0 * (3 * 2 + 4 * 3)
    recorder = Recorder()
    result = fit(
        records(500),
        recorder,
        rounds=4,
        selections_per_fit=4,
        final_iterations=5,
        max_model_bytes=limit,
    )
    assert 8 * sum(table.size for table in result.model.marginals) <= limit
    assert len(recorder.measured) == 8  # paid for and used: the schedule does not shrink


def test_memory_is_known_beforehand():
    rng = np.random.default_rng(0)
    sizes = tuple(int(size) for size in rng.integers(2, 9, 14))
    codes = np.stack([rng.integers(0, size, 40_000) for size in sizes], axis=1).astype(np.int16)
    limits = {"max_model_bytes": 2e6, "iterations": 2, "final_iterations": 2}
    tracemalloc.start()
    try:
        fit(
            codes,
            Recorder(),
            rounds=30,
            names=[f"a{axis}" for axis in range(14)],
            sizes=sizes,
            n_public=40_000,
            selections_per_fit=10,
            **limits,
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1e6 < peak < most_memory(sizes, TableSettings(**limits))


def test_a_limit_below_the_smallest_pair_is_refused():
    with pytest.raises(ValueError, match="max_model_bytes"):
        fit(records(10), Recorder(), max_model_bytes=50.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ("a", "b", "c")}, "one for each size"),
        ({"names": ("a", "a", "c", "d")}, "distinct"),
        ({"sizes": (3,), "names": ("a",)}, "one column"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed, message):
    recorder = Recorder()
    with pytest.raises(ValueError, match=message):
        fit(records(10), recorder, **changed)
    assert not recorder.measured


@pytest.mark.parametrize("bad", [{"iterations": 0}, {"selections_per_fit": 0}])
def test_settings_without_sense_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TableSettings(**bad)


def test_one_attribute_and_no_rounds():
    codes = records(100)[:, :1]
    result = fit(codes, Recorder(), rounds=0, names=("a",), sizes=(3,), n_public=100)
    np.testing.assert_allclose(100 * result.model.marginal(("a",)), np.bincount(codes[:, 0]))
    with pytest.raises(ValueError, match="one attribute"):
        fit(codes, Recorder(), rounds=1, names=("a",), sizes=(3,))


def test_the_closed_form_is_the_nearest_table_of_the_total():
    values = np.array([7, -3, 1, 5])
    model = independent_model(
        [Measurement(names=("a",), values=values, sigma=1.0)], sizes=(4,), total=9.0
    )
    # Shifting all positive cells by one constant and cutting at zero: 5.5, 0, 0, 3.5.
    np.testing.assert_allclose(9 * model.marginal(("a",)), [5.5, 0, 0, 3.5])


def test_estimation_weighs_measurements_by_their_noise():
    def m(names, values, sigma):
        return Measurement(names=names, values=np.array(values), sigma=sigma)

    # The total is fixed, so the pair's row sums (variance 2·100) and the row's own measurement
    # (variance 1) meet at the inverse-variance mean.
    measured = [
        m(("a",), [60, 40], 1.0),
        m(("b",), [50, 50], 1.0),
        m(("a", "b"), [[40, 40], [10, 10]], 10.0),
    ]
    model = estimate(measured, names=("a", "b"), sizes=(2, 2), total=100.0, iterations=3000)
    expected = (60 * 200 + 80 * 1) / 201
    assert 100 * model.marginal(("a",))[0] == pytest.approx(expected, abs=0.01)


def test_both_inferences_agree(monkeypatch):
    rng, names, sizes = np.random.default_rng(0), ("a", "b", "c"), (2, 3, 2)
    exact = rng.dirichlet(np.ones(12)).reshape(sizes) * 100

    def noisy(*axes):
        values = exact.sum(axis=tuple({0, 1, 2} - set(axes))) + rng.normal(size=1)
        return Measurement(names=tuple(names[k] for k in axes), values=values, sigma=1.0)

    measured = [noisy(*axes) for axes in [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)]]
    arguments = {"names": names, "sizes": sizes, "total": 100.0, "iterations": 300}
    own = estimate(measured, **arguments)
    for worth_optimising in (20_000, 0):
        monkeypatch.setattr(mbi_inference, "_CELLS_WORTH_OPTIMISING", worth_optimising)
        theirs = estimate(measured, inference="mbi", **arguments)
        np.testing.assert_allclose(own.marginal(names), theirs.marginal(names), atol=1e-9)


def test_recommended_rounds_follow_public_facts_alone():
    sizes = (10, 6, 5, 5, 5, 5, 5, 5)
    assert recommended_rounds(sizes, n_public=20_000, sigma=7.0) == 20
    assert recommended_rounds(sizes, n_public=20_000, sigma=55.0) == 20
    assert 1 <= recommended_rounds(sizes, n_public=300, sigma=25.0) < 8
    assert recommended_rounds((2, 2, 2), n_public=1000, sigma=1.0) == 3
    assert recommended_rounds((2,), n_public=1000, sigma=1.0) == 0
