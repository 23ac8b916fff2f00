"""The usual causes behind many faults at once, each with the line of schema.yaml that cures it.

A table that another program exported tends to be wrong in one way everywhere: its separator, its
encoding, its decimal sign. Nothing here decides how a file is read. `header_cause` looks at the
first line only and quotes no column that the schema does not name, so that a release may print it;
the others look at values, and what they say is private.
"""

from __future__ import annotations

import codecs
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from dagster_project.data.attribute import Attribute
from dagster_project.data.lines import (
    NOT_UTF8,
    QUOTE,
    WIDTH,
    BrokenRow,
    csv_fields,
    csv_header,
    text_lines,
)
from dagster_project.data.raw_values import day
from dagster_project.data.table_format import TableFormat, clean_name

_LINE = 2**16  # bytes of the first line that are looked at
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST = 0.5  # a cause is named if it explains at least this share of an attribute's faults


def header_cause(
    file: Path, header: list[str] | BrokenRow, needed: Sequence[str], table: TableFormat
) -> str | None:
    """Return why the header of a CSV file lacks needed columns, or None if nothing is known.

    Args:
        file: The CSV file.
        header: Its header as it is read by the declared form.
        needed: The columns that the schema names and that must be there.
        table: The declared form.
    """
    if isinstance(header, list) and set(needed) <= set(header):
        return _unnamed(file.name, header, table)
    with file.open("rb") as stream:
        # If carriage returns end the lines, what follows the first one is a record.
        line = stream.readline(_LINE).split(b"\r")[0]
    if line.startswith(codecs.BOM_UTF32_LE):
        return None
    if (line.startswith(_UTF16) or b"\0" in line) and table.encoding != "utf-16":
        return (
            f'{file.name} is encoded as UTF-16 (Excel\'s "Unicode text"): state '
            '`table: {encoding: utf-16, delimiter: "\\t"}` in schema.yaml, or save it as UTF-8.'
        )
    if table.encoding == "utf-8":
        try:
            line.decode()
        except UnicodeDecodeError:
            return (
                f"{file.name} is not UTF-8, and most likely Windows-1252: state "
                "`table: {encoding: cp1252}` in schema.yaml, or save it as UTF-8."
            )
    text = _first_line(file, table)
    if found := re.fullmatch(r'"?sep=(.)"?\s*', text, re.I):
        return (
            f"{file.name} says in Excel's first line that {found[1]!r} separates fields: state "
            f"`table: {{delimiter: {_yaml(found[1])}}}` in schema.yaml."
        )
    for separator, word in _SEPARATORS.items():
        names = {clean_name(column.strip('"')) for column in text.split(separator)}
        if separator != table.delimiter and 2 * len(set(needed) & names) > len(needed):
            return (
                f"{file.name} is separated by {word}, and the schema says {table.delimiter!r}: "
                f"state `table: {{delimiter: {_yaml(separator)}}}` in schema.yaml."
            )
    absent = sorted(set(needed) - set(header)) if isinstance(header, list) else []
    return _alike(file.name, header, absent) if isinstance(header, list) else None


def _first_line(file: Path, table: TableFormat) -> str:
    _, text = next(text_lines(file, table.encoding), (1, ""))
    return "" if isinstance(text, BrokenRow) else text[:_LINE]


