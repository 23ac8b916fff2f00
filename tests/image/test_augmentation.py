"""Random moves of pictures."""

import torch

from dagster_project.image.augmentation import random_windows, shift_images


def test_shifted_images_move_by_at_most_the_given_pixels():
    image = torch.zeros(20, 1, 7, 7)
    image[:, 0, 3, 3] = 1
    moved = shift_images(image, pixels=1, generator=torch.Generator().manual_seed(0))
    assert moved.shape == image.shape
    places = {tuple(m[0].nonzero()[0].tolist()) for m in moved}
    assert places <= {(y, x) for y in (2, 3, 4) for x in (2, 3, 4)} and len(places) > 3
    assert torch.equal(shift_images(image, pixels=0, generator=torch.Generator()), image)


def test_windows_lie_inside_and_every_place_is_taken():
    image = torch.arange(20.0).reshape(1, 1, 4, 5).expand(300, 2, -1, -1)
    windows = random_windows(image, 4, 3, generator=torch.Generator().manual_seed(0))
    assert windows.shape == (300, 2, 4, 3)
    assert {tuple(w[1, 1].int().tolist()) for w in windows} == {(5, 6, 7), (6, 7, 8), (7, 8, 9)}
    assert torch.equal(windows[:, 0], windows[:, 1])  # channels move together
    small = random_windows(image, 2, 2, generator=torch.Generator().manual_seed(0))
    corners = small[:, 0, 0, 0].int()
    assert set(corners.tolist()) == {0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13}
    assert torch.equal(small[:, 0, 1, 1].int(), corners + 6)


def test_gradients_pass_to_the_pixels_that_are_seen():
    image = torch.rand(8, 1, 3, 3, requires_grad=True)
    random_windows(image, 2, 2, generator=torch.Generator().manual_seed(1)).sum().backward()
    assert image.grad.sum() == 8 * 4 and image.grad.max() == 1
