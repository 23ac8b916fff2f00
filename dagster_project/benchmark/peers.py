"""Other implementations of the same work, timed in one run with this one's, on one CPU thread.

    OMP_NUM_THREADS=1 python -m dagster_project.benchmark.peers [--k 1,8] [--jax FOLDER] [--json]

A private step of the coarse network: Opacus' hooks, its ghost clipping and its fast clipping (one
noise draw only: they take each row for a person), functorch's `vmap(grad)`, and JAX Privacy's
clipped gradients in an environment that --jax makes in FOLDER. A graphical model of noisy
marginals: mbi's own estimators for as many iterations as `table.estimation`. All data are drawn.
The peers do less: they sum and draw noise in floating point.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import venv
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dagster_project.benchmark.dp_step import Case, Step, device_name, in_turn
from dagster_project.pipeline.image_model import losses
from dagster_project.table.estimation import estimate
from dagster_project.table.measurements import Measurement

OPACUS = ("opacus hooks", "opacus ghost clipping", "opacus fast clipping")
JAX = "jax-privacy==2.0.0"
_SIZES, _TOTAL, _SIGMA, _ITERATIONS = (10, 6, 5, 5, 5, 5, 5, 5), 20_000.0, 40.0, 300


@contextmanager
def opacus_step(case: Case, method: str) -> Iterator[Step]:
    """Yield a step of Opacus with gradients accumulated over microbatches."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    network, batch = case.model(), case.batch()
    adam = torch.optim.Adam(network.parameters(), lr=1e-5)
    hooks = method == OPACUS[0]
    module = (
        GradSampleModule(network)
        if hooks
        else GradSampleModuleFastGradientClipping(
            network, max_grad_norm=1.0, use_ghost_clipping=method == OPACUS[1]
        )
    )
    kind = DPOptimizer if hooks else DPOptimizerFastGradientClipping
    optimizer = kind(adam, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=case.b)

    def step() -> None:
        parts = list(case.parts(batch, case.microbatch))
        for number, part in enumerate(parts):
            optimizer.zero_grad(set_to_none=True)
            each = losses(module, part)
            if hooks:
                each.mean().backward()
            else:
                DPTensorFastGradientClipping(module, optimizer, each).backward()
            optimizer.signal_skip_step(do_skip=number < len(parts) - 1)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    yield step


def private_steps(case: Case, *, seconds: float, jax: Path | None) -> dict[str, float]:
    """Return the seconds of a private step by implementation; "layers" is this one's default."""
    with ExitStack() as stack:
        steps = {
            name: stack.enter_context(case.step(name))
            for name in ("layers", "vmap", "ordinary, whole", "ordinary, microbatches")
        }
        if case.k == 1:
            steps |= {name: stack.enter_context(opacus_step(case, name)) for name in OPACUS}
        found = in_turn(steps, case.place, seconds)
    if jax is not None:
        found["jax-privacy"] = _jax_step(jax, case, seconds)
    return found


def _jax_step(folder: Path, case: Case, seconds: float) -> float:
    """Return the seconds of a step in an environment of its own, which is made if need be."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", JAX], check=True)
    numbers = [case.b, case.k, case.microbatch, max(1, seconds)]
    script = Path(__file__).parents[2] / "scripts" / "peer_jax.py"
    done = subprocess.run(
        [python, script, *map(str, numbers)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        },
    )
    return float(done.stdout.split()[0])


def graphical_models() -> dict[str, float]:
    """Return the seconds of each estimator on the same noisy one- and two-way marginals."""
    rng = np.random.default_rng(0)
    names = tuple(f"a{i}" for i in range(len(_SIZES)))
    cliques: list[tuple[str, ...]] = [(name,) for name in names]
    cliques += [pair for pair in combinations(names, 2) if names[0] in pair]
    size = dict(zip(names, _SIZES, strict=True))
    measured = []
    for clique in cliques:
        shape = [size[name] for name in clique]
        exact = np.full(shape, _TOTAL / np.prod(shape))
        measured.append(
            Measurement(names=clique, values=exact + rng.normal(0, _SIGMA, shape), sigma=_SIGMA)
        )
    started = time.process_time()
    estimate(measured, names=names, sizes=_SIZES, total=_TOTAL, iterations=_ITERATIONS)
    found = {"table.estimation": time.process_time() - started}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mbi
        from mbi import estimation
    domain = mbi.Domain(names, _SIZES)
    linear = [mbi.LinearMeasurement(m.values.ravel(), m.names, m.sigma) for m in measured]
    for kind in (estimation.MirrorDescent, estimation.LBFGS, estimation.InteriorGradient):
        started = time.process_time()
        kind().estimate(domain, linear, known_total=_TOTAL, iters=_ITERATIONS)
        found[f"mbi {kind.__name__}"] = time.process_time() - started
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the seconds, and their ratios to this implementation's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--k", default="1,8", help="noise draws, for instance 1,8")
    parser.add_argument("--b", type=int, default=512, help="people in the batch")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each comparison")
    parser.add_argument("--jax", type=Path, metavar="FOLDER", help="environment for JAX Privacy")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    tables = {}
    for k in map(int, asked.k.split(",")):
        case = Case(device="cpu", network="mixer", channels=1, b=asked.b, k=k)
        found = private_steps(case, seconds=asked.seconds, jax=asked.jax)
        tables[f"private step, b = {asked.b}, k = {k}"] = _table(found, "layers")
    tables["graphical model"] = _table(graphical_models(), "table.estimation")
    if asked.json:
        print(json.dumps({"device": device_name(case.place), "tables": tables}, indent=1))
        return
    for title, rows in tables.items():
        print(title)
        for name, row in rows.items():
            print(f"  {name:26} {row['seconds']:8.3f} s {row['ratio']:6.2f} x")


def _table(found: dict[str, float], own: str) -> dict[str, dict[str, Any]]:
    return {
        name: {"seconds": value, "ratio": round(value / found[own], 2)}
        for name, value in found.items()
    }


if __name__ == "__main__":
    main()
