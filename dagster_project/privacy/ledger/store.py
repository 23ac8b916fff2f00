"""Durable, append-only storage of chain entries in one SQL table.

One writer at a time, and what a call has returned survives a power cut. What the entries say does
not belong here (`chain`, `state`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dagster_project.privacy.ledger import identity
from dagster_project.privacy.ledger.chain import Entry
from dagster_project.privacy.ledger.errors import LedgerBroken, LedgerUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_TABLE = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL UNIQUE
) STRICT
"""
# The insert guard is needed too: INSERT OR REPLACE deletes a row without firing delete triggers.
_GUARDS = {
    "entries_no_update": "BEFORE UPDATE ON entries",
    "entries_no_delete": "BEFORE DELETE ON entries",
    "entries_in_order": (
        "BEFORE INSERT ON entries "
        "WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)"
    ),
}


class Transaction:
    """Reading and, where it was begun for writing, appending."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, since: int = 1) -> list[tuple[int, str, str]]:
        """The rows (seq, entry text, hash) from number `since` on, in order."""
        result = self._connection.exec_driver_sql(
            "SELECT seq, entry, hash FROM entries WHERE seq >= ? ORDER BY seq", (since,)
        )
        return [(row[0], row[1], row[2]) for row in result]

    def append(self, entry: Entry) -> None:
        """Adds one entry at the end."""
        self._connection.exec_driver_sql(
            "INSERT INTO entries (seq, entry, hash) VALUES (?, ?, ?)",
            (entry.seq, entry.text, entry.hash),
        )

    def is_empty(self) -> bool:
        """True where nothing was ever recorded."""
        return self._missing("table", ["entries"]) == ["entries"] or not self.rows()

    def create(self) -> None:
        """Makes the table and the triggers that refuse every change of a row."""
        if self._missing("table", ["entries"]):
            self._connection.exec_driver_sql(_TABLE)
            for name, condition in _GUARDS.items():
                self._connection.exec_driver_sql(
                    f"CREATE TRIGGER {name} {condition} "
                    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                )

    def missing_guards(self) -> list[str]:
        """Names of the triggers that someone has taken away."""
        return self._missing("trigger", list(_GUARDS))

    def _missing(self, kind: str, names: list[str]) -> list[str]:
        result = self._connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = ?", (kind,)
        )
        present = {row[0] for row in result}
        return [name for name in names if name not in present]


class Store:
    """The ledger's database.

    Args:
        url: an SQLAlchemy URL of SQLite.
        wait: seconds to wait for another writer.
    """

    # Class attributes, so that an audit can show what each of them is worth.
    synchronous: ClassVar[str] = "FULL"
    begin_writing: ClassVar[str] = "BEGIN IMMEDIATE"

    def __init__(self, url: Any, *, wait: float = 60.0) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import create_engine, make_url

        self._url = make_url(url)
        if self._url.get_backend_name() != "sqlite" or not self._url.database:
            raise LedgerUnavailable("the ledger's URL must be that of an SQLite file")
        self._path = Path(self._url.database)
        self._wait = wait
        self._engine = create_engine(self._url)
        event.listen(self._engine, "connect", self._configure)
        event.listen(self._engine, "begin", self._begin)

    def _configure(self, connection: Any, _record: Any) -> None:
        import sqlite3

        connection.isolation_level = None  # sqlite3 itself must begin nothing
        connection.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}")
        deadline = time.monotonic() + self._wait
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                # The switch to WAL does not wait by itself when two processes do it at once.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise LedgerUnavailable(
                "the ledger's disk does not support SQLite's write-ahead log: use a local disk"
            )
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        # On macOS fsync leaves data in the drive's cache; elsewhere these two do nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")

    def _begin(self, connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql(self.begin_writing if writing else "BEGIN")

    def exists(self) -> bool:
        """Whether there is a database at all; creates none."""
        return self._path.is_file()

    def prepare(self) -> None:
        """Makes the place the database will be in, durably."""
        identity.make_folder(self._path.parent)

    def settle(self) -> None:
        """Makes the database's own name durable, which SQLite leaves to the file system."""
        identity.sync_folder(self._path.parent)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view."""
        with self._errors(), self._engine.connect() as connection:
            yield Transaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """The only writer until it ends; durable once it has ended without an exception."""
        with self._errors(), self._engine.connect() as plain:
            connection = plain.execution_options(writing=True)
            with connection.begin():
                yield Transaction(connection)

    def close(self) -> None:
        """Gives back the connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except DBAPIError as error:
            raise _translated(str(error.orig)) from error


def _translated(message: str) -> LedgerBroken | LedgerUnavailable:
    if any(sign in message for sign in ("malformed", "not a database", "file is encrypted")):
        return LedgerBroken(f"the ledger's file is damaged: {message}")
    if "append-only" in message:
        return LedgerBroken("the ledger refuses a change to what it already holds")
    return LedgerUnavailable(f"the ledger cannot be used now: {message}")
