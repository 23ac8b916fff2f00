"""What DP-SGD carries from step to step beside the weights: their average and Adam's moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


class Ema:
    """Exponential moving average with a public half-life in steps.

    A fixed decay of 0.999 would keep three quarters of the initial weights after 300 steps.
    """

    def __init__(self, model: nn.Module, *, half_life: float) -> None:
        self.decay = 0.5 ** (1 / half_life)
        self.average = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            self.average[name].lerp_(p, 1 - self.decay)


@dataclass
class TrainingState:
    """The state to resume a run after a crash, without that of the noise generator."""

    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]


def current_state(
    step: int,
    model: nn.Module,
    ema: Ema,
    adam: torch.optim.Adam,
    parameters: Mapping[str, nn.Parameter],
) -> TrainingState:
    """Return the state after a step; its tensors are those in use, not copies."""
    moments = {}
    for name, p in parameters.items():
        moments[f"first.{name}"] = adam.state[p]["exp_avg"]
        moments[f"second.{name}"] = adam.state[p]["exp_avg_sq"]
    weights = {n: p.detach() for n, p in model.named_parameters()}
    return TrainingState(step=step, model=weights, ema=ema.average, moments=moments)


def restore(
    state: TrainingState,
    model: nn.Module,
    ema: Ema,
    adam: torch.optim.Adam,
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Set model, average and moments to those of a state."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(state.model[name])
            ema.average[name].copy_(state.ema[name])
            adam.state[p] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.moments[f"first.{name}"].clone(),
                "exp_avg_sq": state.moments[f"second.{name}"].clone(),
            }
