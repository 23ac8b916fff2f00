"""Small data folders for the tests of reading and checking."""

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dagster_project.data.schema import Schema

SCHEMA = Schema.from_dict(
    {
        "name": "toys",
        "person_id": "id",
        "n_public": 100,
        "image": {"column": "image", "channels": 1, "height": 8, "width": 8},
        "attributes": {
            "kind": {"kind": "categorical", "categories": ["ball", "doll"]},
            "weight": {"kind": "numeric", "edges": [0, 1, 10], "out_of_domain": "clamp"},
        },
    }
)


def png(shade=100, size=(8, 8), mode="L", kind="PNG"):
    buffer = io.BytesIO()
    colour = shade if mode in ("L", "I;16", "P", "1", "F") else (shade,) * len(mode)
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


def bomb(side=9000):
    """About 10 kB that open as 81 megapixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def columns(n, **changes):
    table = {
        "id": [f"p{i}" for i in range(n)],
        "image": [png(i) for i in range(n)],
        "kind": [("ball", "doll")[i % 2] for i in range(n)],
        "weight": [i % 10 + 0.5 for i in range(n)],
    }
    for name, by_row in changes.items():
        for row, value in by_row.items():
            table[name][row] = value
    return table


def write(folder, table, name="train.parquet"):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / name, row_group_size=7)
    return folder


def write_csv(folder, lines, images):
    (folder / "images").mkdir(parents=True)
    (folder / "records.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in images.items():
        (folder / "images" / name).write_bytes(content)
    return folder


def shades(pairs):
    return np.asarray(pairs.images).mean(axis=(1, 2, 3)).round().astype(int).tolist()
