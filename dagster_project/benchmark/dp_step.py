"""The price of a private step: DP-SGD against an ordinary step of the same network and rows.

A private step clips, sums, draws noise and updates the parameters, as in a release
(`image.private_training`); an ordinary step is forward, backward and update over the same rows.
Both are timed in turn in one run, so that their ratio means something on a busy machine too. The
ordinary step is the faster one of two: the whole batch at once, or in microbatches like the private
one. Peak memory is measured in processes of its own, beyond what is there before a step.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.edm import LEVELS
from dagster_project.image.gradients import Kind, fastest, per_example_engine
from dagster_project.image.microbatches import MOST_AT_ONCE
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.private_training import SecureDPOptimizer, private_step
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.threads import Threads
from dagster_project.image.unet import UNet
from dagster_project.pipeline.image_model import COARSE_PASSES, PASSES, losses
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.diffusion import NetworkSettings
from dagster_project.settings.two_scale import CoarseSettings

_STATUS = Path("/proc/self/status")
Batch = dict[str, torch.Tensor]
Step = Callable[[], None]
Network = Literal["mixer", "wide mixer", "unet"]
Variant = Literal["float32", "bfloat16", "channels_last", "compile"]
NETWORKS: tuple[Network, ...] = ("mixer", "wide mixer", "unet")
VARIANTS: tuple[Variant, ...] = ("float32", "bfloat16", "channels_last", "compile")
ORDINARY: tuple[str, ...] = ("ordinary, whole", "ordinary, microbatches")
LAYOUT = RecordLayout(sizes=(10, 4, 3, 8), midpoints=(None, None, None, None))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        device: "cpu" or "cuda".
        network: One of `NETWORKS`: the coarse default, the same four times as wide, or the
            full-size default.
        channels: Channels of the images.
        b: People in the batch.
        k: Noise draws for each of them.
        variant: "float32", or one that is tried on both steps: "bfloat16" autocast,
            "channels_last" memory format or "compile" for the ordinary step alone.
    """

    device: str
    network: Network
    channels: int
    b: int
    k: int
    variant: Variant = "float32"

    @property
    def place(self) -> torch.device:
        return torch.device(self.device)

    @property
    def microbatch(self) -> int:
        """People in a microbatch, as in a release."""
        passes = PASSES if self.network == "unet" else COARSE_PASSES
        few = min(MOST_AT_ONCE, max(1, passes // self.k))
        return self.b if self.device == "cuda" else min(self.b, few)

    def model(self) -> nn.Module:
        """Return the network with moved weights, because some start at zero."""
        model: nn.Module
        shape = (self.channels, 14, 14)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.network == "unet":
                model = UNet(LAYOUT, NetworkSettings(), image_channels=self.channels)
            else:
                width = 32 if self.network == "mixer" else 128
                settings = CoarseSettings(width=width, token_width=width)
                model = PatchMixer(LAYOUT.width, shape, settings)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.02 * torch.randn_like(p))
        channels_last = self.variant == "channels_last"
        form = torch.channels_last if channels_last else torch.preserve_format
        return model.to(self.place, memory_format=form)

    def batch(self) -> Batch:
        """Return drawn people."""
        random = torch.Generator().manual_seed(0)
        side = 28 if self.network == "unet" else 14
        shape = (self.channels, side, side)
        batch = {
            "image": torch.rand(self.b, *shape, generator=random) * 2 - 1,
            "record": torch.rand(self.b, LAYOUT.width, generator=random),
            "sigma": LEVELS.draw((self.b, self.k), random),
            "noise": torch.randn(self.b, self.k, *shape, generator=random),
            "condition_mask": torch.ones(self.b, self.k),
        }
        return {name: part.to(self.place) for name, part in batch.items()}

    def parts(self, batch: Batch, size: int) -> Iterator[Batch]:
        """Yield microbatches; the last one may be smaller."""
        for start in range(0, self.b, size):
            yield {name: part[start : start + size] for name, part in batch.items()}

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.variant == "bfloat16")

    @contextmanager
    def step(self, method: str) -> Iterator[Step]:
        """Yield a step by its method: an engine, or one of `ORDINARY`."""
        model, batch = self.model(), self.batch()
        adam = torch.optim.Adam(model.parameters(), lr=1e-5)
        if method in ORDINARY:
            yield self._ordinary(model, batch, adam, whole=method == ORDINARY[0])
            return
        mechanism = DPSGD(
            noise_multiplier=1.0, max_grad_norm=1.0, sample_rate=1.0,
            expected_batch_size=float(self.b), steps=1, replay_steps=0,
        )  # fmt: skip
        optimizer = SecureDPOptimizer(adam, mechanism, SecureGenerator())
        engine = per_example_engine(model, losses, "layers" if method == "layers" else "vmap")
        parameters = dict(model.named_parameters())
        with self.autocast(), Threads(self.place) as threads:

            def step() -> None:
                parts = self.parts(batch, self.microbatch)
                private_step(optimizer, parameters, parts, engine, threads)

            yield step

    def _ordinary(
        self, model: nn.Module, batch: Batch, adam: torch.optim.Adam, *, whole: bool
    ) -> Step:
        network = torch.compile(model) if self.variant == "compile" else model

        def step() -> None:
            for part in self.parts(batch, self.b if whole else self.microbatch):
                with self.autocast():
                    value = losses(network, part).sum() / self.b
                value.backward()
            adam.step()
            adam.zero_grad(set_to_none=True)

        return step

    def chosen(self) -> Kind:
        """Return the engine that a release would take here."""
        part = next(self.parts(self.batch(), self.microbatch))
        return fastest(self.model(), losses, part)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The price of one engine.

    Attributes:
        device: Name of the device.
        network: See `Case`.
        engine: See `gradients.per_example_engine`.
        chosen: Whether a release would take this engine.
        b: People in the batch.
        k: Noise draws for each.
        channels: Channels of the images.
        variant: See `Case`.
        parameters: The network's parameters.
        ratio: Time of the private step over that of the ordinary one.
        peak_memory_ratio: The same of peak memory; None where it was not measured.
        private_seconds: Shortest private step.
        ordinary_seconds: Shortest ordinary step.
        ordinary: How the ordinary step was fastest.
    """

    device: str
    network: str
    engine: str
    chosen: bool
    b: int
    k: int
    channels: int
    variant: str
    parameters: int
    ratio: float
    peak_memory_ratio: float | None
    private_seconds: float
    ordinary_seconds: float
    ordinary: str


def measure(case: Case, *, seconds: float, memory: bool = True) -> list[Row]:
    """Time the engines against an ordinary step, in turn, for about so many seconds.

    Args:
        case: What is measured.
        seconds: Time for all steps together; each is repeated at least three times.
        memory: Whether to measure peak memory, where the system shows it.
    """
    memory = memory and (case.device == "cuda" or _STATUS.exists())
    methods = ("layers",) if case.variant != "float32" else ("layers", "vmap")
    with ExitStack() as stack:
        steps = {name: stack.enter_context(case.step(name)) for name in (*methods, *ORDINARY)}
        times = in_turn(steps, case.place, seconds)
    ordinary = min(ORDINARY, key=times.__getitem__)
    peaks = {name: _apart(case, name) for name in (*methods, ordinary)} if memory else {}
    chosen = case.chosen()
    return [
        Row(
            device=device_name(case.place),
            network=case.network,
            engine=name,
            chosen=name == chosen,
            b=case.b,
            k=case.k,
            channels=case.channels,
            variant=case.variant,
            parameters=sum(p.numel() for p in case.model().parameters()),
            ratio=round(times[name] / times[ordinary], 3),
            peak_memory_ratio=round(peaks[name] / peaks[ordinary], 3) if memory else None,
            private_seconds=round(times[name], 5),
            ordinary_seconds=round(times[ordinary], 5),
            ordinary=ordinary,
        )
        for name in methods
    ]


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def in_turn(steps: Mapping[str, Step], device: torch.device, seconds: float) -> dict[str, float]:
    """Return the shortest time of each step; the first round warms up.

    With one CPU thread it is CPU time, which does not count what other processes take.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    while min(map(len, times.values())) < 3 or time.perf_counter() - started < seconds:
        for name, step in steps.items():
            _wait(device)
            before = clock()
            step()
            _wait(device)
            times[name].append(clock() - before)
    return {name: min(found[1:]) for name, found in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _apart(case: Case, method: str) -> int:
    """Return the peak memory of a method's steps, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_memory, (case, method, torch.get_num_threads()))


def peak_memory(case: Case, method: str, threads: int, *, repeats: int = 3) -> int:
    """Return the most memory that steps need beyond what is there before the first one.

    On a CPU, it is the resident memory in kB, as Linux counts it; on a GPU torch's in bytes.
    """
    torch.set_num_threads(threads)
    with replace(case, b=1).step(method) as small:
        small()  # loads libraries
    with case.step(method) as step:
        on_gpu = case.device == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if on_gpu else _resident("VmRSS")
        for _ in range(repeats):
            step()
        return (torch.cuda.max_memory_allocated() if on_gpu else _resident("VmHWM")) - before


def _resident(kind: str) -> int:
    status = _STATUS.read_text()
    return int(status.split(f"{kind}:")[1].split()[0])
