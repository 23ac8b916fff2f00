"""Public pools: labels from folders, hostile files left out, one seed for one drawn pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dagster_project.data.schema import ImageSpec
from dagster_project.public_data.pool import PublicPool, decode_public, read_folder
from dagster_project.public_data.procedural_pool import CLASSES, draw_pool

GREY, COLOUR = ImageSpec("image", 1, 12, 10), ImageSpec("image", 3, 12, 10)


def silent(fraction: float, text: str) -> None:
    assert 0 <= fraction <= 1


def write(folder, name, colour=(200, 30, 30), mode="RGB", size=(20, 16), **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pool"
    for i in range(4):
        write(root, f"food/fruit/{i}.png", (250, 10 * i, 0))
        write(root, f"tools/{i}.jpg", (0, 0, 20 * i))
        write(root, f"food/bread/{i}.bmp", (120, 90, 10 * i))
    write(root, "food/rare/one.gif")
    return root


def read(folder, spec=GREY, **options):
    return read_folder(folder, spec, progress=silent, **{"smallest": 3, **options})


def test_nested_folders_joined_are_the_label(folder):
    pool = read(folder, COLOUR)
    assert pool.names == ("food/bread", "food/fruit", "tools")
    assert pool.counts.tolist() == [4, 4, 4] and pool.images.shape == (12, 3, 12, 10)
    fruit = pool.images[pool.labels == 1]
    assert (fruit[:, 0] > 200).all() and (fruit[:, 2] < 40).all()
    assert pool.skipped == {"too few of their label": 1}


def test_depth_and_small_labels_join_the_folder_above(folder):
    assert read(folder, depth=1).names == ("food", "tools")
    assert read(folder, depth=1).counts.tolist() == [9, 4]
    # Five pictures are asked of a label: the deep ones join "food", and tools has too few.
    with pytest.raises(ValueError, match="fewer than two labels"):
        read(folder, smallest=5)
    assert read(folder, smallest=1).names == ("food/bread", "food/fruit", "food/rare", "tools")


def test_damaged_hostile_and_foreign_files_are_counted_and_left_out(folder):
    (folder / "tools" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9)
    whole = write(folder, "tools/whole.png", size=(300, 300)).read_bytes()
    (folder / "tools" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "tools" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n")
    (folder / "tools" / "notes.txt").write_text("no picture, and not counted")
    (folder / "top.png").write_bytes(whole)  # outside any folder: no label
    write(folder, ".hidden/secret.png")
    write(folder, "tools/huge.png", size=(400, 300))
    pool = read(folder, replace(GREY, max_pixels=95_000))
    assert pool.counts.tolist() == [4, 4, 5]
    assert pool.skipped == {
        "not a readable image": 2,
        "too few of their label": 1,
        "too many pixels": 1,
        "truncated or damaged": 1,
    }


def test_no_link_is_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    for i in range(5):
        write(outside, f"{i}.png")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "tools" / "linked.png").symlink_to(outside / "0.png")
    assert read(folder).names == ("food/bread", "food/fruit", "tools")
    assert read(folder).counts.tolist() == [4, 4, 4]
    (tmp_path / "alias").symlink_to(folder, target_is_directory=True)
    with pytest.raises(ValueError, match="no folder"):
        read(tmp_path / "alias")


def test_transparent_is_white_and_sixteen_bits_are_scaled(tmp_path):
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (decode_public((tmp_path / "clear.png").read_bytes(), COLOUR) == 255).all()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "deep.png")
    deep = decode_public((tmp_path / "deep.png").read_bytes(), GREY)
    assert deep.shape == (1, 12, 10) and (deep == 40_000 >> 8).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "RGB"])
@pytest.mark.parametrize("ending", ["png", "gif", "tiff", "webp"])
def test_modes_and_formats(tmp_path, mode, ending):
    mode = {"gif": "P", "webp": "RGB"}.get(ending, mode) if mode in ("LA", "CMYK") else mode
    if ending == "png" and mode == "CMYK":
        mode = "RGB"
    content = write(tmp_path, f"a.{ending}", (255, 255, 255), mode).read_bytes()
    assert (decode_public(content, GREY) >= 250).all()


def test_a_pool_reads_back_and_its_hash_is_of_what_is_used(folder, tmp_path):
    pool = read(folder)
    pool.save(tmp_path / "pool.npz")
    again = PublicPool.load(tmp_path / "pool.npz")
    assert again.sha256 == pool.sha256 and again.names == pool.names
    assert again.skipped == pool.skipped and np.array_equal(again.images, pool.images)
    other = pool.images.copy()
    other[0, 0, 0, 0] ^= 1
    assert PublicPool("x", other, pool.labels, pool.names).sha256 != pool.sha256
    (tmp_path / "wrong.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a pool"):
        PublicPool.load(tmp_path / "wrong.npz")


def test_negatives_have_labels_of_their_own(folder):
    pool = read(folder)
    both = pool.with_negatives()
    assert len(both) == 2 * len(pool) and both.names[3] == "food/bread (negative)"
    assert np.array_equal(both.images[len(pool) :], 255 - pool.images)
    assert np.array_equal(both.labels[len(pool) :], pool.labels + 3)


@pytest.mark.parametrize("spec", [GREY, ImageSpec("image", 3, 28, 28)])
def test_a_drawn_pool_has_all_classes_and_one_seed_gives_one_pool(spec):
    first, again, other = (
        draw_pool(100, spec, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.names == tuple(CLASSES) and set(first.counts) == {5}
    assert first.images.shape == (100, spec.channels, spec.height, spec.width)
    assert first.sha256 == again.sha256 != other.sha256
    spread = first.images.reshape(100, -1).std(axis=1)
    assert (spread > 8).mean() > 0.95  # every class shows something


def test_drawn_classes_can_be_told_apart():
    from sklearn.ensemble import RandomForestClassifier

    spec = ImageSpec("image", 1, 16, 16)
    train, test = (draw_pool(2000, spec, rng=np.random.default_rng(s)) for s in (1, 2))
    power = [np.abs(np.fft.rfft2(p.images[:, 0] - p.images[:, 0].mean((1, 2), keepdims=True)))
             .reshape(2000, -1) for p in (train, test)]  # fmt: skip
    power = [np.log1p(p / p.sum(1, keepdims=True) * 100) for p in power]
    forest = RandomForestClassifier(60, random_state=0).fit(power[0], train.labels)
    assert forest.score(power[1], test.labels) > 0.45  # guessing: 0.05
