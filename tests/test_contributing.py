"""The worked example of CONTRIBUTING.md runs, and the documentation builds what it promises."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dagster_project.audits.probes import PROBES
from dagster_project.cli.main import build_parser
from dagster_project.planning.mechanisms import MECHANISMS
from dagster_project.settings.recipe import Recipe

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MECHANISM, TESTS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(tmp_path, monkeypatch) -> tuple[ModuleType, ModuleType]:
    """The example's two files as modules, where the guide says that they belong."""
    modules = []
    for name, code in (
        ("dagster_project.table.people_count", MECHANISM),
        ("tests.table.test_people_count", TESTS),
    ):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is removed again
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        modules.append(load(name, file))
    return modules[0], modules[1]


@pytest.mark.parametrize("name", re.findall(r"^def (test_\w+)", TESTS, re.MULTILINE))
def test_the_example_passes_its_own_tests(example, name) -> None:
    getattr(example[1], name)()


def test_the_example_is_in_a_plan_only_with_a_share(example) -> None:
    kind, request = example[0].PeopleCount, {"schema": None, "recipe": Recipe(), "mu": 0.5}
    assert kind.from_budget(**request, share=0.0) is None
    assert kind.from_budget(**request, share=0.25).sigma == pytest.approx(4.0)


def test_every_mechanism_has_a_probe_with_a_fault() -> None:
    assert set(PROBES) == set(MECHANISMS)
    for probe in PROBES.values():
        assert probe.faulty or probe.weak


def test_every_command_and_setting_is_in_the_reference() -> None:
    hooks = load("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    commands, settings = hooks.commands(), hooks.settings()
    for name in next(action.choices for action in build_parser()._actions if action.choices):
        assert f"## dptabimage {name}" in commands
    for section, content in Recipe().model_dump().items():
        for field in content if isinstance(content, dict) else ("",):
            assert f"`{section}.{field}`".replace(".`", "`") in settings


def test_the_documentation_is_read_where_it_is_published() -> None:
    """Relative links between pages hold in the repository; the build checks them in the site."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+\.(?:md|svg|png))", page.read_text()):
            if not target.startswith("http") and not re.search(r"reference/|contributing", target):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
