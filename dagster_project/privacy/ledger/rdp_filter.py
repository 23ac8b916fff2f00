"""The rule that stops spending: a Renyi privacy filter at one order, fixed for a population's life.

Releases are chosen after seeing earlier ones, so their costs may only be added in a way that holds
under adaptive choice. A filter on the sum of RDP costs at a fixed order does (Feldman and Zrnic
2021, arXiv 2008.11193, Theorem 4.1); stopping a privacy loss distribution at a cap does not.
"""

from __future__ import annotations

import math


def default_filter_order(lifetime_epsilon: float, *, target_delta: float) -> float:
    """The order at which Gaussian releases that end exactly at the cap cost least.

    With L = ln(1/delta), rho-zCDP gives epsilon = rho + 2 sqrt(rho L) (Bun and Steinke 2016,
    Proposition 1.3), reached at the order 1 + sqrt(L / rho); rho is solved for the cap.

    >>> round(default_filter_order(10.0, target_delta=1e-6), 3)
    4.219
    """
    log = -math.log(target_delta)
    root_rho = math.sqrt(log + lifetime_epsilon) - math.sqrt(log)
    return 1 + math.sqrt(log) / root_rho


def _conversion(order: float, target_delta: float) -> float:
    return math.log1p(-1 / order) - (math.log(target_delta) + math.log(order)) / (order - 1)


def epsilon_of_rdp(rdp: float, *, order: float, target_delta: float) -> float:
    """Epsilon of (order, rdp)-RDP at delta (Canonne, Kamath and Steinke 2020, Proposition 12).

    0 where nothing was spent: the conversion is loose there.
    """
    return max(0.0, rdp + _conversion(order, target_delta)) if rdp > 0 else 0.0


def rdp_cap(lifetime_epsilon: float, *, order: float, target_delta: float) -> float:
    """The largest sum of RDP costs at `order` that still gives the cap: the inverse of
    `epsilon_of_rdp`. Not positive where the order cannot express the cap at all."""
    return lifetime_epsilon - _conversion(order, target_delta)
