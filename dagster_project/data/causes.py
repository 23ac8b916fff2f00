"""The usual causes behind many faults at once, each with the line of schema.yaml that cures it.

A table that another program exported tends to be wrong in one way everywhere: its separator, its
encoding, its decimal sign. Nothing here decides how a file is read. `header_cause` looks at the
first line only and quotes no column that the schema does not name, so that a release may print it;
the others look at values, and what they say is private.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dagster_project.data.schema import Attribute

_LINE = 2**16  # bytes of the first line that are looked at
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST = 0.5  # a cause is named if it explains at least this share of an attribute's faults


def header_cause(file: Path, wanted: Sequence[str], *, optional: str = "") -> str | None:
    """Return why the first line of a CSV file lacks wanted columns, or None if nothing is known.

    Args:
        file: The CSV file.
        wanted: The columns that the schema names.
        optional: The one of them that may be absent.
    """
    with file.open("rb") as stream:
        line = stream.readline(_LINE)
    name = file.name
    if line.startswith(_UTF16) or b"\0" in line:
        return (
            f'{name} is encoded as UTF-16 (Excel\'s "Unicode text"): save it as UTF-8, or state '
            "`table: {encoding: utf-16}`, and its delimiter, in schema.yaml."
        )
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return (
            f"{name} is not UTF-8, and most likely Windows-1252: save it as UTF-8, or state "
            "`table: {encoding: cp1252}` in schema.yaml."
        )
    if re.fullmatch(r"sep=.", text):
        return f"{name} begins with Excel's line {text!r}, which is no header: delete this line."
    needed = set(wanted) - {optional}
    columns = _names(text, ",")
    if needed <= set(columns):
        return _unnamed(name, columns, wanted)
    for separator, word in _SEPARATORS.items():
        if len(needed & {column.strip() for column in _names(text, separator)}) * 2 > len(needed):
            return (
                f"{name} is separated by {word}, not commas: state "
                f"`table: {{delimiter: {_yaml(separator)}}}` in schema.yaml."
            )
    return _alike(name, columns, sorted(needed - set(columns)))


def _names(text: str, separator: str) -> list[str]:
    return [column.strip('"') for column in text.split(separator)]


def _yaml(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f'"{separator}"'


def _unnamed(name: str, columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Explain a column without a name beside all wanted ones."""
    if columns[0] in ("", "Unnamed: 0"):
        return (
            f"{name} begins with an index column without a name, as pandas writes it: write the "
            "file with `to_csv(index=False)`, or list the column under `table: {ignore: [...]}` "
            "in schema.yaml."
        )
    if columns[-1] == "":
        return f"{name} has a comma at the end of its first line: remove the empty last column."
    if set(columns) - set(wanted):
        return (
            f"{name} has {len(set(columns) - set(wanted))} columns that the schema lacks: "
            "list those to leave out under `table: {ignore: [...]}` in schema.yaml."
        )
    return None


def _alike(name: str, columns: Sequence[str], absent: Sequence[str]) -> str | None:
    """Explain names that differ only in outer spaces or in case."""
    spaced = {column.strip(): column for column in columns if column != column.strip()}
    if found := [column for column in absent if column in spaced]:
        return (
            f"{name} has spaces around the names of its columns, such as {spaced[found[0]]!r} for "
            f"{found[0]!r}: remove them from the first line."
        )
    cased = {column.casefold(): column for column in columns}
    if found := [column for column in absent if column.casefold() in cased]:
        other = cased[found[0].casefold()]
        return (
            f"{name} calls the column {found[0]!r} {other!r}: names must agree in upper and lower "
            "case."
        )
    return None


def width_cause(file: str, wide: int, rows: int) -> str | None:
    """Explain rows of one field more than the header, the last one empty. Private."""
    if rows and wide >= _MOST * rows:
        return (
            f"{file}: {wide} of {rows} rows end in a comma that the first line lacks, so that they "
            "have one field too many: remove the commas at the ends of the rows."
        )
    return None


def value_cause(attribute: Attribute, outside: Mapping[str, int]) -> str | None:
    """Explain the values outside an attribute's domain. Private: quotes values.

    Args:
        attribute: The attribute.
        outside: How many rows hold each text that does not fit.

    Returns:
        One sentence if one cause explains most of these rows, or the most frequent texts.
    """
    rows, name = sum(outside.values()), attribute.name
    if not rows:
        return None
    for fits, why in _RULES[attribute.kind if attribute.kind == "categorical" else "numeric"]:
        some = Counter({text: count for text, count in outside.items() if fits(text, attribute)})
        if sum(some.values()) >= _MOST * rows:
            ((text, _),) = some.most_common(1)
            return f"{name}: {sum(some.values())} rows hold values such as {text!r:.60}, {why}."
    shown = ", ".join(f"{text!r:.40} ({n})" for text, n in Counter(outside).most_common(5))
    return f"{name}: {rows} rows hold values outside the domain, most often {shown}."


def _cased(text: str, attribute: Attribute) -> bool:
    return text.casefold() in {category.casefold() for category in attribute.categories}


def _floats(text: str, attribute: Attribute) -> bool:
    return text.endswith(".0") and text[:-2] in attribute.categories


def _joined(text: str, attribute: Attribute) -> bool:
    parts = [part.strip() for part in re.split(r"[|;,]", text)]
    return len(parts) > 1 and any(part in attribute.categories for part in parts)


def _padded(text: str, attribute: Attribute) -> bool:
    return text.lstrip("0") in {category.lstrip("0") for category in attribute.categories}


def _matching(pattern: str) -> Callable[[str, Attribute], bool]:
    return lambda text, _attribute: re.fullmatch(pattern, text) is not None


Rule = tuple[Callable[[str, Attribute], bool], str]
_RULES: dict[str, tuple[Rule, ...]] = {
    "categorical": (
        (_cased, "which differ from the categories only in upper and lower case: write the "
                 "categories in schema.yaml as the table spells them"),
        (_floats, "whole numbers written with a decimal point, as pandas writes a column with "
                  "gaps: write the categories in schema.yaml in that way, or the column without"),
        (_joined, "several labels in one cell: declare the attribute in schema.yaml as one of "
                  "several labels, a yes/no column for each"),
        (_padded, "which differ from the categories only in leading zeros: quote the categories "
                  "in schema.yaml, since YAML reads 010 as the number 8"),
    ),
    "numeric": (
        (_matching(r"[-+]?\d*,\d+"), "with a decimal comma: state `table: {decimal: \",\"}` in "
                                     "schema.yaml"),
        (_matching(r"\d{3}[DWMY]"), "ages with a unit as DICOM writes them: declare the attribute "
                                    "in schema.yaml as an age"),
        (_matching(r"\d{4}-\d\d?-\d\d?.*|\d\d?[./]\d\d?[./]\d{2,4}"),
         "which are dates: declare the attribute in schema.yaml as a date"),
    ),
}  # fmt: skip
