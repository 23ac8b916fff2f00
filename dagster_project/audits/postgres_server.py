"""A PostgreSQL server for an audit or a test alone: a temporary folder, loopback, a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg


def programs() -> Path | None:
    """The folder of initdb and postgres, where a server is installed."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    usable = [p for p in places if (p / "initdb").exists() and (p / "postgres").exists()]
    return max(usable, default=None)


class Server:
    """A running server.

    Args:
        command: runs it.
        options: of the process.
    """

    def __init__(self, port: int, command: Sequence[str | Path], **options: Any) -> None:
        self.port = port
        self._numbers = count()
        self._command, self._options = command, options
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, **self._options)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.sql(self.url(), "SELECT 1")
                return process
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """Ends it at once; what it has not written to its files is lost."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def crash(self) -> None:
        """Ends it at once, and starts it again on its files."""
        self.stop()
        self._process = self._start()

    def url(self, name: str = "public", database: str = "postgres") -> str:
        """The URL of a place for one ledger: a schema, which costs less than a database."""
        place = f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"{place}?options=-c%20search_path%3D{name}"

    def new(self) -> str:
        """The URL of an empty place."""
        name = f"ledger{next(self._numbers)}"
        self.sql(self.url(), f"CREATE SCHEMA {name}")
        return self.url(name)

    @staticmethod
    def sql(url: str, *statements: str) -> None:
        """Statements behind the ledger's back."""
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(*settings: str, memory: bool = False) -> Iterator[Server]:
    """Runs a server until the block ends.

    Args:
        settings: more "name=value" of postgresql.conf.
        memory: keep its files in memory where there is such a place: for what no disk decides.
    """
    place, shared = programs(), "/dev/shm" if memory and Path("/dev/shm").is_dir() else None
    if place is None:
        raise RuntimeError("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="ledger-postgres-", dir=shared))
    # postgres refuses to run as root: there the account that its package made is taken.
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    who: dict[str, Any] = {"cwd": folder}
    if account is not None:
        who |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data, port = folder / "data", _free_port()
    subprocess.run(
        [place / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        **who,
    )
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}", *settings]
    with (folder / "log").open("w") as log:
        running = Server(
            port,
            [place / "postgres", "-D", data, *(a for item in options for a in ("-c", item))],
            stdout=log,
            stderr=log,
            **who,
        )
        try:
            yield running
        finally:
            running.stop()
            shutil.rmtree(folder, ignore_errors=True)
