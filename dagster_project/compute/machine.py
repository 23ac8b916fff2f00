"""What determines the last bits of a computation, so that unequal workers can be refused.

A person's features and gradients are floating point until they are rounded to the grid, and another
processor, another number of threads or another version of a library may round them differently.
Which worker a person comes to depends on who else is in the data. If workers differed, so would
the contributions of others when one person is removed, and no longer one term of the sum alone.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path

from dagster_project.compute.workers import WorkerLost

_PACKAGES = ("numpy", "torch", "opacus", "pillow", "pyarrow", "pydicom")
# pydicom decodes compressed pictures with any of these that is installed.
_DECODERS = ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pyjpegls", "python-gdcm")


@dataclass(frozen=True)
class Identity:
    """What determines a worker's bits.

    Attributes:
        code: Hash of this project's source and of the versions of Python and its libraries.
        processor: Model of the processor and of the GPU, and the number of threads.
    """

    code: str
    processor: str


def identity() -> Identity:
    """Return the identity of this process."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    processor = f"{_model()}, GPU {gpu}, {torch.get_num_threads()} threads"
    return Identity(code=_code(), processor=processor)


def require_equal(workers: Sequence[Identity]) -> None:
    """Refuse workers that are not equal, or that do not have this process's code.

    Raises:
        WorkerLost: They differ.
    """
    if len({worker.processor for worker in workers}) > 1:
        raise WorkerLost(
            "the workers have different processors, so a person's contribution would depend on who "
            "else is in the data: choose machines of one kind"
        )
    if {worker.code for worker in workers} != {_code()}:
        raise WorkerLost(
            "the workers do not have this process's version of the code, Python or its libraries: "
            "use one image for all"
        )


@cache
def _code() -> str:
    installed = {each.name.lower() for each in distributions() if each.name}
    packages = [*_PACKAGES, *(name for name in _DECODERS if name in installed)]
    versions = [sys.version, *((name, version(name)) for name in packages)]
    digest = hashlib.sha256(repr(versions).encode())
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def _model() -> str:
    """Return the processor's model, of which one instruction set can have several."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    names = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return " ".join(sorted(names)) or f"{platform.machine()} {platform.processor()}"
