"""The command line on bad input: one sentence, an exit code, nothing spent, nothing written."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.cli import main as cli
from dagster_project.cli import place
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from tests.toy_project import files_below, settings_arguments, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose ledger exists, so that any later change of it shows."""
    root = write_project(tmp_path_factory.mktemp("project"))
    Ledger.open(Population.load(root / "population.yaml")).close()
    return root


def state(root: Path) -> tuple[set[str], list[str]]:
    """All files outside the private zone, and the ledger's entries."""
    population = root / "population.yaml"
    if not population.exists():
        return files_below(root, but=(".dagster", "private")), []
    ledger = Ledger.open(Population.load(population))
    try:
        return files_below(root, but=(".dagster", "private")), [e.hash for e in ledger.entries()]
    finally:
        ledger.close()


@contextlib.contextmanager
def edited(path: Path, old: str, new: str):
    """A file with a passage replaced, for a while."""
    text = path.read_text()
    assert old in text
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=times)


@contextlib.contextmanager
def moved(path: Path, *, link: bool = False):
    """A file or folder that is away, or has a link in its place, for a while."""
    away = path.with_name(path.name + ".away")
    path.rename(away)
    if link:
        path.symlink_to(away)
    try:
        yield
    finally:
        if link:
            path.unlink()
        away.rename(path)


def run(root: Path, command: str, *more: str, data: str | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    request = ["--root", str(root), "--data", data or str(root / "data")]
    request += ["--epsilon", "3", "--delta", "1e-4", *settings_arguments(), *more]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("DAGSTER_HOME", str(root / ".dagster"))
        code = cli.main([command, *request])
    return code, out.getvalue(), err.getvalue()


def refused(root: Path, code: int, words: str, *more: str, data: str | None = None) -> None:
    """`release` and `plan` both refuse, in one sentence, and leave everything as it was."""
    for command in ("release", "plan"):
        before = state(root)
        found, out, err = run(root, command, *more, data=data)
        assert found == code, (command, err)
        lines = [line for line in err.splitlines() if line.strip()]
        assert len(lines) == 1 and lines[0].startswith("dptabimage: "), (command, err)
        assert words in lines[0], (command, err)
        if command == "release":
            assert not out
        assert state(root) == before, command


HEADER = "person,image,shape,bright,weight"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("records.csv", HEADER, "person,image,shape,bright,mass", "'weight'"),
        ("records.csv", HEADER, HEADER + ",shoe size", "columns that the schema lacks"),
        ("schema.yaml", "public: false", "public: false\ncolour: red", "colour"),
        ("schema.yaml", "n_public: 320", "n_public: -3", "n_public"),
        ("schema.yaml", "name: toys", "name: [", "schema.yaml"),
    ],
)
def test_form_of_the_data(project, file, old, new, words):
    with edited(project / "data" / file, old, new):
        refused(project, 2, words)


def test_missing_folder(project):
    refused(project, 2, "", data=str(project / "nowhere"))


def test_missing_images(project):
    with moved(project / "data" / "images"):
        refused(project, 2, "images")


def test_link_in_the_place_of_the_data(project):
    before = state(project)
    with moved(project / "data", link=True):
        for command in ("release", "plan"):
            code, _, err = run(project, command)
            assert code == 2 and "symbolic link" in err, (command, err)
    assert state(project) == before


def test_parent_folder_in_the_path(project):
    refused(project, 2, "'..'", data=str(project / "data" / ".." / "data"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon", "0"], "target_epsilon"),
        (["--epsilon", "-1"], "target_epsilon"),
        (["--epsilon", "nan"], "target_epsilon"),
        (["--epsilon", "1000"], "too large to be accounted for"),
        (["--delta", "1"], "target_delta"),
        (["--delta", "0"], "target_delta"),
        (["--set", "dp_sgd.stepz=3"], "unknown setting 'dp_sgd.stepz'"),
        (["--set", "dp_sgd.steps=-3"], "dp_sgd.steps"),
        (["--set", "dp_sgd.batch=many"], "dp_sgd.batch"),
    ],
)
def test_request_out_of_range(project, arguments, words):
    refused(project, 2, words, *arguments)


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--n", "-5"], ["--seed", "-1"]])
def test_sampling_out_of_range_is_said_before_anything_is_spent(project, arguments):
    before = state(project)
    code, out, err = run(project, "release", *arguments)
    assert (code, out) == (2, "") and "must be at least" in err and err.count("\n") == 1
    assert state(project) == before


