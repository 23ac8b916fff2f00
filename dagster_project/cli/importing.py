"""Import of a data set into a data folder, for data stewards. Reads no ledger, spends nothing."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from dagster_project.cli.import_options import OPTIONS, PERSON_ID, names_of, size_of, workers_of
from dagster_project.importers.registry import FORMATS, open_archive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each format, with the options that the format supports."""
    formats = parser.add_subparsers(title="formats", required=True, metavar="FORMAT", dest="format")
    for name, known in FORMATS.items():
        new = formats.add_parser(name, help=known.title, description=known.title)
        new.add_argument("source", type=Path, metavar="SRC", help="path of the data set")
        new.add_argument("destination", type=Path, metavar="DST", help="data folder to create")
        new.add_argument("--size", type=size_of, metavar="HxW", help="image size, 8 to 64")
        new.add_argument("--channels", type=int, choices=(1, 3), help="1 for grey, 3 for RGB")
        new.add_argument("--name", help="name of the schema")
        new.add_argument("--public", action="store_true", help="declare that the data is public")
        new.add_argument(
            "--n-public",
            type=int,
            metavar="N",
            help="approximate number of people, which is public",
        )
        new.add_argument(
            "--validation",
            choices=("drop", "train", "heldout"),
            default="drop",
            help="what to do with a validation split (default: drop)",
        )
        new.add_argument(
            "--workers", type=workers_of, default=1, metavar="N", help="number of decoding threads"
        )
        for option in known.options:
            more = dict(OPTIONS[option])
            if option == "person_id":
                more["help"] = PERSON_ID[name]
            if more.get("metavar", "").endswith("..."):
                more.setdefault("type", names_of)
            new.add_argument(f"--{option.replace('_', '-')}", **more)


def run(options: argparse.Namespace) -> int:
    """Import a data set and print what was written and left out.

    The output is private if the data is.
    """
    from tqdm import tqdm

    from dagster_project.importers.archive import ImportRequest
    from dagster_project.importers.writing import require_free, write

    asked = vars(options)
    request = ImportRequest(
        **{f.name: asked[f.name] for f in fields(ImportRequest) if asked.get(f.name) is not None}
    )
    require_free(options.destination)
    archive = open_archive(options.format, options.source, request)
    with tqdm(total=archive.total, unit=" pairs", disable=None) as bar:
        done = write(archive, options.destination, request, progress=bar.update)
    if not done.schema.public:
        print("PRIVATE: the output below counts private records.", file=sys.stderr)
    for file, rows in done.rows.items():
        print(f"{rows:8,} pairs in {options.destination / file}")
    for reason, rows in done.left_out.items():
        print(f"{rows:8,} left out: {reason}")
    public = "public" if done.schema.public else "not public"
    print(f"schema.yaml: {public}, n_public {done.schema.n_public}; review it before you continue")
    return 0
