"""The one spelling of an id, and who is held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.data.persons import canonical_id, is_held_out
from dagster_project.data.schema import Schema, SchemaError
from tests.data.test_reading import read
from tests.data.toys import SCHEMA, columns, shades, write

KEY = bytes(range(32))


def test_canonical_ids():
    assert canonical_id("  Zoe\u0308 ") == canonical_id("Zoë") == "Zoë"
    assert canonical_id(7) == canonical_id(7.0) == canonical_id("7") == "7"
    for rule in ("exact", "integer"):
        for absent in (None, "", "  ", float("nan")):
            assert canonical_id(absent, rule) is None


@given(st.integers(0, 10**12), st.integers(0, 5))
def test_leading_zeros_say_nothing_only_by_the_schemas_rule(number: int, zeros: int):
    text = "0" * zeros + str(number)
    assert canonical_id(text, "integer") == canonical_id(number, "integer") == str(number)
    assert (canonical_id(text) == canonical_id(number)) == (zeros == 0)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_canonical_id_is_its_own(text: str):
    for rule in ("exact", "integer"):
        once = canonical_id(text, rule)
        assert once is None or canonical_id(once, rule) == once


def test_held_out_people_stay_held_out_whatever_else_changes():
    def share_of(share: float, key: bytes = KEY) -> np.ndarray:
        return np.array([is_held_out(f"person-{i}", key=key, share=share) for i in range(2000)])

    mask = share_of(0.2)
    assert abs(mask.mean() - 0.2) < 0.04
    assert (share_of(0.4) | ~mask).all()
    assert (share_of(0.2, bytes(32)) != mask).any()
    assert not share_of(0.0).any() and share_of(1.0).all()


def test_the_schema_says_which_ids_are_one_person(tmp_path):
    content = SCHEMA.to_dict()
    assert content["person_id_rule"] == "exact"
    by_number = Schema.from_dict(content | {"person_id_rule": "integer"})
    assert by_number.hash != SCHEMA.hash and Schema.from_dict(by_number.to_dict()) == by_number
    with pytest.raises(SchemaError, match="person_id_rule"):
        Schema.from_dict(content | {"person_id_rule": "fuzzy"})
    folder = write(tmp_path / "data", columns(4, id={0: "12", 1: "0012", 2: "012x", 3: "12x"}))
    assert len(read(folder)[0]) == 4
    train, _, counts = read(folder, by_number)
    assert len(train) == 3
    assert counts.reasons["another row of the same person was chosen"] == 1


def test_only_admitted_people_train(tmp_path):
    folder = write(tmp_path / "data", columns(6))
    told = []

    def admit(people, held_out):
        told.append((list(people), list(held_out)))
        return np.array([person in ("p1", "p4") for person in people])

    train, _, counts = read(folder, admit=admit)
    assert shades(train) == [1, 4]
    assert told == [([f"p{i}" for i in range(6)], [])]
    assert counts.reasons["person outside the release's cohorts: row dropped"] == 4
    told.clear()
    read(folder, admit=admit, heldout_key=KEY, heldout_share=0.5)
    ((people, held_out),) = told
    assert sorted(people + held_out) == [f"p{i}" for i in range(6)] and held_out
