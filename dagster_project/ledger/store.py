"""Durable, append-only storage of chain entries in one SQL table, for any database.

There is one writer at a time, and what a call has returned survives a power cut. `sqlite` and
`postgresql` ensure this for each database; the entries' meaning belongs to `chain` and `state`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from dagster_project.ledger.chain import Entry
from dagster_project.ledger.errors import LedgerBroken, LedgerUnavailable
from dagster_project.ledger.roll import Roll, blocks

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy.engine import URL, Connection

ENTRIES, MEMBERS = "entries", "members"


class Transaction:
    """Reading and, if begun for writing, appending."""

    def __init__(self, connection: Connection, store: Store) -> None:
        self._connection = connection
        self._store = store

    def _execute(self, statement: str, parameters: Any = ()) -> Any:
        mark = self._store.mark
        return self._connection.exec_driver_sql(statement.replace("?", mark), parameters)

    def rows(self, since: int = 1) -> list[tuple[int, str, str]]:
        """Return the rows (seq, entry text, hash) from number `since` on, in order."""
        result = self._execute(
            "SELECT seq, entry, hash FROM entries WHERE seq >= ? ORDER BY seq", (since,)
        )
        return [(row[0], row[1], row[2]) for row in result]

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        self._execute(
            "INSERT INTO entries (seq, entry, hash) VALUES (?, ?, ?)",
            (entry.seq, entry.text, entry.hash),
        )

    def members(self) -> Roll:
        """Return the table of members; empty if nobody was ever admitted."""
        if not self._store.has_table(self._connection, MEMBERS):
            return Roll.of(())
        result = self._execute("SELECT member, cohort FROM members")
        return Roll.of((bytes(row[0]), row[1]) for row in result)

    def add_members(self, new: np.ndarray, cohort: str) -> None:
        """Add people, whose keyed hashes are in an array, to the cohort that they keep."""
        if not self._store.has_table(self._connection, MEMBERS):
            self._store.create(self._connection, MEMBERS)
        for names in blocks(new):
            rows = [(name, cohort) for name in names]
            self._execute("INSERT INTO members (member, cohort) VALUES (?, ?)", rows)

    def is_empty(self) -> bool:
        """Return whether nothing was ever recorded."""
        return not self._store.has_table(self._connection, ENTRIES) or not self.rows()

    def create(self) -> None:
        """Create the table and the triggers that refuse every change of a row."""
        if not self._store.has_table(self._connection, ENTRIES):
            self._store.create(self._connection, ENTRIES)

    def missing_guards(self) -> list[str]:
        """Return the names of the triggers that someone has removed or changed."""
        tables = [t for t in (ENTRIES, MEMBERS) if self._store.has_table(self._connection, t)]
        return self._store.missing_guards(self._connection, tables)


class Store(ABC):
    """The ledger's database.

    Args:
        url: Its SQLAlchemy URL.
        wait: Seconds to wait for another writer.
    """

    # A class attribute, so that an audit can show its effect.
    synchronous: ClassVar[str] = "FULL"
    mark: ClassVar[str] = "?"

    def __init__(self, url: URL, *, wait: float = 60.0) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import create_engine

        self._url, self._wait = url, wait
        try:
            self._engine = create_engine(url, **self._engine_options())
        except ModuleNotFoundError as error:
            raise LedgerUnavailable(
                f"the ledger's database needs a driver that is not installed: {error.name}"
            ) from None
        event.listen(self._engine, "connect", self._configure)
        event.listen(self._engine, "begin", self._begin)

    @abstractmethod
    def exists(self) -> bool:
        """Return whether a database exists; create none."""

    def prepare(self) -> None:  # noqa: B027  # a server's database has its place already
        """Create the place for the database, durably."""

    def settle(self) -> None:  # noqa: B027
        """Make the database's own name durable."""

    @abstractmethod
    def has_table(self, connection: Connection, table: str) -> bool:
        """Return whether a table exists."""

    @abstractmethod
    def create(self, connection: Connection, table: str) -> None:
        """Create a table and its guards."""

    @abstractmethod
    def missing_guards(self, connection: Connection, tables: Sequence[str]) -> list[str]:
        """Return the guards of these tables that are missing or changed."""

    def _engine_options(self) -> dict[str, Any]:
        return {}

    def _connection_options(self, *, writing: bool) -> dict[str, Any]:
        return {"writing": writing}

    @abstractmethod
    def _configure(self, connection: Any, record: Any) -> None: ...

    @abstractmethod
    def _begin(self, connection: Connection) -> None: ...

    def _harden(self, connection: Connection) -> None:  # noqa: B027
        """Make everything committed so far durable, if committing did not."""

    @abstractmethod
    def _is_damage(self, error: Any) -> bool: ...

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Give a consistent view."""
        with self._errors(), self._engine.connect() as plain:
            connection = plain.execution_options(**self._connection_options(writing=False))
            yield Transaction(connection, self)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Give the view of the only writer; durable once it has ended without an exception."""
        with self._errors(), self._engine.connect() as plain:
            connection = plain.execution_options(**self._connection_options(writing=True))
            with connection.begin():
                yield Transaction(connection, self)
            self._harden(connection)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except DBAPIError as error:
            message = str(error.orig).partition("\n")[0]
            if self._is_damage(error.orig):
                broken = LedgerBroken(f"the ledger's storage is damaged: {message}")
                raise broken from error
            if "append-only" in message:
                raise LedgerBroken("the ledger refuses a change to its existing entries") from error
            raise LedgerUnavailable(f"the ledger cannot be used now: {message}") from error
