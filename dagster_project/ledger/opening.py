"""The rule for opening a ledger: the population's own, complete, with its key and its anchor.

A ledger is created once, in an order such that a crash leaves either nothing or something that the
next opening completes: provisional key, first entries, the key's final name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.ledger import errors, identity
from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.journal import Journal
from dagster_project.ledger.state import FORMAT, State
from dagster_project.ledger.store import Store

if TYPE_CHECKING:
    from dagster_project.ledger.population import Population

FIRST_COHORT = "founding"


def open_journal(population: Population, *, wait: float) -> Journal:
    """Return the population's verified journal; see `Ledger.open`."""
    store = _store(population.ledger_url, wait=wait)
    try:
        return _open(store, population)
    except BaseException:
        store.close()
        raise


def _store(url: str, *, wait: float) -> Store:
    """Return the store behind a URL: SQLite's or PostgreSQL's.

    Raises:
        LedgerUnavailable: The URL is of another database, or the driver is not installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        raise errors.LedgerUnavailable(
            "the ledger's URL is not one that SQLAlchemy understands"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database:
        from dagster_project.ledger.sqlite import SqliteStore

        return SqliteStore(parsed, wait=wait)
    if backend == "postgresql":
        from dagster_project.ledger.postgresql import PostgresStore

        return PostgresStore(parsed.set(drivername="postgresql+psycopg"), wait=wait)
    raise errors.LedgerUnavailable(
        "the ledger's URL must be that of an SQLite file or of a PostgreSQL database"
    )


def _open(store: Store, population: Population) -> Journal:
    # A key gets its final name only after its ledger exists: either means that there was a ledger.
    existed = population.anchor is not None or population.key_path.exists()
    if existed and not store.exists():
        raise errors.LedgerMissing(
            f"the ledger of population {population.name!r} is missing: restore it from its "
            "backup, since without it nothing is known of what was spent"
        )
    if not existed:
        try:
            _create(store, population)
        except OSError as error:
            raise errors.LedgerUnavailable(
                f"the ledger of population {population.name!r} cannot be created: {error.strerror}"
            ) from None
    with store.reading() as transaction:
        empty = transaction.is_empty()
    if empty:
        raise errors.LedgerMissing(
            f"the ledger of population {population.name!r} is empty: restore its backup"
        )
    journal = Journal(store)
    state = journal.fresh()
    _require_same(state, population)
    _require_anchored(journal, population)
    identity.settle(population.key_path, state.population["key_check"])
    identity.read(population.key_path, state.population["key_check"])
    return journal


def _create(store: Store, population: Population) -> None:
    store.prepare()
    with store.writing() as transaction:
        if not transaction.is_empty():
            return  # another process was first, or a crash came before the key's last step
        transaction.create()
        key = identity.prepare(population.key_path)
        fixed = population.fixed() | {"format": FORMAT, "key_check": identity.check_value(key)}
        first = Entry.after(Head(), "CREATED", fixed)
        cohort = {"cohort": FIRST_COHORT, "n_public": population.n_public}
        for entry in (first, Entry.after(Head(entries=1, head=first.hash), "COHORT", cohort)):
            transaction.append(entry)
    store.settle()


def _require_same(state: State, population: Population) -> None:
    created, now = state.population, population.fixed()
    # The filter's rule was applied once and for all at creation.
    now |= {"cap": created["cap"], "leak": created["leak"]}
    changed = sorted(key for key in now if now[key] != created.get(key))
    if changed:
        raise errors.PopulationChanged(
            f"{', '.join(changed)} of population {population.name!r} was fixed when its "
            "ledger was created and cannot be changed"
        )


def _require_anchored(journal: Journal, population: Population) -> None:
    anchor = population.anchor
    if anchor is not None and not journal.contains(anchor):
        raise errors.LedgerBehindAnchor(
            f"the ledger of population {population.name!r} does not contain the head to which its "
            f"population file is anchored (entry {anchor.entries}): an older or another "
            "copy is in its place"
        )
