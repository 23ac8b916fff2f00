"""Attribute predictors and the similarity gap: they see a tie where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.evaluation.alignment import Encoders, fit_encoders, similarity_gap
from dagster_project.evaluation.intervals import resampling_weights
from dagster_project.evaluation.predictors import evaluate_alignment, shuffle_records

MakePairs = Callable[[int, int], Pairs]


def test_tied_pairs_score_high_and_shuffled_ones_do_not(
    schema: Schema, make_pairs: MakePairs
) -> None:
    train, heldout = make_pairs(1500, 0), make_pairs(400, 1)
    tied = evaluate_alignment(train, heldout, schema, 0, silent)
    loose = evaluate_alignment(
        shuffle_records(train, np.random.default_rng(0)), heldout, schema, 0, silent
    )
    assert tied.auc["colour"] > 0.95
    assert tied.accuracy["colour"] > 0.9
    assert set(tied.mae) == {"light"}
    assert tied.mae_mean < 0.1 < loose.mae_mean
    assert tied.auc_mean == pytest.approx(np.mean([tied.auc["colour"], tied.auc["light"]]))
    assert loose.auc_mean < 0.7


def test_missing_numbers_count_in_neither_training_nor_error(
    schema: Schema, make_pairs: MakePairs
) -> None:
    pairs = make_pairs(60, 0)
    gone = np.array(pairs.values)
    gone[:, 1] = np.nan
    blank = Pairs(pairs.images, pairs.codes, gone)
    assert np.isfinite(evaluate_alignment(blank, pairs, schema, 0, silent).mae["light"])
    scores = evaluate_alignment(pairs, blank, schema, 0, silent)
    assert scores.mae == {}
    assert np.isnan(scores.mae_mean)


def test_a_single_held_out_value_has_no_auc(schema: Schema, make_pairs: MakePairs) -> None:
    pairs = make_pairs(80, 0)
    one_colour = pairs.take(np.asarray(pairs.codes)[:, 0] == 1)
    scores = evaluate_alignment(pairs, one_colour, schema, 0, silent)
    assert np.isnan(scores.auc["colour"])
    assert scores.auc_mean == scores.auc["light"]


def test_a_seed_gives_the_same_scores_and_leaves_the_global_generator(
    schema: Schema, make_pairs: MakePairs
) -> None:
    pairs = make_pairs(100, 0)
    before = torch.random.get_rng_state()
    first, second = (evaluate_alignment(pairs, pairs, schema, 3, silent) for _ in range(2))
    assert first == second
    assert evaluate_alignment(pairs, pairs, schema, 4, silent) != first
    assert torch.equal(before, torch.random.get_rng_state())


def test_similarity_gap_is_one_for_real_pairs_and_zero_for_shuffled(
    schema: Schema, make_pairs: MakePairs
) -> None:
    train, heldout, synthetic = (make_pairs(n, seed) for seed, n in enumerate((2000, 500, 500)))
    encoders = fit_encoders(train, heldout, schema, seed=0, progress=silent)
    gap = similarity_gap(encoders, synthetic, schema, rng=np.random.default_rng(0))
    assert gap.real > 0.1
    assert gap.synthetic == pytest.approx(1, abs=0.15)
    assert gap.shuffled == pytest.approx(0, abs=0.15)
    kept = Encoders.of_state(encoders.state(), train.images.shape[1:], schema, encoders.real)
    assert similarity_gap(kept, synthetic, schema, rng=np.random.default_rng(0)) == gap


def test_draws_are_the_scores_on_resampled_people(schema: Schema, make_pairs: MakePairs) -> None:
    train, heldout = make_pairs(200, 0), make_pairs(60, 1)
    scores = evaluate_alignment(train, heldout, schema, 5, silent)
    weights = resampling_weights(60, np.random.default_rng([5, 2]))[1].astype(int)
    drawn = heldout.take(np.repeat(np.arange(60), weights))
    again = evaluate_alignment(train, drawn, schema, 5, silent)
    for kind in ("auc", "mae", "accuracy"):
        found = {n: d[1] for n, d in getattr(scores, f"{kind}_draws").items()}
        assert found == pytest.approx(getattr(again, kind), abs=1e-6)
    assert scores.mean_draws("auc")[1] == pytest.approx(again.auc_mean, abs=1e-6)
