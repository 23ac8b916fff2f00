"""Random numbers for differential privacy, from a cryptographic source that takes no seed.

All noise is integer. If noise is added in floating point, the last bits of the result can reveal
what it was added to (Mironov 2012), whatever the noise's distribution; integers on a public grid
(`grid`) have no such bits.

Public randomness (drawing synthetic rows, initial weights) does not belong here: it uses seeded
numpy and torch generators. The cost of a mechanism belongs to `accounting`.

References:
    Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020.
    Karney, "Sampling exactly from the normal distribution", 2016.
    McSherry and Talwar, "Mechanism design via differential privacy", 2007.
    Mironov, "On significance of the least significant bits for differential privacy", 2012.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dagster_project.privacy.exact_decisions import (
    Bounds,
    Uniform,
    below_exponential,
    rounded_product,
)

_CHUNK = 1 << 15  # elements processed at a time, so that they stay in the processor's cache
_ZEROS = bytes(8 * _CHUNK)
_UNIT = 2.0**-53  # uniform numbers are compared by their first 53 binary digits
_SLACK = 2.0**-46  # a draw closer to its threshold than this is decided exactly


class SecureGenerator:
    """Random numbers for mechanisms: an AES-256-CTR keystream keyed by the operating system.

    The key exists only in this object: it cannot be set, read, copied or pickled, so the same noise
    cannot be drawn twice. A forked child takes its own key. Calls from several threads are safe.

    Attributes:
        uses: How often each kind of draw was requested, by (kind, parameter): what really ran, for
            comparison with what the plan declares.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.uses: Counter[tuple[str, float]] = Counter()
        self._rekey()

    def _rekey(self) -> None:
        # A fresh key makes the constant nonce safe: no (key, nonce) pair occurs twice.
        cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16)))
        self._keystream = cipher.encryptor()
        self._process = os.getpid()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secure generator cannot be copied or pickled: its noise would repeat")

    def uniform_bits(self, n: int) -> np.ndarray:
        """Draw `n` independent uniform 64-bit integers, uint64 (n,)."""
        bits = np.empty(n, dtype=np.uint64)
        self._fill(bits)
        return bits

    def _fill(self, bits: np.ndarray) -> None:
        with self._lock:
            if self._process != os.getpid():  # a fork shares the parent's keystream
                self._rekey()
            for start in range(0, bits.size, _CHUNK):
                part = bits[start : start + _CHUNK]
                self._keystream.update_into(_ZEROS[: part.nbytes], part.view(np.uint8).data)

    def note(self, kind: str, parameter: float) -> None:
        """Count one use of a kind of draw, or of a parameter at the place where it is used."""
        with self._lock:
            self.uses[kind, float(parameter)] += 1

    def bernoulli(self, n: int, *, p: float) -> np.ndarray:
        """Draw `n` independent Bernoulli variables, bool (n,), true with probability exactly `p`.

        Raises:
            ValueError: `p` is not in [0, 1].
        """
        if not 0 <= p <= 1:
            raise ValueError(f"p must lie in [0, 1], not {p!r}")
        self.note("coins", p)
        coins = np.empty(n, dtype=bool)
        for start in range(0, n, _CHUNK):
            part = coins[start : start + _CHUNK]
            part[:] = self._coins(part.size, p)
        return coins

    def _coins(self, n: int, p: float) -> np.ndarray:
        """Compare 53 digits with those of `p`, and further ones if they are equal."""
        whole, rest = divmod(p * 2.0**53, 1.0)  # exact: a power of two, and both parts are floats
        trial = (self.uniform_bits(n) >> np.uint64(11)).astype(np.int64)
        coins = trial < int(whole)
        ties = np.flatnonzero(trial == int(whole)) if rest else np.zeros(0, dtype=np.int64)
        if ties.size:
            coins[ties] = self._coins(ties.size, rest)
        return coins

    def integers(self, n: int, high: int) -> np.ndarray:
        """Draw `n` independent uniform integers below `high`, int64 (n,); exact, by rejection."""
        if not 1 <= high <= 2**62:
            raise ValueError(f"high must lie in [1, 2^62], not {high!r}")
        limit = np.uint64(2**64 - 1 - (2**64 % high))  # largest draw without modulo bias
        bits = self.uniform_bits(n)
        while (biased := np.flatnonzero(bits > limit)).size:
            bits[biased] = self.uniform_bits(biased.size)
        return (bits % np.uint64(high)).astype(np.int64)

    def rounded_gaussian(self, shape: int | tuple[int, ...], *, sigma: float) -> np.ndarray:
        """Draw independent N(0, sigma^2) variables, each rounded to the nearest integer, int64.

        Added to integers, this is the rounded Gaussian mechanism: round(f + z) = f + round(z) for
        integer f. So the output is a function of only the ideal mechanism's output, in any number
        of dimensions and under Poisson sampling, and costs no more than the ideal mechanism.

        The normal variable is Karney's (2016, algorithm N): sign (k + x) with k >= 0 of probability
        proportional to exp(-k^2 / 2), and x uniform in (0, 1), kept with probability
        exp(-x (2k + x) / 2). x has as many digits as the decisions and the rounding need, so the
        draws have exactly the stated distribution, given uniform bits (`exact_decisions`).

        Raises:
            ValueError: `sigma` is not positive and finite, or is above 2^44.
        """
        self.note("gaussian", _require_scale(sigma))
        return _filled(shape, lambda n: self._rounded_gaussians(n, sigma))

    def _rounded_gaussians(self, trials: int, sigma: float) -> np.ndarray:
        """Draw from the given number of trials, about half of which succeed."""
        k = self._geometric(trials, exponent=0.5)
        k = k[self._exponential_coins(k * (k - 1) / 2, lambda i: _pairs(int(k[i])))]
        bits = self.uniform_bits(k.size)
        negative = (bits & np.uint64(1)).astype(bool)
        prefix = (bits >> np.uint64(11)).astype(np.int64)
        x = prefix * _UNIT
        digits: dict[int, Uniform] = {}

        def fraction(i: int) -> Uniform:
            return digits.setdefault(i, Uniform(int(prefix[i]), 53, self._word))

        def accepted(i: int) -> bool:
            def bounds() -> Bounds:
                low, high = fraction(i).bounds()
                fraction(i).extend()
                whole = 2 * int(k[i])
                return low * (whole + low) / 2, high * (whole + high) / 2

            return below_exponential(Uniform(int(trial[i]), 53, self._word), bounds)

        probability = np.exp(-x * (2 * k + x) / 2)
        trial = (self.uniform_bits(k.size) >> np.uint64(11)).astype(np.int64)
        gap = trial * _UNIT - probability
        kept = gap < 0
        # x represents an interval of 2^-53, which moves the exponent by at most (k + 1) 2^-53.
        for i in np.flatnonzero(np.abs(gap) <= _SLACK * (k + 1)):
            kept[i] = accepted(int(i))
        magnitude = sigma * (k + x)
        # Two roundings and the unknown further digits of x: below 2^-51 of sigma (k + 1).
        error = sigma * (k + 1) * 2.0**-50
        whole = np.floor(magnitude + 0.5 - error).astype(np.int64)
        unclear = whole != np.floor(magnitude + 0.5 + error)
        for i in np.flatnonzero(unclear & kept):
            whole[i] = rounded_product(Fraction(sigma), int(k[i]), fraction(int(i)))
        return np.where(negative, -whole, whole)[kept]

    def discrete_gaussian(self, shape: int | tuple[int, ...], *, sigma: float) -> np.ndarray:
        """Draw independent N_Z(0, sigma^2) variables, int64 of the given shape.

        P(x) is proportional to exp(-x^2 / (2 sigma^2)) on the integers. The draws are by rejection
        from a discrete Laplace (Canonne, Kamath, Steinke 2020, algorithms 2 and 3). They are exact,
        given uniform bits: the integers are uniform by rejection, and no Bernoulli draw is rounded
        (`exact_decisions`).

        Raises:
            ValueError: `sigma` is not positive and finite, or is above 2^44.
        """
        self.note("discrete_gaussian", _require_scale(sigma))
        return _filled(shape, lambda n: self._discrete_gaussians(n, sigma))

    def _discrete_gaussians(self, trials: int, sigma: float) -> np.ndarray:
        """Draw from the given number of trials, about a third of which succeed."""
        scale, square = math.floor(sigma) + 1, Fraction(sigma) ** 2
        # Discrete Laplace of scale `scale`: P(y) proportional to exp(-|y| / scale).
        tried = self.integers(trials, scale)
        kept = self._exponential_coins(tried / scale, lambda i: Fraction(int(tried[i]), scale))
        units = tried[kept]
        magnitude = units + scale * self._geometric(units.size, exponent=1.0)
        negative = self._coins(units.size, 0.5)
        once = ~(negative & (magnitude == 0))  # count zero with one sign only
        magnitude, negative = magnitude[once], negative[once]
        kept = self._exponential_coins(
            (magnitude - sigma * sigma / scale) ** 2 / (2 * sigma * sigma),
            lambda i: (int(magnitude[i]) - square / scale) ** 2 / (2 * square),
        )
        return np.where(negative, -magnitude, magnitude)[kept]

    def exponential_mechanism(
        self, scores: np.ndarray, *, epsilon: float, sensitivity: float
    ) -> int:
        """Draw an index with probability proportional to exp(epsilon score / (2 sensitivity)).

        This is `epsilon`-DP (McSherry and Talwar 2007, theorem 6) if one person changes each score
        by at most `sensitivity`: the weight of an index changes by a factor of at most
        exp(epsilon / 2), and so does the sum of all weights, hence their quotient changes by at
        most exp(epsilon). The draw is by rejection: a uniform index is kept with probability
        exp(-epsilon (top - score) / (2 sensitivity)), so that no sum of weights is ever rounded.

        Args:
            scores: Finite numbers (n,), higher is better; n is public.
            epsilon: Pure differential privacy of this one selection.
            sensitivity: Largest change of any score when one person is added or removed.

        Raises:
            ValueError: A parameter is not positive and finite, or scores are not finite (n,).
        """
        _require_positive("epsilon", epsilon)
        _require_positive("sensitivity", sensitivity)
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
            raise ValueError("scores must be a vector of finite numbers")
        self.note("exponential", epsilon / sensitivity)
        while True:  # the top score is always kept, so at most n trials are needed on average
            tried = self._tried(scores, Fraction(epsilon) / (2 * Fraction(sensitivity)))
            if tried.size:
                return int(tried[0])

    def _tried(self, scores: np.ndarray, rate: Fraction) -> np.ndarray:
        """Draw uniform indices and keep each with probability exp(-rate (top - score))."""
        top = scores.max()
        tried = self.integers(min(scores.size + 16, _CHUNK), scores.size)
        kept = self._exponential_coins(
            (top - scores[tried]) * float(rate),
            lambda i: (Fraction(top) - Fraction(scores[tried[i]])) * rate,
        )
        return tried[kept]

    def _geometric(self, n: int, *, exponent: float) -> np.ndarray:
        """Draw the number of Bernoulli(exp(-exponent)) successes before the first failure (n,)."""
        heads = np.zeros(n, dtype=np.int64)
        running = np.arange(n)
        gamma, exact = np.full(n, exponent), Fraction(exponent)
        while running.size:
            coins = self._exponential_coins(gamma[: running.size], lambda i: exact)
            running = running[coins]
            heads[running] += 1
        return heads

    def _exponential_coins(self, gamma: np.ndarray, exact: Callable[[int], Fraction]) -> np.ndarray:
        """Draw Bernoulli variables that are true with probability exp(-g), bool (n,).

        Args:
            gamma: g >= 0 in float64 (n,), close enough that exp(-gamma) is right to `_SLACK` / 2.
            exact: Returns g itself, for a uniform number within `_SLACK` of exp(-gamma).
        """
        trial = (self.uniform_bits(gamma.size) >> np.uint64(11)).astype(np.int64)
        gap = trial * _UNIT - np.exp(-gamma)
        coins = gap < 0
        for i in np.flatnonzero(np.abs(gap) <= _SLACK):
            coins[i] = below_exponential(Uniform(int(trial[i]), 53, self._word), exact(int(i)))
        return coins

    def _word(self) -> int:
        return int(self.uniform_bits(1)[0])


def _filled(shape: int | tuple[int, ...], draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """Fill an int64 array from a function that turns a number of trials into fewer draws."""
    out = np.empty(shape, dtype=np.int64)
    flat = out.reshape(-1)
    filled = 0
    while filled < flat.size:
        draws = draw(min(3 * (flat.size - filled) + 16, _CHUNK))[: flat.size - filled]
        flat[filled : filled + draws.size] = draws
        filled += draws.size
    return out


def _pairs(k: int) -> Fraction:
    return Fraction(k * (k - 1), 2)


def _require_positive(name: str, value: float) -> None:
    # The floor keeps squares of tiny parameters from becoming zero.
    if isinstance(value, bool) or not (math.isfinite(value) and value >= 1e-100):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")


def _require_scale(sigma: float) -> float:
    _require_positive("sigma", sigma)
    if sigma > 2**44:
        raise ValueError(f"sigma must be at most 2^44, not {sigma!r}")
    return sigma
