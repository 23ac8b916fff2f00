"""The population file and its anchor."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.ledger import Head, KeyLost
from dagster_project.ledger.population import Population, PopulationError
from tests.ledger.toys import population, population_file

HEAD = Head(entries=12, head="ab" * 32)


def test_every_field_is_read(tmp_path: Path) -> None:
    toy = population(tmp_path)
    assert (toy.name, toy.unit, toy.relation, toy.n_public) == (
        "toy",
        "person",
        "add_remove",
        20000,
    )
    assert (toy.lifetime_epsilon, toy.target_delta, toy.anchor) == (5.0, 1e-6, None)
    assert toy.ledger_url == f"sqlite:///{tmp_path.resolve()}/ledger/ledger.sqlite"
    with pytest.raises(KeyLost):
        toy.member_key()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"population": None}, "lacks 'population'"),
        ({"population": "a b"}, "name"),
        ({"unit": "row"}, "person"),
        ({"relation": "replace_one"}, "add_remove"),
        ({"lifetime_epsilon": 0}, "above 0"),
        ({"lifetime_epsilon": ".inf"}, "above 0"),
        ({"lifetime_epsilon": "'much'"}, "number"),
        ({"lifetime_epsilon": "true"}, "number"),
        ({"target_delta": 1}, "below 1"),
        ({"target_delta": 0}, "above 0"),
        ({"n_public": 0}, "whole number"),
        ({"n_public": 1.5}, "whole number"),
        ({"lifetime_epsilon": 200}, "below 200"),
        ({"lifetime_epsilon": "1.0e+308"}, "below 200"),
        ({"lifetime_epsilon": 10**400}, "below 200"),
        ({"lifetime_epsilon": ".nan"}, "above 0"),
        ({"target_delta": 10**400}, "below 1"),
        ({"filter_order": 4.2}, "unknown key 'filter_order'"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"anchor": 3}, "anchor"),
        ({"anchor": "{entries: 3, head: short}"}, "anchor"),
        ({"ledger": "''"}, "path"),
        ({"ledger": "postgresql://me:secret@db/ledger"}, "password"),
        ({"n_public": "[1"}, "not YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, change, words: str) -> None:
    path = population_file(tmp_path, **change)
    with pytest.raises(PopulationError, match=words) as caught:
        Population.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "- a", "\x00"])
def test_a_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    path = tmp_path / "population.yaml"
    path.write_text(content)
    with pytest.raises(PopulationError):
        Population.load(path)
    with pytest.raises(PopulationError, match="cannot be read"):
        Population.load(tmp_path / "none.yaml")


def test_the_anchor_is_the_only_line_that_changes(tmp_path: Path) -> None:
    path = population_file(tmp_path)
    path.write_text("# our people\n" + path.read_text().replace("null\n", "null  # none\n"))
    before = path.read_text().splitlines()
    toy = Population.load(path).write_anchor(HEAD)
    after = path.read_text().splitlines()
    assert toy == Population.load(path) and toy.anchor == HEAD
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [f"anchor: {{entries: 12, head: '{HEAD.head}'}}  # none"]
    assert [item.name for item in tmp_path.iterdir()] == ["population.yaml"]


def test_an_anchor_is_added_and_never_moves_back(tmp_path: Path) -> None:
    toy = population(tmp_path, anchor=None)
    toy.write_anchor(HEAD)
    kept = toy.write_anchor(Head(entries=11, head="cd" * 32))
    assert kept.anchor == HEAD
    assert toy.write_anchor(Head(entries=13, head="cd" * 32)).anchor.entries == 13


def test_an_anchor_on_several_lines_is_left_alone(tmp_path: Path) -> None:
    path = population_file(tmp_path, anchor=f"\n  entries: 3\n  head: {'ab' * 32}")
    before = path.read_text()
    with pytest.raises(PopulationError, match="one line"):
        Population.load(path).write_anchor(HEAD)
    assert path.read_text() == before
