"""MST keeps to its declared schedule and finds the tree."""

from __future__ import annotations

import numpy as np

from dagster_project.settings.sections import TableSettings
from dagster_project.table import marginals
from dagster_project.table.measurements import MechanismCounts, TableMeasurement, TableSelection
from dagster_project.table.mst import fit_mst

NAMES = ("a", "b", "c", "d")
SIZES = (3, 3, 3, 3)


class Recorder:
    """Stands in for the secure generator: no noise, the best score wins, and all is written down"""

    def __init__(self) -> None:
        self.measured: list[float] = []
        self.selected: list[tuple[int, float, float]] = []

    def discrete_gaussian(self, shape, *, sigma):
        self.measured.append(sigma)
        return np.zeros(shape, dtype=np.int64)

    def exponential_mechanism(self, scores, *, epsilon, sensitivity):
        self.selected.append((len(scores), epsilon, sensitivity))
        return int(np.argmax(scores))


def chain(n: int = 5000) -> np.ndarray:
    """d → b → a → c, each a noisy copy of the one before."""
    rng = np.random.default_rng(0)

    def copy(of):
        return np.where(rng.random(n) < 0.8, of, rng.integers(0, 3, n))

    d = rng.integers(0, 3, n)
    b = copy(d)
    a = copy(b)
    return np.stack([a, b, copy(a), d], 1).astype(np.int16)


def fit(codes: np.ndarray, recorder: Recorder, names=NAMES, sizes=SIZES):
    return fit_mst(
        codes,
        sizes=sizes,
        names=names,
        n_public=5000,
        measurement=TableMeasurement(sigma=3.0, marginals=2 * len(names) - 1),
        selection=TableSelection(method="mst", epsilon=0.25, rounds=len(names) - 1)
        if len(names) > 1
        else None,
        settings=TableSettings(),
        generator=recorder,
    )


def test_the_mechanisms_that_ran_are_those_declared_and_the_tree_is_found():
    recorder, codes = Recorder(), chain()
    result = fit(codes, recorder)
    counts = MechanismCounts(measurements=7, selections=3)
    assert counts == (7, 3)
    assert recorder.measured == [3.0] * counts.measurements
    # Six pairs at first; every edge leaves only those that join two parts.
    assert [epsilon for _, epsilon, _ in recorder.selected] == [0.25] * counts.selections
    assert {sensitivity for *_, sensitivity in recorder.selected} == {1.0}
    assert recorder.selected[0][0] == 6 and recorder.selected[2][0] in (3, 4)
    assert {m.names for m in result.measurements[4:]} == {("a", "b"), ("b", "d"), ("a", "c")}
    for (i, j), exact in marginals.two_way(codes, SIZES).items():
        assert marginals.tvd(result.model.marginal((NAMES[i], NAMES[j])), exact) < 0.02


def test_one_attribute_needs_no_tree():
    recorder = Recorder()
    result = fit(chain(50)[:, :1], recorder, names=("a",), sizes=(3,))
    assert len(recorder.measured) == 1
    assert not recorder.selected
    assert result.model.marginal(("a",)).sum() == 1
