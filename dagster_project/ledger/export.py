"""The whole chain as lines of JSON, which verify without the database.

The table of members stays behind: it is private, and the chain holds its seals alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dagster_project.ledger import pricing
from dagster_project.ledger.chain import Entry
from dagster_project.ledger.errors import LedgerBehindAnchor, LedgerBroken, PopulationChanged
from dagster_project.ledger.state import State
from dagster_project.privacy.plan import canonical_json

if TYPE_CHECKING:
    from dagster_project.ledger.population import Population


def export_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """One line for each entry: {"hash": ..., "entry": {...}}."""
    for entry in entries:
        yield f'{{"hash":"{entry.hash}","entry":{entry.text}}}'


def verify_lines(lines: Iterable[str], population: Population | None = None) -> State:
    """What an exported chain says, once every hash, rule and price of it has been checked.

    Args:
        lines: of `export_lines`.
        population: whose chain it must be, and whose anchor it must contain.

    Raises:
        LedgerBroken: naming the first entry at fault.
        PopulationChanged: it is the chain of another population.
        LedgerBehindAnchor: the chain does not contain the anchor.
    """
    state = State()
    anchor = population.anchor if population is not None else None
    anchored = anchor is None
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            text, stored = canonical_json(content["entry"]), str(content["hash"])
            seq = content["entry"]["seq"]
        except (ValueError, TypeError, KeyError):
            raise LedgerBroken(f"line {number} of the export is no entry", number) from None
        entry = Entry.parse(seq, text, stored, state.head)
        state.replay(entry)
        anchored = anchored or anchor == state.head
    if not state.head.entries:
        raise LedgerBroken("the export is empty")
    if population is not None and population.name != state.population["name"]:
        raise PopulationChanged(
            f"the export is of population {state.population['name']!r}, and population.yaml of "
            f"{population.name!r}"
        )
    if not anchored:
        raise LedgerBehindAnchor(
            "the export does not contain the head that the population file is anchored to"
        )
    pricing.require_repriced(state)
    return state
