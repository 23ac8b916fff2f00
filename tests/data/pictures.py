"""Small picture files in the formats that hospitals have, for the tests of decoding them."""

import io

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dagster_project.data.schema import ImageSpec

GREY, COLOUR = ImageSpec("image", 1, 16, 16), ImageSpec("image", 3, 16, 16)
SHADES = np.arange(256, dtype=np.uint8).reshape(16, 16)  # what every lossless file here shows


def file_of(image, kind, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dicom(values, syntax=ExplicitVRLittleEndian, compress=None, **header):
    """A DICOM file of values (height, width) or (height, width, 3), with changes of its header."""
    data = Dataset()
    data.PatientName, data.PatientBirthDate = "Doe^Jane", "19700101"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.WindowCenter, data.WindowWidth = 1, 1  # the file's own window, which must not be used
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    for name, value in header.items():
        setattr(data, name, value)
    if compress:
        data.compress(compress, generate_instance_uid=False)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
