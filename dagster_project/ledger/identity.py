"""The population's identity key: 32 random bytes that turn person ids and versions of the data
into pseudonyms.

It is kept apart from the ledger, so that a copy of only the ledger identifies nobody. It gets its
final name only after the ledger exists: a key without a ledger means that the ledger is lost.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from dagster_project.ledger.errors import KeyLost

KEY_BYTES = 32


def _pending(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a synced file in an unsynced folder can vanish)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(exist_ok=True)
        sync_folder(item.parent)


def check_value(key: bytes) -> str:
    """Return the value by which the ledger recognises the key; it reveals nothing of the key."""
    return hmac.new(key, b"identity key of a population", hashlib.sha256).hexdigest()


def keyed_version(key: bytes, version: str) -> str:
    """Return the pseudonym of a version of the data outside the private zone.

    The same version always has the same name, and someone who guesses the data cannot check the
    guess without the key (HMAC-SHA256; the label separates this from the key's other uses).

    Returns:
        64 hexadecimal digits.
    """
    return hmac.new(key, b"data version:" + version.encode(), hashlib.sha256).hexdigest()


def prepare(path: Path) -> bytes:
    """Write a new key durably under a provisional name. Called under the ledger's write lock."""
    make_folder(path.parent)
    key = os.urandom(KEY_BYTES)
    pending = _pending(path)
    pending.unlink(missing_ok=True)
    handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, key)
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)
    return key


def settle(path: Path, expected: str) -> None:
    """Give a prepared key its final name if the ledger that expects it exists by now.

    This also completes what a crash between the ledger's creation and this call left unfinished.
    """
    pending = _pending(path)
    try:
        if not path.exists() and check_value(pending.read_bytes()) == expected:
            os.replace(pending, path)
            sync_folder(path.parent)
    except FileNotFoundError:
        # Another process settled it between the two checks, or there is none: `read` tells which.
        return


def read(path: Path, expected: str | None = None) -> bytes:
    """Return the key.

    Raises:
        KeyLost: It is missing, or is not the one with which the ledger was created.
    """
    try:
        key = path.read_bytes()
    except OSError:
        raise KeyLost(
            f"the identity key {path.name} is lost: the population is frozen until the key "
            "is restored from its backup"
        ) from None
    if len(key) != KEY_BYTES or (expected is not None and check_value(key) != expected):
        raise KeyLost(
            f"the identity key {path.name} is not the one with which this population's ledger was "
            "created: restore it from its backup"
        )
    return key
