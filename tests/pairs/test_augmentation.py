"""Random moves of pictures."""

import torch

from dagster_project.pairs.augmentation import shift_images


def test_shifted_images_move_by_at_most_the_given_pixels():
    image = torch.zeros(20, 1, 7, 7)
    image[:, 0, 3, 3] = 1
    moved = shift_images(image, pixels=1, generator=torch.Generator().manual_seed(0))
    assert moved.shape == image.shape
    places = {tuple(m[0].nonzero()[0].tolist()) for m in moved}
    assert places <= {(y, x) for y in (2, 3, 4) for x in (2, 3, 4)} and len(places) > 3
    assert torch.equal(shift_images(image, pixels=0, generator=torch.Generator()), image)


def test_rows_and_columns_have_their_own_largest_move_and_edges_are_repeated():
    image = torch.arange(20.0).reshape(1, 1, 4, 5).expand(200, 2, -1, -1)
    moved = shift_images(image, pixels=(0, 2), generator=torch.Generator().manual_seed(0))
    rows = {tuple(m[1, 1].int().tolist()) for m in moved}
    assert rows == {
        (5, 5, 5, 6, 7), (5, 5, 6, 7, 8), (5, 6, 7, 8, 9), (6, 7, 8, 9, 9), (7, 8, 9, 9, 9),
    }  # fmt: skip
    assert torch.equal(moved[:, 0], moved[:, 1])  # channels move together


def test_gradients_pass_to_the_pixels_that_are_seen():
    image = torch.rand(8, 1, 3, 3, requires_grad=True)
    shift_images(image, pixels=1, generator=torch.Generator().manual_seed(1)).sum().backward()
    assert image.grad.sum() == 8 * 9