def test_delta_that_allows_whole_records(project):
    before = state(project)
    code, out, err = run(project, "release", "--delta", "0.01")
    assert (code, out) == (3, "") and "1 / (10 x 320 people)" in err and err.count("\n") == 1
    assert state(project) == before


def test_plan_over_the_cap(project):
    refused(project, 3, "does not fit: it takes", "--epsilon", "14")


def test_anchored_ledger_that_is_gone(project):
    """Also a copy of it that is older than the anchor."""
    head = "ab" * 32
    before = state(project)
    with edited(
        project / "population.yaml", "anchor: null", f"anchor: {{entries: 9, head: '{head}'}}"
    ):
        code, _, err = run(project, "release")
        assert code == 3 and "anchored" in err and err.count("\n") == 1
        with moved(project / "ledger" / "ledger.sqlite"):
            code, out, err = run(project, "release")
            assert (code, out) == (3, "") and "is missing" in err and err.count("\n") == 1
            assert not (project / "ledger" / "ledger.sqlite").exists()
    assert state(project) == before


def test_no_population_file(project):
    with moved(project / "population.yaml"):
        refused(project, 2, "there is no population.yaml")


def test_no_ledger_yet_is_said_and_none_is_made(tmp_path):
    root = write_project(tmp_path)
    before = files_below(root)
    for arguments in (["ledger", "show"], ["lineage", "first"], ["sample", "first"]):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = cli.main([arguments[0], "--root", str(root), *arguments[1:]])
        assert code == 3 and "has no ledger yet" in err.getvalue()
    assert files_below(root) == before


def test_unknown_release_and_missing_bundle(project):
    for arguments in (["lineage", "--root", str(project), "nothing"],
                      ["sample", "--root", str(project), "nothing"],
                      ["verify", str(project / "nothing")]):  # fmt: skip
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = cli.main(arguments)
        assert code in (2, 3) and err.getvalue().count("\n") == 1, err.getvalue()


def test_check_lists_every_fault_at_once(project):
    data = project / "data"
    before = state(project)
    with moved(data / "images" / "3.png"), edited(data / "schema.yaml", "edges: [0, 1, 2, 4]",
                                                  "edges: [0, 1, 2, 4.5]"):  # fmt: skip
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(["check", "--root", str(project), "--data", str(data), "--json"])
    found = json.loads(out.getvalue())
    assert code == 0  # an odd category, an odd number and a missing picture are few of 300
    assert {reason["lost"] for reason in found["reasons"]} == {True, False}
    assert found["rows"]["kept"] == found["pictures"]["kept"] == found["rows"]["found"] - 1
    assert state(project) == before


def test_a_large_loss_is_told_and_exits_with_2(project, capsys):
    data = project / "data"
    command = ["check", "--root", str(project), "--data", str(data)]
    with edited(data / "schema.yaml", '["no", "yes"]', "[nay, yes]"):
        assert cli.main([*command, "--examples", "1"]) == 2
        told = capsys.readouterr()
        assert "PRIVATE" in told.err and "exceeds --max-lost 0.2" in told.err
        assert "bright is outside the domain" in told.out and "      row " in told.out
        assert cli.main([*command, "--max-lost", "0.9"]) == 0
        assert "      row " not in capsys.readouterr().out


def test_plan_writes_nothing_before_there_is_a_ledger(tmp_path):
    root = write_project(tmp_path)
    before = files_below(root, but=())
    code, out, _ = run(root, "plan")
    assert code == 0 and "named when the ledger exists" in out
    assert files_below(root, but=()) == before


def test_a_gpu_that_is_not_there_is_said_before_anything_is_spent(project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = state(project)
    code, _, err = run(project, "release", "--epsilon", "3", "--device", "cuda")
    assert code == 2 and "no GPU that torch can use" in err and err.count("\n") == 1
    code, _, err = run(project, "release", "--epsilon", "3", "--workers", "0")
    assert code == 2 and "workers must be at least 1" in err and err.count("\n") == 1
    assert state(project) == before


def test_an_account_without_a_name_or_home(monkeypatch):
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pwd.getpwuid", lambda uid: {}[uid])
        place.ensure_account()
        assert Path.home().is_dir() and getpass.getuser() == f"uid-{os.getuid()}"


def test_standard_output_of_a_real_process_is_json_alone(project):
    place = ["--root", str(project), "--data", str(project / "data"), "--delta", "1e-4"]
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "plan", *place, "--json",
         "--set", "dp_sgd.stepz=3"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "dptabimage: unknown setting 'dp_sgd.stepz'\n"