def _yaml(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f'"{separator}"'


def _unnamed(name: str, header: Sequence[str], table: TableFormat) -> str | None:
    """Explain a column without a name beside all needed ones."""
    if not table.unknown([column for column in header if column == ""], ()):
        return None
    if header[0] == "":
        return (
            f"{name} begins with an index column without a name, as pandas writes it: state "
            '`table: {ignore: [""]}` in schema.yaml, or write the file with `to_csv(index=False)`.'
        )
    return (
        f"{name} has a delimiter at the end of its first line: state "
        "`table: {trailing_delimiters: true}` in schema.yaml."
    )


def _alike(name: str, header: Sequence[str], absent: Sequence[str]) -> str | None:
    """Explain names that differ only in upper and lower case."""
    cased = {column.casefold(): column for column in header}
    if found := [column for column in absent if column.casefold() in cased]:
        return (
            f"{name} spells the column {found[0]!r} as {cased[found[0].casefold()]!r}: state it in "
            "that way in schema.yaml, as `column: ...` of the attribute."
        )
    return None


def line_causes(file: Path, table: TableFormat, broken: Mapping[str, int], rows: int) -> list[str]:
    """Explain the lines of a CSV file that do not parse. Private.

    Args:
        file: The CSV file.
        table: Its declared form.
        broken: How many lines there are for each reason.
        rows: How many lines there are in all.
    """
    wide, quotes = broken.get(WIDTH.reason, 0), broken.get(QUOTE.reason, 0)
    found = []
    if foreign := broken.get(NOT_UTF8.reason, 0):
        found.append(
            f"{file.name}: {foreign:,} of {rows:,} rows are not UTF-8. If they are Windows-1252, "
            "as Western Excel writes it, state `table: {encoding: cp1252}`."
        )
    if wide and wide >= _MOST * rows and _end_empty(file, table):
        found.append(
            f"{file.name}: {wide:,} of {rows:,} rows end in a delimiter that the first line lacks, "
            "so that they have one field too many: state `table: {trailing_delimiters: true}`."
        )
    if quotes > 1 and quotes + wide >= _MOST * rows:
        found.append(
            f"{file.name}: {quotes:,} of {rows:,} lines begin or end within quotes, as texts with "
            "line breaks do: state `table: {line_breaks: true}` if only ignored columns behind the "
            "used ones hold them, or save the table as Parquet."
        )
    return found


def _end_empty(file: Path, table: TableFormat) -> bool:
    """Return whether most rows have one field more than the header, an empty one."""
    header = csv_header(file, table)
    width = len(header) if isinstance(header, list) else 0
    texts = islice(text_lines(file, table.encoding), 2, 1000)
    rows = [csv_fields(text, table) for _, text in texts if isinstance(text, str)]
    return 2 * sum(isinstance(row, list) and row[width:] == [""] for row in rows) >= len(rows)


def value_cause(attribute: Attribute, outside: Mapping[str, int]) -> str | None:
    """Explain the values outside an attribute's domain. Private: quotes values.

    Args:
        attribute: The attribute.
        outside: How many rows hold each text that does not fit.

    Returns:
        One sentence if one cause explains most of these rows, or the most frequent texts.
    """
    rows, name = sum(outside.values()), attribute.declared_name
    if not rows:
        return None
    for fits, why in _RULES[attribute.kind if attribute.kind == "categorical" else "numeric"]:
        some = Counter({text: count for text, count in outside.items() if fits(text, attribute)})
        if sum(some.values()) >= _MOST * rows:
            ((text, _),) = some.most_common(1)
            return f"{name}: {sum(some.values()):,} rows hold values such as {text!r:.60}, {why}."
    shown = ", ".join(f"{text!r:.40} ({n:,})" for text, n in Counter(outside).most_common(5))
    if any(_joined(text, attribute) for text in outside):
        shown += "; if cells hold several labels, declare `kind: labels` with a `separator`"
    return f"{name}: {rows:,} rows hold values outside the domain, most often {shown}."


def _cased(text: str, attribute: Attribute) -> bool:
    return text.casefold() in {category.casefold() for category in attribute.categories}


def _joined(text: str, attribute: Attribute) -> bool:
    parts = [part.strip() for part in re.split(r"[|;,]", text)]
    return len(parts) > 1 and any(part in attribute.categories for part in parts)


def _padded(text: str, attribute: Attribute) -> bool:
    return text.lstrip("0") in {category.lstrip("0") for category in attribute.categories}


def _matching(pattern: str) -> Callable[[str, Attribute], bool]:
    return lambda text, _attribute: re.fullmatch(pattern, text) is not None


def _absent(text: str, attribute: Attribute) -> bool:
    return text.casefold() in _ABSENT


def _unlisted(text: str, attribute: Attribute) -> bool:
    return attribute.group is not None


def _no_truth(text: str, attribute: Attribute) -> bool:
    return attribute.form == "boolean"


def _no_date(text: str, attribute: Attribute) -> bool:
    return attribute.form == "date" and math.isnan(day(text, attribute.date_format))


_ABSENT = {"na", "n/a", "nan", "nil", "none", "null", "missing", "unknown", "-", "--", "?", "."}
_WHY_ABSENT = "which often mean an absent value: list them under `missing_values`"
Rule = tuple[Callable[[str, Attribute], bool], str]
_RULES: dict[str, tuple[Rule, ...]] = {
    "categorical": (
        (_absent, _WHY_ABSENT),
        (_unlisted, "which hold labels that are not listed: add them, state the one that means "
                    "that there is none as `none`, or state `out_of_domain: ignore`"),
        (_no_truth, "which are none of the texts for true and false: list these under "
                    "`true_values` and `false_values`"),
        (_cased, "which differ from the categories only in upper and lower case: state "
                 "`ignore_case: true` for the attribute"),
        (_joined, "several labels in one cell: declare `kind: labels` with a `separator`"),
        (_padded, "which differ from the categories only in leading zeros: write the categories "
                  "as the table spells them"),
    ),
    "numeric": (
        (_absent, _WHY_ABSENT),
        (_no_date, "which are not dates in the declared form: state their `format`"),
        (_matching(r"[-+]?\d*,\d+"), "with a decimal comma: state `table: {decimal: \",\"}`"),
        (_matching(r"\d{1,3} ?[DWMY]"), "ages with a unit, as DICOM writes them: declare "
                                        "`kind: age` with a `unit`"),
        (_matching(r"\d{4}-\d\d?-\d\d?.*|\d\d?[./]\d\d?[./]\d{2,4}"),
         "which are dates: declare `kind: date`, with a `format` unless they are in ISO form"),
    ),
}  # fmt: skip
