"""Picture files as hospitals have them: the right pixels, or a reason that names the cause."""

import contextlib
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dagster_project.data.image_faults import Reason
from dagster_project.data.images import UnusableImage, decode_image
from tests.data.pictures import COLOUR, GREY, SHADES, dicom, file_of

DEEP = SHADES.astype(np.uint16) * 257
WINDOW = replace(GREY, window=(0, 65535))
RED = Image.new("RGB", (16, 16), (200, 0, 0))


def reason(content, spec=GREY):
    with pytest.raises(UnusableImage) as caught:
        decode_image(content, spec)
    return Reason(str(caught.value))


@pytest.mark.parametrize(
    "kind, options",
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("JPEG2000", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"tiffinfo": {262: 0}}),  # WhiteIsZero
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_give_the_very_pixels(kind, options):
    content = file_of(Image.fromarray(SHADES), kind, **options)
    assert (decode_image(content, GREY)[0] == SHADES).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bits_need_a_window_and_follow_it(kind):
    content = file_of(DEEP, kind)
    assert reason(content) is Reason.WINDOW
    assert (decode_image(content, WINDOW)[0] == SHADES).all()
    twelve = file_of(SHADES.astype(np.uint16) * 16, kind)
    bone = decode_image(twelve, replace(GREY, window=(0, 4095)))[0]
    assert abs(bone.astype(int) - SHADES).max() <= 1
    high = decode_image(twelve, replace(GREY, window=(1600, 1616)))[0]
    assert (high[SHADES <= 100] == 0).all() and (high[SHADES > 100] == 255).all()


def test_eight_bits_need_no_window_and_ignore_it():
    assert (decode_image(file_of(SHADES, "PNG"), WINDOW)[0] == SHADES).all()


def test_other_deep_greys():
    small = file_of(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})  # WhiteIsZero
    assert (decode_image(small, WINDOW)[0] == 255 - SHADES).all()
    for values in (DEEP.astype(np.int32), DEEP.astype(np.float32), DEEP.astype(">u2")):
        assert (decode_image(file_of(values, "TIFF"), WINDOW)[0] == SHADES).all()
    odd = np.full((16, 16), np.nan, np.float32)
    odd[0] = np.inf
    shades = decode_image(file_of(odd, "TIFF"), WINDOW)[0]
    assert (shades[0] == 255).all() and (shades[1:] == 0).all()


def test_a_shade_depends_on_its_own_value_alone():
    """Neither the picture's range nor its size decides what a value becomes."""
    for others in (0, 30_000, 65_535):
        values = np.full((16, 16), others, np.uint16)
        values[4, 4] = 20_000
        assert decode_image(file_of(values, "PNG"), WINDOW)[0, 4, 4] == round(20_000 / 257)


