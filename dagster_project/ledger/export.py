"""The whole chain as lines of JSON, which can be verified without the database.

The table of members is not exported: it is private, and the chain holds only its seals.
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
    """Yield one line for each entry: {"hash": ..., "entry": {...}}."""
    for entry in entries:
        yield f'{{"hash":"{entry.hash}","entry":{entry.text}}}'


def verify_lines(lines: Iterable[str], population: Population | None = None) -> State:
    """Return the state of an exported chain after checking every hash, rule and price.

    Args:
        lines: The output of `export_lines`.
        population: The population whose chain it must be, and whose anchor it must contain.

    Raises:
        LedgerBroken: The chain is at fault; the message names the first such entry.
        PopulationChanged: It is the chain of another population.
        LedgerBehindAnchor: The chain does not contain the anchor.
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
            raise LedgerBroken(f"line {number} of the export is not an entry", number) from None
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
            "the export does not contain the head to which the population file is anchored"
        )
    pricing.require_repriced(state)
    return state
