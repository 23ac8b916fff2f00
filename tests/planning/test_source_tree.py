"""Which modules a module runs, and what changes its version, on a tiny package."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.planning.source_tree import SourceTree

FILES = {
    "__init__.py": "",
    "work.py": "from box import tools\nimport box.deep.inner as inner\n",
    "tools.py": "def run():\n    from . import late\n",
    "late.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from box import types\n",
    "types.py": "",
    "unused.py": "",
    "deep/__init__.py": "from .inner import VALUE\n",
    "deep/inner.py": "from ..page import TEMPLATE\nVALUE = 1\n",
    "page.py": 'TEMPLATE = "page.j2"\n',
    "pages/page.j2": "A page.",
    "pages/other.j2": "Another page.",
}
WORK = {"box.work", "box", "box.tools", "box.late", "box.deep", "box.deep.inner", "box.page"}


def package(root: Path, **changed: str) -> Path:
    for name, text in {**FILES, **changed}.items():
        file = root / "box" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "box"


def version(root: Path, **changed: str) -> str:
    return SourceTree(package(root, **changed)).version("box.work")


def test_imports_of_every_form_are_followed(tmp_path: Path) -> None:
    assert SourceTree(package(tmp_path)).closure("box.work") == WORK


def test_what_is_not_followed_counts_if_it_is_requested(tmp_path: Path) -> None:
    tree = SourceTree(package(tmp_path), not_followed=["box.deep"])
    assert tree.closure("box.work") == {"box.work", "box", "box.tools", "box.late"}
    assert tree.closure("box.work", "box.deep") == WORK


@pytest.mark.parametrize(
    ("file", "text", "moves"),
    [
        ("page.py", '"""New."""\nTEMPLATE = (  # a comment\n    "page.j2"\n)\n', False),
        ("deep/inner.py", "from ..page import TEMPLATE\nVALUE = 2\n", True),
        ("deep/inner.py", "from ..page import TEMPLATE\nVALUE = 1.0\n", True),
        ("late.py", "", True),
        ("__init__.py", "import os\n", True),
        ("types.py", "VALUE = 2\n", False),
        ("unused.py", "VALUE = 2\n", False),
        ("pages/page.j2", "A new page.", True),
        ("pages/other.j2", "Another new page.", False),
    ],
)
def test_what_moves_a_version(tmp_path: Path, file: str, text: str, moves: bool) -> None:
    old = version(tmp_path / "old")
    assert (version(tmp_path / "new", **{file: text}) != old) is moves


def test_imports_for_type_checking_are_not_part_of_the_code(tmp_path: Path) -> None:
    without = "from typing import TYPE_CHECKING\n"
    assert version(tmp_path / "old") == version(tmp_path / "new", **{"late.py": without})


def test_the_hash_does_not_depend_on_the_version_of_python(tmp_path: Path) -> None:
    """A different value here would change the identity of every release. Python 3.11, 3.12 and
    3.13 give this one, although 3.12 parses the nested format differently."""
    code = 'class A:\n    """A."""\n    def f(self, x, *, y=None):\n'
    code += '        return f"{x:{y}} é", b"1", 1.5, ..., {**x}, [i for i in x if i]\n'
    assert version(tmp_path, **{"tools.py": code}) == "03e35c4b180eae12"


def test_modules_of_other_packages_are_found_and_unknown_ones_refused(tmp_path: Path) -> None:
    tree = SourceTree(package(tmp_path))
    assert tree.closure(__name__) == {__name__}
    for name in ("box.nothing", "nothing.at.all", "sys"):
        with pytest.raises(ValueError, match=name):
            tree.version(name)
    with pytest.raises(ValueError, match=r"box\.nothing"):
        SourceTree(package(tmp_path), not_followed=["box.nothing"])
