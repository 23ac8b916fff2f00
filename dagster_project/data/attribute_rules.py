"""The rules of a schema's attributes, with one clear sentence for each fault.

`KINDS` lists what may be declared; what it means is in `attribute` and `label_columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any

from dagster_project.data.attribute import FALLBACK, MISSING, TRUTH, Attribute
from dagster_project.data.label_columns import LabelColumn
from dagster_project.data.raw_values import AGE_UNITS, EPOCH, Spellings, category_text
from dagster_project.data.rules import SchemaError, flag, one_of, plain_name, section
from dagster_project.data.table_format import STANDARD, TableFormat
from dagster_project.data.table_rules import column_name, texts

MAX_CELLS = 1000
TRUE_VALUES = ("true", "t", "yes", "y", "on", "1")
FALSE_VALUES = ("false", "f", "no", "n", "off", "0")

COMMON = {"kind", "column", "missing_values", "out_of_domain"}
_SPELLED = {"aliases", "ignore_case"}
# kind: what it needs, and what it may have beside what all may have
KINDS: Mapping[str, tuple[set[str], set[str]]] = {
    "categorical": ({"categories"}, {"missing", *_SPELLED}),
    "numeric": ({"edges"}, {"missing", "integer", "suffix"}),
    "boolean": (set(), {"missing", "true_values", "false_values"}),
    "date": ({"edges"}, {"missing", "format"}),
    "age": ({"edges", "unit"}, {"missing"}),
    "labels": ({"labels"}, {"separator", "none", *_SPELLED}),
}


def attributes(name: Any, body: Any, table: TableFormat = STANDARD) -> list[Attribute]:
    """Return the attributes that one declaration makes: one, or one for each of its labels.

    Raises:
        SchemaError: Something is wrong.
    """
    name = plain_name(name, "an attribute")
    where = f"attribute {name!r}"
    allowed = set().union(COMMON, *(needed | optional for needed, optional in KINDS.values()))
    kind = section(body, where, allowed, {"kind"})["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        *most, last = KINDS
        raise SchemaError(f"{where}: kind must be {', '.join(most)} or {last}.")
    needed, optional = KINDS[kind]
    for key in sorted(needed - {"unit"}):
        if not isinstance(body.get(key), list):
            raise SchemaError(f"{where} is {kind} and needs a list of {key}.")
    section(body, f"{where} is {kind} and", COMMON | needed | optional, needed)
    fields = {
        "name": name,
        "column": column_name(body.get("column", name), f"{where}: column"),
        "missing_values": tuple(
            dict.fromkeys(
                (*texts(body.get("missing_values", []), f"{where}: missing_values"),
                 *table.missing_values)
            )
        ),
    }  # fmt: skip
    if kind == "labels":
        return _labels(where, body, fields)
    fields |= {
        "missing": flag(body.get("missing", False), f"{where}: missing"),
        "out_of_domain": body.get("out_of_domain", "drop"),
        "decimal": table.decimal,
        "thousands": table.thousands,
    }
    build = {"categorical": _categorical, "boolean": _boolean}.get(kind, _numeric)
    attribute = Attribute(**fields, **build(where, body))
    if not 2 <= attribute.size <= MAX_CELLS:
        raise SchemaError(f"{where} has {attribute.size} cells and needs 2 to {MAX_CELLS}.")
    if attribute.missing and MISSING in attribute.categories:
        raise SchemaError(f"{where}: {MISSING!r} is both a category and the extra cell.")
    _policy(where, attribute)
    _not_missing(where, attribute.categories, attribute.missing_values)
    return [attribute]


def _categorical(where: str, body: Mapping[str, Any]) -> dict[str, Any]:
    categories = _words(body["categories"], where, "category")
    return {
        "kind": "categorical",
        "form": "text",
        "categories": categories,
        **_spellings(where, body, categories),
    }


def _boolean(where: str, body: Mapping[str, Any]) -> dict[str, Any]:
    declared = {
        "false": body.get("false_values", list(FALSE_VALUES)),
        "true": body.get("true_values", list(TRUE_VALUES)),
    }
    aliases = tuple(
        (text, word) for word in TRUTH for text in texts(declared[word], f"{where}: {word}_values")
    )
    folded = [text.casefold() for text, _ in aliases]
    if (
        len(set(folded)) < len(folded)
        or ("false", "true") in aliases
        or ("true", "false") in aliases
    ):
        raise SchemaError(f"{where}: a text stands for both true and false, or twice for one.")
    return {
        "kind": "categorical",
        "form": "boolean",
        "categories": TRUTH,
        "aliases": aliases,
        "ignore_case": True,
    }


def _numeric(where: str, body: Mapping[str, Any]) -> dict[str, Any]:
    form = body["kind"]
    if form == "numeric":
        form = "integer" if flag(body.get("integer", False), f"{where}: integer") else "number"
    edges = _edges(where, body["edges"], _day if form == "date" else _finite)
    fields = {"kind": "numeric", "form": form, "edges": edges}
    if "suffix" in body:
        fields["suffix"] = column_name(body["suffix"], f"{where}: suffix")
    if form == "date" and "format" in body:
        fields["date_format"] = _date_format(body["format"], f"{where}: format")
    if form == "age":
        fields["unit"] = one_of(body["unit"], f"{where}: unit", tuple(AGE_UNITS))
        if edges and not 0 <= edges[0] <= edges[-1] < 1000:
            raise SchemaError(f"{where}: ages have up to three digits, so edges are 0 to 999.")
    if form in ("integer", "age"):
        whole = Attribute(name="", column="", **fields).whole_numbers if len(edges) > 1 else []
        if any(low >= high for low, high in whole):
            raise SchemaError(f"{where}: there is no whole number between two of the edges.")
    return fields


def _labels(where: str, body: Mapping[str, Any], fields: dict[str, Any]) -> list[Attribute]:
    labels = _words(body["labels"], where, "label")
    if not 1 <= len(labels) <= MAX_CELLS:
        raise SchemaError(f"{where} has {len(labels)} labels and needs 1 to {MAX_CELLS}.")
    separator, none = body.get("separator", "|"), body.get("none", "")
    if not isinstance(separator, str) or not 1 <= len(separator) <= 10:
        raise SchemaError(f"{where}: separator must be a text such as '|'.")
    if not isinstance(none, str) or none in labels:
        raise SchemaError(f"{where}: none must be the text of a cell without any of the labels.")
    inside = [word for word in (*labels, none) if (separator.strip() or " ") in word]
    if inside:
        raise SchemaError(f"{where}: the separator occurs within {inside[0]!r}.")
    _not_missing(where, (*labels, none), fields["missing_values"])
    policy = one_of(
        body.get("out_of_domain", "drop"), f"{where}: out_of_domain", ("drop", "ignore")
    )
    group = LabelColumn(
        **fields,
        labels=labels,
        separator=separator,
        none=none,
        ignore_others=policy == "ignore",
        **_spellings(where, body, (*labels, none) if none else labels),
    )
    return [
        Attribute(
            name=plain_name(f"{group.name}_{label}", f"{where}: the attribute of a label"),
            kind="categorical",
            form="boolean",
            column=group.column,
            categories=TRUTH,
            group=group,
            label=i,
        )
        for i, label in enumerate(labels)
    ]


def _words(given: list[Any], where: str, what: str) -> tuple[str, ...]:
    for word in given:
        if isinstance(word, bool) or not isinstance(word, str | int):
            raise SchemaError(f"{where}: the {what} {word!r:.40} must be text; quote it.")
        text = str(word)
        if not text.strip() or text != text.strip() or len(text) > 100 or not text.isprintable():
            raise SchemaError(
                f"{where}: a {what} must be 1 to 100 printable characters without outer spaces."
            )
    words = tuple(map(str, given))
    if len({category_text(word) for word in words}) < len(words):
        raise SchemaError(f"{where} lists a {what} twice.")
    return words


def _not_missing(where: str, words: Sequence[str], missing_values: Sequence[str]) -> None:
    absent = Spellings(tuple(missing_values))
    if both := [word for word in words if word and absent.find(word) is not None]:
        raise SchemaError(f"{where}: {both[0]!r:.40} is listed, and also among missing_values.")


def _spellings(where: str, body: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the checked aliases and the case rule for these words."""
    ignore_case = flag(body.get("ignore_case", False), f"{where}: ignore_case")
    if ignore_case and len({word.casefold() for word in words}) < len(words):
        raise SchemaError(f"{where}: two of the words differ only in case, which is ignored.")
    given = body.get("aliases", {})
    if not isinstance(given, Mapping):
        raise SchemaError(f"{where}: aliases must map each spelling to its word, such as M: male.")
    aliases = tuple((str(text).strip(), str(word)) for text, word in sorted(given.items(), key=str))
    for text, word in aliases:
        if word not in words:
            raise SchemaError(f"{where}: the alias {text!r:.40} stands for {word!r:.40}, which is "
                              "not listed.")  # fmt: skip
        if text in words or not text:
            raise SchemaError(f"{where}: the alias {text!r:.40} is empty or a word of its own.")
    return {"aliases": aliases, "ignore_case": ignore_case}


