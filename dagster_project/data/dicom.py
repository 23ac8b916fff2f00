"""One DICOM file as a grey or RGB picture (DICOM PS3.3, C.7.6.3; PS3.5, 8.2 and annexes A, G).

Only the pixels and what gives them meaning are read: size, bits, photometric interpretation and
rescaling. No other element of the header is looked at, and pydicom's log, which quotes header
values, is silenced. The header's window is not used; the schema states one for all pictures.

Memory is bounded before anything is decoded: by the number of pixels, by the length that a run-
length code expands to, and by the size that an embedded JPEG states. Deflated files are refused
since they expand before their size is known.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dagster_project.data.image_faults import Reason, UnusableImage
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.window import windowed

if TYPE_CHECKING:
    from pydicom import Dataset

_RAW = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
_JPEG = {f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 90, 91)}  # baseline, extended, 2000
_RLE = "1.2.840.10008.1.2.5"
_COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
_WANTED = [
    "BitsAllocated", "BitsStored", "Columns", "HighBit", "ModalityLUTSequence", "NumberOfFrames",
    "PhotometricInterpretation", "PixelData", "PixelRepresentation", "PlanarConfiguration",
    "RescaleIntercept", "RescaleSlope", "Rows", "SamplesPerPixel",
]  # fmt: skip


def is_dicom(content: bytes) -> bool:
    """Return whether the bytes have DICOM's mark behind the preamble (PS3.10, 7.1)."""
    return content[128:132] == b"DICM"


def lacks_preamble(content: bytes) -> bool:
    """Return whether the bytes seem to be a DICOM data set without preamble and mark.

    Such a set begins with an element of group 2 or 8, in little-endian order (PS3.5, 7.1), which
    is followed by a short length or by a value representation.
    """
    group, element, first, second = struct.unpack("<HHHH", content[:8].ljust(8, b"\0"))
    explicit = bytes(content[4:6]).isalpha() and bytes(content[4:6]).isupper()
    return group in (2, 8) and element <= 0x18 and (explicit or (first < 256 and second == 0))


def read_dicom(content: bytes, spec: ImageSpec) -> Image.Image:
    """Return the picture of a DICOM file, in mode L or RGB.

    Grey of up to 8 bits without rescaling is taken as it is. Any other grey is rescaled by the
    file's slope and intercept and mapped by the schema's window; MONOCHROME1 is inverted.

    Raises:
        UnusableImage: The file is damaged, holds no single picture, is too large, has no declared
            window, or is compressed in a way that is not read.
    """
    import pydicom  # takes half a second, which data sets without DICOM need not spend

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    try:
        return _picture(pydicom, content, spec)
    except UnusableImage:
        raise
    except Exception:  # a decoder may raise anything on hostile bytes
        raise UnusableImage(Reason.DAMAGED) from None


def _picture(pydicom: Any, content: bytes, spec: ImageSpec) -> Image.Image:
    syntax = _transfer_syntax(pydicom, content)
    if not syntax:
        raise UnusableImage(Reason.NO_PICTURE)
    if syntax not in _RAW | _JPEG | {_RLE}:
        raise UnusableImage(Reason.COMPRESSION)
    header = pydicom.dcmread(io.BytesIO(content), specific_tags=_WANTED)
    if not header.get("Rows") or not header.get("Columns") or "PixelData" not in header:
        raise UnusableImage(Reason.NO_PICTURE)
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise UnusableImage(Reason.FRAMES)
    pixels = int(header.Rows) * int(header.Columns)
    if pixels > spec.max_pixels:
        raise UnusableImage(Reason.PIXELS)
    if syntax not in _RAW:
        _bound(pydicom, header, syntax)
    kind = str(header.PhotometricInterpretation)
    if kind in _COLOUR and header.SamplesPerPixel == 3:
        if header.BitsAllocated != 8:
            raise UnusableImage(Reason.DEEP_COLOUR)
        return Image.fromarray(pydicom.pixels.pixel_array(header))
    grey = kind in ("MONOCHROME1", "MONOCHROME2") and header.SamplesPerPixel == 1
    if not grey or "ModalityLUTSequence" in header:
        raise UnusableImage(Reason.MODE)
    return Image.fromarray(_shades(pydicom, header, spec, inverted=kind == "MONOCHROME1"))


def _transfer_syntax(pydicom: Any, content: bytes) -> str:
    """Return how the file is encoded, without inflating what a deflated file holds."""
    meta = pydicom.filereader.read_dataset(
        io.BytesIO(content[132:]), False, True, stop_when=lambda tag, *_: tag >> 16 != 2
    )
    return str(meta.get("TransferSyntaxUID", ""))


def _bound(pydicom: Any, header: Dataset, syntax: str) -> None:
    """Refuse compressed pixels that would expand beyond the size that the header states."""
    frame = pydicom.encaps.get_frame(header.PixelData, 0, number_of_frames=1)
    if syntax in _JPEG:
        try:
            with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as inner:
                size = inner.size
        except Exception:  # such as 12-bit JPEG
            raise UnusableImage(Reason.COMPRESSION) from None
        if size != (header.Columns, header.Rows):
            raise UnusableImage(Reason.DAMAGED)
        return
    count, *starts = struct.unpack("<16L", frame[:64])
    segments = header.SamplesPerPixel * header.BitsAllocated // 8
    if count != segments or not 1 <= count <= 15:
        raise UnusableImage(Reason.DAMAGED)
    ends = [*starts[1:count], len(frame)]
    for start, end in zip(starts, ends, strict=False):
        if _run_length(frame[start:end]) > header.Rows * header.Columns + 256:
            raise UnusableImage(Reason.DAMAGED)


def _run_length(segment: bytes) -> int:
    """Return the number of bytes that a segment of PackBits codes expands to (PS3.5, G.3)."""
    total = place = 0
    while place < len(segment):
        code = segment[place]
        if code < 128:  # the next code + 1 bytes as they are
            total, place = total + code + 1, place + code + 2
        elif code > 128:  # the next byte 257 - code times
            total, place = total + 257 - code, place + 2
        else:
            place += 1
    return total


def _shades(pydicom: Any, header: Dataset, spec: ImageSpec, *, inverted: bool) -> np.ndarray:
    slope = float(header.get("RescaleSlope") or 1)
    intercept = float(header.get("RescaleIntercept") or 0)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UnusableImage(Reason.DAMAGED)
    plain = (slope, intercept) == (1, 0) and not header.PixelRepresentation
    window = spec.window
    if plain and header.BitsStored <= 8:
        window = (0, 255)
    if window is None:
        raise UnusableImage(Reason.WINDOW)
    values = pydicom.pixels.pixel_array(header)
    unused = 8 * values.dtype.itemsize - header.BitsStored  # may hold an overlay, or anything
    values = (values << unused) >> unused
    return windowed(values, window, slope=slope, intercept=intercept, inverted=inverted)
