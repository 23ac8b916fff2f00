"""The modules of a package that a module runs, found by following imports, and their code's hash.

The hash does not depend on comments, docstrings and formatting. Nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class _Source:
    """A parsed module: the digest of its code, and the modules and data files it refers to."""

    digest: bytes
    imports: frozenset[str]
    data: frozenset[str]


class SourceTree:
    """The source of one package.

    A module runs itself, every module of the package that it imports directly or indirectly, and
    the `__init__` of each package that contains one of these. Imports inside functions count;
    code under `if TYPE_CHECKING` does not, because it never runs. A data file of the package, such
    as a template, counts if a string in one of these modules equals its name.

    Two things are not detected: modules imported under a computed name, which must be requested
    explicitly, and third-party packages, whose versions are in the lock file.

    Args:
        package: Folder of the package.
        not_followed: Modules and packages that count only if they are requested explicitly, not
            if another module imports them.

    Raises:
        ValueError: If a name in `not_followed` is not a module of the package.
    """

    def __init__(self, package: Path, *, not_followed: Sequence[str] = ()) -> None:
        self._not_followed = tuple(not_followed)
        self._modules: dict[str, Path] = {}
        self._data: dict[str, list[Path]] = {}
        self._folder = package.parent
        self._sources: dict[str, _Source] = {}
        for file in sorted(package.rglob("*")):
            if file.suffix == ".py":
                self._modules[_dotted(file.relative_to(self._folder))] = file
            elif file.suffix != ".pyc" and file.is_file():
                self._data.setdefault(file.name, []).append(file)
        if unknown := set(not_followed) - set(self._modules):
            raise ValueError(f"no such module in {package.name}: {', '.join(sorted(unknown))}")

    def closure(self, *modules: str) -> frozenset[str]:
        """Return the names of all modules that the given ones run, including themselves.

        Raises:
            ValueError: If there is no such module.
        """
        left_out = tuple(name for name in self._not_followed if name not in modules)
        found: set[str] = set()
        open_ends = list(modules)
        while open_ends:
            module = open_ends.pop()
            if module not in found:
                found.add(module)
                open_ends += [
                    name
                    for name in self._source(module).imports
                    if not any(f"{name}.".startswith(f"{part}.") for part in left_out)
                ]
        return frozenset(found)

    def version(self, *modules: str) -> str:
        """Return 16 hexadecimal digits that change with the code that the modules run.

        They are the same under Python 3.11, 3.12 and 3.13.

        Raises:
            ValueError: If there is no such module.
        """
        digest = hashlib.sha256()
        data: set[str] = set()
        for module in sorted(self.closure(*modules)):
            source = self._source(module)
            digest.update(module.encode() + b"\0" + source.digest)
            data |= source.data
        for file in sorted(file for name in data for file in self._data[name]):
            content = hashlib.sha256(file.read_bytes()).digest()
            digest.update(file.name.encode() + b"\0" + content)
        return digest.hexdigest()[:16]

    def _source(self, module: str) -> _Source:
        if module not in self._sources:
            file = self._modules.get(module) or _elsewhere(module)
            code = _Code(module if file.name == "__init__.py" else module.rpartition(".")[0])
            code.visit(ast.parse(file.read_bytes()))
            used = {name for name in code.imports if name in self._modules} | {module}
            self._sources[module] = _Source(
                digest=hashlib.sha256("\n".join(code.tokens).encode()).digest(),
                imports=frozenset(self._with_packages(used) - {module}),
                data=frozenset(code.strings & self._data.keys()),
            )
        return self._sources[module]

    def _with_packages(self, modules: Iterable[str]) -> set[str]:
        parents = {
            name[:end] for name in modules for end, letter in enumerate(name) if letter == "."
        }
        return set(modules) | (parents & self._modules.keys())


class _Code:
    """A visitor that records the code of a syntax tree.

    Attributes:
        tokens: The tree as text in the manner of `ast.dump`, without positions, docstrings and
            empty fields. Empty fields are what differs between versions of Python.
        imports: Absolute dotted names that may be modules.
        strings: String constants.
    """

    def __init__(self, package: str) -> None:
        self._package = package.split(".")
        self.tokens: list[str] = []
        self.imports: set[str] = set()
        self.strings: set[str] = set()

    def visit(self, value: object) -> None:
        if isinstance(value, list):
            self.tokens.append("[")
            for part in value:
                self.visit(part)
            self.tokens.append("]")
        elif isinstance(value, ast.AST):
            self._visit_node(value)
        else:
            self.tokens.append(ascii(value))

    def _visit_node(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            self.tokens.append(ascii(node.value))
            if isinstance(node.value, str):
                self.strings.add(node.value)
            return
        if isinstance(node, ast.Expr) and _is_text(node.value):
            return
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for statement in node.orelse:
                self.visit(statement)
            return
        if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty constants to some
            node.values = [
                part
                for part in node.values
                if not (isinstance(part, ast.Constant) and part.value == "")
            ]
        if isinstance(node, ast.Import):
            self.imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            self._note_from(node)
        self.tokens.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if value is not None and value != [] and not isinstance(value, ast.expr_context):
                self.tokens.append(field)
                self.visit(value)
        self.tokens.append(".")

    def _note_from(self, node: ast.ImportFrom) -> None:
        start = self._package[: len(self._package) + 1 - node.level] if node.level else []
        base = ".".join([*start, *([node.module] if node.module else [])])
        self.imports |= {base} | {f"{base}.{alias.name}" for alias in node.names}


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _dotted(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _elsewhere(module: str) -> Path:
    """Return the file of a module outside the package, such as a plug-in."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise ValueError(f"no source was found for module {module}")
    return Path(str(spec.origin))
