"""Drawn chest radiographs: simple shapes that depend on age, sex, weight, view and findings.

Nobody is depicted. A picture adds up what the beam passes through: soft tissue, lungs that hold
air, heart, bones and what is wrong, with blurred outlines, exposure and quantum noise. It is meant
to have the correlations that a model can learn, not to look real to a radiologist.

Coordinates run from -1 to 1, x to the right and y downwards; a patient's left is on the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FINDINGS = ("Effusion", "Nodule", "Cardiomegaly", "Infiltrate")


@dataclass(frozen=True)
class Body:
    """What stays the same in all pictures of a person.

    Attributes:
        female: Whether breast shadows are drawn and the chest is narrower.
        bmi: Body mass index in kg/m²: soft tissue around the chest.
        width, height, heart, tilt: Build of the chest, the heart and the spine, around 0, in
            standard deviations.
    """

    female: bool
    bmi: float
    width: float
    height: float
    heart: float
    tilt: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, female: bool, bmi: float) -> Body:
        """Draw the build of a person."""
        return cls(female, bmi, *(float(value) for value in rng.standard_normal(4)))


def radiograph(
    body: Body,
    *,
    age: float,
    lateral: bool,
    findings: frozenset[str],
    side: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a picture, float32 (side, side) in [0, 1], where 1 absorbs most and is shown white.

    Args:
        body: The person.
        age: Age in years: children have small, round chests; the heart grows with age.
        lateral: Whether the view is from the side, and not from behind (PA).
        findings: Some of `FINDINGS`.
        side: Height and width in pixels.
        rng: Decides on position, exposure, places of findings, and noise.
    """
    x: np.ndarray
    y: np.ndarray
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    turn = rng.normal(0, 0.03)
    x, y = x + turn * y - rng.normal(0, 0.03), y - turn * x - rng.normal(0, 0.03)
    size = 0.72 + 0.28 * min(age, 18) / 18
    x, y = x / size, y / size
    draw = _lateral if lateral else _frontal
    dense = draw(body, x, y, age, findings, rng)
    dense += rng.normal(0, 0.03)  # exposure
    dense *= 1 - 0.006 * (body.bmi - 25)  # scattered rays flatten the contrast
    noise = rng.standard_normal((side, side), np.float32) * (0.015 + 0.02 * np.clip(dense, 0, 1))
    return np.clip(dense + noise, 0, 1)


def _frontal(
    body: Body,
    x: np.ndarray,
    y: np.ndarray,
    age: float,
    findings: frozenset[str],
    rng: np.random.Generator,
) -> np.ndarray:
    wide = (0.40 if body.female else 0.43) + 0.02 * body.width
    tall = 0.62 + 0.03 * body.height - 0.08 * (age < 8)
    flesh = 0.82 + 0.012 * (body.bmi - 25) + 0.02 * body.width
    breath = rng.normal(0, 0.03)  # how deeply the person inhaled
    dome = 0.52 + breath + 0.03 * body.height
    trunk = _inside(x, y, 0, 0.6, flesh, 1.42, 0.02, power=4)
    dense = 0.5 * np.maximum(trunk, _inside(x, y, 0, -1, 0.24, 0.6, 0.04))  # with the neck
    dense += 0.16 * _below(y, dome + 0.1, 0.08) * trunk  # what lies below the lungs
    lungs = np.zeros_like(x)
    for sign in (-1, 1):
        base = dome + 0.84 * (x - sign * 0.42) ** 2 + (0.03 if sign > 0 else -0.02)
        lobe = _inside(x, y, sign * 0.42, 0.0, wide - 0.1, tall, 0.05)
        lungs = np.maximum(lungs, lobe * (1 - _below(y, base, 0.04)))
    lungs *= trunk
    dense -= 0.4 * lungs
    dense += 0.06 * lungs * np.exp(-((np.abs(x) - 0.16) ** 2) / 0.02 - y**2 / 0.05)  # vessels
    arch = y + 0.45 * (np.abs(x) - 0.15) ** 2 - 0.18 * np.abs(x)
    cage = _inside(x, y, 0, 0.0, 0.9, 0.75, 0.05) * trunk
    dense += (0.07 + 0.0004 * age) * _stripes(arch, every=0.15, wide=0.022) * cage
    spine = x - 0.012 * body.tilt * (1 + age / 60) * np.sin(3 * y)
    dense += 0.2 * np.exp(-((spine / 0.1) ** 4))
    for sign in (-1, 1):  # collar bones
        bone = np.exp(-(((y + 0.62 + 0.22 * (sign * x - 0.35)) / 0.03) ** 2))
        dense += 0.12 * bone * ((sign * x > 0.06) & (sign * x < 0.7))
    heart = _heart_size(body, age, findings)
    dense += 0.26 * _inside(x, y, 0.13 * heart, dome - 0.3, 0.26 * heart, 0.29, 0.04)
    dense += (0.1 + 0.001 * age) * _inside(x, y, 0.11, -0.3, 0.09, 0.1, 0.03)  # arch of the aorta
    if body.female and age > 14:
        for sign in (-1, 1):
            dense += 0.1 * _inside(x, y, sign * 0.42, 0.34, 0.3, 0.26, 0.05)
    sick = 1 if rng.random() < 0.55 else -1
    if "Effusion" in findings:  # fluid with a curved surface, on one side
        level = dome - rng.uniform(0.18, 0.45)
        surface = level - 0.9 * (np.abs(x) - 0.42) * np.abs(x)
        chest = _inside(x, y, sick * 0.42, 0.1, wide - 0.06, tall + 0.1, 0.03)
        dense += 0.42 * _below(y, surface, 0.03) * chest * lungs
    if "Infiltrate" in findings:
        patch = _inside(x, y, sick * 0.42, rng.uniform(-0.25, 0.3), 0.22, 0.2, 0.25)
        dense += 0.26 * patch * lungs
    if "Nodule" in findings:
        right, down, radius = (
            -sick * rng.uniform(0.33, 0.5),
            rng.uniform(-0.4, 0.2),
            rng.uniform(0.07, 0.12),
        )
        dense += 0.4 * _inside(x, y, right, down, radius, radius, 0.12)
    return dense


