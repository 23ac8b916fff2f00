"""The table of members in arrays: it says what a dict says, and is sealed in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.ledger.errors import LedgerBroken
from dagster_project.ledger.roll import Roll, blocks, packed

# Hashes that differ in their first or last bytes, some with zeros at the end.
names = st.builds(
    lambda first, last: bytes([first]) + bytes(30) + bytes([last]),
    st.integers(0, 3),
    st.integers(0, 3),
)
COHORTS = ("founding", "second", "held out")


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(names, st.sampled_from(COHORTS)), st.lists(names))
def test_it_says_what_a_dict_says(known, asked):
    roll = Roll.of(known.items())
    assert len(roll) == len(known)
    assert roll.knows(packed(asked)).tolist() == [name in known for name in asked]
    for paid in ({"founding"}, {"second", "held out"}, {"nobody"}):
        expected = [known.get(name) in paid for name in asked]
        assert roll.are_in(packed(asked), paid).tolist() == expected
    assert [roll.cohort_of(name) for name in asked] == [known.get(name) for name in asked]
    new = np.unique(packed(asked)[~roll.knows(packed(asked))])
    larger = known | dict.fromkeys((name for some in blocks(new) for name in some), "second")
    joined = roll.joined(new, "second")
    sealed = b"".join(name + cohort.encode() + b"\n" for name, cohort in sorted(larger.items()))
    assert b"".join(joined.lines()) == sealed


def test_a_row_of_another_length_is_refused():
    with pytest.raises(LedgerBroken, match="no member"):
        Roll.of([(b"short", "founding")])


def test_many_members_take_little_memory():
    rng = np.random.default_rng(0)
    rows = [(rng.bytes(32), COHORTS[i % 3]) for i in range(25_000)]
    roll = Roll.of(rows)
    assert roll.names.nbytes + roll.numbers.nbytes == 34 * 25_000
    assert all(roll.cohort_of(name) == cohort for name, cohort in rows[::1000])
