"""The ledger in an SQLite file with a write-ahead log, full synchronisation and one writer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dagster_project.ledger import identity
from dagster_project.ledger.errors import LedgerUnavailable
from dagster_project.ledger.store import ENTRIES, MEMBERS, Store

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

_TABLES = {
    ENTRIES: (
        "CREATE TABLE entries "
        "(seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL UNIQUE) STRICT"
    ),
    MEMBERS: (
        "CREATE TABLE members (member BLOB PRIMARY KEY, cohort TEXT NOT NULL) STRICT, WITHOUT ROWID"
    ),
}
# Insert guards are needed too: INSERT OR REPLACE deletes a row without firing delete triggers.
_GUARDS = {
    ENTRIES: {
        "entries_no_update": "BEFORE UPDATE ON entries",
        "entries_no_delete": "BEFORE DELETE ON entries",
        "entries_in_order": (
            "BEFORE INSERT ON entries "
            "WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)"
        ),
    },
    MEMBERS: {
        "members_no_update": "BEFORE UPDATE ON members",
        "members_no_delete": "BEFORE DELETE ON members",
        "members_once": (
            "BEFORE INSERT ON members WHEN EXISTS (SELECT 1 FROM members WHERE member = NEW.member)"
        ),
    },
}


def _trigger(name: str, condition: str) -> str:
    return (
        f"CREATE TRIGGER {name} {condition} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    )


class SqliteStore(Store):
    """See `Store`."""

    begin_writing: ClassVar[str] = "BEGIN IMMEDIATE"

    def __init__(self, url: URL, *, wait: float = 60.0) -> None:
        self._path = Path(url.database or "")
        super().__init__(url, wait=wait)

    def _configure(self, connection: Any, _record: Any) -> None:
        import sqlite3

        connection.isolation_level = None  # sqlite3 itself must not begin transactions
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
        return self._path.is_file()

    def prepare(self) -> None:
        identity.make_folder(self._path.parent)

    def settle(self) -> None:
        # SQLite leaves the database's own name to the file system.
        identity.sync_folder(self._path.parent)

    def has_table(self, connection: Connection, table: str) -> bool:
        return table in self._schema(connection, "table")

    def create(self, connection: Connection, table: str) -> None:
        connection.exec_driver_sql(_TABLES[table])
        for name, condition in _GUARDS[table].items():
            connection.exec_driver_sql(_trigger(name, condition))

    def missing_guards(self, connection: Connection, tables: Sequence[str]) -> list[str]:
        present = self._schema(connection, "trigger")
        wanted = {name: text for table in tables for name, text in _GUARDS[table].items()}
        return [name for name, text in wanted.items() if present.get(name) != _trigger(name, text)]

    @staticmethod
    def _schema(connection: Connection, kind: str) -> dict[str, str]:
        result = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = ?", (kind,)
        )
        return {row[0]: row[1] for row in result}

    def _is_damage(self, error: Any) -> bool:
        signs = ("malformed", "not a database", "file is encrypted")
        return any(sign in str(error) for sign in signs)
