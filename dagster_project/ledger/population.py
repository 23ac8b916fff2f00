"""The owner of a budget: the population file and its identity key.

population.yaml is kept in git beside the data's version file and binds the data to one ledger: its
parameters are fixed in the ledger at creation, and its anchor names a head that the ledger must
contain. What has been spent belongs to `ledger`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dagster_project.data.blanks import blanks, unfilled
from dagster_project.ledger import gdp_filter, identity
from dagster_project.ledger.chain import Head

_REQUIRED = {"population", "unit", "relation", "lifetime_epsilon", "target_delta", "n_public"}
_DAYS = ("retention_days", "reservation_days")
_OPTIONAL = {"ledger", "identity_key", "anchor", *_DAYS}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")


class PopulationError(ValueError):
    """The population file cannot be used; one sentence says why."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """The people whose privacy is counted.

    Attributes:
        name: The population's name.
        unit: What one member is; always "person".
        relation: Neighbouring data sets; always "add_remove" (one person more or less).
        lifetime_epsilon, target_delta: What all releases together may cost a person.
        n_public: Public rough number of people.
        ledger: The ledger's file, relative to the population file, or an SQLAlchemy URL.
        identity_key: The key's file, relative to the population file.
        retention_days: How long private zones of releases are kept; None is forever.
        reservation_days: Number of days after which an unopened reservation is given back.
        anchor: A head that the ledger must contain, None if there has been no ledger.
        path: The population file.
    """

    name: str
    unit: str
    relation: str
    lifetime_epsilon: float
    target_delta: float
    n_public: int
    ledger: str
    identity_key: str
    anchor: Head | None
    path: Path
    retention_days: int | None = None
    reservation_days: int = 30

    @classmethod
    def load(cls, path: str | Path) -> Population:
        """Read population.yaml.

        Raises:
            PopulationError: It is missing or malformed.
        """
        import yaml

        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise PopulationError(f"{path.name} cannot be read") from None
        except yaml.YAMLError:
            raise PopulationError(f"{path.name} is not YAML") from None
        return cls._from(content, path)

    @classmethod
    def _from(cls, content: Any, path: Path) -> Population:
        if not isinstance(content, Mapping):
            raise PopulationError(f"{path.name} must be a mapping")
        if places := blanks(content):
            raise PopulationError(unfilled({path.name: places}))
        if unknown := sorted(str(key) for key in content.keys() - _REQUIRED - _OPTIONAL):
            raise PopulationError(f"{path.name} has an unknown key {unknown[0]!r}")
        if missing := sorted(_REQUIRED - content.keys()):
            raise PopulationError(f"{path.name} lacks {missing[0]!r}")
        if not isinstance(content["population"], str) or not _NAME.fullmatch(content["population"]):
            raise PopulationError("population must be a name of letters, digits, '.', '_' or '-'")
        for key, only in (("unit", "person"), ("relation", "add_remove")):
            if content[key] != only:
                raise PopulationError(f"{key} must be {only!r}, the only one that is accounted for")
        for key in ("n_public", *_DAYS):
            value = content.get(key)
            if (type(value) is not int or value < 1) and (key == "n_public" or value is not None):
                raise PopulationError(f"{key} must be a whole number of at least 1")
        texts = {
            key: content.get(key, default)
            for key, default in (
                ("ledger", "ledger/ledger.sqlite"),
                ("identity_key", "ledger/identity.key"),
            )
        }
        for key, value in texts.items():
            if not isinstance(value, str) or not value:
                raise PopulationError(f"{key} must be a path" + (" or URL" * (key == "ledger")))
        if re.match(r"[^/]*://[^/@]*:[^/@]*@", texts["ledger"]):
            raise PopulationError(
                "the ledger's URL must not hold a password, since this file is kept in git: leave "
                "it to PGPASSWORD or ~/.pgpass"
            )
        return cls(
            name=content["population"],
            unit=content["unit"],
            relation=content["relation"],
            lifetime_epsilon=_number(
                content, "lifetime_epsilon", low=0, high=gdp_filter.LARGEST_EPSILON
            ),
            target_delta=_number(content, "target_delta", low=0, high=1),
            n_public=content["n_public"],
            retention_days=content.get("retention_days"),
            reservation_days=content.get("reservation_days") or cls.reservation_days,
            anchor=_anchor(content.get("anchor")),
            path=path,
            **texts,
        )

    @property
    def cap(self) -> float:
        """Lifetime cap as the filter's sum of costs."""
        return gdp_filter.cap(self.lifetime_epsilon, target_delta=self.target_delta)

    @property
    def leak(self) -> float:
        """The filter's leak for each unit of cost."""
        return gdp_filter.leak(self.lifetime_epsilon, target_delta=self.target_delta)

    def fixed(self) -> dict[str, Any]:
        """Return what the ledger fixes at its creation."""
        return {
            "name": self.name,
            "unit": self.unit,
            "relation": self.relation,
            "lifetime_epsilon": self.lifetime_epsilon,
            "target_delta": self.target_delta,
            "n_public": self.n_public,
            "cap": self.cap,
            "leak": self.leak,
        }

    @property
    def ledger_url(self) -> str:
        """The ledger's SQLAlchemy URL."""
        if "://" in self.ledger:
            return self.ledger
        from sqlalchemy.engine import URL

        # URL.create takes any path unchanged; text would need its special characters escaped.
        database = str((self.path.parent / self.ledger).resolve())
        return URL.create("sqlite", database=database).render_as_string(hide_password=False)

    @property
    def key_path(self) -> Path:
        """File of the identity key."""
        return self.path.parent.resolve() / self.identity_key

    def member_key(self) -> bytes:
        """Return the identity key, 32 bytes, created together with the ledger.

        Raises:
            KeyLost: It is missing.
        """
        return identity.read(self.key_path)

    def keyed_version(self, version: str) -> str:
        """Return the pseudonym of a data version outside the private zone. Raises KeyLost."""
        return identity.keyed_version(self.member_key(), version)

    def write_anchor(self, head: Head) -> Population:
        """Rewrite the anchor's line of the population file, durably and atomically.

        An anchor never moves backwards: one that already names a longer chain is left unchanged.

        Returns:
            The population of the rewritten file.
        """
        now = Population.load(self.path)
        if now.anchor is not None and now.anchor.entries >= head.entries:
            return now
        line = f"anchor: {{entries: {head.entries}, head: '{head.head}'}}"
        text = self.path.read_text(encoding="utf-8")
        text, found = re.subn(r"(?m)^anchor[ \t]*:[^\n#]*?(?=[ \t]*(#|$))", line, text, count=1)
        if not found:
            text = text + ("" if text.endswith("\n") else "\n") + line + "\n"
        import yaml

        try:
            written = Population._from(yaml.safe_load(text), self.path)
        except (yaml.YAMLError, PopulationError):
            written = None
        if written != replace(now, anchor=head):
            raise PopulationError(f"the anchor of {self.path.name} must be on one line")
        _replace_file(self.path, text)
        return written


def _number(content: Mapping[str, Any], key: str, low: float, high: float) -> float:
    value = content[key]
    # YAML 1.1 reads 1e-6 as text, but a number is meant.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PopulationError(f"{key} must be a number")
    if not low < value < high:
        raise PopulationError(f"{key} must be above {low} and below {high:g}")
    return float(value)


def _anchor(value: Any) -> Head | None:
    if value is None:
        return None
    if (
        not isinstance(value, Mapping)
        or value.keys() != {"entries", "head"}
        or type(value["entries"]) is not int
        or value["entries"] < 1
        or not isinstance(value["head"], str)
        or not _HASH.fullmatch(value["head"])
    ):
        raise PopulationError("anchor must be null, or the entries and head of a ledger")
    return Head(entries=value["entries"], head=value["head"])


def _replace_file(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    identity.sync_folder(path.parent)
