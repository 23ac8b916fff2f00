"""AIM: a graphical model of the table fitted to iteratively selected marginals.

McKenna, Mullins, Sheldon, Miklau, "AIM: An adaptive and iterative mechanism for differentially
private synthetic data", arXiv 2201.12677, with a *declared* schedule in place of its budget
annealing: every one-way marginal is measured, then each of a fixed number of rounds selects and
measures one pair. The number of mechanisms and their noise are therefore public before the data are
read, and can be composed exactly with those of other stages. For budgets see `privacy.plan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.sections import TableSettings
from dagster_project.table import marginals
from dagster_project.table.estimation import (
    TableFit,
    estimate,
    independent_model,
    require_table,
)
from dagster_project.table.junction_tree import CELL_BYTES, JunctionTree
from dagster_project.table.measurements import (
    TableMeasurement,
    TableSelection,
    expected_counts,
    noisy_total,
)


def recommended_rounds(sizes: Sequence[int], *, n_public: int, sigma: float) -> int:
    """Return the default `rounds`: 2.5 per attribute, fewer when noise would drown a pair.

    On 20,000 records of eight attributes (28 pairs) the two-way error falls up to about 2.5 rounds
    per attribute, for budgets from ρ = 0.005 to 0.3, and hardly beyond. When the noise on an
    average pair (expected total variation distance, ½ √(2/π) σ cells / n) exceeds a quarter, fewer
    pairs with less noise on each are better. The default depends on public numbers only.

    Args:
        sizes: number of cells of each attribute.
        n_public: public approximate number of people.
        sigma: scale of the measurements' noise, or an estimate of it.
    """
    pairs = marginals.attribute_pairs(len(sizes))
    if not pairs:
        return 0
    cells = sum(sizes[i] * sizes[j] for i, j in pairs) / len(pairs)
    noise = 0.5 * math.sqrt(2 / math.pi) * sigma * cells / n_public
    rounds = math.ceil(2.5 * len(sizes) * min(1.0, 0.25 / noise))
    return min(rounds, len(pairs))


def most_memory(sizes: Sequence[int], settings: TableSettings) -> int:
    """Return the most bytes of arrays that `fit_aim` holds at a time, from public numbers.

    The codes come on top if they are not mapped from a file. The three parts are the counts and
    expected counts of all pairs; the model, of which there are a few copies while it is fitted; and
    the records that are counted at a time.

    Args:
        sizes: number of cells of each attribute.
        settings: the table model's settings.
    """
    pairs = 3 * 8 * sum(sizes[i] * sizes[j] for i, j in marginals.attribute_pairs(len(sizes)))
    return pairs + int(5 * settings.max_model_bytes) + marginals.memory(len(sizes))


def fit_aim(
    codes: np.ndarray,
    *,
    sizes: Sequence[int],
    names: Sequence[str],
    n_public: int,
    measurement: TableMeasurement,
    selection: TableSelection | None,
    settings: TableSettings,
    generator: SecureGenerator,
    progress: Callable[[float, str], None] | None = None,
    tally: marginals.Tally | None = None,
) -> TableFit:
    """Fit AIM to private records.

    Privacy (add/remove one person): the events of the two mechanisms, with proofs in
    `measurements`. The candidates of a round depend only on sizes and on earlier selections.

    Args:
        codes: private cell codes (N, d), one row for each person.
        sizes: number of cells of each attribute.
        names: names of the attributes, in schema order.
        n_public: public approximate number of people.
        measurement: measures each one-way marginal and each selected pair.
        selection: selects a pair in each of its rounds; None for a table of one column.
        settings: the schedule; its rounds are those of `selection`.
        generator: source of the private randomness.
        progress: callback that receives the fraction done and a text.
        tally: the exact counts of these records, if they are known already.

    Raises:
        ValueError: If the shapes do not match, there is no pair to select, or no pair fits into
            `max_model_bytes`.
    """
    require_table(codes, names=names, sizes=sizes, n_public=n_public)
    pairs = marginals.attribute_pairs(len(sizes))
    rounds = selection.rounds if selection else 0
    per_fit = settings.selections_per_fit or max(1, len(sizes) // 2)
    if rounds and not pairs:
        raise ValueError("a table of one attribute has no pairs to select")
    report = progress or (lambda fraction, text: None)
    one_way, exact = tally or marginals.tally(codes, sizes)
    measurements = [
        measurement.run(counts, names=(name,), generator=generator)
        for name, counts in zip(names, one_way, strict=True)
    ]
    total = noisy_total(measurements, n_public=n_public)
    model = independent_model(measurements, sizes=sizes, total=total)
    expected = expected_counts(model, pairs)
    tree = JunctionTree.of(sizes, ())
    selected: list[tuple[int, int]] = []
    fresh: list[tuple[int, int]] = []  # measured since the last fit
    for number in range(rounds):
        report(number / (rounds + 1), f"selection {number + 1} of {rounds}")
        if len(fresh) == per_fit:
            model = estimate(
                measurements,
                names=names,
                sizes=sizes,
                total=total,
                iterations=settings.iterations,
                tree=tree,
                inference=settings.inference,
            )
            expected = expected_counts(model, pairs)
            fresh = []
        affordable = _affordable(
            pairs, tree, bound=settings.max_model_bytes, progress=(number + 1) / rounds
        )
        candidates = _not_yet_explained(affordable, fresh)
        assert selection is not None  # it has the rounds
        pair = selection.run(
            candidates, exact=exact, expected=expected, sigma=measurement.sigma, generator=generator
        )
        pair_names = tuple(names[axis] for axis in pair)
        measurements.append(measurement.run(exact[pair], names=pair_names, generator=generator))
        fresh.append(pair)
        selected.append(pair)
        # Both are valid, and neither is always the smaller one.
        tree = min(
            JunctionTree.of(sizes, selected), tree.with_pair(pair), key=lambda tree: tree.cells
        )
    if rounds:
        report(rounds / (rounds + 1), "fitting the table model")
        model = estimate(
            measurements,
            names=names,
            sizes=sizes,
            total=total,
            iterations=settings.final_iterations,
            tree=tree,
            inference=settings.inference,
        )
    report(1.0, "table model fitted")
    return TableFit(model=model, measurements=tuple(measurements))


def _affordable(
    pairs: Sequence[tuple[int, int]], tree: JunctionTree, *, bound: float, progress: float
) -> list[tuple[int, int]]:
    """Return the pairs with which the model stays small enough, from released and public facts.

    The bound grows with the rounds, as in AIM (Algorithm 2, line 10), so that early selections
    cannot exhaust it. If no pair meets it, the pairs that give the smallest model are returned.
    """
    sizes = {pair: tree.bytes + CELL_BYTES * int(tree.growth[pair]) for pair in pairs}
    affordable = [pair for pair in pairs if sizes[pair] <= bound * progress]
    if affordable:
        return affordable
    smallest = min(sizes.values())
    if smallest > bound:
        raise ValueError("no pair of attributes fits into max_model_bytes")
    return [pair for pair in pairs if sizes[pair] == smallest]


def _not_yet_explained(
    pairs: list[tuple[int, int]], fresh: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the pairs worth selecting with a model not yet fitted to the `fresh` measurements.

    Attributes that are already linked by fresh pairs will be dependent after the next fit, so the
    old model's error on them is out of date. A batch therefore grows as a forest, as in MST, as
    long as it can.
    """
    part: dict[int, int] = {}
    for i, j in fresh:
        kept, joined = part.setdefault(i, i), part.setdefault(j, j)
        part = {axis: kept if label == joined else label for axis, label in part.items()}
    linking = [(i, j) for i, j in pairs if part.get(i, i) != part.get(j, j)]
    return linking or [pair for pair in pairs if pair not in fresh] or pairs
