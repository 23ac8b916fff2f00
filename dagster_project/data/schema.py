"""The public contract of a data set: attributes, their domains, the image and the person id.

Nothing here is computed from records: domains, bounds and bin edges are public, and a record that
does not fit them follows the declared policy. Every attribute becomes a finite set of cells, as the
marginal-based mechanisms need (McKenna, Sheldon & Miklau 2019, section 2). Reading and modelling
records do not belong here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dagster_project.data.raw_values import category_text, numbers
from dagster_project.data.schema_rules import (
    FALLBACK,
    MISSING,
    SchemaError,
    attribute_fields,
    read_yaml,
    schema_faults,
)

__all__ = ["MISSING", "Attribute", "ImageSpec", "Schema", "SchemaError"]


@dataclass(frozen=True)
class Attribute:
    """One column of the record and its public, finite domain.

    Attributes:
        name: Column name.
        kind: "categorical" or "numeric".
        categories: The categories, in cell order (categorical only).
        edges: k + 1 increasing bin edges, both bounds included (numeric only). Bins are closed
            on the left, the last one on both sides.
        missing: Whether "missing" is an additional cell, always the last one.
        out_of_domain: What a value outside the domain becomes: "drop" (the row is dropped), "clamp"
            (to the nearer bound; numeric only), "fallback:<category>" or "missing".
    """

    name: str
    kind: Literal["categorical", "numeric"]
    categories: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    missing: bool = False
    out_of_domain: str = "drop"

    @property
    def size(self) -> int:
        """Number of cells, including the missing one."""
        return self._bins + self.missing

    @property
    def labels(self) -> tuple[str, ...]:
        """One text label for each cell."""
        if self.kind == "categorical":
            labels = self.categories
        else:
            last = self._bins - 1
            labels = tuple(
                f"[{low:g}, {high:g}{']' if i == last else ')'}"
                for i, (low, high) in enumerate(pairwise(self.edges))
            )
        return (*labels, MISSING) if self.missing else labels

    @property
    def midpoints(self) -> np.ndarray:
        """Bin midpoints scaled from the attribute's range to [0, 1], float64 (bins,).

        Raises:
            TypeError: The attribute is not numeric.
        """
        if self.kind != "numeric":
            raise TypeError(f"Attribute {self.name!r} is categorical and has no midpoints.")
        edges = np.asarray(self.edges)
        return ((edges[1:] + edges[:-1]) / 2 - edges[0]) / (edges[-1] - edges[0])

    def encode(self, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Map raw values to cells.

        Returns:
            (codes, keep): int16 (N,) cells, and bool (N,), False where the row must be dropped
            (its code is then 0 and has no meaning).
        """
        raw = self.raw_codes(column)
        absent = raw == -1
        if self.missing:
            raw[absent] = self._bins
            absent[:] = False
        outside = (raw < -1) | absent
        if self.out_of_domain == MISSING:
            raw[outside] = self._bins
        elif self.out_of_domain.startswith(FALLBACK):
            raw[outside] = self.categories.index(self.out_of_domain.removeprefix(FALLBACK))
        elif self.out_of_domain == "clamp":
            raw[raw == -2] = 0
            raw[raw == -3] = self._bins - 1
        keep = raw >= 0
        return np.where(keep, raw, 0).astype(np.int16), keep

    def raw_codes(self, column: pd.Series) -> np.ndarray:
        """Return cells before any policy, int64 (N,): -1 is absent (or not a number), -2 outside
        the domain (numeric: below it) and -3 above it."""
        if self.kind == "categorical":
            cells = {category: i for i, category in enumerate(self.categories)}
            return np.fromiter(
                (
                    -1 if text is None else cells.get(text, -2)
                    for text in map(category_text, column)
                ),
                np.int64,
                len(column),
            )
        number = numbers(column)
        codes = np.searchsorted(self.edges, number, side="right") - 1
        codes = np.minimum(codes, self._bins - 1)  # the upper bound belongs to the last bin
        codes[number < self.edges[0]] = -2
        codes[number > self.edges[-1]] = -3
        codes[np.isnan(number)] = -1
        return codes

    def values(self, column: pd.Series) -> np.ndarray:
        """Return clamped numbers (NaN if missing) or, if categorical, codes: float32 (N,)."""
        if self.kind == "categorical":
            return self.encode(column)[0].astype(np.float32)
        number = np.clip(numbers(column), self.edges[0], self.edges[-1])
        codes, _ = self.encode(column)
        return np.where(codes == self._bins, np.nan, number).astype(np.float32)

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pd.Series:
        """Map cells (N,) back to categories, or to numbers drawn uniformly inside the bin.

        Missing becomes None (categorical) or NaN (numeric). `rng` is public randomness.
        """
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and not 0 <= codes.min() <= codes.max() < self.size:
            raise ValueError(f"A code lies outside the {self.size} cells of {self.name!r}.")
        if self.kind == "categorical":
            table = np.array([*self.categories, None], dtype=object)
            return pd.Series(table[codes], name=self.name, dtype=object)
        edges = np.append(self.edges, np.nan)
        low, high = edges[codes], edges[np.minimum(codes + 1, self._bins + 1)]
        number = low + rng.random(len(codes)) * (high - low)
        # Rounding may reach the upper edge, which belongs to the next bin.
        number = np.minimum(number, np.nextafter(high, low))
        number[codes == self._bins] = np.nan
        return pd.Series(number, name=self.name)

    @property
    def _bins(self) -> int:
        return len(self.categories) if self.kind == "categorical" else len(self.edges) - 1


