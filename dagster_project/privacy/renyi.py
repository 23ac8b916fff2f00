"""The Rényi divergence of events, which calibration and the size of loss distributions need.

References:
    Mironov, "Rényi differential privacy", 2017.
    Mironov, Talwar, Zhang, "Rényi differential privacy of the sampled Gaussian mechanism", 2019.
    Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020.
    Cesar and Rogers, "Bounding, concentrating, and truncating", 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dagster_project.privacy.events import BoundedRange, DiscreteGaussian, Event, Gaussian


def rdp(events: Sequence[Event], *, order: float) -> float:
    """Return the Rényi divergence of the given order of all events together, in nats.

    Gaussian and discrete Gaussian: order / (2 sigma^2) (Mironov 2017, proposition 7; Canonne,
    Kamath, Steinke 2020, theorem 4). Bounded range: min(epsilon, order epsilon^2 / 8) (Cesar and
    Rogers 2021). Poisson-sampled Gaussian: Mironov, Talwar, Zhang 2019.

    Raises:
        ValueError: `order` is not finite and above 1.
    """
    if not (math.isfinite(order) and order > 1):
        raise ValueError(f"order must be finite and above 1, not {order!r}")
    return math.fsum(event.count * _rdp_once(event, order) for event in events)


def _rdp_once(event: Event, order: float) -> float:
    if isinstance(event, BoundedRange):
        return min(event.epsilon, order * event.epsilon**2 / 8)
    if isinstance(event, DiscreteGaussian):
        return order / (2 * event.sigma**2)
    whole = order / (2 * event.noise_multiplier**2)
    if isinstance(event, Gaussian) or event.sample_rate == 1:
        return whole
    return min(whole, _sampled_rdp(event.noise_multiplier, event.sample_rate, order))


@lru_cache(maxsize=256)
def _sampled_rdp(sigma: float, rate: float, order: float) -> float:
    """Return the Rényi divergence of one Poisson-sampled Gaussian.

    It is log E[(1 - q + q exp((2 z - 1) / (2 sigma^2)))^order] / (order - 1), z ~ N(0, sigma^2)
    (Mironov, Talwar, Zhang 2019, section 3.3), for any real order above 1. In units of sigma the
    integrand is analytic within pi sigma of the real line, so the trapezoid rule with this step is
    exact up to rounding.
    """
    step = min(0.05, sigma / 8)
    low, high = -40.0, order / sigma + 40.0
    if (high - low) / step > 10**7:
        return math.inf
    x = np.arange(low, high, step)
    loss = x / sigma - 1 / (2 * sigma**2)
    mixture = np.logaddexp(math.log1p(-rate), math.log(rate) + loss)
    exponent = order * mixture - x**2 / 2
    top = exponent.max()
    total = top + math.log(np.exp(exponent - top).sum() * step / math.sqrt(2 * math.pi))
    return max(total, 0.0) / (order - 1)
