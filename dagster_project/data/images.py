"""Hardened decoding of one image to the schema's size and channels.

Images are untrusted input: the header is checked against limits before a pixel is decoded, and only
a few formats are opened. A picture's pixels depend on its own bytes and on the public schema alone.
`image_files` finds and reads files, `dicom` reads DICOM, and `reading` decides which row an image
belongs to, and what happens to that row.
"""

from __future__ import annotations

import ctypes
import io
import logging
import warnings

import numpy as np
from PIL import Image, ImageOps

from dagster_project.data.dicom import is_dicom, lacks_preamble, read_dicom
from dagster_project.data.image_faults import Reason, UnusableImage
from dagster_project.data.image_files import read_inside
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.window import windowed

__all__ = ["UnusableImage", "decode_image", "read_inside"]

_SHALLOW = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_DEEP = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 8
_ORIENTATION = 0x0112  # Exif 2.3, 4.6.4: how the picture must be turned to stand upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _silenced_formats() -> tuple[str, ...]:
    """Return the formats whose decoders are silent.

    What a decoder says of a damaged file holds numbers of it and would reach the logs of a run.
    libtiff writes past Python; TIFF is left out if it cannot be silenced.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    formats = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "JPEG2000")
    try:
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
    except (AttributeError, OSError):
        return formats
    return (*formats, "TIFF")


_FORMATS = _silenced_formats()


def decode_image(content: object, spec: ImageSpec) -> np.ndarray:
    """Decode an image file, crop the centre to the target's aspect and resize (Lanczos).

    Grey of more than 8 bits is mapped by the schema's window. Pictures are turned as their EXIF
    orientation says. Transparent parts show the schema's background. CMYK becomes RGB (colour
    profiles are ignored), and grey and RGB are converted into each other. Memory stays below
    about 24 bytes per pixel of `spec.max_pixels`.

    Args:
        content: The file's bytes; anything else counts as missing.
        spec: Target channels, height and width, and how files are read.

    Returns:
        uint8 (channels, height, width).

    Raises:
        UnusableImage: The image is missing, too large, truncated, of another format or mode, has
            several frames, or has more than 8 bits without a declared window.
    """
    if not isinstance(content, bytes):
        raise UnusableImage(Reason.NOT_NAMED)
    if not content:
        raise UnusableImage(Reason.EMPTY)
    if len(content) > spec.max_bytes:
        raise UnusableImage(Reason.BYTES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file
        array = np.asarray(_fit(_picture(content, spec), spec))
    return array[None] if spec.channels == 1 else array.transpose(2, 0, 1)


def _picture(content: bytes, spec: ImageSpec) -> Image.Image:
    """Decode a file of any format, upright and with the schema's channels."""
    if is_dicom(content):
        return _flat(read_dicom(content, spec), spec)
    with _opened(content, spec) as file:
        try:
            return _flat(_upright(_shallow(file, spec), file), spec)
        except Exception:  # a decoder may raise anything on hostile bytes
            raise UnusableImage(Reason.DAMAGED) from None


def _opened(content: bytes, spec: ImageSpec) -> Image.Image:
    """Open a file and hold its header against the limits; no pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        # Phones put a second, smaller picture behind their JPEG, which is then of the format MPO.
        frames = image.format != "MPO" and getattr(image, "is_animated", False)
    except Image.DecompressionBombError:
        raise UnusableImage(Reason.PIXELS) from None
    except Exception:
        raise UnusableImage(_unknown(content)) from None
    width, height = image.size
    if width * height > spec.max_pixels:
        raise UnusableImage(Reason.PIXELS)
    if frames:
        raise UnusableImage(Reason.FRAMES)
    if image.mode not in _SHALLOW | _DEEP:
        raise UnusableImage(Reason.MODE)
    if image.mode in _DEEP and spec.window is None:
        raise UnusableImage(Reason.WINDOW)
    if image.mode in _SHALLOW and ";16" in str(image.tile):
        raise UnusableImage(Reason.DEEP_COLOUR)  # Pillow would drop the lower bits of each channel
    return image


def _unknown(content: bytes) -> Reason:
    """Say why a file that no decoder knows cannot be read."""
    if content.startswith(b"version https://git-lfs"):
        return Reason.POINTER
    return Reason.NO_PREAMBLE if lacks_preamble(content) else Reason.FORMAT


def _shallow(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Load the pixels, with 8 bits per channel."""
    image.load()
    if image.mode not in _DEEP or spec.window is None:
        return image
    tags = getattr(image, "tag_v2", {})
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return Image.fromarray(windowed(np.asarray(image), spec.window, inverted=inverted))


def _upright(image: Image.Image, file: Image.Image) -> Image.Image:
    """Turn the picture as its file says; an EXIF block that cannot be read says nothing."""
    if file.format == "TIFF":  # Pillow has turned it while loading
        return image
    try:
        turn = _TURNS.get(file.getexif().get(_ORIENTATION, 1))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Put transparent parts on the ground, and convert to the schema's channels."""
    if image.mode == "La":  # grey that is already multiplied by its alpha
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, (spec.ground,) * 3)
        ground.paste(image, mask=image)
        image = ground
    return image.convert("L" if spec.channels == 1 else "RGB")


def _fit(image: Image.Image, spec: ImageSpec) -> Image.Image:
    size = (spec.width, spec.height)
    if image.size == size:
        return image
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
