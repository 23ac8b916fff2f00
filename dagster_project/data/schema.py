"""The public contract of a data set: attributes, their domains, the image and the person id.

Nothing here is computed from records: domains, bounds and bin edges are public, and a record that
does not fit them follows the declared policy. Single attributes are in `attribute`, and the form of
table files in `table_format`. Reading and modelling records do not belong here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dagster_project.data.attribute import MISSING, Attribute
from dagster_project.data.attribute_rules import attributes
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.rules import SchemaError
from dagster_project.data.schema_rules import read_yaml, schema_faults
from dagster_project.data.table_format import STANDARD, TableFormat, clean_name
from dagster_project.data.table_rules import table_format

__all__ = ["MISSING", "Attribute", "ImageSpec", "Schema", "SchemaError"]


@dataclass(frozen=True)
class Schema:
    """The public contract: the form of a pair and the approximate number of people.

    Attributes:
        name: Short name of the data set.
        public: Whether the data itself is public (benchmark data).
        person_id: Column that names the person; the unit of privacy.
        person_id_rule: When two ids denote one person: "exact" spelling, "integer" (0012 is 12), or
            "5 digits" (12 is 00012).
        n_public: Public rough number of people, never the exact private count.
        image: The image column and target size.
        attributes: The attributes, in the column order of every code matrix.
        population: Name of the population whose budget pays, "" if the schema does not say.
        table: The form of table files.
    """

    name: str
    public: bool
    person_id: str
    n_public: int
    image: ImageSpec
    attributes: tuple[Attribute, ...]
    person_id_rule: str = "exact"
    population: str = ""
    table: TableFormat = STANDARD

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
        table = table_format(mapping.get("table", {}))
        return cls(
            name=mapping["name"],
            public=mapping.get("public", False),
            population=mapping.get("population", ""),
            person_id=clean_name(mapping["person_id"]),
            person_id_rule=mapping.get("person_id_rule", "exact"),
            n_public=mapping["n_public"],
            image=ImageSpec.from_dict(mapping["image"]),
            attributes=tuple(
                attribute
                for name, body in mapping["attributes"].items()
                for attribute in attributes(name, body, table)
            ),
            table=table,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of schema.yaml; `from_dict` reads it back."""
        declared = {a.declared_name: a.to_dict(self.table.missing_values) for a in self.attributes}
        table = self.table.to_dict()
        return {
            "name": self.name,
            "public": self.public,
            **({"population": self.population} if self.population else {}),
            "person_id": self.person_id,
            "person_id_rule": self.person_id_rule,
            "n_public": self.n_public,
            **({"table": table} if table else {}),
            "image": self.image.to_dict(),
            "attributes": declared,
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
    def columns(self) -> dict[str, pa.DataType]:
        """The columns of the table, which hold the attributes, and their types in a release."""
        return {a.column: a.arrow_type for a in self.attributes}

    @property
    def used(self) -> tuple[str, ...]:
        """The columns of the table that are used, if it has them, as their names are compared."""
        return (self.person_id, clean_name(self.image.column), *self.columns)

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
        """Return the attributes' values, in schema order, of cell codes; see `Attribute.decode`."""
        codes = np.asarray(codes).reshape(-1, len(self.attributes))
        columns = {a.name: a.decode(codes[:, i], rng) for i, a in enumerate(self.attributes)}
        return pd.DataFrame(columns, columns=list(self.names))

    def to_columns(self, values: pd.DataFrame) -> pd.DataFrame:
        """Return attributes' values as the columns of the table, with labels joined again."""
        columns: dict[str, Any] = {}
        for attribute in self.attributes:
            if (group := attribute.group) is None:
                columns[attribute.column] = values[attribute.name]
            elif attribute.label == 0:
                names = [a.name for a in self.attributes if a.group == group]
                columns[group.column] = group.join(values[name].to_numpy() for name in names)
        return pd.DataFrame(columns, index=values.index)
