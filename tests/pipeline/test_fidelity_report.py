"""The report: what is scored does not grow with the people."""

import numpy as np

from dagster_project.data.pairs import Pairs
from dagster_project.pipeline.fidelity_report import scored


def pairs(number):
    codes = np.arange(number, dtype=np.int16)[:, None]
    images = np.zeros((number, 1, 2, 2), np.uint8)
    return Pairs(images=images, codes=codes, values=codes.astype(np.float32))


def test_at_most_so_many_held_out_pairs_are_scored_and_each_once():
    few, many = pairs(30), pairs(300)
    assert scored(few, most=30, seed=0) is few
    found = np.asarray(scored(many, most=30, seed=0).codes)[:, 0]
    assert len(found) == len(set(found.tolist())) == 30 and found.max() > 200
    assert (found == np.asarray(scored(many, most=30, seed=0).codes)[:, 0]).all()
    assert (found != np.asarray(scored(many, most=30, seed=1).codes)[:, 0]).any()
