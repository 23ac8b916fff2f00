"""Why an image cannot be used: a small fixed set of reasons, which say nothing of the image.

Each names the cause and, where one can cure it, the field of schema.yaml. Private counts and the
steward's check group rows by these texts.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reasons, as they follow "image" or "the image is unusable"."""

    NOT_NAMED = "missing: the row names or holds none"
    NO_FILE = (
        "missing: no file has its name (image.file can state an ending or leading zeros, and "
        "image.strip_prefix leading folders to remove)"
    )
    LEAVES = "name that leaves the folder (image.strip_prefix can state leading folders to remove)"
    BACKSLASH = "name with backslashes (image.separator can state them)"
    LINK = "symbolic link (image.link_cache can state the folder into which links may lead)"
    LINK_OUTSIDE = "symbolic link that leads outside image.link_cache"
    NOT_A_FILE = "not a file"
    NOT_OPENED = "file that may not be opened (its permissions)"
    BYTES = "too many bytes (image.max_pixels can state a larger bound)"
    PIXELS = "too many pixels (image.max_pixels can state a larger bound)"
    FORMAT = "not a readable PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000 or DICOM file"
    WINDOW = "grey of more than 8 bits (image.window must state the values of black and white)"
    DEEP_COLOUR = "colour or transparency of more than 8 bits, which is not read"
    MODE = "kind of colour that is not read"
    FRAMES = "several frames in one file (each can be written as a file of its own)"
    DAMAGED = "truncated or damaged"
    EMPTY = "empty file"
    POINTER = "Git LFS pointer instead of the file (git lfs pull fetches it)"
    NO_PREAMBLE = "DICOM file without its preamble (gdcmconv IN OUT adds it)"
    NO_PICTURE = "DICOM file whose header describes no picture"
    COMPRESSION = "DICOM file in a compression that is not read (gdcmconv --raw undoes it)"


NOT_FOUND = (Reason.NO_FILE, Reason.LEAVES, Reason.BACKSLASH)  # what another name may cure


class UnusableImage(ValueError):
    """The image cannot be used; the message is one of a fixed set of reasons."""
