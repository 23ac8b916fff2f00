"""The person that a row belongs to: the canonical form of an id, and who is held out.

What has been spent on a person belongs to `ledger`.
"""

from __future__ import annotations

import hmac
import unicodedata

LEAST_ROWS = 10  # of any set that a report compares; fewer have no k-th nearest neighbours
HELDOUT_SHARE = 0.1  # expected share of held-out people, unless heldout.parquet names them


def canonical_id(value: object, rule: str = "exact") -> str | None:
    """Return the canonical id: text in Unicode NFC without outer spaces; None if absent.

    A whole number becomes its decimal digits, even if nulls in the column made it a float.

    Args:
        value: The id as read.
        rule: The schema's `person_id_rule`: "exact"; "integer" if leading zeros mean nothing; "5
            digits" if whole numbers have lost the zeros that made them five digits long.

    >>> canonical_id(" 0012 "), canonical_id("0012", "integer"), canonical_id(12.0, "5 digits")
    ('0012', '12', '00012')
    """
    if value is None or _is_nan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = unicodedata.normalize("NFC", str(value)).strip()
    if rule != "exact" and text.isascii() and text.isdigit():
        text = text.lstrip("0") or "0" if rule == "integer" else text.zfill(int(rule.split()[0]))
    return text or None


def _is_nan(value: object) -> bool:
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA: its comparisons have no truth value
        return True


def is_held_out(person: str, *, key: bytes, share: float) -> bool:
    """Return whether the person is held out.

    This is the case if HMAC-SHA256(key, "held-out:" + canonical id), as a fraction of its range,
    is below `share`. The same people are held out in every version of the data, whoever else is in
    it; a larger share only adds people.
    """
    digest = hmac.digest(key, b"held-out:" + person.encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(digest[:8], "big") < share * 2**64
