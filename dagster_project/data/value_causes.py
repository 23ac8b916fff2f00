"""The usual causes behind values that do not fit an attribute or a person id. All private.

Each is one sentence that quotes a value and names the line of schema.yaml that cures it. `causes`
explains headers and lines, and `check` counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dagster_project.data.attribute import Attribute
from dagster_project.data.persons import canonical_id
from dagster_project.data.raw_values import day, number

_MOST = 0.5  # a cause is named if it explains at least this share of an attribute's faults
_FEW = 10  # numbers from which on their common form says something
_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
          "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%Y%m%d")  # fmt: skip
_THOUSANDS = re.compile(
    r"[-+]?\d{1,3}(?:([,.' \u2019\u00a0\u2009\u202f])\d{3})(?:\1\d{3})*(\D\d+)?"
)
_SHORTENED = re.compile(r"\d[.,]?\d*E\+\d+", re.IGNORECASE)  # as Excel shows long numbers


def value_cause(attribute: Attribute, outside: Mapping[str, int]) -> str | None:
    """Explain the values outside an attribute's domain.

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
            reason = why if isinstance(why, str) else why(list(some), attribute)
            return f"{name}: {_rows(sum(some.values()))} such as {text!r:.60}, {reason}."
    shown = ", ".join(f"{text!r:.40} ({n:,})" for text, n in Counter(outside).most_common(5))
    if any(_joined(text, attribute) for text in outside):
        shown += "; if cells hold several labels, declare `kind: labels` with a `separator`"
    elif attribute.form == "text":
        shown += "; `aliases` can map them to categories, such as {Male: m}"
    elif attribute.kind == "numeric" and any(math.isnan(number(text)) for text in outside):
        shown += "; texts that are not numbers can be listed under `missing_values`, or all values "
        shown += "be declared as `kind: categorical`"
    return f"{name}: {_rows(rows)} outside the domain, most often {shown}."


def looks_grouped(text: str, attribute: Attribute) -> bool:
    """Return whether a number's decimal sign stands where one between thousands would stand.

    >>> from types import SimpleNamespace
    >>> [looks_grouped(text, SimpleNamespace(decimal=".")) for text in ("12.345", "0.345", "1.5")]
    [True, False, False]
    """
    whole, _, rest = text.lstrip("+-").partition(attribute.decimal)
    return len(rest) == 3 and rest.isdigit() and whole.isdigit() and 0 < int(whole) < 1000


def grouped_cause(attribute: Attribute, fractions: Mapping[bool, int]) -> str | None:
    """Explain numbers that fit, but that are probably read a thousand times too small.

    Args:
        attribute: The attribute.
        fractions: How many of the numbers with a decimal sign look grouped, and how many do not.
    """
    if fractions[False] or fractions[True] < _FEW:
        return None
    other = "," if attribute.decimal == "." else "."
    return (
        f"{attribute.name}: all {fractions[True]:,} numbers with a {attribute.decimal!r} have "
        "three digits behind it: if it separates thousands, state "
        f'`table: {{thousands: "{attribute.decimal}", decimal: "{other}"}}`.'
    )


def id_causes(ids: Sequence[str], rule: str) -> list[str]:
    """Explain person ids that a program changed, or that denote one person in two spellings.

    Args:
        ids: The canonical ids.
        rule: The schema's `person_id_rule`.
    """
    found = []
    if some := [person for person in ids if _SHORTENED.fullmatch(person)]:
        found.append(
            f"person ids: {some[0]!r:.60} (and {len(some) - 1:,} others) is a long number that "
            "Excel shortened, so that different people may share one: format the column as text or "
            "as whole numbers before the export."
        )
    for cure, form in (
        ("state `person_id_rule: integer`", lambda person: canonical_id(person, "integer")),
        ("spell them alike in the table", str.casefold),
    ):
        first: dict[str | None, str] = {}
        twice = [(first[key], p) for p in ids if first.setdefault(key := form(p), p) != p]
        if twice and rule == "exact":
            one, other = twice[0]
            found.append(
                f"person ids: {one!r:.60} and {other!r:.60} count as two people (there are "
                f"{len(twice):,} such pairs): if each pair is one person, {cure}; otherwise that "
                "person has no more than half of the promised protection."
            )
    return found


def _rows(count: int) -> str:
    return "1 row holds values" if count == 1 else f"{count:,} rows hold values"


def _cased(text: str, attribute: Attribute) -> bool:
    return text.casefold() in {category.casefold() for category in attribute.categories}


def _joined(text: str, attribute: Attribute) -> bool:
    parts = [part.strip() for part in re.split(r"[|;,]", text)]
    return len(parts) > 1 and any(part in attribute.categories for part in parts)


def _padded(text: str, attribute: Attribute) -> bool:
    return text.lstrip("0") in {category.lstrip("0") for category in attribute.categories}


def _garbled(text: str, attribute: Attribute) -> bool:
    """Return whether the text is UTF-8 that was read as Windows-1252."""
    try:
        return not text.isascii() and text.encode("cp1252").decode() != text
    except UnicodeError:
        return False


def _invisible(text: str, attribute: Attribute) -> bool:
    return not text.isprintable() and _seen(text) in attribute.categories


