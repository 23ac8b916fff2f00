"""For the data steward: brings a data set into a data folder. Reads no ledger, spends nothing."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from dagster_project.importers.formats import FORMATS, open_archive

_OPTIONS: dict[str, dict[str, Any]] = {
    "unit": {
        "choices": ("person", "image"),
        "help": "what counts as a person: a patient, identity or item, or each picture",
    },
    "attributes": {"metavar": "A,B,...", "help": "keep these attributes instead"},
    "label_name": {"metavar": "NAME", "help": "name of the class label"},
    "classes": {"metavar": "A,B,...", "help": "names of the classes, in label order"},
    "person_id": {"metavar": "WHICH", "help": "what names the person"},
    "image_column": {"metavar": "NAME", "help": "column of the pictures"},
}
_PERSON_ID = {
    "imagefolder": "pattern on a picture's path that finds the person, such as '(p[0-9]+)_'",
    "huggingface": "column that names the person",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each format, with the options it knows."""
    formats = parser.add_subparsers(title="formats", required=True, metavar="FORMAT", dest="format")
    for name, known in FORMATS.items():
        new = formats.add_parser(name, help=known.title, description=known.title)
        new.add_argument("source", type=Path, metavar="SRC", help="where the data set lies")
        new.add_argument("destination", type=Path, metavar="DST", help="data folder to make")
        new.add_argument("--size", type=_size, metavar="HxW", help="of the pictures, 8 to 64")
        new.add_argument("--channels", type=int, choices=(1, 3), help="1 is grey, 3 is RGB")
        new.add_argument("--name", help="the schema's name")
        new.add_argument("--public", action="store_true", help="state that the data is public")
        new.add_argument("--n-public", type=int, metavar="N", help="rough number of people")
        new.add_argument(
            "--validation",
            choices=("drop", "train", "heldout"),
            default="drop",
            help="what becomes of a validation part (left out)",
        )
        new.add_argument(
            "--workers", type=_workers, default=1, metavar="N", help="decoding threads"
        )
        for option in known.options:
            more = dict(_OPTIONS[option])
            if option == "person_id":
                more["help"] = _PERSON_ID[name]
            if more.get("metavar", "").endswith("..."):
                more["type"] = _names
            new.add_argument(f"--{option.replace('_', '-')}", **more)


def run(options: argparse.Namespace) -> int:
    """Imports, and says what was written and left out. Private where the data is."""
    from tqdm import tqdm

    from dagster_project.importers.archive import ImportRequest
    from dagster_project.importers.writing import require_free, write

    asked = vars(options)
    request = ImportRequest(
        **{f.name: asked[f.name] for f in fields(ImportRequest) if f.name in asked}
    )
    require_free(options.destination)
    archive = open_archive(options.format, options.source, request)
    with tqdm(total=archive.total, unit=" pairs", disable=None) as bar:
        done = write(archive, options.destination, request, progress=bar.update)
    if not request.public:
        print("PRIVATE: what follows counts private records.", file=sys.stderr)
    for file, rows in done.rows.items():
        print(f"{rows:8} pairs in {options.destination / file}")
    for reason, rows in done.left_out.items():
        print(f"{rows:8} left out: {reason}")
    public = "public" if request.public else "not public"
    print(f"schema.yaml: {public}, n_public {done.schema.n_public}; read it before you go on")
    return 0


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found or not all(8 <= int(side) <= 64 for side in found.groups() if side):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, each from 8 to 64")
    return int(found[1]), int(found[2] or found[1])


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to 64")
    return int(text)
