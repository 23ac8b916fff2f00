"""Search for anything outside the private zone that confirms a guess of the private data.

Whoever guesses the data can compute everything that follows from it without the identity key:
hashes of files, of arrays and of the data's version, the plan's hash, exact numbers of people,
sizes. If one of these is in a place that others see, it distinguishes right guesses from wrong
ones, and no mechanism has paid for that. The data, `private/`, and the ledger with its key are
inside, visible only to the steward and the auditor; everything else is searched, including
databases and archives.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.privacy.plan import Plan, canonical_json

INSIDE = ("data", "data.dvc", "private", "ledger")
_PUBLIC = ("data/schema.yaml",)
_ALGORITHMS = ("md5", "sha1", "sha256")
_SHORTEST = 8  # fewest hexadecimal digits of a truncated hash
_WHOLE = 16  # digits that do not occur in a longer text by chance
_LEAST_NUMBER, _LEAST_SIZE = 1000, 10_000  # smaller ones occur anywhere by chance
_HEX = re.compile(rb"[0-9a-f]{%d,}" % _SHORTEST)
# Not part of a name, a date or a fraction. 1427, 1427.0 and 1,427 are the same number.
_NUMBER = re.compile(
    r"(?<![\w.-])\d{4,}(?![\w-]|\.\d*[1-9])|(?<![\w.,-])\d{1,3}(?:,\d{3})+(?![\w-]|,\d|\.\d*[1-9])"
)


@dataclass(frozen=True)
class Guessable:
    """Everything that follows from the private data without the key.

    Attributes:
        digests: What was hashed, by the hexadecimal digits of its hash.
        numbers: What each number counts.
    """

    digests: Mapping[str, str]
    numbers: Mapping[int, str]

    @cached_property
    def _prefixes(self) -> dict[bytes, str]:
        return {
            digest[:end].encode(): name
            for digest, name in self.digests.items()
            for end in range(_SHORTEST, len(digest) + 1)
        }

    @cached_property
    def _binary(self) -> dict[bytes, str]:
        """Prefixes of the hashes as bytes and in both alphabets of base64."""
        found = {}
        for digest, name in self.digests.items():
            raw = bytes.fromhex(digest)
            found[raw[: _WHOLE // 2]] = name
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                found[encode(raw)[:11]] = name
        return found

    def in_bytes(self, content: bytes) -> set[str]:
        """Return the names of the hashes that the bytes contain, whole or truncated."""
        found = {name for needle, name in self._binary.items() if needle in content}
        for token in set(_HEX.findall(content.lower())):
            if token in self._prefixes:
                found.add(self._prefixes[token])
            elif len(token) > _WHOLE:
                found |= {n for d, n in self.digests.items() if d[:_WHOLE].encode() in token}
        return found

    def in_text(self, text: str) -> set[str]:
        """Return the names of the numbers that occur in a text as whole tokens."""
        tokens = {int(token.replace(",", "")) for token in _NUMBER.findall(text)}
        return {self.numbers[token] for token in tokens & self.numbers.keys()}

    def in_array(self, array: np.ndarray) -> set[str]:
        """Return the names of the numbers that are entries of an array."""
        if array.dtype.kind not in "iuf":
            return set()
        return {name for number, name in self.numbers.items() if (array == number).any()}


def guessable(root: Path, plan: Plan, key: bytes) -> Guessable:
    """Return everything to search for, given the project in `root` and one of its releases.

    Args:
        plan: The plan, as stored in the ledger.
        key: The identity key, which must not occur anywhere either.
    """
    digests = {key.hex(): "the identity key"}
    version = plan.data_version.rpartition(":")[2].removesuffix(".dir")
    digests[version] = "the version of the data"
    for text in (plan.data_version, plan.data_version.rpartition(":")[2], version):
        digests |= _digests("the version of the data", text.encode())
    digests |= _digests("the plan", canonical_json(plan.to_json()).encode())
    identity = canonical_json(_identity(plan)).encode()
    digests |= _digests("the release's identity", identity)
    digests[hmac.new(b"", identity, hashlib.sha256).hexdigest()] = "the release's identity"
    numbers: dict[int, str] = {}
    files = [path for top in ("data", "private") for path in (root / top).rglob("*")]
    for path in sorted(path for path in [*files, root / "data.dvc"] if path.is_file()):
        name = path.relative_to(root).as_posix()
        content = path.read_bytes()
        if not content or name in _PUBLIC:
            continue
        digests |= _digests(name, content)
        for part in _decoded(content):
            whole = part.tobytes() if isinstance(part, np.ndarray) else part
            digests |= _digests(f"what {name} holds", whole)
        numbers[len(content)] = f"the size of {name}"
    sizes = [path.stat().st_size for path in (root / "data").rglob("*") if path.is_file()]
    numbers[sum(sizes)] = "the size of the data"
    numbers = {size: name for size, name in numbers.items() if size >= _LEAST_SIZE}
    counts = json.loads((root / "private" / plan.release_id / "counts.json").read_text())
    counted = {name: counts[name] for name in ("rows", "train", "held_out")}
    counted["people"] = counts["train"] + counts["held_out"]
    numbers |= {n: f"the number: {name}" for name, n in counted.items() if n >= _LEAST_NUMBER}
    return Guessable(digests, numbers)


def search(root: Path, wanted: Guessable, *, printed: str = "") -> tuple[int, dict[str, list[str]]]:
    """Search everything outside the private zone, including file names.

    Args:
        printed: Output on the terminal, which is searched as well.

    Returns:
        The number of searched files, and what was found by file.
    """
    searched, found = 0, {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not path.is_file() or name.parts[0] in INSIDE:
            continue
        searched += 1
        names = _found(wanted, name.as_posix().encode())
        for content in _unpacked(path):
            names |= _found(wanted, content)
        if names:
            found[name.as_posix()] = sorted(names)
    if names := _found(wanted, printed.encode()):
        found["the terminal"] = sorted(names)
    return searched, found


def _digests(name: str, content: bytes) -> dict[str, str]:
    return {hashlib.new(a, content).hexdigest(): f"{a} of {name}" for a in _ALGORITHMS}


def _identity(plan: Plan) -> dict[str, object]:
    """Return the content of which the release id is a keyed hash."""
    same = ("population", "data_version", "schema_hash", "code_version", "n_public", "recipe")
    return {name: getattr(plan, name) for name in same} | {
        "epsilon": plan.target_epsilon,
        "delta": plan.target_delta,
        "cohort": plan.mechanisms[0].cohort,
        "mechanisms": [mechanism.name for mechanism in plan.mechanisms],
    }


def _found(wanted: Guessable, content: bytes | np.ndarray) -> set[str]:
    if isinstance(content, np.ndarray):
        return wanted.in_array(content)
    found = wanted.in_bytes(content)
    try:
        return found | wanted.in_text(content.decode())
    except UnicodeDecodeError:
        return found  # a number in binary content may be chance; its decoded form is searched


def _unpacked(path: Path) -> Iterator[bytes | np.ndarray]:
    """Yield the content of a file, raw and decoded."""
    content = path.read_bytes()
    yield content
    yield from _decoded(content)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            yield from (packed.read(name) for name in packed.namelist())
    if content.startswith(b"SQLite format 3\0"):
        yield from _cells(path)
    if content[:4] == b"PAR1" == content[-4:]:
        yield repr(pq.read_schema(path).metadata).encode()


def _cells(path: Path) -> Iterator[bytes]:
    """Yield every value of a SQLite database, also decompressed if it is compressed."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
        store.text_factory = bytes
        for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in store.execute(f'SELECT * FROM "{table.decode()}"'):
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield content
                    try:
                        yield zlib.decompress(content)
                    except zlib.error:
                        continue


def _decoded(content: bytes) -> Iterator[bytes | np.ndarray]:
    """Yield the arrays of a NumPy file or the columns of a Parquet file; nothing for others."""
    if content.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else loaded.values()
        yield from (array for array in arrays if isinstance(array, np.ndarray))
    elif content.startswith(b"PAR1"):
        for column in pq.read_table(io.BytesIO(content)).flatten().columns:
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                yield column.to_numpy()
            elif pa.types.is_binary(column.type):
                yield b"".join(value or b"" for value in column.to_pylist())
            else:
                yield "\n".join(map(str, column.to_pylist())).encode()
