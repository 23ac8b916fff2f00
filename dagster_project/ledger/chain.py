"""The hash chain: entries whose SHA-256 covers their content and the previous entry.

A chain reveals an altered, missing, moved or inserted entry. It cannot reveal a tail that was cut
off or rewritten together with all its hashes: that needs a head kept elsewhere (the population's
anchor, the manifests). Such a head is public, and the chain names the data's version. Each entry
therefore holds fresh random bits, so that someone who knows two heads and guesses everything
between them cannot check the guess. What an entry means belongs to `state`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dagster_project.ledger.errors import LedgerBroken
from dagster_project.privacy.plan import canonical_json

GENESIS = "0" * 64
_FIELDS = {"seq", "prev", "kind", "at", "nonce", "body"}
_NONCE_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of a chain, which has to be kept elsewhere to notice a lost tail.

    Attributes:
        entries: Length of the chain.
        head: Hash of the last entry, 64 hexadecimal digits.
    """

    entries: int = 0
    head: str = GENESIS

    def to_json(self) -> dict[str, Any]:
        """Return the head as plain JSON."""
        return {"entries": self.entries, "head": self.head}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger.

    Attributes:
        seq: Position in the chain, from 1; the only order.
        prev: Hash of the previous entry.
        kind: What happened, see `state`.
        at: UTC time of the writer's clock, for people; nothing is ever ordered by it.
        nonce: 128 random bits, hexadecimal, without which nobody can compute the hash.
        body: What happened, in plain JSON.
        text: The canonical JSON of the six fields above, as stored.
        hash: SHA-256 of `text`.
    """

    seq: int
    prev: str
    kind: str
    at: str
    nonce: str
    body: Mapping[str, Any]
    text: str
    hash: str

    @classmethod
    def after(cls, head: Head, kind: str, body: Mapping[str, Any]) -> Entry:
        """Return the entry that continues the chain at `head`."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = {
            "seq": head.entries + 1,
            "prev": head.head,
            "kind": kind,
            "at": at,
            "nonce": secrets.token_hex(_NONCE_BYTES),
            "body": dict(body),
        }
        text = canonical_json(content)
        # The body is read back from its text, so that memory holds what a later reader will see.
        return cls(**json.loads(text), text=text, hash=digest(text))

    @classmethod
    def parse(cls, seq: int, text: str, stored_hash: str, head: Head) -> Entry:
        """Return the stored entry if it continues the chain at `head`.

        Raises:
            LedgerBroken: It does not; the message names the entry.
        """
        expected = head.entries + 1
        if seq != expected:
            raise LedgerBroken(f"entry {expected} of the ledger is missing", expected)
        if digest(text) != stored_hash:
            raise LedgerBroken(f"entry {seq} of the ledger does not match its hash", seq)
        try:
            content = json.loads(text)
            whole = isinstance(content, dict) and set(content) == _FIELDS
            if not whole or canonical_json(content) != text or content["seq"] != seq:
                raise ValueError
        except ValueError:
            raise LedgerBroken(f"entry {seq} of the ledger is not an entry", seq) from None
        if content["prev"] != head.head:
            raise LedgerBroken(f"entry {seq} of the ledger does not follow the one before", seq)
        return cls(**content, text=text, hash=stored_hash)


def digest(text: str) -> str:
    """Return the SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
