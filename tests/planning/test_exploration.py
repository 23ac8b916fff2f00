"""What is said of several values of epsilon before anything is spent, from public numbers alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dagster_project.cli import main as cli
from dagster_project.data.schema import Schema
from dagster_project.ledger.population import Population
from dagster_project.planning import measured
from dagster_project.planning.exploration import Outlook, as_text, conclusion, explore
from dagster_project.release.verdict import judge
from dagster_project.settings.presets import preset
from tests.ledger.toys import population_file
from tests.toy_project import files_below, write_project

FACES = Schema.from_dict(
    {
        "name": "faces",
        "person_id": "person",
        "n_public": 350,
        "image": {"column": "image", "channels": 3, "height": 32, "width": 32},
        "attributes": {
            "sex": {"kind": "categorical", "categories": ["f", "m"]},
            "age": {"kind": "numeric", "edges": [0, 20, 40, 60, 90]},
            "glasses": {"kind": "categorical", "categories": ["no", "yes"]},
        },
    }
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Population:
    folder = tmp_path_factory.mktemp("people")
    return Population.load(
        population_file(folder, lifetime_epsilon=10.0, target_delta=1e-5, n_public=350)
    )


@pytest.fixture(scope="module")
def few(people: Population) -> tuple[Outlook, ...]:
    return explore(FACES, people, preset("default"), delta=1e-5, epsilons=(1, 8))


def test_350_portraits_never_serve_as_pictures(few: tuple[Outlook, ...]) -> None:
    assert [one.verdict.level for one in few] == ["will not serve"] * 2
    assert "its table may still serve" in conclusion(few)
    assert few[1].verdict.noise > 3 and few[1].verdict.group == 131


def test_the_way_to_real_pairs_is_quoted_only_beside_a_measurement(
    few: tuple[Outlook, ...],
) -> None:
    assert [one.measured for one in few] == [(), ()]
    assert as_text(few).count(measured.NONE) == 2
    default, generator = ({"sampler": {"model": name}} for name in ("two_scale", "generator"))
    found = measured.beside(7_000, 2.0, default)
    assert measured.in_words(found) == "51 to 92 % (drawn radiographs, garments, letters)"
    assert measured.in_words(measured.beside(20_000, 1.0, generator)).startswith("90 % (garments")
    assert not measured.beside(20_000, 0.1, default)


def test_measurements_are_those_of_the_results() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    for one in measured.MEASUREMENTS:
        for figure in (one.auc, one.real):
            assert f"{figure:.3f}".strip("0") in text, one


def test_twenty_thousand_serve_where_they_did_on_public_data(people: Population) -> None:
    (found,) = explore(
        replace(FACES, n_public=20_000), people, preset("default"), delta=1e-6, epsilons=(3,)
    )
    assert found.verdict.level == "will serve"
    assert conclusion([found]) == "From epsilon 3 on, a release will serve as pictures."


def test_a_larger_epsilon_gives_more_and_costs_more(few: tuple[Outlook, ...]) -> None:
    small, large = few
    assert small.two_way > large.two_way > large.one_way > 0
    assert small.true_positives < large.true_positives
    assert small.right_guess == pytest.approx(0.7311, abs=1e-3)
    assert 0 < small.share < large.share < 1
    assert small.such_releases > 40 > large.such_releases == 1
    assert small.releases_left > large.releases_left


def test_what_is_spent_is_no_longer_there(people: Population) -> None:
    spent = 0.9 * people.cap
    one, eight = explore(FACES, people, preset("default"), delta=1e-5, epsilons=(1, 8), spent=spent)
    assert one.fits and one.such_releases == 5 and not eight.fits and eight.such_releases == 0
    assert conclusion([eight]) == "None of these releases fits the lifetime budget that is left."


def test_without_mean_pictures_only_many_people_could_teach() -> None:
    few, many = (
        judge(FACES, n_public=n, epsilon=1.0, settings={}, mechanisms=[])
        for n in (20_000, 2_000_000)
    )
    assert (few.level, many.level) == ("will not serve", "may serve")


def test_the_command_prints_writes_a_page_and_leaves_the_folder_alone(tmp_path, capsys) -> None:
    root = write_project(tmp_path / "project")
    before = files_below(root)
    place = ["plan", "--root", str(root), "--data", str(root / "data"), "--delta", "1e-4"]
    page = tmp_path / "page.html"
    assert cli.main([*place, "--explore", "--json", "--html", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["epsilon"] for one in found["outlooks"]] == [0.5, 1, 2, 3, 5, 8, 10]
    text = page.read_text()
    assert found["conclusion"] in text
    assert "prefers-color-scheme: dark" in text and "http" not in text and "<script" not in text
    assert files_below(root) == before


class Terminal:
    """Standard input at which somebody sits and answers."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._answer


def test_a_terminal_is_asked_before_it_spends(tmp_path, capsys, monkeypatch) -> None:
    root = write_project(tmp_path)
    words = ["release", "--root", str(root), "--data", str(root / "data"), "--delta", "1e-4"]
    with pytest.raises(SystemExit) as refused:
        cli.main(words)
    assert refused.value.code == 2 and "--epsilon" in capsys.readouterr().err
    for answer in ("", "later\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert cli.main([*words, "--epsilon", "2"]) == 2
        asked = capsys.readouterr().err
        assert "of the lifetime budget of cohort 'founding'" in asked and "[y/N]" in asked
        assert "will not serve as pictures" in asked and "nothing was spent" in asked
    assert not {"private", "models", "releases"} & {path.name for path in root.iterdir()}


@pytest.mark.parametrize(("answer", "more"), [("y\n", []), ("n\n", ["--yes"])])
def test_a_yes_goes_on(tmp_path, monkeypatch, answer: str, more: list[str]) -> None:
    root, ran = write_project(tmp_path), []
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr(
        "dagster_project.cli.release._run_job",
        lambda *_: (ran.append(1), (None, [(4, "stopped")]))[1],
    )
    words = ["release", "--root", str(root), "--data", str(root / "data"), "--delta", "1e-4"]
    assert cli.main([*words, "--epsilon", "2", *more]) == 4 and ran
