"""The tree's own rules: the library knows no orchestration, and Dagster finds the project."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, AssetSelection, Definitions, asset

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dagster_project"
LIBRARY = ("evaluation", "image", "importing", "pairs", "privacy", "release", "table")
ORCHESTRATION = {"dagster", "dvc", "great_expectations", "mlflow"}
MODULES = sorted(path for part in LIBRARY for path in (PACKAGE / part).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_library_file_names_no_orchestration(path: Path) -> None:
    assert not imported(path) & ORCHESTRATION


def test_importing_the_library_loads_no_orchestration() -> None:
    """Also what comes in by a detour, which no reading of one file shows."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
    ]
    script = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
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
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text().splitlines():
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