def _edges(where: str, given: list[Any], number: Any) -> tuple[float, ...]:
    edges = tuple(number(edge, where) for edge in given)
    if any(not low < high for low, high in pairwise(edges)):
        raise SchemaError(f"{where}: edges must increase.")
    return edges


def _finite(edge: Any, where: str) -> float:
    if isinstance(edge, bool) or not isinstance(edge, int | float):
        raise SchemaError(f"{where}: the edge {edge!r:.40} is not a number.")
    if not abs(edge) <= 1e30:  # also refuses NaN; values are kept in single precision
        raise SchemaError(f"{where}: edges must be finite and below 1e30.")
    return float(edge)


def _day(edge: Any, where: str) -> float:
    try:
        day = date.fromisoformat(edge) if isinstance(edge, str) else edge
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise SchemaError(f"{where}: the edge {edge!r:.40} is not a date such as 2020-01-31.")
    return float(day.toordinal() - EPOCH.toordinal())


def _date_format(given: Any, where: str) -> str:
    try:
        day = datetime(2001, 2, 3)
        if datetime.strptime(day.strftime(given), given).date() == day.date():
            return str(given)
    except (TypeError, ValueError):
        pass
    raise SchemaError(f"{where} must give day, month and year, such as '%d.%m.%Y'.")


def _policy(where: str, attribute: Attribute) -> None:
    policy, numeric = attribute.out_of_domain, attribute.kind == "numeric"
    known = (
        policy == "drop"
        or (policy == "clamp" and numeric)
        or (policy == MISSING and attribute.missing)
        or (
            isinstance(policy, str)
            and not numeric
            and policy.startswith(FALLBACK)
            and policy.removeprefix(FALLBACK) in attribute.categories
        )
    )
    if not known:
        other = "clamp" if numeric else "fallback:<one of the categories>"
        raise SchemaError(
            f"{where}: out_of_domain must be drop, {other}, or missing where missing is true."
        )
