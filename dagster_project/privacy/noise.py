"""Noise and coins for differential privacy, from a cryptographic source that takes no seed.

Public randomness (drawing synthetic rows, initial weights) does not belong here: it uses seeded
numpy and torch generators. What a mechanism costs does not belong here either (`accounting`).

References:
    Box and Muller, "A note on the generation of random normal deviates", 1958.
    Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020.
    Holohan and Braghin, "Secure random sampling in differential privacy", 2021.
    McSherry and Talwar, "Mechanism design via differential privacy", 2007.
    Mironov, "On significance of the least significant bits for differential privacy", 2012.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_CHUNK = 1 << 15  # elements worked on at a time: they stay in the processor's cache
_ZEROS = bytes(8 * _CHUNK)
_SUMMANDS = 4  # Gaussians added into each draw (Holohan and Braghin 2021)


class SecureGenerator:
    """Random numbers for mechanisms: an AES-256-CTR keystream keyed by the operating system.

    The key exists in this object alone: it cannot be given, read, copied or pickled, so noise can
    be drawn neither twice nor again. A forked child takes a key of its own. Calls from several
    threads are safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rekey()

    def _rekey(self) -> None:
        # A fresh key makes the constant nonce safe: no (key, nonce) pair occurs twice.
        cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16)))
        self._keystream = cipher.encryptor()
        self._process = os.getpid()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secure generator cannot be copied or pickled: its noise would repeat")

    def uniform_bits(self, n: int) -> np.ndarray:
        """`n` independent uniform 64-bit integers, uint64 (n,)."""
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

    def _uniform(self, n: int) -> np.ndarray:
        """Uniform multiples of 2^-53 in [0, 1), float64 (n,)."""
        bits = self.uniform_bits(n)
        bits >>= np.uint64(11)
        return bits * 2.0**-53

    def bernoulli(self, n: int, *, p: float) -> np.ndarray:
        """`n` independent coins, bool (n,), each true with probability `p`.

        The probability is exact up to 2^-53.

        Raises:
            ValueError: `p` is not in [0, 1].
        """
        if not 0 <= p <= 1:
            raise ValueError(f"p must lie in [0, 1], not {p!r}")
        coins = np.empty(n, dtype=bool)
        for start in range(0, n, _CHUNK):
            part = coins[start : start + _CHUNK]
            np.less(self._uniform(part.size), p, out=part)
        return coins

    def integers(self, n: int, high: int) -> np.ndarray:
        """`n` independent integers uniform on 0 .. high - 1, int64 (n,); exact, by rejection."""
        if not 1 <= high <= 2**62:
            raise ValueError(f"high must lie in [1, 2^62], not {high!r}")
        limit = np.uint64(2**64 - 1 - (2**64 % high))  # largest draw without modulo bias
        bits = self.uniform_bits(n)
        while (biased := np.flatnonzero(bits > limit)).size:
            bits[biased] = self.uniform_bits(biased.size)
        return (bits % np.uint64(high)).astype(np.int64)

    def gaussian(self, shape: int | tuple[int, ...], *, scale: float) -> np.ndarray:
        """Independent N(0, scale^2) draws, float64 of the given shape.

        Each draw is half the sum of four Box-Muller Gaussians of eight 53-bit uniforms. The pattern
        of floating-point values that one Gaussian can take reveals what it was added to (Mironov
        2012); finding the eight uniforms behind a sum is not feasible (Holohan and Braghin 2021,
        section 4). This hardens the arithmetic; it does not make it exact: `discrete_gaussian` is
        the choice for integers. The four are bounded by 8.6 in magnitude, beyond which a normal
        variable lies with probability 1e-17.

        Raises:
            ValueError: `scale` is not positive and finite.
        """
        _require_positive("scale", scale)
        out = np.empty(shape, dtype=np.float64)
        flat = out.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            pairs = -(-part.size // 2)
            # Partners of a pair share radii and angles but go to the two halves: both halves are
            # sums of independent Gaussians, and independent of each other.
            halves = np.zeros((2, pairs))
            for _ in range(_SUMMANDS):
                radius, tangent = self._uniform(2 * pairs).reshape(2, pairs)
                np.subtract(1.0, radius, out=radius)  # in (0, 1]: log is finite
                np.log(radius, out=radius)
                radius *= -2.0
                np.sqrt(radius, out=radius)
                # Sine and cosine of a uniform angle from the tangent of its half: one call, not
                # two, and numpy vectorises it.
                tangent -= 0.5
                tangent *= math.pi
                np.tan(tangent, out=tangent)
                weight = np.square(tangent)
                weight += 1.0
                np.divide(2.0, weight, out=weight)
                tangent *= weight
                tangent *= radius
                halves[1] += tangent
                weight -= 1.0
                weight *= radius
                halves[0] += weight
            np.multiply(halves.reshape(-1)[: part.size], scale / math.sqrt(_SUMMANDS), out=part)
        return out

    def discrete_gaussian(self, shape: int | tuple[int, ...], *, sigma: float) -> np.ndarray:
        """Independent draws of N_Z(0, sigma^2), int64 of the given shape.

        P(x) is proportional to exp(-x^2 / (2 sigma^2)) on the integers: rejection from a discrete
        Laplace (Canonne, Kamath, Steinke 2020, algorithms 2 and 3). Exact: the uniform integers,
        the sign, the composition of the coins, and the output, an integer, so that no
        floating-point pattern exists. Rounded: the probability exp(-gamma) of each coin, to
        float64. That moves the log-probability of an output within 40 sigma by less than 1e-11, a
        pure epsilon beside which the accountant's own grid is coarse.

        Raises:
            ValueError: `sigma` is not positive and finite, or is above 2^40.
        """
        _require_positive("sigma", sigma)
        if sigma > 2**40:
            raise ValueError(f"sigma must be at most 2^40, not {sigma!r}")
        out = np.empty(shape, dtype=np.int64)
        flat = out.reshape(-1)
        scale = math.floor(sigma) + 1
        filled = 0
        while filled < flat.size:
            n = min(2 * (flat.size - filled) + 16, _CHUNK)
            # Discrete Laplace of scale `scale`: P(y) proportional to exp(-|y| / scale).
            units = self.integers(n, scale)
            units = units[self._exponential_coins(units / scale)]
            magnitude = units + scale * self._geometric(units.size)
            negative = self.bernoulli(units.size, p=0.5)
            once = ~(negative & (magnitude == 0))  # zero has one sign
            magnitude, negative = magnitude[once], negative[once]
            gamma = (magnitude - sigma * sigma / scale) ** 2 / (2 * sigma * sigma)
            kept = self._exponential_coins(gamma)
            draws = np.where(negative, -magnitude, magnitude)[kept][: flat.size - filled]
            flat[filled : filled + draws.size] = draws
            filled += draws.size
        return out

    def exponential_mechanism(
        self, scores: np.ndarray, *, epsilon: float, sensitivity: float
    ) -> int:
        """An index drawn with probability proportional to exp(epsilon score / (2 sensitivity)).

        It is `epsilon`-DP (McSherry and Talwar 2007, theorem 6) where one person changes each
        score by at most `sensitivity`: the weight of an index changes by a factor of at most
        exp(epsilon / 2), the sum of all weights too, hence their quotient by exp(epsilon). Drawn
        by rejection: a uniform index is kept with probability exp(-epsilon (top - score) /
        (2 sensitivity)), so that no sum of weights is ever rounded.

        Args:
            scores: finite numbers (n,), higher is better; how many there are is public.
            epsilon: pure differential privacy of this one selection.
            sensitivity: largest change of any score when one person is added or removed.

        Raises:
            ValueError: a parameter is not positive and finite, or scores are not finite (n,).
        """
        _require_positive("epsilon", epsilon)
        _require_positive("sensitivity", sensitivity)
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
            raise ValueError("scores must be a vector of finite numbers")
        gamma = (scores.max() - scores) * (epsilon / (2 * sensitivity))
        while True:  # the top score is always kept: n trials on average at most
            tried = self.integers(min(scores.size + 16, _CHUNK), scores.size)
            kept = np.flatnonzero(self._exponential_coins(gamma[tried]))
            if kept.size:
                return int(tried[kept[0]])

    def _geometric(self, n: int) -> np.ndarray:
        """How often a coin of probability 1/e comes up before it first does not, int64 (n,)."""
        heads = np.zeros(n, dtype=np.int64)
        running = np.arange(n)
        while running.size:
            running = running[self._uniform(running.size) < math.exp(-1)]
            heads[running] += 1
        return heads

    def _exponential_coins(self, gamma: np.ndarray) -> np.ndarray:
        """Coins true with probability exp(-gamma), gamma >= 0, bool (n,).

        Whole parts are tossed as that many coins of 1/e (Canonne, Kamath, Steinke 2020, algorithm
        1), which keeps even tiny probabilities right to a relative rounding error.
        """
        whole = np.floor(gamma)
        last = self._uniform(gamma.size) < np.exp(whole - gamma)
        return last & (self._geometric(gamma.size) >= whole)


def _require_positive(name: str, value: float) -> None:
    # The floor keeps squares of tiny parameters from becoming zero.
    if isinstance(value, bool) or not (math.isfinite(value) and value >= 1e-100):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