def test_cmyk_is_converted():
    content = file_of(RED.convert("CMYK"), "TIFF")
    assert (decode_image(content, COLOUR)[:, 0, 0] == (200, 0, 0)).all()
    content = file_of(RED.convert("CMYK"), "JPEG", quality=100)
    assert abs(decode_image(content, COLOUR)[:, 0, 0].astype(int) - (200, 0, 0)).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_upright(kind, orientation):
    # The inverse of each turn, which is what a camera held that way records.
    lying = {
        1: SHADES, 2: SHADES[:, ::-1], 3: SHADES[::-1, ::-1], 4: SHADES[::-1], 5: SHADES.T,
        6: np.rot90(SHADES), 7: SHADES[::-1, ::-1].T, 8: np.rot90(SHADES, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = file_of(np.ascontiguousarray(lying), kind, exif=exif, **options)
    assert (decode_image(content, GREY)[0] == SHADES).all()


def test_an_exif_block_that_cannot_be_read_says_nothing():
    content = file_of(RED, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish")
    assert decode_image(content, GREY).shape == (1, 16, 16)


def test_transparent_parts_show_the_declared_ground():
    clear = file_of(Image.new("LA", (16, 16), (90, 0)), "PNG")
    half = file_of(Image.new("RGBA", (16, 16), (90, 90, 90, 128)), "PNG")
    key = file_of(Image.new("L", (16, 16), 90), "PNG", transparency=90)
    palette = file_of(Image.new("P", (16, 16), 0), "GIF", transparency=0)
    # TIFF's alpha that the grey is already multiplied by (ExtraSamples 1 in place of 2).
    straight, multiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    alpha = file_of(Image.new("LA", (16, 16), (45, 128)), "TIFF")
    premultiplied = alpha.replace(straight, multiplied)
    assert premultiplied != alpha
    for background, ground in (("white", 255), ("black", 0)):
        spec = replace(GREY, background=background)
        for content in (clear, key, palette):
            assert (decode_image(content, spec) == ground).all()
        for content in (half, premultiplied):
            assert abs(int(decode_image(content, spec)[0, 0, 0]) - (90 + ground) / 2) <= 1


def test_a_plate_of_radiography_is_read_by_default():
    plate = np.zeros((3520, 4280), np.uint8)
    plate[:, 2140:] = 200
    half = decode_image(file_of(plate, "JPEG"), GREY)[0]
    assert (half[:, :7] < 10).all() and (half[:, 9:] > 190).all()


def test_the_first_picture_of_a_phone_is_the_picture():
    second = Image.new("RGB", (8, 8), (0, 0, 200))
    content = file_of(RED, "MPO", save_all=True, append_images=[second], quality=100)
    assert Image.open(io.BytesIO(content)).is_animated
    assert abs(decode_image(content, COLOUR)[:, 0, 0].astype(int) - (200, 0, 0)).max() < 4


def test_reasons_name_the_cause():
    several = Image.fromarray(SHADES)
    for kind in ("TIFF", "GIF", "PNG", "WEBP"):
        frames = [Image.fromarray(255 - SHADES)]
        assert reason(file_of(several, kind, save_all=True, append_images=frames)) is Reason.FRAMES
    assert reason(file_of(Image.new("LAB", (9, 9)), "TIFF")) is Reason.MODE
    assert reason(b"%PDF-1.7 and so on") is Reason.FORMAT
    assert reason(None) is Reason.NOT_NAMED
    assert reason(b"") is Reason.EMPTY
    assert reason(b"version https://git-lfs.github.com/spec/v1\noid") is Reason.POINTER
    assert reason(bytes.fromhex("0800160055491a00") + b"1.2.840") is Reason.NO_PREAMBLE
    assert reason(bytes.fromhex("080005000a000000") + b"ISO_IR 100") is Reason.NO_PREAMBLE
    deep_colour = file_of(RED, "PNG").replace(b"\x08\x02\0\0\0", b"\x10\x02\0\0\0")
    check = zlib.crc32(deep_colour[12:29]).to_bytes(4, "big")
    deep_colour = deep_colour[:29] + check + deep_colour[33:]
    assert reason(deep_colour) is Reason.DEEP_COLOUR


SOUND = [
    file_of(DEEP, "TIFF"),
    file_of(SHADES, "TIFF", compression="tiff_lzw"),
    file_of(SHADES, "TIFF", compression="jpeg"),
    file_of(RED, "WEBP"),
    file_of(RED, "GIF"),
    file_of(DEEP, "JPEG2000"),
    dicom(DEEP),
    dicom(DEEP, compress="1.2.840.10008.1.2.5"),
]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 7), st.integers(0, 10**6), st.binary(max_size=8), st.booleans())
def test_damage_ends_in_a_reason(kind, place, junk, cut):
    content = SOUND[kind]
    place %= len(content)
    content = content[:place] + junk + (b"" if cut else content[place + 4 :])
    try:
        pixels = decode_image(content, WINDOW)
    except UnusableImage as fault:
        assert Reason(str(fault))
    else:
        assert pixels.shape == (1, 16, 16) and pixels.dtype == np.uint8


def test_decoders_say_nothing_of_damaged_files(capfd, caplog):
    """libtiff and pydicom would write offsets and header values to the logs of a run."""
    name = b"Doe^Jane"
    for content in (*SOUND, dicom(DEEP, RescaleSlope="1", PatientBirthDate="nonsense")):
        for place in range(0, len(content), 7):
            damaged = content[:place] + b"\xff\xff" + content[place + 2 :]
            with contextlib.suppress(UnusableImage):
                decode_image(damaged, WINDOW)
    assert name in SOUND[6]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
