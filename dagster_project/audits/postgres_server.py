"""Temporary PostgreSQL server for an audit or a test, on loopback and a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg


def programs() -> Path | None:
    """Return the folder of pg_ctl and initdb, or None if no server is installed."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    usable = [p for p in places if (p / "initdb").exists() and (p / "pg_ctl").exists()]
    return max(usable, default=None)


class Server:
    """A running server; `control` is its pg_ctl."""

    def __init__(self, port: int, control: Callable[..., None]) -> None:
        self._port, self._control, self._numbers = port, control, count()

    def crash(self) -> None:
        """Stop the server at once, losing what it has not written to its files, and restart it."""
        self._control("restart", "--mode=immediate")

    def url(self, name: str = "public", database: str = "postgres") -> str:
        """Return the URL for one ledger: a schema, which is cheaper than a database."""
        place = f"postgresql://postgres@127.0.0.1:{self._port}/{database}"
        return f"{place}?options=-c%20search_path%3D{name}"

    def new(self) -> str:
        """Create an empty schema and return its URL."""
        name = f"ledger{next(self._numbers)}"
        self.sql(self.url(), f"CREATE SCHEMA {name}")
        return self.url(name)

    @staticmethod
    def sql(url: str, *statements: str) -> None:
        """Execute statements that bypass the ledger."""
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(*settings: str, memory: bool = False) -> Iterator[Server]:
    """Run a server until the `with` block ends.

    Args:
        settings: Further "name=value" settings of postgresql.conf.
        memory: Keep its files in memory if possible, for tests that do not depend on a disk.
    """
    place, shared = programs(), "/dev/shm" if memory and Path("/dev/shm").is_dir() else None
    if place is None:
        raise RuntimeError("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory(
        prefix="ledger-postgres-", dir=shared, ignore_cleanup_errors=True
    ) as folder:
        who: dict[str, Any] = {"cwd": folder, "check": True}
        if os.geteuid() == 0:  # it refuses to run as root; use the account of its package
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            who |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

        def control(*words: str) -> None:
            command = [str(place / "pg_ctl"), "--pgdata=data", "--silent", "--log=log", *words]
            # The output is not captured, because the server keeps the streams open.
            subprocess.run(command, stdout=subprocess.DEVNULL, **who)

        control("init", "-o", "-A trust -U postgres -E UTF8 --no-sync")
        port = _free_port()
        own = ("listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}")
        with Path(folder, "data", "postgresql.conf").open("a") as file:
            for name, _, value in (item.partition("=") for item in (*own, *settings)):
                file.write(f"{name} = '{value}'\n")
        control("start")
        try:
            yield Server(port, control)
        finally:
            control("stop", "--mode=immediate")
