"""Stored entries and the state that results from them, kept in step.

Entries are read and written only here. Each is checked against the chain and the state; a new one
under the store's write lock. What is recorded does not belong here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.errors import LedgerBroken
from dagster_project.ledger.roll import Roll
from dagster_project.ledger.state import State
from dagster_project.ledger.store import Store, Transaction

First = Callable[[State], Sequence[tuple[str, dict[str, Any]]]]


class Journal:
    """A store and the state after its last known entry. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state = State()
        self._lock = threading.RLock()

    def fresh(self) -> State:
        """Return the state after every entry stored now; it is live and must not be changed."""
        with self._lock, self._store.reading() as transaction:
            self._catch_up(transaction)
            return self._state

    def known(self) -> State:
        """Return the state as far as it was read, at no cost after the first read; also live."""
        return self._state if self._state.head.entries else self.fresh()

    def settled(self) -> State:
        """Return the same as `fresh`, once a power cut can no longer undo any of it."""
        return self.record("", lambda _state: None)

    def entries(self) -> list[Entry]:
        """Return all entries, verified against the chain."""
        with self._store.reading() as transaction:
            return _parsed(transaction.rows(), Head())

    def members(self) -> Roll:
        """Return the table of members."""
        with self._store.reading() as transaction:
            return transaction.members()

    def contains(self, head: Head) -> bool:
        """Return whether the chain had this head at this length."""
        with self._store.reading() as transaction:
            rows = transaction.rows(head.entries)
        return bool(rows) and (rows[0][0], rows[0][2]) == (head.entries, head.head)

    def verified(self, also: Callable[[State, Transaction], None] | None = None) -> State:
        """Replay the state from storage only and check the guards. Raises LedgerBroken.

        Args:
            also: Another check, on the same view of the storage.
        """
        state = State()
        with self._store.reading() as transaction:
            missing, rows = transaction.missing_guards(), transaction.rows()
            for entry in _parsed(rows, Head()):
                state.replay(entry)
            if also is not None:
                also(state, transaction)
        if missing:
            raise LedgerBroken(f"the ledger's guard {missing[0]} was removed")
        known = self._state.head
        if known.entries and (
            known.entries > len(rows) or rows[known.entries - 1][2] != known.head
        ):
            raise LedgerBroken("the ledger was replaced while it was open", known.entries)
        return state

    def close(self) -> None:
        """Release the storage."""
        self._store.close()

    def _catch_up(self, transaction: Transaction) -> None:
        known = self._state.head
        rows = transaction.rows(max(known.entries, 1))
        if known.entries:
            # The last known entry is read again, to detect a replaced file.
            if not rows or (rows[0][0], rows[0][2]) != (known.entries, known.head):
                message = "the ledger was replaced while it was open"
                raise LedgerBroken(message, known.entries)
            rows = rows[1:]
        for entry in _parsed(rows, known):
            self._state.replay(entry)

    def record(
        self,
        kind: str,
        body: Callable[[State], dict[str, Any] | None],
        *,
        first: First = lambda _state: (),
    ) -> State:
        """Write the entry that `body` makes from the state, if it is not None.

        The kinds and bodies of `first` are written before it, all together or not at all.
        """
        return self.record_with(kind, lambda state, _transaction: body(state), first=first)

    def record_with(
        self,
        kind: str,
        body: Callable[[State, Transaction], dict[str, Any] | None],
        *,
        first: First = lambda _state: (),
    ) -> State:
        """Like `record`, for a `body` that also reads or writes other tables in the transaction."""
        with self._lock:
            head = self._state.head
            try:
                with self._store.writing() as transaction:
                    self._catch_up(transaction)
                    head = self._state.head
                    for other, content in first(self._state):
                        self._append(transaction, other, content)
                    wanted = body(self._state, transaction)
                    if wanted is not None:
                        self._append(transaction, kind, wanted)
            except BaseException:
                if self._state.head != head:
                    self._state = State()  # memory may be ahead of storage: read all again
                raise
            return self._state

    def _append(self, transaction: Transaction, kind: str, body: dict[str, Any]) -> None:
        entry = Entry.after(self._state.head, kind, body)
        self._state.apply(entry)
        transaction.append(entry)


def _parsed(rows: Sequence[tuple[int, str, str]], head: Head) -> list[Entry]:
    entries = []
    for seq, text, stored in rows:
        entry = Entry.parse(seq, text, stored, head)
        entries.append(entry)
        head = Head(entries=entry.seq, head=entry.hash)
    return entries
