"""Comparisons of real numbers that floating point cannot decide, made digit by digit.

A sampler that works in float64 knows its uniform draws and its probabilities up to a bounded error.
If a draw is closer to its threshold than that error, the functions here decide with as many digits
as needed, so that the sampler as a whole is exact and its rounding need not be added to any epsilon
or delta. This happens about once in 2^40 draws, so speed does not matter.

Reference:
    Karney, "Sampling exactly from the normal distribution", ACM TOMS 42, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

Bounds = tuple[Fraction, Fraction]


class Uniform:
    """A uniform number in [0, 1) that can be extended by more binary digits.

    Args:
        digits: The first `length` binary digits, an integer in [0, 2^length).
        length: Number of known digits.
        draw: Source of independent uniform 64-bit integers.
    """

    def __init__(self, digits: int, length: int, draw: Callable[[], int]) -> None:
        self._digits, self._length, self._draw = digits, length, draw

    def extend(self) -> None:
        """Draw 64 more digits."""
        self._digits = (self._digits << 64) | self._draw()
        self._length += 64

    def bounds(self) -> Bounds:
        """Return the interval of the numbers that begin with the known digits."""
        unit = Fraction(1, 1 << self._length)
        return self._digits * unit, (self._digits + 1) * unit


def exponential_bounds(exponent: Fraction, *, digits: int) -> Bounds:
    """Return an interval at most 10^(4 - digits) wide that holds exp(-exponent), exponent >= 0."""
    with localcontext() as context:
        context.prec = digits
        power = -(Decimal(exponent.numerator) / Decimal(exponent.denominator))
        value = Fraction(power.exp())
    # The quotient is off by at most half a unit of its last digit, hence the exponential by the
    # factor exp(exponent 10^(1 - digits)), and x exp(-x) < 1; its own rounding is no larger.
    slack = Fraction(4, 10 ** (digits - 1))
    return value - slack, value + slack


def below_exponential(uniform: Uniform, exponent: Fraction | Callable[[], Bounds]) -> bool:
    """Return whether `uniform` is less than exp(-g), which has exactly that probability.

    Args:
        uniform: The uniform number, extended as needed.
        exponent: g itself, or a function that bounds it more closely each time it is called.
    """
    digits = 40
    while True:
        low, high = uniform.bounds()
        least, most = (exponent, exponent) if isinstance(exponent, Fraction) else exponent()
        if high <= exponential_bounds(most, digits=digits)[0]:
            return True
        if low >= exponential_bounds(least, digits=digits)[1]:
            return False
        uniform.extend()
        digits += 20


def rounded_product(scale: Fraction, whole: int, fraction: Uniform) -> int:
    """Round scale (whole + fraction) to the nearest integer, with as many digits as needed."""
    half = Fraction(1, 2)
    while True:
        low, high = fraction.bounds()
        nearest = math.floor(scale * (whole + low) + half)
        if nearest == math.floor(scale * (whole + high) + half):
            return nearest
        fraction.extend()
