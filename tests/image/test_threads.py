"""Threads: each microbatch on one core, and nothing depends on how many there are."""

import threading

import pytest
import torch

from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.gradients import per_example_engine
from dagster_project.image.private_training import SecureDPOptimizer, private_step
from dagster_project.image.threads import Threads
from dagster_project.pipeline.image_model import losses
from tests.image.test_dp_sgd import Silent
from tests.image.toys import batch, network

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_a_step_is_the_same_to_the_last_bit_with_any_number_of_threads(kind, threads):
    settings = DPSGD(
        noise_multiplier=1.0, max_grad_norm=0.5, sample_rate=1.0, expected_batch_size=8.0,
        steps=2, replay_steps=0,
    )  # fmt: skip
    seen = set()
    for count in (1, 2, 5):
        threads(count)
        model = network()
        engine = per_example_engine(model, losses, kind)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = SecureDPOptimizer(sgd, settings, Silent())
        with Threads(CPU) as pool:
            for step in range(2):
                parts = iter([batch(4, seed=10 * step + i) for i in range(4)])
                private_step(optimizer, dict(model.named_parameters()), parts, engine, pool)
        parameters = torch.cat([p.detach().flatten() for p in model.parameters()])
        seen.add(parameters.numpy().tobytes())
    assert len(seen) == 1


def test_microbatches_run_in_threads_of_one_core_in_order_and_few_are_held(threads):
    threads(2)
    made, used, both = [], [], threading.Barrier(2)

    def items():
        for i in range(6):
            made.append(i)
            yield i

    def work(i):
        used.append((threading.get_ident(), torch.get_num_threads()))
        both.wait(timeout=30)  # two at a time, or never
        return i

    with Threads(CPU) as threads:
        found = []
        for result in threads.map(work, items()):
            assert len(made) - len(found) <= 3
            found.append(result)
    assert found == list(range(6))
    assert len({thread for thread, _ in used}) == 2 and {cores for _, cores in used} == {1}
    assert torch.get_num_threads() == 2


def test_an_error_in_a_thread_is_raised_and_mixed_precision_reaches_it(threads):
    threads(2)
    with torch.autocast("cpu", torch.bfloat16), Threads(CPU) as threads:
        kinds = list(threads.map(lambda i: torch.ones(2, 2) @ torch.ones(2, 2), range(2)))
        assert {found.dtype for found in kinds} == {torch.bfloat16}
        with pytest.raises(ZeroDivisionError):
            list(threads.map(lambda i: 1 / i, range(2)))
