"""Probes that measure the ratio of a mechanism's real privacy loss to the declared one.

Each mechanism of `mechanisms.MECHANISMS` is run as shipped: without noise, on people chosen to
move its output as far as anyone can, and on nobody, to see only its noise. The ratio of the noise
multipliers follows from the two without any of the mechanism's own formulas: an error of a factor
in a sensitivity, a scale or a weight changes the ratio by that factor. A probe also has faults of
at most the square root of two that it must distinguish from the mechanism.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch

from dagster_project.audits.faults import Silent, SlightlyLessNoise, Training, dp_sgd
from dagster_project.audits.finding import Finding
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy.mechanism import Mechanism
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.public_data.query import LabelCounts
from dagster_project.table.measurements import TableMeasurement, TableSelection, selection_scores
from dagster_project.table.minimum_people import MinimumPeople

Make = Callable[[], SecureGenerator]
DRAWS = 100_000
# A probe's neighbours come near the bound; 100,000 draws estimate the noise to .8 % with a
# confidence of 99.9 %, and 10,000 selections the odds to 5 %.
LEAST, MOST = 0.9, 1.1

# As shipped, at toy size: pooled pixels, random features, and features of the public network.
SHIPPED = FeatureMap(
    channels=1,
    height=4,
    width=4,
    scales=(0.5, 1.0),
    frequencies=8,
    pixel_share=0.1,
    pixel_clip=2.0,
    perceptual_share=0.5,
    seed=0,
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Test that distinguishes a mechanism from wrong ones.

    Attributes:
        loss: (mechanism, source of noise) -> ratio of the real privacy loss to the declared one.
        sound: Instances as shipped.
        faulty: Wrong instances by name, each of which `loss` must catch.
        weak: Whether `loss` must also catch less noise than requested.
    """

    loss: Callable[..., float]
    sound: tuple[Mechanism, ...]
    faulty: Mapping[str, Mechanism]
    weak: bool = True


def misjudged(sound: Mechanism, factor: float) -> Mechanism:
    """Return the same mechanism with its sensitivity multiplied by `factor`."""
    kind = type(sound)

    def sensitivity(self: Mechanism) -> float:
        return kind.sensitivity(self) * factor

    wrong = type(f"Misjudged{kind.__name__}", (kind,), {"sensitivity": sensitivity})
    return wrong(**{field.name: getattr(sound, field.name) for field in fields(sound)})


def measurement_loss(mechanism: TableMeasurement, generator: Make) -> float:
    """Return the loss from one more record in a marginal and the noise of empty cells."""
    exact = [
        mechanism.run(counts, names=("a",), generator=Silent()).values
        for counts in (np.array([3, 0, 7]), np.array([3, 1, 7]))
    ]
    noise = mechanism.run(np.zeros(DRAWS, dtype=np.int64), names=("a",), generator=generator())
    moved = float(np.linalg.norm(exact[1] - exact[0]))
    return mechanism.sigma * moved / _scale(noise.values)


def people_loss(mechanism: MinimumPeople, generator: Make) -> float:
    """Return the loss from one more person in the number of people and the noise on nobody."""
    exact = [mechanism.run(people, generator=Silent()) for people in (7, 8)]
    source = generator()
    noise = np.array([mechanism.run(0, generator=source) for _ in range(4000)])
    return mechanism.sigma * (exact[1] - exact[0]) / _scale(noise)


def selection_loss(mechanism: TableSelection, generator: Make, *, runs: int = 10_000) -> float:
    """Return the loss from how far one record moves the odds between two pairs of attributes.

    It moves each score by at most one, and so the odds of two pairs by twice exp(epsilon / 2). It
    is measured at scores that differ by several records, which makes it clearly visible.
    """
    gap = max(1, round(3 / mechanism.epsilon))
    pairs, source = [(0, 1), (0, 2)], generator()
    nothing = {pair: np.zeros((1, 2)) for pair in pairs}
    exact = {pairs[0]: np.array([[gap, 0]]), pairs[1]: np.array([[0, 0]])}
    first = sum(
        mechanism.run(pairs, exact=exact, expected=nothing, sigma=0.0, generator=source) == pairs[0]
        for _ in range(runs)
    )
    odds = math.log((first + 0.5) / (runs - first + 0.5))
    record = [np.array([[0, 1]])], [np.zeros((1, 2))]
    moved = np.subtract(
        selection_scores(*record, sigma=0.0),
        selection_scores([np.zeros((1, 2))], record[1], sigma=0.0),
    )
    return 2 * odds / gap * float(np.abs(moved).max()) / mechanism.epsilon


