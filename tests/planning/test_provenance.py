"""The version of a release or stage depends on the code that it runs, and on nothing else."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

import dagster_project
from dagster_project import audits, benchmark, cli, example, importers
from dagster_project.audits import faults
from dagster_project.evaluation import plots
from dagster_project.image import features, perceptual
from dagster_project.ledger import state
from dagster_project.orchestration import assets
from dagster_project.orchestration.definitions import definitions
from dagster_project.pipeline import mean_pairs, order
from dagster_project.pipeline.order import RELEASED, release_code
from dagster_project.planning.provenance import LEDGER, code_version, source_tree
from dagster_project.planning.source_tree import SourceTree
from dagster_project.privacy import noise
from dagster_project.release import card

PACKAGE = Path(inspect.getfile(dagster_project)).parent
STAGES = {stage.name for stage in order.STAGES} - {"dataset", "privacy_plan"}
WITHOUT_FEATURES = {"pairs", "minimum_people", "subsample", "budget_lineage"}
# Public pre-training takes one-way marginals from the module that makes the mean pairs.
BEFORE_MEAN_PAIRS = {
    "pairs", "minimum_people", "public_images", "table_model", "semantic_query", "budget_lineage",
}  # fmt: skip
FUTURE = "from __future__ import annotations\n"

Change = Callable[[ModuleType, Callable[[str], str]], set[str]]


def versions(tree: SourceTree) -> dict[str, str]:
    """Of every stage, and of a release."""
    runs = {stage.name: [stage.module] for stage in order.STAGES if stage.verb}
    runs["budget_lineage"] = [LEDGER]
    return {"release": tree.version(*RELEASED)} | {
        name: tree.version(f"{assets.__name__}.{name}", *runs.get(name, [])) for name in STAGES
    }


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return versions(source_tree())


@pytest.fixture
def moved(tmp_path: Path, before: dict[str, str]) -> Change:
    """Changes a file of a copy of the package and names what has another version since."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = Path(shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=ignored))

    def change(module: ModuleType, edit: Callable[[str], str]) -> set[str]:
        file = copy / Path(inspect.getfile(module)).relative_to(PACKAGE)
        text = file.read_text()
        file.write_text(edit(text))
        assert file.read_text() != text
        after = versions(source_tree(copy))
        return {name for name in before if after[name] != before[name]}

    return change


def commented(text: str) -> str:
    return text.replace(FUTURE, f"{FUTURE}\n# Another comment.\n", 1)


def described(text: str) -> str:
    return text.replace('"""', '"""Another first sentence. ', 1)


def reformatted(text: str) -> str:
    return text.replace("(\n", "(\n\n").replace(") -> None:\n", ")  ->  None :\n")


def coded(text: str) -> str:
    return f"{text}\n_ADDED = 1\n"


@pytest.mark.parametrize("edit", [commented, described, reformatted], ids=lambda e: e.__name__)
@pytest.mark.parametrize("module", [features, faults, noise], ids=lambda m: m.__name__)
def test_words_and_formatting_move_nothing(
    moved: Change, module: ModuleType, edit: Callable[[str], str]
) -> None:
    assert moved(module, edit) == set()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (faults, set()),
        (features, {"release", *STAGES} - WITHOUT_FEATURES),
        (perceptual, {"release", *STAGES} - BEFORE_MEAN_PAIRS),
        (noise, {"release", *STAGES} - {"pairs", "budget_lineage"}),
        (state, {"budget_lineage"}),
        (card, {"release", "synthetic_release", "fidelity_report"}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, ModuleType) else "",
)
def test_a_line_of_code_moves_the_stages_that_run_it(
    moved: Change, module: ModuleType, expected: set[str]
) -> None:
    assert moved(module, coded) == expected


def test_the_graph_has_these_versions(before: dict[str, str]) -> None:
    graph = definitions.resolve_asset_graph()
    assert {name: graph.get(dg.AssetKey(name)).code_version for name in STAGES} == {
        name: before[name] for name in STAGES
    }
    assert release_code() == before["release"]


@pytest.mark.parametrize("guest", [audits, cli, benchmark, example, importers, assets])
def test_guests_are_no_part_of_a_release(guest: ModuleType) -> None:
    found = source_tree().closure(*RELEASED)
    assert not {name for name in found if name.startswith(guest.__name__)}
    assert noise.__name__ in found and plots.__name__ in found


def test_versions_are_found_without_loading_what_they_stand_for() -> None:
    script = (
        f"import sys; from {code_version.__module__} import code_version; "
        f"code_version({mean_pairs.__name__!r}); "
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
