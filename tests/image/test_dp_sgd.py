"""DP-SGD: exact sensitivity, noise, divisor, number of steps, resumption."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dagster_project.image import private_training
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.gradients import per_example_engine
from dagster_project.image.microbatches import fixed_microbatches, microbatch_size
from dagster_project.image.private_training import SecureDPOptimizer, private_step, train_private
from dagster_project.image.training_state import Ema, TrainingState
from dagster_project.pipeline.image_model import losses
from dagster_project.privacy.grid import UNITS
from dagster_project.privacy.mechanism import MechanismMismatch
from dagster_project.privacy.noise import SecureGenerator
from tests.image.toys import batch, network

NORM = 0.7


class Silent:
    """Noise off: what remains is the exact sum of clipped gradients."""

    def rounded_gaussian(self, shape, *, sigma):
        return np.zeros(shape, dtype=np.int64)

    def note(self, kind, parameter):
        pass


def settings(**changes) -> DPSGD:
    values = {
        "noise_multiplier": 1.5,
        "max_grad_norm": NORM,
        "sample_rate": 0.5,
        "expected_batch_size": 8.0,
        "steps": 5,
        "replay_steps": 0,
    }
    return DPSGD(**{**values, **changes})


def linear(size=6) -> nn.Module:
    torch.manual_seed(0)
    return nn.ParameterDict(
        {"a": nn.Parameter(torch.zeros(size)), "b": nn.Parameter(torch.zeros(2, 3))}
    )


def given_gradients(rows):
    """An engine whose per-example gradients are the rows themselves."""

    def engine(examples, out=None):
        return examples["rows"]

    return engine, [{"rows": part} for part in rows]


def summed(rows, *, generator=None, microbatches=1, **changes):
    """The released gradient times its divisor, by a plain SGD step of rate one from zero."""
    model = linear()
    used = settings(**changes)
    adam = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = SecureDPOptimizer(adam, used, generator or Silent())
    rows = torch.as_tensor(rows, dtype=torch.float32).reshape(-1, 12)
    engine, parts = given_gradients(rows.tensor_split(microbatches) if len(rows) else [])
    private_step(optimizer, dict(model.named_parameters()), iter(parts), engine)
    flat = torch.cat([p.detach().flatten() for p in (model["a"], model["b"])])
    return -flat.double().numpy() * used.expected_batch_size


def extremes(n, rng):
    """Rows small and huge, some with entries that are no number."""
    rows = rng.normal(size=(n, 12)) * 10.0 ** rng.integers(-6, 7, size=(n, 1))
    for row in rng.choice(n, n // 3, replace=False):
        rows[row, rng.integers(12)] = rng.choice([np.nan, np.inf, -np.inf])
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_one_more_person_moves_the_sum_by_at_most_the_clip_norm(seed):
    rows = extremes(9, np.random.default_rng(seed))
    everybody = summed(rows)
    assert np.isfinite(everybody).all()
    for left_out in range(len(rows)):
        without = summed(np.delete(rows, left_out, axis=0))
        moved = np.linalg.norm(everybody - without)
        assert moved <= NORM * (1 + 1e-5)
        norm = np.linalg.norm(rows[left_out])
        if not np.isfinite(norm):
            assert moved < 1e-5  # counted as zero
        elif norm > 1:
            assert moved == pytest.approx(NORM, rel=1e-4)  # the bound is met, not loose


@pytest.mark.parametrize("people", [300, 507, 512])
def test_mixed_precision_leaves_the_sum_and_its_bound_alone(people):
    rows = np.ones((people, 12))
    with torch.autocast("cpu", torch.bfloat16):
        everybody, without = summed(rows), summed(rows[1:])
    assert np.linalg.norm(everybody - without) == pytest.approx(NORM, rel=1e-3)
    assert everybody == pytest.approx(summed(rows), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_counts_as_zero(bad):
    rows = np.full((2, 12), 0.01)
    rows[1, 3] = bad
    assert summed(rows) == pytest.approx(summed(rows[:1]), abs=1e-7)


def test_small_gradients_are_not_stretched():
    rows = np.full((3, 12), 0.01)
    assert summed(rows) == pytest.approx(rows.sum(0), rel=1e-4)


def test_microbatches_change_nothing():
    rows = extremes(10, np.random.default_rng(0))
    assert summed(rows, microbatches=4) == pytest.approx(summed(rows), abs=1e-5)


def test_noise_is_drawn_once_for_a_step_whatever_the_microbatches():
    calls = []

    class Counting(Silent):
        def rounded_gaussian(self, shape, *, sigma):
            calls.append((shape, sigma))
            return np.zeros(shape, dtype=np.int64)

    summed(np.ones((6, 12)), microbatches=3, generator=Counting())
    assert calls == [(12, 1.5 * UNITS)]


def test_noise_has_the_planned_scale():
    model = nn.Linear(500, 400, bias=False)  # 2e5 numbers
    with torch.no_grad():
        model.weight.zero_()
    used = settings()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = SecureDPOptimizer(sgd, used, SecureGenerator())
    private_step(optimizer, dict(model.named_parameters()), iter([]), lambda _: {})
    noise = -model.weight.detach().double() * used.expected_batch_size / (1.5 * NORM)
    # Five standard errors of a standard deviation from 2e5 draws.
    assert noise.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * noise.numel()))
    assert noise.mean().item() == pytest.approx(0, abs=5 / math.sqrt(noise.numel()))
    assert (noise.abs() > 3).double().mean().item() == pytest.approx(0.0027, abs=0.0008)


def test_an_empty_batch_gets_its_noise_and_moves_the_parameters():
    moved = summed(np.zeros((0, 12)), generator=SecureGenerator())
    assert (moved != 0).all()


def test_divisor_is_the_public_batch_size():
    """Summed over rows of norm below the clip norm, whatever the realised batch is."""
    row = np.full((1, 12), 0.01)
    model_step = [summed(np.repeat(row, n, 0)) / 8.0 for n in (1, 2, 20)]
    assert model_step[1] == pytest.approx(2 * model_step[0], rel=1e-4)
    assert model_step[2] == pytest.approx(20 * model_step[0], rel=1e-4)
    doubled = summed(row, expected_batch_size=16.0) / 16.0
    assert doubled == pytest.approx(model_step[0] / 2, rel=1e-4)


def test_noise_does_not_come_from_torch():
    torch.manual_seed(0)
    first = summed(np.zeros((0, 12)), generator=SecureGenerator())
    torch.manual_seed(0)
    assert not np.allclose(first, summed(np.zeros((0, 12)), generator=SecureGenerator()))


class Run:
    """A training run on the toy network that keeps a note of everything it does."""

    def __init__(self, *, crash_after: int | None = None, people: int = 12) -> None:
        self.model = network()
        self.ranges: list[tuple[int, int]] = []
        self.states: list[TrainingState] = []
        self.batches: list[int] = []
        self.log: list[str] = []
        self.people, self.crash_after = people, crash_after

    def go(
        self, resume: TrainingState | None = None, generator=None, **changes
    ) -> dict[str, torch.Tensor]:
        def authorise(first, end):
            self.ranges.append((first, end))
            self.log.append("authorise")

        def save(state):
            self.states.append(state)
            self.log.append("save")

        def microbatches(chosen):
            if len(self.batches) == self.crash_after:
                raise KeyboardInterrupt
            self.batches.append(len(chosen))
            self.log.append("step")
            yield batch(len(chosen), draws=1)

        used = settings(**changes)
        return train_private(
            self.model,
            per_example_engine(self.model, losses, "vmap"),
            microbatches,
            self.people,
            mechanism=used,
            learning_rate=1e-3,
            ema_half_life=2.0,
            checkpoint_steps=2,
            authorise=authorise,
            save=save,
            resume=resume,
            generator=generator or SecureGenerator(),
            progress=lambda fraction, text: None,
        )


def test_each_range_is_authorised_before_its_steps_and_saved_after():
    run = Run()
    run.go(steps=5, sample_rate=1.0)
    assert run.ranges == [(0, 2), (2, 4), (4, 5)]
    assert run.log == ["authorise", "step", "step", "save"] * 2 + ["authorise", "step", "save"]
    assert run.batches == [12] * 5
    assert [state.step for state in run.states] == [2, 4, 5]


def test_every_step_has_its_own_coins():
    run = Run(people=40)
    run.go(steps=6, sample_rate=0.5)
    assert len(set(run.batches)) > 1 and max(run.batches) < 40


def test_no_step_runs_where_the_ledger_refuses():
    run = Run()

    def refuse(first, end):
        raise PermissionError

    before = {n: p.clone() for n, p in run.model.named_parameters()}
    with pytest.raises(PermissionError):
        train_private(
            run.model, lambda _: {}, lambda _: iter(()), 3, mechanism=settings(),
            learning_rate=1e-3, ema_half_life=1.0, checkpoint_steps=2, authorise=refuse,
            save=lambda _: None, resume=None, generator=SecureGenerator(),
            progress=lambda f, t: None,
        )  # fmt: skip
    assert all(torch.equal(before[n], p) for n, p in run.model.named_parameters())


def detached(state: TrainingState) -> TrainingState:
    parts = {
        n: {k: t.clone() for k, t in getattr(state, n).items()} for n in ("model", "ema", "moments")
    }
    return TrainingState(step=state.step, **parts)


def test_a_resumed_run_is_the_run_that_was_never_interrupted(monkeypatch):
    """With noise and coins fixed, steps, moments and average go on bit by bit."""
    monkeypatch.setattr(private_training, "poisson_sample", lambda n, **_: np.arange(n))
    whole = Run()
    expected = whole.go(generator=Silent(), steps=5)

    first = Run(crash_after=3)
    kept: list[TrainingState] = []
    first.states = type("Keep", (list,), {"append": lambda _, s: kept.append(detached(s))})()
    with pytest.raises(KeyboardInterrupt):
        first.go(generator=Silent(), steps=5)
    assert [state.step for state in kept] == [2]
    second = Run()
    found = second.go(kept[-1], generator=Silent(), steps=5)
    assert second.ranges == [(2, 4), (4, 5)] and len(second.batches) == 3
    assert all(torch.equal(found[n], e) for n, e in expected.items())
    assert all(
        torch.equal(whole.states[-1].moments[n], m) for n, m in second.states[-1].moments.items()
    )


def test_a_finished_run_is_not_run_again():
    done = Run()
    average = done.go(steps=2)
    again = Run()
    found = again.go(detached(done.states[-1]), steps=2)
    assert not again.batches and not again.ranges
    assert all(torch.equal(found[n], a) for n, a in average.items())


def test_average_has_the_public_half_life():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    ema = Ema(model, half_life=3.0)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(3):
        ema.update(model)
    assert ema.average["weight"].item() == pytest.approx(0.5)


def test_what_is_declared_is_read_from_what_ran():
    used, secure = settings(steps=3), SecureGenerator()
    Run(people=40).go(generator=secure, steps=3)
    assert used.observed(secure.uses) == {
        "noise_multiplier": pytest.approx(1.5, rel=1e-12),
        "expected_batch_size": 8.0,
        "sample_rate": 0.5,
        "max_grad_norm": NORM,
    }
    used.verify(secure.uses)
    assert DPSGD.of(used.entry()) == used


@pytest.mark.parametrize(
    "change",
    [{"noise_multiplier": 1.4}, {"max_grad_norm": 0.8}, {"sample_rate": 0.6},
     {"expected_batch_size": 9.0}],
)  # fmt: skip
def test_a_run_with_other_parameters_than_declared_is_refused(change):
    secure = SecureGenerator()
    Run(people=40).go(generator=secure, steps=2, **change)
    with pytest.raises(MechanismMismatch, match=next(iter(change))):
        settings().verify(secure.uses)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({("coins", 0.5): 2}, "one Poisson sample"),  # one batch for two steps
        ({("gaussian", 1.5 * UNITS): 6, ("coins", 0.5): 6, ("divisor", 8.0): 6}, "paid for"),
    ],
)
def test_samples_and_steps_are_counted(more, match):
    uses = {("gaussian", 1.5 * UNITS): 3, ("coins", 0.5): 3, ("divisor", 8.0): 3}
    settings().verify(uses)
    with pytest.raises(MechanismMismatch, match=match):
        settings().verify(uses | more)


def test_microbatches_have_one_size_and_say_who_counts():
    chosen = np.array([4, 7, 9, 11, 12])
    found = list(fixed_microbatches(chosen, 3))
    assert [indices.tolist() for indices, _ in found] == [[4, 7, 9], [11, 12, 11]]
    assert [present.tolist() for _, present in found] == [[True] * 3, [True, True, False]]
    assert not list(fixed_microbatches(chosen[:0], 3))


def test_rows_that_only_fill_a_microbatch_up_do_not_count():
    model = linear()
    optimizer = SecureDPOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), settings(), Silent())
    rows = torch.full((3, 12), 0.01)
    engine, _ = given_gradients([])
    batch_of_three = {"rows": rows, "present": torch.tensor([True, False, True])}
    private_step(optimizer, dict(model.named_parameters()), iter([batch_of_three]), engine)
    moved = -model["a"].detach().double().numpy() * 8
    assert moved == pytest.approx(np.full(6, 0.02), rel=1e-4)


def test_microbatches_fit_into_memory_and_a_gpu_takes_a_whole_batch():
    def size(draws, memory_bytes, *, on_gpu):
        return microbatch_size(
            draws, passes=32, batch=400.0, memory_bytes=memory_bytes, parameters=10**6,
            on_gpu=on_gpu,
        )  # fmt: skip

    assert size(2, 1e9, on_gpu=False) == 16  # 32 passes of the network
    small = size(2, 1e8, on_gpu=True)
    assert small * 3 * 4 * 10**6 <= 1e8 < (small + 1) * 3 * 4 * 10**6
    assert size(2, 1e11, on_gpu=True) == 480  # 400 and four standard deviations
    assert size(64, 1, on_gpu=False) == 1
    for draws in (1, 2, 3, 5, 12):
        for memory in (1e7, 1.2e7, 1e8, 3e8, 1e11):
            people = size(draws, memory, on_gpu=memory > 1e9)
            assert people == 1 or people * draws % 16 == 0
