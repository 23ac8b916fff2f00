"""The arrays of pairs: saving, loading and taking."""

import numpy as np
import pytest

from dagster_project.data.pairs import Pairs


def some(n):
    rng = np.random.default_rng(0)
    return Pairs(
        rng.integers(0, 255, (n, 3, 8, 10)).astype(np.uint8),
        rng.integers(0, 4, (n, 2)).astype(np.int16),
        rng.random((n, 2)).astype(np.float32),
    )


@pytest.mark.parametrize("n", [0, 5])
@pytest.mark.parametrize("mmap", [True, False])
def test_save_and_load(tmp_path, n, mmap):
    pairs = some(n)
    pairs.save(tmp_path / "pairs")
    again = Pairs.load(tmp_path / "pairs", mmap=mmap)
    assert len(again) == n
    for field in ("images", "codes", "values"):
        np.testing.assert_array_equal(getattr(again, field), getattr(pairs, field))
    names = sorted(path.name for path in (tmp_path / "pairs").iterdir())
    assert names == ["codes.npy", "images.npy", "values.npy"]


def test_pickles_are_refused(tmp_path):
    some(2).save(tmp_path)
    np.save(tmp_path / "codes.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickle|Python object"):
        Pairs.load(tmp_path)


def test_take_keeps_the_rows_together():
    pairs = some(6)
    few = pairs.take(np.array([4, 1]))
    np.testing.assert_array_equal(few.images[1], pairs.images[1])
    np.testing.assert_array_equal(few.codes[0], pairs.codes[4])
    assert len(pairs.take(np.zeros(6, dtype=bool))) == 0


def test_arrays_that_do_not_belong_together_are_refused():
    pairs = some(3)
    with pytest.raises(ValueError, match="matching"):
        Pairs(pairs.images[:2], pairs.codes, pairs.values)
    with pytest.raises(ValueError, match="codes must be int16"):
        Pairs(pairs.images, pairs.codes.astype(np.int64), pairs.values)