def _lateral(
    body: Body,
    x: np.ndarray,
    y: np.ndarray,
    age: float,
    findings: frozenset[str],
    rng: np.random.Generator,
) -> np.ndarray:
    deep = 0.5 + 0.02 * body.width + 0.0008 * age
    tall = 0.68 + 0.03 * body.height
    flesh = 0.66 + 0.012 * (body.bmi - 25) + 0.02 * body.width
    dome = 0.5 + rng.normal(0, 0.03) + 0.03 * body.height
    trunk = _inside(x, y, 0, 0.5, flesh, 1.42, 0.02, power=3)
    dense = 0.56 * trunk + 0.14 * _below(y, dome + 0.15, 0.08) * trunk
    base = dome - 0.15 + 0.8 * (x + 0.1) ** 2
    lung = _inside(x, y, -0.02, -0.02, deep - 0.04, tall, 0.05) * (1 - _below(y, base, 0.04))
    dense -= 0.36 * lung
    hunch = 0.42 + (0.05 + 0.0015 * age) * np.cos(2 * y + 0.3)  # the spine bends with age
    dense += 0.2 * np.exp(-(((x - hunch) / 0.09) ** 4)) * (0.85 + 0.15 * np.cos(40 * y)) * trunk
    dense += 0.05 * _stripes(y + 0.35 * x + 0.3 * x**2, every=0.15, wide=0.02) * lung  # ribs
    dense += 0.15 * np.exp(-(((x + deep + 0.02 - 0.1 * y) / 0.03) ** 2)) * (np.abs(y) < 0.45)
    heart = _heart_size(body, age, findings)
    dense += 0.28 * _inside(x, y, -0.2, dome - 0.28, 0.24 * heart, 0.27 * heart, 0.05)
    if body.female and age > 14:
        dense += 0.14 * _inside(x, y, 0.04 - flesh, 0.2, 0.2, 0.26, 0.05) * (1 - trunk)
    if "Effusion" in findings:  # fluid fills the angle at the back
        level = dome - rng.uniform(0.1, 0.3) - 0.5 * (x - 0.1)
        dense += 0.38 * _below(y, level, 0.03) * lung * (x > -0.15)
    if "Infiltrate" in findings:
        patch = _inside(x, y, rng.uniform(-0.1, 0.25), rng.uniform(-0.3, 0.15), 0.24, 0.2, 0.25)
        dense += 0.24 * patch * lung
    if "Nodule" in findings:
        right, down, radius = (
            rng.uniform(-0.05, 0.25),
            rng.uniform(-0.4, 0.1),
            rng.uniform(0.07, 0.12),
        )
        dense += 0.38 * _inside(x, y, right, down, radius, radius, 0.12)
    return dense


def _heart_size(body: Body, age: float, findings: frozenset[str]) -> float:
    grown = 0.92 + 0.0025 * age + 0.15 * max(0.0, 1 - age / 8)
    return grown + 0.05 * body.heart + (0.42 if "Cardiomegaly" in findings else 0.0)


def _inside(
    x: np.ndarray,
    y: np.ndarray,
    cx: float,
    cy: float,
    a: float,
    b: float,
    soft: float,
    power: int = 2,
) -> np.ndarray:
    """Return 1 inside an ellipse with the half-axes a and b, 0 outside, with a soft outline.

    Powers above 2 make it more like a rectangle with round corners.
    """
    radius = np.abs((x - cx) / a) ** power + np.abs((y - cy) / b) ** power
    return 0.5 - 0.5 * np.tanh((radius - 1) / (2 * power * soft))


def _below(y: np.ndarray, level: np.ndarray | float, soft: float) -> np.ndarray:
    """Return 1 below a level, 0 above it, with a soft edge."""
    return 0.5 + 0.5 * np.tanh((y - level) / soft)


def _stripes(u: np.ndarray, *, every: float, wide: float) -> np.ndarray:
    """Return 1 on lines at regular distances, 0 between them."""
    offset = (u + every / 2) % every - every / 2
    return np.exp(-((offset / wide) ** 2))
