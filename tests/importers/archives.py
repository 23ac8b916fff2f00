"""Small archives, drawn here, in exactly the forms in which their owners hand them out."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PAIRS = 60
CELEBA = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def pixels(number: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture, uint8 (H, W, 3) or (H, W), that depends on the number and its parity."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 60, (height, width, channels))
    image[: height // 2] += 60 + 120 * (number % 2)
    return image.astype(np.uint8) if channels == 3 else image[..., 0].astype(np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def celeba(root: Path, n: int = PAIRS) -> Path:
    """Faces of n / 3 people; the official lists in Anno and Eval."""
    rng = np.random.default_rng(1)
    lines, people, parts = [str(n), CELEBA + " "], [], []
    for i in range(1, n + 1):
        name = f"{i:06d}.jpg"
        save(root / "Img" / "img_align_celeba" / name, pixels(i, 218, 178))
        answers = rng.choice([-1, 1], 40)
        answers[20] = 1 if i % 2 else -1
        lines.append(name + "".join(f"{a:3d}" for a in answers) + " ")
        people.append(f"{name} {2880 + i % (n // 3)}")
        parts.append(f"{name} 0")
    (root / "Anno").mkdir()
    (root / "Eval").mkdir()
    (root / "Anno" / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (root / "Anno" / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    (root / "Eval" / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


def chestxray14(root: Path, n: int = 2 * PAIRS) -> Path:
    """Two X-rays of each patient, in two of the folders; ages as in the first edition."""
    findings = ("No Finding", "Infiltration", "Effusion|Atelectasis", "Nodule|Mass")
    lines = [NIH_HEADER]
    for i in range(n):
        patient, visit = i // 2 + 1, i % 2
        name = f"{patient:08d}_{visit:03d}.png"
        save(root / f"images_{1 + i % 2:03d}" / "images" / name, pixels(patient, 96, 96, 1))
        sex, view = "MF"[patient % 2], ("PA", "AP")[i % 3 == 0]
        age = ("058Y", "414Y", "009M", f"{20 + patient:03d}Y")[patient % 4]
        lines.append(
            f"{name},{findings[patient % 4]},{visit},{patient},{age},{sex},{view},"
            "2682,2749,0.143,0.143,"
        )
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    return root


def deepfashion(root: Path, n: int = PAIRS) -> Path:
    rng = np.random.default_rng(3)
    tops = (6, 5, 4, 3, 5, 3, 3, 3, 5, 8, 3, 3)  # one more than the largest code of each shape
    lists: dict[str, list[str]] = {"shape": [], "fabric": [], "pattern": []}
    for i in range(n):
        kind = ("WOMEN-Tees_Tanks", "MEN-Denim")[i % 2]
        name = f"{kind}-id_{i // 2:08d}-{1 + i % 2:02d}_4_full.jpg"
        save(root / "images" / name, pixels(i, 220, 150))
        lists["shape"].append(" ".join([name, *(str(rng.integers(top)) for top in tops)]))
        for texture in ("fabric", "pattern"):
            lists[texture].append(" ".join([name, *map(str, rng.integers(0, 8, 3))]))
    shape, texture = root / "labels" / "shape", root / "labels" / "texture"
    shape.mkdir(parents=True)
    texture.mkdir(parents=True)
    (shape / "shape_anno_all.txt").write_text("\n".join(lists["shape"]) + "\n")
    (texture / "fabric_ann.txt").write_text("\n".join(lists["fabric"]) + "\n")
    (texture / "pattern_ann.txt").write_text("\n".join(lists["pattern"]) + "\n")
    return root


def imagefolder(root: Path, n: int = PAIRS) -> Path:
    for i in range(n):
        part = ("train", "train", "train", "val", "test")[i % 5]
        save(root / part / ("cat", "dog")[i % 2] / f"p{i // 4}_{i}.png", pixels(i, 50, 40))
    return root


def idx(root: Path, n: int = PAIRS) -> Path:
    """The names of MNIST; the training pictures gzipped."""

    def content(array: np.ndarray) -> bytes:
        shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
        return bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()

    root.mkdir(parents=True)
    for stem, size in (("train", n), ("t10k", n // 4)):
        images = np.stack([pixels(i, 28, 28, 1) for i in range(size)])
        labels = (np.arange(size) % 2).astype(np.uint8)
        file, packed = f"{stem}-images-idx3-ubyte", stem == "train"
        body = gzip.compress(content(images)) if packed else content(images)
        (root / (file + ".gz" * packed)).write_bytes(body)
        (root / f"{stem}-labels-idx1-ubyte").write_bytes(content(labels))
    return root


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "outdoor": {"dtype": "bool", "_type": "Value"},
    "source": {"dtype": "string", "_type": "Value"},
}


def _hub_table(n: int, first: int = 0) -> pa.Table:
    """What `datasets` writes: pictures as bytes and path, the features in the metadata."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    numbers = range(first, first + n)
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": encoded(pixels(i, 40, 40)), "path": f"{i}.png"} for i in numbers], image
            ),
            "label": pa.array([i % 2 for i in numbers], pa.int64()),
            "outdoor": pa.array([i % 3 == 0 for i in numbers]),
            "source": [f"person {i // 2}" for i in numbers],
        }
    )
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    )


def huggingface_arrow(root: Path, n: int = PAIRS) -> Path:
    """DatasetDict.save_to_disk: a folder for each part, Arrow's stream format."""
    root.mkdir(parents=True)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for part, size in (("train", n), ("test", n // 4)):
        folder, file = root / part, "data-00000-of-00001.arrow"
        folder.mkdir()
        table = _hub_table(size)
        sink = pa.OSFile(str(folder / file), "wb")
        with sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=25)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file}]}))
        (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return root


def huggingface_parquet(root: Path, n: int = PAIRS) -> Path:
    """A repository of the hub: data/<part>-00000-of-0000N.parquet."""
    (root / "data").mkdir(parents=True)
    half = n // 2
    for name, size, first in (
        ("train-00000-of-00002", half, 0),
        ("train-00001-of-00002", n - half, half),
        ("test-00000-of-00001", n // 4, n),
    ):
        pq.write_table(_hub_table(size, first), root / "data" / f"{name}.parquet")
    return root


def medmnist(root: Path, n: int = PAIRS) -> Path:
    root.mkdir(parents=True)
    arrays = {}
    for stem, size in (("train", n), ("val", n // 6), ("test", n // 4)):
        arrays[f"{stem}_images"] = np.stack([pixels(i, 28, 28) for i in range(size)])
        arrays[f"{stem}_labels"] = (np.arange(size) % 2).astype(np.uint8)[:, None]
    np.savez_compressed(root / "pathmnist.npz", **arrays)
    return root


# Each archive, the format that reads it, and what its import is to be told.
ARCHIVES: dict[str, tuple[str, Callable[[Path], Path], list[str]]] = {
    "celeba": ("celeba", celeba, []),
    "chestxray14": ("chestxray14", chestxray14, []),
    "deepfashion": ("deepfashion", deepfashion, []),
    "imagefolder": ("imagefolder", imagefolder, []),
    "idx": ("idx", idx, ["--classes", "zero,one"]),
    "arrow": ("huggingface", huggingface_arrow, ["--by-position"]),
    "parquet": ("huggingface", huggingface_parquet, ["--by-position"]),
    "medmnist": ("medmnist", medmnist, ["--classes", "benign,malignant"]),
}
