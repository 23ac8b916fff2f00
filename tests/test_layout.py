"""The tree's own rules: who may import whom, no orchestration in the library, one Dagster entry."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, AssetSelection, Definitions, asset

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dagster_project"

# From the ground up. A module may import from its own room and from the floors below.
FLOORS = (
    ("data", "settings", "compute"),
    ("privacy", "starting"),
    ("ledger", "table", "image", "importers"),
    ("public_data", "release", "evaluation", "example"),
    ("planning",),
    ("pipeline",),
    ("api", "audits", "benchmark"),
    ("orchestration",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Guests can be taken away without the rest noticing: only these rooms may import them.
GUESTS = {
    "starting": {"importers", "cli"},
    "importers": {"example", "cli"},
    "example": {"benchmark"},
    "audits": {"cli"},
    "benchmark": {"cli"},
}

ORCHESTRATION = {"dagster", "dvc", "great_expectations", "mlflow"}
BOUND = {"orchestration", "cli"}  # the rooms that may know them

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
LIBRARY = [name for name in MODULES if "." in name and name.split(".")[1] not in BOUND]


def imports(name: str) -> set[str]:
    """Full names of all that a module imports, inside functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
    return found


GRAPH = {name: imports(name) for name in MODULES}


def test_every_room_has_a_floor() -> None:
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == set(FLOOR)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("room", FLOOR)
def test_imports_lead_down(room: str) -> None:
    allowed = {room} | {other for other in FLOOR if FLOOR[other] < FLOOR[room]}
    allowed -= {guest for guest, hosts in GUESTS.items() if guest != room and room not in hosts}
    wrong = [
        f"{name} imports {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if name.startswith(f"dagster_project.{room}")
        and name.split(".")[1] == room
        and target.startswith("dagster_project.")
        and target.split(".")[1] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    own = {name: {t for t in targets if t in MODULES} for name, targets in GRAPH.items()}
    TopologicalSorter(own).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("name", LIBRARY)
def test_library_names_no_orchestration(name: str) -> None:
    assert not {target.split(".")[0] for target in GRAPH[name]} & ORCHESTRATION


def test_importing_the_library_loads_no_orchestration() -> None:
    """Also what comes in by a detour, which no reading of one file shows."""
    script = (
        "import importlib, json, sys\n"
        f"for name in {LIBRARY!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "dagster_project" in loaded
    assert not loaded & ORCHESTRATION


def test_string_asset_selections_parse() -> None:
    """They fail with every antlr but 4.13, and a plain dependency resolution takes 4.9."""

    @asset
    def pairs() -> None: ...

    graph = Definitions(assets=[pairs]).resolve_asset_graph()
    assert AssetSelection.from_string("*").resolve(graph) == {AssetKey("pairs")}


def test_workspace_points_to_an_importable_module() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    target = workspace["load_from"][0]["python_module"]
    assert (ROOT / target["working_directory"]).resolve() == ROOT
    assert find_spec(target["module_name"]) is not None


def test_pyproject_leaves_workspace_yaml_in_force() -> None:
    """With a [tool.dagster] or [tool.dg] block `dagster dev` ignores workspace.yaml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert not {"dagster", "dg"} & set(project["tool"])


def test_locks_are_exact_and_agree_with_pyproject() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked: dict[str, str] = {}
    for name in ("", "-dev", "-ray", "-deploy"):
        for line in (ROOT / f"requirements{name}.lock").read_text().splitlines():
            if line and not line.startswith("#"):
                package, version = line.split("==")
                assert canonicalize_name(package) not in locked
                locked[canonicalize_name(package)] = version
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    locked["torch"] = setup.split("TORCH=torch==")[1].split()[0]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier
        for extra in requirement.extras:  # psycopg's drivers bear the extra's name
            parts = f"{requirement.name}-{extra}"
            assert locked[parts] in requirement.specifier