def _seen(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _matching(pattern: str) -> Callable[[str, Attribute], bool]:
    return lambda text, _attribute: re.fullmatch(pattern, text) is not None


def _absent(text: str, attribute: Attribute) -> bool:
    return text.casefold() in _ABSENT or re.fullmatch(r"#[A-Z/0]+[?!]?", text) is not None


def _unlisted(text: str, attribute: Attribute) -> bool:
    return attribute.group is not None


def _no_truth(text: str, attribute: Attribute) -> bool:
    return attribute.form == "boolean"


def _no_date(text: str, attribute: Attribute) -> bool:
    return attribute.form == "date" and math.isnan(day(text, attribute.date_format))


def _serial(text: str, attribute: Attribute) -> bool:
    return attribute.form == "date" and re.fullmatch(r"\d{5}(\.\d+)?", text) is not None


def _format(texts: Sequence[str], attribute: Attribute) -> str:
    """Say which formats all these dates are in."""
    fit = [form for form in _DATES if not any(math.isnan(day(text, form)) for text in texts)]
    shown = " or ".join(f'`format: "{form}"`' for form in fit[:2])
    return f"which are not dates in the declared form: state {shown or 'their `format`'}"


def _no_number(text: str, attribute: Attribute) -> bool:
    return math.isnan(number(text, attribute.decimal, attribute.thousands, attribute.suffix))


def _grouped(text: str, attribute: Attribute) -> bool:
    return _no_number(text, attribute) and _THOUSANDS.fullmatch(text) is not None


def _groups(texts: Sequence[str], attribute: Attribute) -> str:
    """Say how thousands are separated, and the decimal sign if the texts show it."""
    signs = [found for text in texts if (found := _THOUSANDS.fullmatch(text))]
    mark = Counter(found[1] for found in signs).most_common(1)[0][0]
    mark = {"\u2019": "'"}.get(mark, mark if mark in ",.'" else " ")
    decimal = next((found[2][0] for found in signs if found[2]), attribute.decimal)
    decimal = decimal if decimal != mark else {",": ".", ".": ","}[mark]
    if mark == "," and attribute.decimal == "." and not any(found[2] for found in signs):
        return (
            "whose comma separates thousands or is a decimal comma: state "
            '`table: {thousands: ","}` or `table: {decimal: ","}`'
        )
    return (
        f"with separators between thousands: state "
        f'`table: {{thousands: "{mark}", decimal: "{decimal}"}}`'
    )


def _suffixed(text: str, attribute: Attribute) -> bool:
    found = _SUFFIXED.fullmatch(text)
    return found is not None and attribute.form in ("number", "integer")


def _suffix(texts: Sequence[str], attribute: Attribute) -> str:
    """Say what follows the numbers."""
    ends = Counter(found[1] for text in texts if (found := _SUFFIXED.fullmatch(text)))
    return f'with a unit behind the number: state `suffix: "{ends.most_common(1)[0][0]}"`'


_SUFFIXED = re.compile(r"[-+\u2212]?\d[\d., ]*?\s*([^\W\d_][^\d]{0,20}|[%‰°€$£][^\d]{0,5})")
_ABSENT = {"na", "n/a", "nan", "nil", "none", "null", "missing", "unknown", "-", "--", "?", "."}
_WHY_ABSENT = "which often mean an absent value: list them under `missing_values`"
Rule = tuple[Callable[[str, Attribute], bool], str | Callable[[Sequence[str], Attribute], str]]
_RULES: dict[str, tuple[Rule, ...]] = {
    "categorical": (
        (_absent, _WHY_ABSENT),
        (_garbled, "which are UTF-8 read in another encoding: state `table: {encoding: utf-8}`"),
        (_unlisted, "which hold labels that are not listed: add them, state the one that means "
                    "that there is none as `none`, or state `out_of_domain: ignore`"),
        (_no_truth, "which are none of the texts for true and false: list these under "
                    "`true_values` and `false_values`"),
        (_cased, "which differ from the categories only in upper and lower case: state "
                 "`ignore_case: true` for the attribute"),
        (_invisible, "which are categories with invisible characters: state them as `aliases`, or "
                     "remove the characters from the table"),
        (_joined, "several labels in one cell: declare `kind: labels` with a `separator`"),
        (_padded, "which differ from the categories only in leading zeros: write the categories "
                  "as the table spells them"),
    ),
    "numeric": (
        (_absent, _WHY_ABSENT),
        (_serial, "which are Excel's numbers of days: format the column as a date before the "
                  "export"),
        (_no_date, _format),
        (_grouped, _groups),
        (_matching(r"[-+]?\d*,\d+"), "with a decimal comma: state `table: {decimal: \",\"}`"),
        (_matching(r"\d{1,3} ?[DWMY]"), "ages with a unit, as DICOM writes them: declare "
                                        "`kind: age` with a `unit`"),
        (_matching(r"\d{4}-\d\d?-\d\d?.*|\d\d?[./]\d\d?[./]\d{2,4}"),
         "which are dates: declare `kind: date`, with a `format` unless they are in ISO form"),
        (_suffixed, _suffix),
    ),
}  # fmt: skip
