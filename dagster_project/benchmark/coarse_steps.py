"""Held-out loss of the coarse network against the steps of DP-SGD, on public data.

    python -m dagster_project.benchmark.coarse_steps --data data --out steps.json \\
        --people 5000,20000 --epsilons 1,10 --steps 0,25,50,100,200 --widths 32

NOT A RELEASE: the loss is computed on real records. Each cell pretrains the coarse network as a
release does (its generator is fitted without the public network, to save time), and then runs
DP-SGD with the noise that a plan of so many people, epsilon and steps would have. The rule for the
number of steps (`planning.planner.coarse_steps`) is read off these curves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dagster_project.benchmark import NOTICE, project
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.image import edm
from dagster_project.image.coarse import pool
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.gradients import per_example_engine
from dagster_project.pipeline import pretrained_checkpoint
from dagster_project.pipeline.image_model import (
    COARSE_PASSES,
    chosen_engine,
    drawn_batch,
    losses,
    microbatches,
)
from dagster_project.pipeline.order import between
from dagster_project.pipeline.release import Compute, Release
from dagster_project.planning.planner import build_plan
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.plan import Plan
from dagster_project.settings.recipe import Recipe

_DELTA, _HELD_OUT, _DRAWS = 1e-6, 1000, 4


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each cell and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name, kind, default in (
        ("people", int, "20000"), ("epsilons", float, "1,10"),
        ("steps", int, "0,25,50,100,200"), ("widths", int, "32"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", default=default, type=partial(_numbers, kind=kind))
    asked = parser.parse_args(arguments)
    schema = Schema.from_file(asked.data / "schema.yaml")
    if not schema.public:
        parser.error("the schema does not say that the data are public")
    print(NOTICE)
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        decoded = project.real_pairs(asked.data, schema, "public", cache=Path(cache))
        for people in asked.people:
            for epsilon in asked.epsilons:
                for width in asked.widths:
                    for row in _curve(schema, decoded, people, epsilon, width, asked.steps):
                        print(json.dumps(row), flush=True)
                        rows.append(row)
    asked.out.write_text(json.dumps(rows, indent=1))


def _numbers(text: str, kind: type) -> list[Any]:
    return [kind(part) for part in text.split(",")]


def _curve(
    schema: Schema, decoded: Path, people: int, epsilon: float, width: int, steps: list[int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of steps, all from the same pretrained network."""
    schema = replace(schema, n_public=people)
    some = Pairs.load(decoded / "train").take(np.arange(people))
    heldout = Pairs.load(decoded / "heldout").take(np.arange(_HELD_OUT))

    def plan(number: int) -> Plan:
        recipe = Recipe().changed(
            {
                "mean_pairs.perceptual_share": 0.0,
                "coarse.width": width,
                "coarse.token_width": width,
                "dp_sgd.steps": max(1, number),
                "dp_sgd.replays": 0,
            }
        )
        return build_plan(
            schema, recipe, name="steps", target_epsilon=epsilon, target_delta=_DELTA,
            population="comparison", data_version="public", code_version="none",
            identity_key=project.HELDOUT_KEY,
        )  # fmt: skip

    with (
        tempfile.TemporaryDirectory() as folder,
        project.population(schema, epsilon=epsilon, delta=_DELTA) as population,
    ):
        some.save(Path(folder) / "train")
        heldout.save(Path(folder) / "heldout")
        opened = project.reserved(
            plan(max(steps)), schema, population,
            pairs=Path(folder), compute=Compute(device="cpu"), cache=Path(folder) / "cache",
        )  # fmt: skip
        with opened as release:
            for stage in between("public_images", "pretrained_checkpoint"):
                if stage.name != "pairs":
                    stage.run(release, silent)
            start = pretrained_checkpoint.load(release)
            for number in steps:
                network, started = deepcopy(start), time.process_time()
                mechanism = Release.mechanism(replace(release, plan=plan(number)), DPSGD)
                if number:
                    _train(network, release, some, mechanism)
                yield {
                    "people": people,
                    "epsilon": epsilon,
                    "width": width,
                    "parameters": sum(p.numel() for p in network.parameters()),
                    "steps": number,
                    "noise_multiplier": mechanism.noise_multiplier if number else None,
                    "loss": _loss(network.eval(), heldout, release),
                    "cpu_seconds": time.process_time() - started,
                }


def _train(network: nn.Module, release: Release, pairs: Pairs, mechanism: DPSGD) -> None:
    settings, cpu = release.recipe.dp_sgd, torch.device("cpu")
    chunk = COARSE_PASSES // settings.noise_draws
    kind = chosen_engine(settings.engine, network, drawn_batch(release, chunk, cpu))
    averaged = mechanism.run(
        network,
        per_example_engine(network, losses, kind),
        partial(microbatches, pairs, release, chunk=chunk, device=cpu),
        len(pairs),
        learning_rate=settings.learning_rate,
        ema_half_life=max(1.0, settings.ema_half_life_share * mechanism.steps),
        checkpoint_steps=mechanism.steps,
        authorise=lambda first, end: None,  # public data: nobody is charged
        save=lambda state: None,
        resume=None,
        generator=SecureGenerator(),
        progress=silent,
    )
    network.load_state_dict(averaged)


@torch.no_grad()
def _loss(network: nn.Module, pairs: Pairs, release: Release) -> float:
    """Return the mean loss over held-out pairs, with the same draws for every network."""
    random, levels = torch.Generator().manual_seed(0), release.training_levels
    clean = torch.from_numpy(np.array(pairs.images)).float() / 127.5 - 1
    clean = pool(clean, release.diffusion_shape[1:]).repeat(_DRAWS, 1, 1, 1)
    record = torch.from_numpy(release.schema.one_hot(pairs.codes)).repeat(_DRAWS, 1)
    sigma = levels.draw((len(clean),), random)
    noise, shown = torch.randn(clean.shape, generator=random), torch.ones(len(clean))
    return float(
        edm.loss(network, clean, sigma, noise, record, shown, sigma_data=levels.sigma_data)
    )


if __name__ == "__main__":
    main()
