"""Whether the pictures and the schema's image have the same proportions; for the steward's check.

Pictures are centre-cropped to the proportions of the schema, which loses much where these differ or
where height and width were exchanged. Decoding belongs to `images`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from io import BytesIO

from PIL import Image

from dagster_project.data.image_spec import ImageSpec

_ORIENTATION, _TURNED = 274, 5  # EXIF tag, and the first of its values that exchange the sides
_MOST_CUT = 0.3  # share of a picture that may be cut off without a word


def picture_size(content: object) -> tuple[int, int] | None:
    """Return the width and height of a picture's bytes after its EXIF orientation.

    Nothing is decoded. None is returned for what Pillow cannot open, such as DICOM.
    """
    try:
        with Image.open(BytesIO(content)) as image:  # type: ignore[arg-type]  # a TypeError is None
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
    except Exception:  # a decoder may raise anything on hostile bytes
        return None
    return (height, width) if turned else (width, height)


def crop_cause(sizes: Mapping[tuple[int, int], int], spec: ImageSpec) -> str | None:
    """Return why most pictures lose a large part to the centre crop, or None if they do not.

    Private.

    Args:
        sizes: How many of the pictures have each width and height.
        spec: The public form of the image.
    """
    shares = {size: _cut(size, spec.width / spec.height) for size in sizes}
    cut = Counter({size: sizes[size] for size, share in shares.items() if share > _MOST_CUT})
    if not cut or 2 * cut.total() < sum(sizes.values()):
        return None
    ((size, _),) = cut.most_common(1)
    turned = _cut(size, spec.height / spec.width) < _MOST_CUT
    cure = "exchange its height and width" if turned else "state them in the same proportion"
    lost = f"{100 * shares[size]:.0f} %"
    return (
        f"pictures of {size[0]} x {size[1]} pixels (width x height) lose {lost} to the centre "
        f"crop, because the schema's image is {spec.width} x {spec.height}: {cure}."
    )


def _cut(size: tuple[int, int], aspect: float) -> float:
    ratio = size[0] / size[1] / aspect
    return 1 - min(ratio, 1 / ratio)
