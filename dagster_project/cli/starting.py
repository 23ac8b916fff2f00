"""First step with a folder of data: drafts of schema.yaml and population.yaml. Reads no value."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_project.starting.folder import Look

JSON_SCHEMA = "dptabimage-schema.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `init`."""
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="folder of data")
    parser.add_argument(
        "--root",
        dest="beside",  # not `root`: a draft may have blanks
        type=Path,
        metavar="ROOT",
        help="folder for population.yaml (default: the one that holds DIR)",
    )
    parser.add_argument("--table", type=Path, help="table to describe, if DIR holds several")
    parser.add_argument("--name", help="name of the data set and of its population")
    parser.add_argument(
        "--n-public", type=int, metavar="N", help="approximate number of people, which is public"
    )
    parser.add_argument(
        "--from-public-sample",
        type=Path,
        metavar="FILE",
        help="table that you declare public, whose values fill in categories and edges",
    )
    parser.add_argument(
        "--json-schema", action="store_true", help="only print the JSON Schema of schema.yaml"
    )


def run(options: argparse.Namespace) -> int:
    """Write the drafts, and name the blanks that are left in them."""
    from dagster_project.starting.json_schema import json_schema

    if options.json_schema:
        print(json.dumps(json_schema(), indent=1))
        return 0
    if options.folder is None:
        raise ValueError("init needs the folder of the data")
    from dagster_project.data.blanks import blanks
    from dagster_project.data.schema_rules import read_yaml
    from dagster_project.starting.draft import population_text, schema_text
    from dagster_project.starting.folder import look
    from dagster_project.starting.public_values import domains_of

    folder = Path(os.path.abspath(options.folder))
    root = Path(os.path.abspath(options.beside)) if options.beside else folder.parent
    schema, population = folder / "schema.yaml", root / "population.yaml"
    if schema.exists():
        raise ValueError(f"{schema} exists already: edit it, or delete it for a new draft")
    if root.is_relative_to(folder):
        raise ValueError("--root must lie outside the data: the ledger is kept there")
    found = look(folder, options.table)
    known = _known(options, population)
    domains = domains_of(options.from_public_sample) if options.from_public_sample else None
    text = schema_text(
        found,
        json_schema=os.path.relpath(root / JSON_SCHEMA, folder),
        known=known,
        domains=domains,
    )
    root.mkdir(parents=True, exist_ok=True)
    drafts = {schema: text, root / JSON_SCHEMA: json.dumps(json_schema(), indent=1) + "\n"}
    if not population.exists():
        drafts[population] = population_text(known)
    for file, content in drafts.items():
        file.write_text(content, encoding="utf-8")
    for file in (schema, population):
        left = blanks(read_yaml(file))
        print(f"{file}: blanks to fill in: {', '.join(left) or 'none'}")
    print(_advice(found, folder, root))
    return 0


def _known(options: argparse.Namespace, population: Path) -> dict[str, Any]:
    """Return the public facts that the options or an existing population.yaml state."""
    known = {
        "name": options.name,
        "population": re.sub(r"[^A-Za-z0-9._-]+", "-", options.name) if options.name else None,
        "n_public": options.n_public,
    }
    if population.is_file():
        from dagster_project.data.blanks import BLANK
        from dagster_project.data.schema_rules import read_yaml

        stated = read_yaml(population)
        for key in ("population", "n_public"):
            if isinstance(stated, dict) and stated.get(key, BLANK) != BLANK:
                known[key] = stated[key]
    return {key: value for key, value in known.items() if value is not None}


def _advice(found: Look, folder: Path, root: Path) -> str:
    from dagster_project.data.layout import RECORD_FILES

    table = found.table.path
    places = [place for place in found.places if place.partition("/")[0] != "images"]
    if table.parent == folder and table.name in RECORD_FILES and not places:
        where = "" if root == Path.cwd() else f" --root {root}"
        return f"fill them in, then: dptabimage check{where} --data {folder}"
    return (
        "fill them in, then rename the table to records.csv or records.parquet and the folder of "
        f"images to images, or: dptabimage import table {table} NEW --schema {folder}/schema.yaml"
        + (f" --images {folder / places[0].partition('/')[0]}" if places else "")
    )