def query_loss(mechanism: LabelCounts, generator: Make) -> float:
    """Return the loss from a person with k labels in d cells and the noise on nobody."""
    d, k, labels = mechanism.attributes, mechanism.top_k, 50
    top, cells = np.arange(k)[None], np.zeros((1, 2 * d))
    cells[0, ::2] = 1
    exact = [mechanism.run(top[:n], cells[:n], labels=labels, generator=Silent()) for n in (1, 0)]
    nobody = np.zeros((0, DRAWS // labels))
    noise = mechanism.run(top[:0], nobody, labels=labels, generator=generator())
    moved = float(np.linalg.norm(exact[0] - exact[1]))
    return mechanism.noise_multiplier * moved / _scale(noise)


def sums_loss(mechanism: CellSums, generator: Make) -> float:
    """Return the loss from extreme images under the full feature map and the noise on nobody."""
    d = mechanism.attributes
    y, x = np.mgrid[:32, :32]
    patterns = [np.full((32, 32), 255), (x + y) % 2 * 255, (x // 8 + y // 8) % 2 * 255]
    images = np.stack(patterns).astype(np.uint8)[:, None]
    people = len(images)
    # Each person is alone in separate cells, so that one run shows what each would move.
    cells = np.kron(np.eye(people, dtype=np.float32), np.ones((1, d), dtype=np.float32))
    sums = mechanism.run(images, cells, SHIPPED, generator=Silent())
    moved = float(np.linalg.norm(sums.reshape(people, -1), axis=1).max())
    nobody = np.zeros((0, math.ceil(DRAWS / SHIPPED.size)), dtype=np.float32)
    noise = mechanism.run(
        np.zeros((0, 1, 32, 32), np.uint8), nobody, SHIPPED, generator=generator()
    )
    return mechanism.noise_multiplier * moved / _scale(noise)


def training_loss(mechanism: DPSGD, generator: Make) -> float:
    """Return the loss from a person with a gradient of any length and a step's noise on nobody."""
    moved = 0.0
    for length in (0.9, 1.0, 1.5, 1e6):
        gradient = torch.zeros(1, 16, dtype=torch.float64)
        gradient[0, :4] = length * mechanism.max_grad_norm / 2
        moved = max(moved, float(np.linalg.norm(Training(Silent).run(gradient, mechanism))))
    nobody = torch.zeros(0, DRAWS, dtype=torch.float64)
    noise = Training(generator).run(nobody, mechanism)
    return mechanism.noise_multiplier * moved / _scale(noise)


def _scale(noise: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(noise.astype(np.float64)))))


ROOT = 1 / math.sqrt(2)
_MEASURED = TableMeasurement(sigma=30.0, marginals=1)
_PEOPLE = MinimumPeople(sigma=30.0, minimum=100)
_SELECTED = TableSelection(method="aim", epsilon=0.5, rounds=1)
_QUERIED = LabelCounts(noise_multiplier=45.0, attributes=2, top_k=3)
_SUMMED = CellSums(noise_multiplier=2.5, sample_rate=1.0, attributes=2)
_COUNTED = CellSums(noise_multiplier=2.5, sample_rate=1.0, attributes=2, counted=True)
_TRAINED = dp_sgd(noise_multiplier=1.7, max_grad_norm=0.3)

PROBES: dict[type[Mechanism], Probe] = {
    MinimumPeople: Probe(
        loss=people_loss,
        sound=(_PEOPLE,),
        faulty={"sensitivity over root two": misjudged(_PEOPLE, ROOT)},
    ),
    TableSelection: Probe(
        loss=selection_loss,
        sound=(_SELECTED,),
        faulty={
            "score sensitivity over root two": misjudged(_SELECTED, ROOT),
            "ten times epsilon": misjudged(_SELECTED, 0.1),
        },
        weak=False,
    ),
    TableMeasurement: Probe(
        loss=measurement_loss,
        sound=(_MEASURED,),
        faulty={"sensitivity over root two": misjudged(_MEASURED, ROOT)},
    ),
    LabelCounts: Probe(
        loss=query_loss,
        sound=(_QUERIED, LabelCounts(noise_multiplier=45.0, attributes=1, top_k=1)),
        faulty={"root k for root d k": misjudged(_QUERIED, ROOT)},  # d = 2
    ),
    CellSums: Probe(
        loss=sums_loss,
        sound=(_SUMMED, _COUNTED),
        faulty={
            "sensitivity over root two": misjudged(_SUMMED, ROOT),
            "root d for root 2 d": misjudged(_COUNTED, ROOT),
        },
    ),
    DPSGD: Probe(
        loss=training_loss,
        sound=(_TRAINED,),
        faulty={},  # its parts are planted one by one (`faults.TRAINING_FAULTS`)
    ),
}


def losses(probe: Probe) -> tuple[dict[str, float], dict[str, float]]:
    """Return the measured losses of the sound mechanisms and of the faulty ones."""
    sound = {repr(item): probe.loss(item, SecureGenerator) for item in probe.sound}
    faulty = {name: probe.loss(item, SecureGenerator) for name, item in probe.faulty.items()}
    if probe.weak:
        faulty["noise over root two"] = probe.loss(probe.sound[0], SlightlyLessNoise)
    return sound, faulty


def audit_probes() -> list[Finding]:
    """Probe every mechanism: the sound ones must pass, and none of the faulty ones may."""
    findings = []
    for kind, probe in PROBES.items():
        sound, faulty = losses(probe)
        seen = ", ".join(f"{name} {value:.2f}" for name, value in faulty.items())
        findings.append(
            Finding(
                name=f"privacy loss of {kind.name}",
                measured=f"{max(sound.values()):.3f} of the declared one; {seen}",
                expected=f"{LEAST} to {MOST}; each fault above it",
                holds=all(LEAST <= value <= MOST for value in sound.values())
                and min(faulty.values()) > MOST,
                size=f"{len(sound)} as shipped, {len(faulty)} faults",
            )
        )
    return findings
