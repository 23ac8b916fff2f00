"""Conversion of a limit of CPU seconds into step counts, by a public rule and before planning.

Step costs are measured on random tensors, never on the data. The method defines what a step is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping


def allot(
    costs: Mapping[str, float],
    wanted: Mapping[str, int],
    *,
    limit: float,
    open_part: str | None = None,
) -> dict[str, int]:
    """Return the steps of each part of a training under a limit of CPU seconds.

    If the wanted steps fit, they are kept, and the open part, if any, takes the remaining time. If
    they do not, all parts are shortened in proportion, so that a recipe keeps its shape.

    >>> allot({"pretraining": 0.1, "dp_sgd": 1.0}, {"pretraining": 600, "dp_sgd": 60}, limit=60)
    {'pretraining': 300, 'dp_sgd': 30}
    >>> allot({"dp_sgd": 1.0}, {"dp_sgd": 60}, limit=100, open_part="dp_sgd")
    {'dp_sgd': 100}

    Args:
        costs: CPU seconds of one step, by part.
        wanted: Steps that the recipe asks for.
        limit: CPU seconds for all parts.
        open_part: The part that takes the remaining time.

    Raises:
        ValueError: The limit is too short for one step of each part.
    """
    if sum(costs.values()) > limit:
        raise ValueError(f"{limit:g} CPU seconds are too few for one training step of each part")
    total = sum(costs[name] * wanted[name] for name in costs)
    if total > limit:
        return {name: max(1, math.floor(wanted[name] * limit / total)) for name in costs}
    steps = {name: wanted[name] for name in costs}
    if open_part is not None:
        steps[open_part] += math.floor((limit - total) / costs[open_part])
    return steps


def cpu_seconds_of(run: Callable[[], object]) -> float:
    """Return the CPU seconds that all threads of this process use during `run`."""
    return _seconds_of(run, time.process_time)


def _seconds_of(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return clock() - started


def seconds_per_step(
    run: Callable[[int], object],
    *,
    few: int,
    many: int,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Return the seconds of one step by a clock, from runs of few and of many steps.

    Costs that do not grow with the steps cancel out. The first run, which also loads and compiles,
    is not counted. Of two further runs the faster one is, since other load on the machine can only
    slow a run down.
    """
    run(few)
    short, long = (
        min(_seconds_of(lambda steps=steps: run(steps), clock) for _ in range(2))  # type: ignore[misc]
        for steps in (few, many)
    )
    return max(1e-6, (long - short) / (many - few))
