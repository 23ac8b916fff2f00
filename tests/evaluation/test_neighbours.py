"""Figures of nearest neighbours, against their definitions written as loops."""

from __future__ import annotations

import numpy as np
import pytest

from dagster_project.evaluation.neighbours import neighbours


def by_loops(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    def radius(x: np.ndarray, i: int, k: int) -> float:
        return sorted(float(np.linalg.norm(x[i] - y)) for j, y in enumerate(x) if j != i)[k - 1]

    def held(points: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
        """Whether point j is in the ball of centre i."""
        radii = [radius(centres, i, k) for i in range(len(centres))]
        return np.array(
            [
                [np.linalg.norm(c - p) <= r for p in points]
                for c, r in zip(centres, radii, strict=True)
            ]
        )

    near = held(synthetic, real, 5)
    apart = sorted(radius(real, i, 1) for i in range(len(real)))
    closest = apart[int(np.ceil(len(apart) / 100)) - 1]
    return {
        "precision": held(synthetic, real, 3).any(axis=0).mean(),
        "recall": held(real, synthetic, 3).any(axis=0).mean(),
        "density": near.sum() / (5 * len(synthetic)),
        "coverage": near.any(axis=1).mean(),
        "near_duplicates": np.mean(
            [radius(synthetic, j, 1) <= closest for j in range(len(synthetic))]
        ),
    }


@pytest.mark.parametrize("shift", [0.0, 1.5, 50.0])
def test_the_figures_are_their_definitions(shift: float) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(40, 3)), rng.normal(shift, 0.5, size=(30, 3))
    synthetic[:6] = synthetic[6:12] + 1e-3
    found, expected = neighbours(real, synthetic).figures(), by_loops(real, synthetic)
    assert found == pytest.approx(expected)
    assert expected["near_duplicates"] >= 12 / 30


def test_real_against_real_is_what_the_definitions_promise() -> None:
    rng = np.random.default_rng(1)
    found = neighbours(rng.normal(size=(1500, 4)), rng.normal(size=(1500, 4))).figures()
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)  # Naeem et al. 2020
    assert found["near_duplicates"] == pytest.approx(0.01, abs=0.01)


def test_a_collapsed_generator_shows_in_coverage_recall_and_duplicates() -> None:
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (200, 2))])
    collapsed = neighbours(real, np.repeat(rng.normal(0, 0.5, (40, 2)), 10, axis=0)).figures()
    assert collapsed["precision"] > 0.9
    assert collapsed["recall"] < 0.1
    assert collapsed["coverage"] < 0.5
    assert collapsed["near_duplicates"] == 1


def test_copies_among_the_real_images_do_not_hide_copies_among_the_synthetic() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(1e3, 1, (50, 700)).astype(np.float32) for _ in range(2))
    real[1], synthetic[:20] = real[0], synthetic[20:40]
    assert neighbours(real, synthetic).figures()["near_duplicates"] == pytest.approx(0.8)


def test_draws_count_people_as_often_as_they_are_drawn() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(40, 2)), rng.normal(1, 1, size=(40, 2))
    near = neighbours(real, synthetic)
    weights = rng.multinomial(40, [1 / 40] * 40, size=5)
    draws = near.draws(weights)
    for i, row in enumerate(weights):
        who = np.repeat(np.arange(40), row)
        assert draws["recall"][i] == pytest.approx(near.recalled[who].mean())
        assert draws["coverage"][i] == pytest.approx(near.covered[who].mean())
        assert draws["density"][i] == pytest.approx(near.density[who].mean())
    # Without one person, exactly the synthetic rows that only their ball contains are lost.
    without = np.ones((1, 40)) * 1.0
    without[0, 7] = 0
    assert near.draws(without)["precision"][0] == pytest.approx(near.precision - near.only[7])


def test_refuses_sets_without_enough_neighbours() -> None:
    with pytest.raises(ValueError, match="more than 5"):
        neighbours(np.zeros((5, 2)), np.zeros((9, 2)))
