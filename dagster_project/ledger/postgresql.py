"""The ledger in a PostgreSQL database of its own, for populations that several machines share.

The password belongs to libpq (PGPASSWORD, ~/.pgpass, a service file), never to population.yaml.
Each machine needs a copy of the identity key, which never enters the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dagster_project.ledger.errors import LedgerUnavailable
from dagster_project.ledger.store import ENTRIES, MEMBERS, Store

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_TABLES = {
    ENTRIES: (
        "CREATE TABLE entries "
        "(seq BIGINT PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL UNIQUE)"
    ),
    MEMBERS: "CREATE TABLE members (member BYTEA PRIMARY KEY, cohort TEXT NOT NULL)",
}
_REFUSE = "BEGIN RAISE EXCEPTION 'the ledger is append-only'; END"
_IN_ORDER = (
    "BEGIN IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), 0) + 1 FROM entries) THEN "
    "RAISE EXCEPTION 'the ledger is append-only'; END IF; RETURN NEW; END"
)
_CHANGES = "BEFORE UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT"
# By trigger: when it fires, the bits that pg_trigger keeps of that, and what it does.
_GUARDS = {
    ENTRIES: {
        "entries_no_change": (_CHANGES.format(ENTRIES), 58, _REFUSE),
        "entries_in_order": ("BEFORE INSERT ON entries FOR EACH ROW", 7, _IN_ORDER),
    },
    MEMBERS: {"members_no_change": (_CHANGES.format(MEMBERS), 58, _REFUSE)},
}
# Any constant will do: it identifies the writer of the ledger in this database.
_LOCK = 0x6C6564676572
_BEGIN = f"SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock({_LOCK})"
# The smallest transaction whose commit waits for the disk, as the session is synchronous.
_HARDEN = "SELECT pg_logical_emit_message(true, 'ledger', '')"


class PostgresStore(Store):
    """See `Store`. Writers queue at a transaction lock, which a killed writer releases.

    The disk is waited for after the lock is released, so that one flush serves all who wait: a
    writer returns once everything logged up to its own entry, and all it has read, is durable.
    """

    mark: ClassVar[str] = "%s"

    def _engine_options(self) -> dict[str, Any]:
        # A server that was restarted between two calls is reconnected without an error.
        return {
            "pool_pre_ping": True,
            "connect_args": {"connect_timeout": max(2, int(min(self._wait, 10)))},
        }

    def _connection_options(self, *, writing: bool) -> dict[str, Any]:
        # A writer's view must begin after its wait for the lock: a snapshot taken before the lock
        # was granted would miss what the previous writer has just recorded.
        level = "READ COMMITTED" if writing else "REPEATABLE READ"
        return {"writing": writing, "isolation_level": level}

    def _configure(self, connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = on")
            cursor.execute(f"SET lock_timeout = {max(1, int(self._wait * 1000))}")
            for setting in ("fsync", "full_page_writes"):
                cursor.execute(f"SHOW {setting}")
                if cursor.fetchone()[0] != "on":
                    raise LedgerUnavailable(
                        f"the ledger's server runs with {setting} off: what it confirms would not "
                        "survive a power cut"
                    )
        connection.commit()

    def _begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get("writing", False):
            connection.exec_driver_sql(_BEGIN)

    def _harden(self, connection: Connection) -> None:
        import psycopg

        raw: Any = connection.connection.driver_connection
        try:
            raw.autocommit = True
            raw.execute(_HARDEN)
            raw.autocommit = False
        except psycopg.Error as error:
            message = str(error).partition("\n")[0]
            raise LedgerUnavailable(f"the ledger cannot be used now: {message}") from error

    def exists(self) -> bool:
        with self._errors(), self._engine.connect() as connection:
            return self.has_table(connection, ENTRIES)

    def has_table(self, connection: Connection, table: str) -> bool:
        found = connection.exec_driver_sql("SELECT to_regclass(%s)", (table,)).scalar()
        return found is not None

    def create(self, connection: Connection, table: str) -> None:
        connection.exec_driver_sql(_TABLES[table])
        for name, (moment, _bits, body) in _GUARDS[table].items():
            for statement in (
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
                f"CREATE TRIGGER {name} {moment} EXECUTE FUNCTION {name}()",
                # Otherwise a session could disable all triggers with session_replication_role.
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
            ):
                connection.exec_driver_sql(statement)

    def missing_guards(self, connection: Connection, tables: Sequence[str]) -> list[str]:
        missing = []
        for table in tables:
            result = connection.exec_driver_sql(
                "SELECT t.tgname, t.tgtype, p.prosrc FROM pg_trigger t "
                "JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = to_regclass(%s) "
                "AND t.tgenabled = 'A' AND t.tgqual IS NULL",
                (table,),
            )
            present = {row[0]: (row[1], row[2]) for row in result}
            missing += [
                name
                for name, (_moment, bits, body) in _GUARDS[table].items()
                if present.get(name) != (bits, body)
            ]
        return missing

    def _is_damage(self, error: Any) -> bool:
        return str(getattr(error, "sqlstate", "") or "").startswith("XX")
