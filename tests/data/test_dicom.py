"""DICOM files: grey by the schema's window, colour, compressions, and limits before decoding."""

from dataclasses import replace

import numpy as np
from pydicom.encaps import encapsulate

from dagster_project.data.image_faults import Reason
from dagster_project.data.images import decode_image
from tests.data.pictures import COLOUR, GREY, SHADES, dicom, file_of
from tests.data.test_images import reason

TWELVE = SHADES.astype(np.uint16) * 16
WINDOW = replace(GREY, window=(0, 4080))
JPEG, JPEG_LOSSLESS, JPEG2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (50, 70, 90))
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"


def shades(content, spec=WINDOW):
    return decode_image(content, spec)[0]


def test_grey_follows_the_window_of_the_schema_and_not_that_of_the_file():
    assert (shades(dicom(TWELVE)) == SHADES).all()
    assert (shades(dicom(TWELVE, WindowCenter=9000, WindowWidth=2)) == SHADES).all()
    assert reason(dicom(TWELVE)) is Reason.WINDOW


def test_monochrome1_is_inverted():
    assert (shades(dicom(TWELVE, PhotometricInterpretation="MONOCHROME1")) == 255 - SHADES).all()


def test_values_are_rescaled_before_the_window():
    hounsfield = SHADES.astype(np.int16) * 4 - 1000
    stored = dicom(hounsfield, RescaleSlope="2", RescaleIntercept="1000")
    assert (shades(stored, replace(GREY, window=(-1000, 1040))) == SHADES).all()
    fewer = dicom(hounsfield & 0x0FFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert (shades(fewer, replace(GREY, window=(-1000, 20))) == SHADES).all()


def test_unused_bits_do_not_count():
    assert (shades(dicom(TWELVE | 0xA000, BitsStored=12, HighBit=11)) == SHADES).all()


def test_eight_bits_need_no_window_unless_they_are_rescaled():
    assert (shades(dicom(SHADES), GREY) == SHADES).all()
    assert (shades(dicom(SHADES, BitsStored=8, HighBit=7), WINDOW) == SHADES).all()
    assert reason(dicom(SHADES, RescaleIntercept="-1024")) is Reason.WINDOW


def test_encodings_without_loss():
    inner = encapsulate([file_of(TWELVE, "JPEG2000")])
    for content in (
        dicom(TWELVE, IMPLICIT),
        dicom(TWELVE, compress=RLE),
        dicom(TWELVE, JPEG2000, PixelData=inner),
    ):
        assert (shades(content) == SHADES).all()


def test_jpeg_and_colour():
    smooth = np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[:, None], 16, axis=1)
    content = dicom(smooth, JPEG, PixelData=encapsulate([file_of(smooth, "JPEG", quality=100)]))
    assert abs(shades(content, GREY).astype(int) - smooth).max() <= 2
    colour = np.stack([SHADES, SHADES.T, 255 - SHADES], axis=-1)
    assert (decode_image(dicom(colour), COLOUR) == colour.transpose(2, 0, 1)).all()
    assert (decode_image(dicom(colour, compress=RLE), COLOUR) == colour.transpose(2, 0, 1)).all()


def test_what_is_not_read_has_a_reason():
    assert reason(dicom(TWELVE, DEFLATED), WINDOW) is Reason.COMPRESSION
    lossless = dicom(TWELVE, JPEG_LOSSLESS, PixelData=encapsulate([b"\xff\xd8\xff\xc3"]))
    assert reason(lossless, WINDOW) is Reason.COMPRESSION
    assert reason(dicom(TWELVE, NumberOfFrames="2"), WINDOW) is Reason.FRAMES
    assert reason(dicom(TWELVE, PhotometricInterpretation="PALETTE COLOR"), WINDOW) is Reason.MODE
    deep = np.stack([TWELVE] * 3, axis=-1)
    assert reason(dicom(deep), WINDOW) is Reason.DEEP_COLOUR
    assert reason(dicom(TWELVE, Rows=0), WINDOW) is Reason.NO_PICTURE
    assert reason(bytes(128) + b"DICM" + bytes(3000), WINDOW) is Reason.NO_PICTURE
    assert reason(dicom(TWELVE, RescaleSlope="1e999"), WINDOW) is Reason.DAMAGED
    assert reason(dicom(TWELVE, PixelData=b"\0" * 10), WINDOW) is Reason.DAMAGED


def test_limits_hold_before_decoding():
    assert reason(dicom(TWELVE, Rows=9000, Columns=9000), WINDOW) is Reason.PIXELS
    # A picture in the file that is larger than the header says.
    large = encapsulate([file_of(np.zeros((900, 900), np.uint8), "JPEG")])
    assert reason(dicom(SHADES, JPEG, PixelData=large), GREY) is Reason.DAMAGED
    # 20 kB of run-length codes that expand to 1.3 MB.
    runs = b"\x81\0" * 10_000
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    assert (
        reason(dicom(SHADES, RLE, PixelData=encapsulate([header + runs])), GREY) is Reason.DAMAGED
    )
