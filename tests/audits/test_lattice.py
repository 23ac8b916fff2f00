"""The attack on last bits: it finds what is there, and of sound noise what the ideal one allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dagster_project.audits import lattice, lattice_toys
from dagster_project.audits.faults import FloatNoise, Silent
from dagster_project.privacy.noise import SecureGenerator


def test_the_attack_on_the_norm_is_the_ideal_one() -> None:
    """Against a loud target it reaches Phi(mu / sqrt 2), the AUC of the Gaussian mechanism."""
    toy = lattice_toys.training_toy(multiplier=1.0)
    found = lattice.attack(toy, releases=80)
    assert found.pop("length") == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.2)
    assert abs(lattice.farthest(found) - 0.5) < lattice.allowed(80)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("consistent", [False, True])
def test_an_attacker_reads_sums_from_files(consistent: bool, counted: bool) -> None:
    """Without noise, the target's contribution is all that is left, however means are saved."""
    toy, _ = lattice_toys.pairs_forms((2, 3), consistent=consistent, counted=counted)
    others, everybody = (toy.numbers(inside, Silent())[0] for inside in (False, True))
    target = everybody - others
    moved = target[np.abs(target) > 1e-9]
    assert np.allclose(moved * 2.0**24, np.rint(moved * 2.0**24), atol=1e-4)
    if not consistent:  # one person in two cells, by phi of norm at most 1, and by 1 in each count
        assert 1 < np.square(moved).sum() - 2 * counted <= 2


def test_noise_in_floating_point_lies_on_its_lattice() -> None:
    scale, size = 1234.5, 20_000
    residue = FloatNoise().rounded_gaussian(size, sigma=scale)
    found = lattice.noise_lattice(residue, abs(residue), scale)
    target = np.random.default_rng(0).uniform(-1, 1, size)
    shifted = lattice.noise_lattice(residue + target, abs(residue), scale)
    few = int((abs(residue) < scale / 8).sum())
    assert found < -0.08 * few and abs(shifted) < 0.02 * few
    exact = SecureGenerator().rounded_gaussian(size, sigma=scale * 2**24) * 2.0**-24
    assert abs(lattice.noise_lattice(exact, abs(exact), scale)) < 0.02 * few


def test_last_bits_and_the_grid() -> None:
    residue = np.array([0.75, -6.0, 0.0])
    assert lattice.last_bits(residue, abs(residue), 1.0) == -(51 + 51)
    residue = np.array([3.0, 1.25, -0.5]) / 2**24
    assert lattice.grid(residue, abs(residue), 1.0) == 0.75


def test_what_is_allowed_shrinks_with_the_releases_to_the_ideal() -> None:
    ideal = stats.norm.cdf(1 / lattice.MULTIPLIER / math.sqrt(2)) - 0.5
    assert lattice.allowed(50) > 0.25 > lattice.allowed(100) > ideal
    assert lattice.allowed(10**12) == pytest.approx(ideal, rel=0.02)
