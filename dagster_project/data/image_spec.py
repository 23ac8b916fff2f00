"""The `image` section of a schema: what every picture becomes, and how its file is found and read.

All of it is public and declared. A picture's pixels depend on its own file and on this alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

WHITE, BLACK = 255, 0


@dataclass(frozen=True)
class ImageSpec:
    """The image column, the public size of every image, and how image files are read.

    Attributes:
        column: The column that holds an image or names its file.
        channels: 1 (grey) or 3 (RGB).
        height, width: Size in pixels to which every image is brought.
        window: The values (low, high) that become black and white, for images with more than 8
            bits; None refuses these.
        background: What shines through transparent pixels.
        max_pixels: An image with more pixels is not decoded.
        file: Patterns of the file's name, tried in this order. `{name}` stands for the name in the
            table and `{stem}` for the name without its ending; `{name:5}` fills it with zeros to
            five characters, and `{name:lower}` and `{name:upper}` change its case. By default, it
            is `{name}`, or `{name}.png` if the table has no image column.
        separator: What separates the folders in a name.
        strip_prefix: The leading folders that are removed from names that begin with them.
        link_cache: The folder, relative to the data folder, into which links may lead, such as
            DVC's cache; no link is followed if it is empty.
        pictures_per_person: "one": one row of each person, chosen at random, is used.
    """

    column: str
    channels: Literal[1, 3]
    height: int
    width: int
    window: tuple[float, float] | None = None
    background: Literal["white", "black"] = "white"
    max_pixels: int = 40_000_000
    file: tuple[str, ...] = ()
    separator: str = "/"
    strip_prefix: str = ""
    link_cache: str = ""
    pictures_per_person: Literal["one"] = "one"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageSpec:
        """Build the section from the checked content of schema.yaml."""
        fields = dict(content)
        if window := fields.get("window"):
            fields["window"] = (float(window["low"]), float(window["high"]))
        file = fields.get("file", ())
        fields["file"] = (file,) if isinstance(file, str) else tuple(file)
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the section as in schema.yaml, without what is not stated and has no default."""
        content = {key: value for key, value in vars(self).items() if value not in (None, "", ())}
        if self.window:
            content["window"] = dict(zip(("low", "high"), self.window, strict=True))
        if self.file:
            content["file"] = list(self.file)
        return content

    @property
    def ground(self) -> int:
        """The shade behind transparent pixels, 0 to 255."""
        return WHITE if self.background == "white" else BLACK

    @property
    def max_bytes(self) -> int:
        """The size of the largest file that is read: four bytes per pixel and a header."""
        return 2**20 + 4 * self.max_pixels
