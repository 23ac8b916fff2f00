"""Marginals, conditionals, sampling and storage of a junction tree against a brute-force joint."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from dagster_project.table.graphical_model import GraphicalModel

NAMES = ("a", "b", "c", "d", "e", "f")
SIZES = (3, 2, 4, 2, 3, 2)
# A tree of triangles with a branch, clique axes out of schema order, and a part of its own.
CLIQUES = (("c", "a", "b"), ("b", "d", "c"), ("a", "e"), ("f",))
MESSAGE = """
import hashlib, sys, numpy as np
from dagster_project.table.graphical_model import GraphicalModel
codes = GraphicalModel.load(sys.argv[1]).sample(5000, np.random.default_rng(7))
print(hashlib.sha256(codes.tobytes()).hexdigest())
"""


def joint_of(axes: tuple[str, ...], seed: int) -> np.ndarray:
    """A positive function of some attributes, broadcast over the whole domain."""
    shape = [size if name in axes else 1 for name, size in zip(NAMES, SIZES, strict=True)]
    return np.random.default_rng(seed).gamma(0.5, size=shape) + 1e-3


def project(joint: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.einsum(joint, range(6), [NAMES.index(name) for name in names])


@pytest.fixture(scope="module")
def joint() -> np.ndarray:
    product = np.ones(SIZES)
    for seed, clique in enumerate(CLIQUES):
        product = product * joint_of(clique, seed)
    return product / product.sum()


@pytest.fixture(scope="module")
def model(joint) -> GraphicalModel:
    return GraphicalModel(
        names=NAMES,
        sizes=SIZES,
        cliques=CLIQUES,
        marginals=[project(joint, clique) * 50 for clique in CLIQUES],
        total=50.0,
    )


@pytest.mark.parametrize(
    "names",
    [("a",), ("f",), ("b", "a"), ("d", "e"), ("f", "d"), ("e", "c", "d"), ("d", "a", "f"), NAMES],
)
def test_marginals_agree_with_the_joint(model, joint, names):
    np.testing.assert_allclose(model.marginal(names), project(joint, names), atol=1e-12)


def test_marginal_refuses_unknown_and_repeated_names(model):
    for names in [("a", "a"), ("a", "z")]:
        with pytest.raises(ValueError, match="distinct"):
            model.marginal(names)


def test_conditional_blocks_agree_with_the_joint(model, joint):
    blocks = model.conditional_blocks()
    offsets = np.cumsum([0, *SIZES])
    assert blocks.shape == (sum(SIZES), sum(SIZES))
    for i, first in enumerate(NAMES):
        for k, second in enumerate(NAMES):
            block = blocks[offsets[i] : offsets[i + 1], offsets[k] : offsets[k + 1]]
            np.testing.assert_allclose(block.sum(axis=1), 1, atol=1e-12)
            if i == k:
                np.testing.assert_array_equal(block, np.eye(SIZES[i]))
            else:
                both = project(joint, (first, second))
                np.testing.assert_allclose(block, both / both.sum(1, keepdims=True), atol=1e-12)


def test_cells_without_mass_are_never_drawn_and_have_a_soft_record():
    table = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.3, 0.2]])
    model = GraphicalModel(
        names=("a", "b", "c"),
        sizes=(3, 3, 2),
        cliques=[("a", "b"), ("b", "c")],
        marginals=[table, np.array([[0.0, 0.0], [0.0, 0.8], [0.1, 0.1]])],
        total=10,
    )
    codes = model.sample(20_000, np.random.default_rng(0))
    assert set(map(tuple, codes[:, :2])) == {(1, 1), (2, 1), (2, 2)}
    assert codes[codes[:, 1] == 1, 2].min() == 1
    blocks = model.conditional_blocks()
    np.testing.assert_allclose(blocks[0], [1, 0, 0, 0, 0.8, 0.2, 0.1, 0.9])
    np.testing.assert_allclose(blocks.sum(axis=1), 3)


def test_sampled_frequencies_agree_with_the_joint(model, joint):
    n = 200_000
    codes = model.sample(n, np.random.default_rng(3))
    assert codes.dtype == np.int16 and codes.shape == (n, 6)
    cells = np.ravel_multi_index(tuple(codes.T.astype(int)), SIZES)
    counts = np.bincount(cells, minlength=joint.size)
    expected = n * joint.ravel()
    frequent = expected > 5
    z = (counts - expected)[frequent] / np.sqrt(expected[frequent])
    assert abs(np.square(z).mean() - 1) < 0.25  # chi-squared over its degrees of freedom
    assert np.abs(z).max() < 6


def test_records_are_independent_of_each_other(model):
    codes = model.sample(100_000, np.random.default_rng(5))[:, 0].astype(float)
    assert abs(np.corrcoef(codes[:-1], codes[1:])[0, 1]) < 0.02


def test_no_records(model):
    assert model.sample(0, np.random.default_rng(0)).shape == (0, 6)


def test_a_saved_model_gives_the_same_records_in_any_process(model, tmp_path):
    model.save(tmp_path)
    loaded = GraphicalModel.load(tmp_path)
    assert (loaded.cliques, loaded.names, loaded.sizes) == (model.cliques, NAMES, SIZES)
    assert loaded.total == 50.0
    for ours, theirs in zip(model.marginals, loaded.marginals, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    first = model.sample(5000, np.random.default_rng(7))
    np.testing.assert_array_equal(first, loaded.sample(5000, np.random.default_rng(7)))
    assert (first != model.sample(5000, np.random.default_rng(8))).any()
    digests = {
        subprocess.run(
            [sys.executable, "-c", MESSAGE, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "77")
    }
    assert len(digests) == 1


def test_a_file_with_other_content_is_refused(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / "model.json").write_text('{"names": ["a"]}')
    with pytest.raises(ValueError, match="does not describe"):
        GraphicalModel.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cliques": [("a", "b"), ("c",), ("a", "c")]}, "running intersection"),
        ({"cliques": [("a",), ("b",), ("a",)]}, "cover"),
        ({"marginals": [np.ones(2), np.ones(3), np.ones(2)]}, "shape"),
        ({"marginals": [np.ones(2), np.ones(2), np.array([1.0, -1.0])]}, "not a distribution"),
        ({"marginals": [np.ones(2), np.ones(2), np.array([1.0, np.nan])]}, "not a distribution"),
        ({"total": 0.0}, "total"),
    ],
)
def test_what_is_no_model_is_refused(changed, message):
    arguments = {
        "names": ("a", "b", "c"),
        "sizes": (2, 2, 2),
        "cliques": [("a",), ("b",), ("c",)],
        "marginals": [np.ones(2)] * 3,
        "total": 1.0,
    } | changed
    if message == "running intersection":
        arguments["marginals"] = [np.ones((2, 2)), np.ones(2), np.ones((2, 2))]
    with pytest.raises(ValueError, match=message):
        GraphicalModel(**arguments)