@dataclass(frozen=True)
class ImageSpec:
    """The image column, and the public size in pixels to which every image is brought."""

    column: str
    channels: Literal[1, 3]
    height: int
    width: int


@dataclass(frozen=True)
class Schema:
    """The public contract: the form of a pair and the approximate number of people.

    Attributes:
        name: Short name of the data set.
        public: Whether the data itself is public (benchmark data).
        person_id: Column that names the person; the unit of privacy.
        person_id_rule: When two ids denote one person: "exact" spelling or "integer" (0012 is 12).
        n_public: Public rough number of people, never the exact private count.
        image: The image column and target size.
        attributes: The attributes, in the column order of every code matrix.
        population: Name of the population whose budget pays, "" if the schema does not say.
    """

    name: str
    public: bool
    person_id: str
    n_public: int
    image: ImageSpec
    attributes: tuple[Attribute, ...]
    person_id_rule: str = "exact"
    population: str = ""

    @classmethod
    def from_file(cls, path: str | Path) -> Schema:
        """Read schema.yaml.

        Raises:
            SchemaError: The file cannot be read, or its content is wrong.
        """
        return cls.from_dict(read_yaml(Path(path)))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Schema:
        """Build a schema from the content of schema.yaml.

        Raises:
            SchemaError: Something is wrong, such as an unknown key.
        """
        if faults := schema_faults(mapping):
            raise SchemaError(faults[0])
        return cls(
            name=mapping["name"],
            public=mapping.get("public", False),
            population=mapping.get("population", ""),
            person_id=mapping["person_id"],
            person_id_rule=mapping.get("person_id_rule", "exact"),
            n_public=mapping["n_public"],
            image=ImageSpec(**mapping["image"]),
            attributes=tuple(
                Attribute(**attribute_fields(name, body))
                for name, body in mapping["attributes"].items()
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of schema.yaml, with all defaults; `from_dict` reads it back."""
        attributes = {
            a.name: {
                "kind": a.kind,
                **({"edges": list(a.edges)} if a.edges else {"categories": list(a.categories)}),
                "missing": a.missing,
                "out_of_domain": a.out_of_domain,
            }
            for a in self.attributes
        }
        return {
            "name": self.name,
            "public": self.public,
            **({"population": self.population} if self.population else {}),
            "person_id": self.person_id,
            "person_id_rule": self.person_id_rule,
            "n_public": self.n_public,
            "image": dict(vars(self.image)),
            "attributes": attributes,
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON and the attributes' order, which fixes the codes."""
        content = {**self.to_dict(), "order": self.names}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Attribute names in schema order."""
        return tuple(a.name for a in self.attributes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each attribute."""
        return tuple(a.size for a in self.attributes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First one-hot position of each attribute."""
        return tuple(int(x) for x in np.cumsum((0, *self.sizes))[:-1])

    @property
    def width(self) -> int:
        """Length of the one-hot record, the sum of the sizes."""
        return sum(self.sizes)

    def one_hot(self, codes: np.ndarray) -> np.ndarray:
        """Encode cell codes (N, d) as concatenated one-hot vectors, float32 (N, width)."""
        codes = np.asarray(codes, dtype=np.int64).reshape(-1, len(self.attributes))
        if codes.size and ((codes < 0) | (codes >= np.asarray(self.sizes))).any():
            raise ValueError("A code lies outside its attribute's cells.")
        hot = np.zeros((len(codes), self.width), dtype=np.float32)
        np.put_along_axis(hot, codes + np.asarray(self.offsets), 1.0, axis=1)
        return hot

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
        """Return records, with columns in schema order, of cell codes; see `Attribute.decode`."""
        codes = np.asarray(codes).reshape(-1, len(self.attributes))
        columns = {a.name: a.decode(codes[:, i], rng) for i, a in enumerate(self.attributes)}
        return pd.DataFrame(columns, columns=list(self.names))
