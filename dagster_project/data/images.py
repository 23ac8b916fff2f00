"""Hardened decoding of one image to the schema's size and channels.

Images are untrusted input: the header is checked against limits before a pixel is decoded, only PNG
and JPEG are opened, names must stay inside their folder, and no link is followed. `reading` decides
which row an image belongs to, and what happens to that row.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from dagster_project.data.schema import ImageSpec

MAX_BYTES = 32 * 2**20
MAX_SIDE = 4096
MAX_PIXELS = 16_000_000
_PLAIN = {"1": "L", "L": "L", "RGB": "RGB"}
_WITH_PALETTE_OR_ALPHA = {"P", "PA", "LA", "RGBA"}


class UnusableImage(ValueError):
    """The image cannot be used; the message is one of a fixed set of reasons."""


def decode_image(content: object, spec: ImageSpec) -> np.ndarray:
    """Decode PNG or JPEG bytes, crop the centre to the target's aspect and resize (Lanczos).

    Transparent parts become white. Grey and RGB are converted into each other.

    Args:
        content: The file's bytes; anything else counts as missing.
        spec: Target channels, height and width.

    Returns:
        uint8 (channels, height, width).

    Raises:
        UnusableImage: The image is missing, too large, truncated or of another format or mode.
    """
    if not isinstance(content, bytes) or not content:
        raise UnusableImage("missing")
    if len(content) > MAX_BYTES:
        raise UnusableImage("too many bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise UnusableImage("too many pixels") from None
    except Exception:  # a decoder may raise anything on hostile bytes
        raise UnusableImage("not a readable PNG or JPEG") from None
    with image:
        width, height = image.size
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            raise UnusableImage("too many pixels")
        if image.mode not in _PLAIN and image.mode not in _WITH_PALETTE_OR_ALPHA:
            raise UnusableImage("wrong mode")
        try:
            array = np.asarray(_fit(image, spec))
        except Exception:
            raise UnusableImage("truncated or damaged") from None
    return array[None] if spec.channels == 1 else array.transpose(2, 0, 1)


def read_inside(folder: Path, name: str | None) -> bytes:
    """Return the bytes of the regular file `name` inside `folder`, following no link.

    Raises:
        UnusableImage: There is no such file, it is too large or a link, or the name leaves the
            folder.
    """
    if not name or not (parts := PurePosixPath(name).parts):
        raise UnusableImage("missing")
    if parts[0].startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UnusableImage("name leaves the folder")
    path = folder
    try:
        for part in parts:
            path = path / part
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise UnusableImage("symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise UnusableImage("not a file")
        if status.st_size > MAX_BYTES:
            raise UnusableImage("too many bytes")
        return path.read_bytes()
    except (OSError, UnicodeError):
        raise UnusableImage("missing") from None


def _fit(image: Image.Image, spec: ImageSpec) -> Image.Image:
    if image.mode in _WITH_PALETTE_OR_ALPHA:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image).convert("RGB")
    image = image.convert("L" if spec.channels == 1 else "RGB")
    size = (spec.width, spec.height)
    if image.size == size:
        return image
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
