"""The ledger's commands, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dagster_project.cli import main as cli
from dagster_project.cli.ask import _root_of_ledger
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from tests.ledger.toys import SHA, executed, plan, population, population_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ledger = Ledger.open(population(tmp_path))
    for name in ("first", "second"):
        ledger.reserve(plan(name), approved_by="steward", schema_public=False)
    ledger.open_reservation("first")
    ledger.begin("first", "table_model", executed(plan(), "table_model"))
    ledger.commit("first", "table_model", {"table.npz": SHA})
    ledger.close()
    return tmp_path


@pytest.fixture
def run(root: Path, capsys):
    """Runs a command in `root`: exit code, standard output, standard error."""

    def command(*words: str) -> tuple[int, str, str]:
        code = cli.main([words[0], "--root", str(root), *words[1:]])
        return (code, *capsys.readouterr())

    return command


def test_the_account_is_shown_without_an_action(run) -> None:
    code, text, _ = run("ledger")
    assert (
        code == 0
        and "cohort founding: " in text
        and "of the lifetime budget used; " in text
        and "COMMITTED" in text
    )
    assert run("ledger", "show")[1] == text
    for words in (("ledger", "--json"), ("ledger", "show", "--json")):
        account = json.loads(run(*words)[1])
        assert [row["release_id"] for row in account["timeline"]] == ["first", "second"]


def test_releases_name_cohort_and_version_and_a_person_is_told(run, root: Path) -> None:
    keyed = Population.load(root / "population.yaml").keyed_version(plan().data_version)
    code, text, _ = run("ledger")
    assert f"% of founding  data {keyed[:12]}  by steward" in text
    assert plan().data_version not in text
    (first, _) = json.loads(run("ledger", "--json")[1])["releases"]
    assert first["data_version"] == keyed and 0 < first["shares"]["founding"] < 1
    ledger = Ledger.open(Population.load(root / "population.yaml"))
    ledger.admit("first", ["12"], id_rule="integer")
    ledger.close()
    code, text, told = run("ledger", "person", "0012")
    assert code == 0 and "PRIVATE" in told and text.count("epsilon ") == 3
    assert text.startswith("cohort founding: 2 releases charged")
    assert json.loads(run("ledger", "person", "0012", "--json")[1])["cohort"] == "founding"
    assert "ever seen" in run("ledger", "person", "13")[1]


def test_a_root_may_stand_before_or_after_the_action(root: Path, capsys) -> None:
    for words in (["--root", str(root), "verify"], ["verify", "--root", str(root)]):
        assert cli.main(["ledger", *words]) == 0
        assert "verified" in capsys.readouterr().out


def test_an_abandoned_reservation_is_given_back(run, root: Path) -> None:
    code, text, _ = run("ledger", "void", "second")
    assert code == 0 and "refunded to founding" in text
    assert "VOID" in run("ledger")[1]
    for name, words in (("first", "never opened"), ("third", "no release")):
        code, _, error = run("ledger", "void", name)
        assert code == 3 and words in error and error.count("\n") == 1


def test_a_cohort_is_opened_once_by_somebody(run, root: Path) -> None:
    arguments = ("ledger", "add-cohort", "newcomers", "--n-public", "90", "--approved-by", "me")
    assert run(*arguments)[0] == 0
    assert run(*arguments)[0] == 3
    assert "cohort newcomers" in run("ledger")[1]
    entry = Ledger.open(Population.load(root / "population.yaml")).entries()[-1]
    assert entry.body == {"cohort": "newcomers", "n_public": 90, "approved_by": "me"}
    with pytest.raises(SystemExit):
        run("ledger", "add-cohort", "nobody", "--n-public", "90")


def test_an_export_is_verified_without_the_database(run, root: Path, capsys) -> None:
    lines = run("ledger", "export")[1]
    export = root / "chain.jsonl"
    export.write_text(lines)
    assert run("ledger", "anchor")[0] == 0
    code, text, _ = run("ledger", "verify", "--file", str(export), "--json")
    assert code == 0 and json.loads(text)["entries"] == len(lines.splitlines()) == 7
    elsewhere = root / "auditor"
    elsewhere.mkdir()
    assert cli.main(["ledger", "verify", "--root", str(elsewhere), "--file", str(export)]) == 0
    assert not list(elsewhere.iterdir())
    capsys.readouterr()
    export.write_text(lines.replace("steward", "someone"))
    code, _, error = run("ledger", "verify", "--file", str(export))
    assert code == 3 and "entry 3 " in error
    export.write_text("\n".join(lines.splitlines()[:-1]))
    code, _, error = run("ledger", "verify", "--file", str(export))
    assert code == 3 and "anchored" in error
    assert run("ledger", "verify", "--file", str(root / "none"))[0] == 2


def test_a_page_is_written(run, root: Path) -> None:
    code, text, _ = run("lineage", "first", "--html", str(root / "page.html"))
    assert code == 0 and "page.html" in text
    assert (
        "Lineage of" in (root / "page.html").read_text()
        and "steward" in (root / "page.html").read_text()
    )
    assert run("lineage", "first", "--public", "--html", str(root / "page.html"))[0] == 0
    assert "steward" not in (root / "page.html").read_text()


def test_the_private_zone_ends(run, root: Path) -> None:
    private = root / "private" / "first"
    private.mkdir(parents=True)
    (private / "counts.json").write_text("{}")
    assert run("private", "purge")[0] == 2
    assert run("private", "purge", "first", "--older-than", "3")[0] == 2
    code, text, _ = run("private", "purge", "--older-than", "1")
    assert code == 0 and "nothing is old enough" in text and private.exists()
    code, text, _ = run("private", "purge", "first")
    assert code == 0 and "files deleted: 1" in text and "what was spent stays spent" in text
    assert not private.exists()
    assert run("private", "purge", "unknown")[0] == 3


def test_retention_is_read_from_the_settings(run, root: Path) -> None:
    population_file(root, retention_days=30)
    (root / "private" / "first").mkdir(parents=True)
    code, text, _ = run("private", "purge", "--json")
    assert code == 0 and json.loads(text) == {"releases": [], "errors": 0}
    population_file(root, retention_days=0)
    assert run("private", "purge")[0] == 2


def test_a_bundle_that_claims_another_population_is_held_against_its_project(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a forged name would be enough to escape the comparison with the ledger."""
    monkeypatch.chdir(root)

    def found(bundle: Path, population: str) -> Path | None:
        return _root_of_ledger(SimpleNamespace(root=None, bundle=bundle), population)

    own, foreign = root / "releases" / "first", root / "copies" / "theirs" / "first"
    assert found(own, "others") == found(own, "toy") == found(foreign, "toy") == root
    assert found(foreign, "others") is None
