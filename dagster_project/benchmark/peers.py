"""Other implementations of the same work, timed in one run with this one's, on one CPU thread.

    OMP_NUM_THREADS=1 python -m dagster_project.benchmark.peers [--k 1,8] [--jax FOLDER]
        [--opendp FOLDER] [--smartnoise FOLDER] [--only steps,model,marginals] [--json]

A private step of the coarse network: Opacus' hooks, its ghost clipping and its fast clipping (one
noise draw only: they take each row for a person), functorch's `vmap(grad)`, and JAX Privacy's
clipped gradients. They do less: they sum and draw noise in floating point. A graphical model of
noisy marginals: mbi's own estimators for as many iterations as `table.estimation`. All two-way
marginals of a table with noise on every cell: OpenDP, which draws the same discrete Gaussian,
and SmartNoise. All data are drawn. A peer that is not a dependency of this project runs in an
environment of its own, which is made in the FOLDER that its option names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import venv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dagster_project.benchmark.dp_step import Case, Step, device_name, in_turn
from dagster_project.pipeline.image_model import losses
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table import marginals
from dagster_project.table.estimation import estimate
from dagster_project.table.measurements import Measurement, TableMeasurement

OPACUS = ("opacus hooks", "opacus ghost clipping", "opacus fast clipping")
JAX = ("jax-privacy==2.0.0",)
OPENDP = ("opendp==0.16.0", "numpy")
# SmartNoise needs some torch; this project's is the one that pip is set up for on this machine.
SMARTNOISE = (
    "smartnoise-synth==1.0.8",
    "smartnoise-sql==1.0.10",
    f"torch=={torch.__version__.partition('+')[0]}",
)
PARTS = ("steps", "model", "marginals")
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
    numbers = [case.b, case.k, case.microbatch, max(1, seconds)]
    return float(_apart(folder, JAX, "peer_jax.py", *map(str, numbers)).split()[0])


def _apart(folder: Path, packages: Sequence[str], script: str, *arguments: str) -> str:
    """Return what a script prints in an environment of its own, which is made if need be."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    done = subprocess.run(
        [python, Path(__file__).parents[2] / "scripts" / script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONWARNINGS": "ignore",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        },
    )
    return done.stdout


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


def two_way_marginals(
    rows: int, *, seconds: float, peers: Mapping[str, tuple[Path, Sequence[str]]]
) -> dict[str, float]:
    """Return the CPU seconds of measuring all pairs of eight attributes, by implementation.

    Args:
        rows: number of people, each of whom is one row.
        seconds: time for each implementation.
        peers: the script of `scripts/` to run, and its environment's folder and packages.

    Raises:
        ValueError: If an implementation's noise is not of the scale asked for.
    """
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(size, size=rows) for size in _SIZES], axis=1)
    pairs = marginals.attribute_pairs(len(_SIZES))
    mechanism, generator = TableMeasurement(sigma=_SIGMA, marginals=len(pairs)), SecureGenerator()

    noisy: list[list[int]] = []

    def measure() -> None:
        counts = marginals.two_way(codes, _SIZES)
        measured = [
            mechanism.run(counts[i, j], names=(f"a{i}", f"a{j}"), generator=generator)
            for i, j in pairs
        ]
        noisy[:] = [m.values.ravel().tolist() for m in measured]

    own = "table.measurements"
    times = in_turn({own: measure}, torch.device("cpu"), seconds)
    answers: dict[str, Any] = {own: {"seconds": times[own], "noisy": noisy}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        np.save(file, codes)
        for script, (environment, packages) in peers.items():
            numbers = map(str, (_SIGMA, seconds, *_SIZES))
            answers |= json.loads(_apart(environment, packages, script, str(file), *numbers))
    exact = [table.ravel() for table in marginals.two_way(codes, _SIZES).values()]
    for name, answer in answers.items():
        noise = np.concatenate(exact) - np.concatenate(answer["noisy"])
        if not 0.8 < np.sqrt(np.mean(np.square(noise))) / _SIGMA < 1.2:
            raise ValueError(f"{name} does not add noise of standard deviation {_SIGMA}")
    return {name: answer["seconds"] for name, answer in answers.items()}


def main(arguments: list[str] | None = None) -> None:
    """Print the seconds, and their ratios to this implementation's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--k", default="1,8", help="noise draws, for instance 1,8")
    parser.add_argument("--b", type=int, default=512, help="people in the batch")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each comparison")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the marginals")
    for option, peer in (
        ("jax", "JAX Privacy"),
        ("opendp", "OpenDP"),
        ("smartnoise", "SmartNoise"),
    ):
        parser.add_argument(
            f"--{option}", type=Path, metavar="FOLDER", help=f"{peer}'s environment"
        )
    parser.add_argument("--only", default=",".join(PARTS), help="for instance steps,marginals")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    parts = asked.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}")
    place, tables = torch.device("cpu"), {}
    if "steps" in parts:
        for k in map(int, asked.k.split(",")):
            case = Case(device="cpu", network="mixer", channels=1, b=asked.b, k=k)
            found = private_steps(case, seconds=asked.seconds, jax=asked.jax)
            tables[f"private step, b = {asked.b}, k = {k}"] = _table(found, "layers")
    if "model" in parts:
        tables["graphical model"] = _table(graphical_models(), "table.estimation")
    if "marginals" in parts:
        named = {
            "peer_opendp.py": (asked.opendp, OPENDP),
            "peer_smartnoise.py": (asked.smartnoise, SMARTNOISE),
        }
        peers = {script: peer for script, peer in named.items() if peer[0] is not None}
        found = two_way_marginals(asked.rows, seconds=asked.seconds, peers=peers)
        tables[f"two-way marginals, {asked.rows} rows"] = _table(found, "table.measurements")
    if asked.json:
        print(json.dumps({"device": device_name(place), "tables": tables}, indent=1))
        return
    for title, rows in tables.items():
        print(title)
        for name, row in rows.items():
            print(f"  {name:26} {row['seconds']:8.4f} s {row['ratio']:6.2f} x")


def _table(found: dict[str, float], own: str) -> dict[str, dict[str, Any]]:
    return {
        name: {"seconds": value, "ratio": round(value / found[own], 2)}
        for name, value in found.items()
    }


if __name__ == "__main__":
    main()
