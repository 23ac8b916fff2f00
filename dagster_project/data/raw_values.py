"""Raw values of a record as text or number, however the file stores them.

CSV and Parquet files of one table give the same texts and numbers here. Nothing raises: a value
that is neither is absent. Domains and policies belong to `attribute`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.([0-9]*))?")
_MINUS = "\N{MINUS SIGN}"
_ALIKE = {"'": "'\u2019", " ": " \u00a0\u2009\u202f"}  # marks that also separate thousands
_AGE = re.compile(r"([0-9]{1,3}) ?([DWMY])", re.IGNORECASE)
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
AGE_UNITS = {"days": "D", "weeks": "W", "months": "M", "years": "Y"}
EPOCH = date(1970, 1, 1)


def category_text(value: object) -> str | None:
    """Return the category that a raw cell spells, in Unicode NFC, or None if it is absent.

    Whole numbers lose the ".0" that they have in a column with nulls, booleans are true and false,
    and dates and times are in ISO form, without a time at midnight.
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, str):
        text = value.strip()
        return (text if text.isascii() else unicodedata.normalize("NFC", text)) or None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else str(value)
    if isinstance(value, datetime):
        midnight = value.time() == datetime.min.time()
        return value.date().isoformat() if midnight else value.isoformat(" ")
    return str(value)


def number_text(text: str) -> str | None:
    """Return the shortest spelling of a decimal number, or None if the text is something else.

    Numbers with leading zeros are something else, since they are codes.

    >>> number_text("1.0"), number_text("-0,50"), number_text("007")
    ('1', '-0.5', None)
    """
    if not (found := _NUMBER.fullmatch(text.replace(",", "."))):
        return None
    sign, whole, fraction = found.groups("")
    number = f"{whole}.{fraction.rstrip('0')}".rstrip(".")
    return f"-{number}" if sign == "-" and number != "0" else number


@dataclass(frozen=True)
class Spellings:
    """The texts that denote each word of a list.

    A text denotes a word that it spells exactly, or as an alias. Words that are numbers are also
    denoted by other spellings of the number (1.0 for 1), and the words true and false by those
    texts in any case, as programs differ in writing them. What denotes two words denotes neither.

    Attributes:
        words: The words.
        aliases: Further texts, each with its word.
        ignore_case: Whether upper and lower case are the same.
    """

    words: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    ignore_case: bool = False

    def find(self, text: str) -> int | None:
        """Return the place of the word that a text denotes, or None."""
        for form, places in self._places:
            key = form(text)
            if key is not None and key in places:
                return places[key]
        return None

    @cached_property
    def _places(self) -> list[tuple[Callable[[str], str | None], dict[str, int]]]:
        spelled = [(word, i) for i, word in enumerate(self.words)]
        spelled += [(text, self.words.index(word)) for text, word in self.aliases]
        forms: list[Callable[[str], str | None]] = [_normal, number_text, _truth]
        forms += [str.casefold] if self.ignore_case else []
        tables = []
        for form in forms:
            found: dict[str, set[int]] = {}
            for text, place in spelled:
                if (key := form(_normal(text))) is not None:
                    found.setdefault(key, set()).add(place)
            tables.append((form, {k: min(v) for k, v in found.items() if len(v) == 1}))
        return tables


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _truth(text: str) -> str | None:
    folded = text.casefold()
    return folded if folded in ("true", "false") else None


def number(value: Any, decimal: str = ".", thousands: str = "", suffix: str = "") -> float:
    """Return a cell as a number, NaN if it is absent or none.

    Args:
        value: The cell.
        decimal: The decimal sign if the cell is text; the other sign makes no number.
        thousands: What may separate groups of three digits if the cell is text.
        suffix: A text, such as a unit, that may follow the number.

    >>> number("1.234,5 kg", decimal=",", thousands=".", suffix="kg"), number("1.23", thousands=",")
    (1234.5, 1.23)
    """
    if isinstance(value, str):
        text = value.strip()
        text = text.removesuffix(suffix).rstrip() if suffix else text
        whole, sign, rest = text.partition(decimal)
        if thousands:
            whole = _ungrouped(whole, thousands)
        if "_" in text or (decimal == "," and "." in whole + rest):
            return math.nan
        value = (whole + "." * bool(sign) + rest).replace(_MINUS, "-")
    elif isinstance(value, bool | np.bool_):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def _ungrouped(whole: str, thousands: str) -> str:
    """Return the whole part of a number without separators, if they are where they should be."""
    for mark in _ALIKE.get(thousands, thousands):
        whole = whole.replace(mark, thousands)
    first, *groups = whole.split(thousands)
    whole_groups = len(first.lstrip("+-" + _MINUS)) in (1, 2, 3) and all(
        len(group) == 3 and group.isdigit() for group in groups
    )
    return first + "".join(groups) if groups and whole_groups else whole


def day(value: Any, form: str = "") -> float:
    """Return a cell's date as days since 1970-01-01, NaN if it is absent or none.

    Args:
        value: A date, a time, or a text.
        form: How texts are written, as for `strptime`; without one they are in ISO form, with or
            without a time of day.
    """
    if value is pd.NaT:
        return math.nan
    if not isinstance(value, date):
        if (text := category_text(value)) is None:
            return math.nan
        try:
            value = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            return math.nan
    return float(value.toordinal() - EPOCH.toordinal())


def date_of(days: float) -> date:
    """Return the date that is so many whole days after 1970-01-01."""
    return EPOCH + timedelta(days=int(days))


def age(value: Any, unit: str, decimal: str = ".", thousands: str = "") -> float:
    """Return an age in the given unit, NaN if it is absent or none.

    Args:
        value: A DICOM age string such as "047Y", "18M", "3W" or "10D" (DICOM PS3.5, section 6.2,
            AS), or a number of the unit.
        unit: One of `AGE_UNITS`.
        decimal, thousands: How numbers that are text are written, as for `number`.

    >>> age("047Y", "years"), age("018M", "years"), age("47", "years")
    (47.0, 1.5, 47.0)
    """
    if isinstance(value, str) and (found := _AGE.fullmatch(value.strip())):
        letter = found[2].upper()
        if letter == AGE_UNITS[unit]:
            return float(found[1])
        return int(found[1]) * _DAYS[letter] / _DAYS[AGE_UNITS[unit]]
    return number(value, decimal, thousands)
