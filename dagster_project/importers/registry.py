"""The formats that can be imported, and the options of each.

A format is a module of this package of the same name, whose `open_archive` inspects a source. It
is loaded on demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.importers.archive import Archive, ImportRequest


@dataclass(frozen=True)
class Format:
    """A form in which data is distributed.

    Attributes:
        title: One line of help.
        options: Fields of `ImportRequest` that only some formats use.
    """

    title: str
    options: tuple[str, ...]


_PAPER = ("unit", "attributes")

FORMATS: dict[str, Format] = {
    "celeba": Format("list_attr_celeba.txt and img_align_celeba/", _PAPER),
    "chestxray14": Format("the NIH's Data_Entry_2017.csv and images_*/images/", _PAPER),
    "deepfashion": Format("DeepFashion-MultiModal: labels/ and images/", _PAPER),
    "imagefolder": Format(
        "a folder of images for each class", ("label_name", "classes", "person_id")
    ),
    "idx": Format("IDX files of the MNIST family", ("label_name", "classes")),
    "huggingface": Format(
        "a local folder of Hugging Face datasets, Arrow or Parquet",
        (
            *("label_name", "classes", "image_column", "categories", "edges"),
            *("person_id", "unit", "by_position"),
        ),
    ),
    "table": Format(
        "a CSV, Parquet or JSON Lines table and its image files, or image files with telling names",
        (
            *("schema", "images", "file_column", "file_pattern", "name_pattern", "strip_prefix"),
            *("person_id", "unit", "categories", "edges"),
            *("separator", "encoding", "decimal", "missing_values", "ignore"),
        ),
    ),
    "medmnist": Format("a MedMNIST .npz file", ("label_name", "classes")),
}


def open_archive(name: str, source: Path, request: ImportRequest) -> Archive:
    """Inspect a source in one of the formats.

    Raises:
        WrongArchive: It is not such an archive.
    """
    archive: Archive = import_module(f"{__package__}.{name}").open_archive(source, request)
    return archive
