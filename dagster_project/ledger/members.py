"""The people who have been seen, and the cohort in which each one's spending is counted.

A person is stored as a keyed hash of the canonical id, in the ledger's database beside the chain,
and keeps the cohort of the first sight for good. The chain holds a seal of the whole table, made
with the identity key and the entry's number: altering the table is detected, and reading the chain
reveals nothing, not even whether anybody new was added. The spelling of ids belongs to
`data.persons`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.ledger import errors, identity
from dagster_project.ledger.journal import Journal
from dagster_project.ledger.roll import Roll, packed
from dagster_project.ledger.state import HELD_OUT, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dagster_project.ledger.records import ReleaseRecord
    from dagster_project.ledger.store import Transaction


class Members:
    """The table of members of one population.

    Args:
        key_path: File of the population's identity key.
    """

    def __init__(self, key_path: Path) -> None:
        self._key_path = key_path

    def key(self) -> bytes:
        """Return the population's identity key. Raises KeyLost."""
        return identity.read(self._key_path)

    def admit(
        self,
        journal: Journal,
        release_id: str,
        people: Sequence[str],
        held_out: Sequence[str],
        id_rule: str,
    ) -> NDArray[np.bool_]:
        """See `Ledger.admit`."""
        key = identity.read(self._key_path)
        names, aside = (packed(_hash(key, one) for one in some) for some in (people, held_out))
        mask = np.zeros(len(names), dtype=bool)

        def body(state: State, transaction: Transaction) -> dict[str, Any]:
            release = state.release(release_id)
            _require_rule(id_rule, state)
            paid, newest = _touched(release, state)
            known = transaction.members()
            _require_sealed(key, known, state)
            joining = [(aside, HELD_OUT)]
            if newest is not None:
                joining.append((names, newest))
            for some, cohort in joining:
                new = np.unique(some[~known.knows(some)])
                transaction.add_members(new, cohort)
                known = known.joined(new, cohort)
            mask[:] = known.are_in(names, paid)
            seal = _seal(key, known, state.head.entries + 1)
            return {"release_id": release_id, "members": seal, "id_rule": id_rule}

        journal.record_with("MEMBERS", body)
        return mask

    def cohorts_of(self, journal: Journal, people: Iterable[str]) -> dict[str, str]:
        """Return the cohort of each of these people who is a member. Private: reveals members."""
        key, known = identity.read(self._key_path), journal.members()
        found = {person: known.cohort_of(_hash(key, person)) for person in people}
        return {person: cohort for person, cohort in found.items() if cohort is not None}

    def check(self, state: State, transaction: Transaction) -> None:
        """Raise LedgerBroken if the table is not what the chain sealed."""
        if state.members is not None:
            _require_sealed(identity.read(self._key_path), transaction.members(), state)


def _touched(release: ReleaseRecord, state: State) -> tuple[set[str], str | None]:
    """Return the cohorts that have paid for every mechanism of the release, and the one that people
    never seen before join (None if they are not part of this release)."""
    named = {item["cohort"] for item in release.plan["mechanisms"]} - {"all"}
    if len(named) > 1:
        raise errors.ConformanceError(
            f"the mechanisms of release {release.release_id!r} touch different cohorts: no person "
            "may be read for all of them"
        )
    paid = named or set(release.charges)
    newest = [name for name in state.cohorts if name in paid][-1]
    # Under a plan for everybody each cohort pays the same, so any is right for a new person.
    return paid, newest if not named or newest == list(state.cohorts)[-1] else None


def _hash(key: bytes, person: str) -> bytes:
    return hmac.digest(key, b"member:" + person.encode("utf-8", "surrogatepass"), "sha256")


def _seal(key: bytes, members: Roll, entry: int) -> str:
    content = hashlib.sha256()
    for lines in members.lines():
        content.update(lines)
    return hmac.new(key, b"members:%d:" % entry + content.digest(), "sha256").hexdigest()


def _require_rule(id_rule: str, state: State) -> None:
    if state.members is not None and state.members.id_rule != id_rule:
        raise errors.PopulationChanged(
            f"so far ids were made canonical by the rule {state.members.id_rule!r}: the rule "
            f"{id_rule!r} would mistake known people for new ones"
        )


def _require_sealed(key: bytes, members: Roll, state: State) -> None:
    if state.members is None:
        sealed, entry = not len(members), None
    else:
        entry = state.members.entry
        sealed = hmac.compare_digest(state.members.seal, _seal(key, members, entry))
    if not sealed:
        raise errors.LedgerBroken(
            "the ledger's table of members was altered: restore its backup", entry
        )
