"""Events: a closed list, strictly validated, that survives JSON."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Gaussian,
    PoissonSampledGaussian,
    from_json,
    to_json,
)

positive = st.floats(1e-9, 1e9)
rates = st.floats(1e-9, 1.0)
counts = st.integers(1, 10**6)
any_event = st.one_of(
    st.builds(Gaussian, noise_multiplier=positive, count=counts),
    st.builds(PoissonSampledGaussian, noise_multiplier=positive, sample_rate=rates, count=counts),
    st.builds(DiscreteGaussian, sigma=positive, count=counts),
    st.builds(BoundedRange, epsilon=positive, count=counts),
)
NOT_POSITIVE = [0.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, 1e-300, True, "1", None]


@given(any_event)
def test_json_round_trip(event):
    assert from_json(json.loads(json.dumps(to_json(event), allow_nan=False))) == event


@pytest.mark.parametrize("value", NOT_POSITIVE)
@pytest.mark.parametrize(
    ("kind", "field", "others"),
    [
        (Gaussian, "noise_multiplier", {}),
        (PoissonSampledGaussian, "noise_multiplier", {"sample_rate": 0.1}),
        (PoissonSampledGaussian, "sample_rate", {"noise_multiplier": 1.0}),
        (DiscreteGaussian, "sigma", {}),
        (BoundedRange, "epsilon", {}),
    ],
)
def test_refuses_what_is_not_positive_and_finite(kind, field, others, value):
    with pytest.raises(ValueError, match=field):
        kind(**{field: value}, **others)


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", None, math.nan])
def test_refuses_what_is_not_a_count(count):
    with pytest.raises(ValueError, match="count"):
        BoundedRange(epsilon=1.0, count=count)


def test_refuses_a_sample_rate_above_one():
    with pytest.raises(ValueError, match="sample_rate"):
        PoissonSampledGaussian(noise_multiplier=1.0, sample_rate=1.0000001)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "laplace", "epsilon": 1.0, "count": 1},
        {"type": "BoundedRange", "epsilon": 1.0, "count": 1},
        {"type": ["bounded_range"], "epsilon": 1.0, "count": 1},
        {"type": None, "epsilon": 1.0, "count": 1},
        {"type": "bounded_range", "epsilon": 1.0},
        {"type": "bounded_range", "epsilon": 1.0, "count": 1, "note": "cheap"},
        {"type": "bounded_range", "epsilon": math.nan, "count": 1},
        {"type": "bounded_range", "epsilon": True, "count": 1},
        {"type": "gaussian", "noise_multiplier": "5", "count": 1},
    ],
)
def test_refuses_json_it_did_not_write(value):
    with pytest.raises(ValueError):
        from_json(value)


def test_events_are_frozen_and_hashable():
    event = Gaussian(noise_multiplier=2.0)
    with pytest.raises(AttributeError):
        event.noise_multiplier = 1.0
    assert hash(event) == hash(Gaussian(noise_multiplier=2.0))
