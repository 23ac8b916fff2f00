"""Junction trees: valid, and priced exactly before a pair is added."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.table.junction_tree import JunctionTree

SIZES = (2, 3, 2, 5, 4, 2, 3)
PAIRS = list(itertools.combinations(range(len(SIZES)), 2))
some_pairs = st.lists(st.sampled_from(PAIRS), max_size=9, unique=True)


def require_valid(tree: JunctionTree, pairs: list[tuple[int, int]]) -> None:
    """It holds every pair, and what a clique shares with all earlier ones lies in its parent."""
    assert set().union(*tree.cliques) == set(range(len(SIZES)))
    assert all(any(set(pair) <= clique for clique in tree.cliques) for pair in pairs)
    assert not any(a < b for a in tree.cliques for b in tree.cliques)
    for k, (clique, parent) in enumerate(zip(tree.cliques, tree.parents, strict=True)):
        shared = clique & set().union(*tree.cliques[:k])
        assert shared == set() if parent is None else shared <= tree.cliques[parent]
        assert parent is None or parent < k


@settings(deadline=None, max_examples=80)
@given(some_pairs, st.sampled_from(PAIRS))
def test_trees_are_valid_and_grow_no_more_than_they_say(pairs, new):
    tree = JunctionTree.of(SIZES, pairs)
    require_valid(tree, pairs)
    assert (tree.growth == tree.growth.T).all() and (tree.growth >= 0).all()
    larger = tree.with_pair(new)
    require_valid(larger, [*pairs, new])
    assert tree.cells <= larger.cells <= tree.cells + tree.growth[new]


def test_the_cells_of_a_chain_and_of_a_triangle():
    chain = JunctionTree.of((3, 2, 4), [(0, 1), (1, 2)])
    assert chain.bytes == 8 * (6 + 8)
    assert chain.growth[0, 2] == 24 - 14
    assert JunctionTree.of((3, 2, 4), [(0, 1), (1, 2), (0, 2)]).bytes == 8 * 24


def test_sixty_attributes_are_priced_in_a_moment():
    sizes = tuple(int(n) for n in np.random.default_rng(0).integers(2, 20, 60))
    tree = JunctionTree.of(sizes, [(i, i + 1) for i in range(59)])
    assert tree.growth.shape == (60, 60)
    assert tree.growth[0, 59] > tree.growth[0, 2] > tree.growth[0, 1] == 0
