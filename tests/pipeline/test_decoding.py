"""Decoding on workers: the same pairs, counts and files however many there are."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.compute.workers import InProcess, WorkerLost
from dagster_project.data import reading
from dagster_project.data.decoding import Pictures
from dagster_project.data.layout import find_layout
from dagster_project.data.progress import silent
from dagster_project.data.reading import ReadingError, read_pairs
from dagster_project.data.rows import stream
from dagster_project.pipeline import pairs
from dagster_project.pipeline.decoding import DecodedPart, Decoder
from dagster_project.pipeline.release import Compute
from tests.data.toys import SCHEMA, columns, png, shades, write, write_csv

KEY = b"k" * 16


@dataclass
class Apart(InProcess):
    """Workers that are treated like other processes, and are none."""

    count: int
    here = False


def row_images(path):
    """70 rows of 60 people: damaged pictures, a person without an id, rows that cannot be read."""
    junk = {3: None, 17: b"GIF89a", 18: png(1)[:-30], 41: b"", 69: b"x"}
    ids = {i: f"p{i - 10}" for i in range(60, 70)} | {5: None}
    return write(path, columns(70, image=junk, id=ids))


def struct_images(path):
    folder = row_images(path)
    table = pq.read_table(folder / "train.parquet")
    images = [{"bytes": b, "path": None} for b in table["image"].to_pylist()]
    images[30] = None
    table = table.set_column(1, "image", pa.array(images))
    pq.write_table(table, folder / "train.parquet", row_group_size=11)
    return folder


def named_images(path):
    lines = [f"{i // 2},{i % 5}.png,ball,{i % 10}" for i in range(60)]
    lines[7:7] = ["", '99,0.png,"ball,1', "98,gone.png,doll,1", "97,../0.png,ball,2"]
    return write_csv(
        path, ["id,image,kind,weight", *lines], {f"{i}.png": png(i + 1) for i in range(5)}
    )


def content(folder, decode, **settings):
    train, heldout, counts = read_pairs(
        folder, SCHEMA, heldout_key=KEY, heldout_share=0.3, decode=decode, **settings
    )
    arrays = [part for p in (train, heldout) for part in (p.images, p.codes, p.values)]
    assert len(train) > 10 and len(heldout) > 5
    return [(a.shape, a.tobytes()) for a in arrays], counts, list(counts.reasons)


@pytest.mark.parametrize("write_rows", [row_images, struct_images, named_images])
def test_the_same_pairs_and_counts_from_any_number_of_workers(tmp_path, monkeypatch, write_rows):
    monkeypatch.setattr(reading.os, "urandom", lambda n: np.random.default_rng(0).bytes(n))
    folder, store = write_rows(tmp_path / "data"), tmp_path / "store"
    expected = content(folder, Decoder(store, InProcess()))
    assert expected == content(folder, reading.decode_in_memory)
    assert len(expected[1].reasons) > 2
    for count in (1, 2, 7, 100):
        assert content(folder, Decoder(store, Apart(count))) == expected
    assert not list(store.rglob("*.part"))


def test_every_row_is_in_exactly_one_part(tmp_path):
    layout, _ = find_layout(row_images(tmp_path / "data"), SCHEMA)
    wanted = np.array([0, 1, 9, 10, 33, 69])
    whole = Pictures(layout.records, layout, SCHEMA, wanted, 0, 70)
    for count in (1, 2, 7, 69, 70, 500):
        parts = whole.divide(count)
        assert len(parts) <= count
        read = [row for part in parts for row in range(part.start, part.stop)]
        assert read == list(range(70))
        assert np.concatenate([part.rows for part in parts]).tolist() == wanted.tolist()
        assert all(((part.rows >= part.start) & (part.rows < part.stop)).all() for part in parts)


@pytest.mark.parametrize("write_rows", [row_images, struct_images, named_images])
def test_skipped_rows_are_those_at_the_head(tmp_path, write_rows):
    layout, _ = find_layout(write_rows(tmp_path / "data"), SCHEMA)

    def rows(start):
        return [
            (number, batch.columns["image"][i], batch.broken.get(i))
            for batch in stream(layout.records, ["image"], SCHEMA, start=start)
            for i, number in enumerate(batch.numbers)
        ]

    expected = rows(0)
    for start in range(len(expected) + 1):
        assert rows(start) == expected[start:]


def test_arrays_stay_on_disk(tmp_path):
    folder = write(tmp_path / "data", columns(9, image={4: None}))
    for workers in (InProcess(), Apart(2)):
        decoder = Decoder(tmp_path / "store", workers)
        train, _, _ = read_pairs(folder, SCHEMA, heldout_key=None, decode=decoder)
        assert isinstance(train.images, np.memmap)
        assert shades(train) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_damage_is_noticed_whoever_is_wanted_and_told_in_one_sentence(tmp_path):
    folder = write(tmp_path / "data", columns(40))
    file = folder / "train.parquet"
    image = pq.read_metadata(file).row_group(5).column(1)
    damaged = bytearray(file.read_bytes())
    start = image.data_page_offset
    damaged[start : start + image.total_compressed_size] = b"Smith" * (
        image.total_compressed_size // 5
    ) + bytes(image.total_compressed_size % 5)
    file.write_bytes(damaged)
    told = set()
    for count in (1, 2, 7):
        with pytest.raises(ReadingError) as caught:
            read_pairs(
                folder,
                SCHEMA,
                heldout_key=None,
                admit=lambda people, _: np.arange(len(people)) == 0,
                decode=Decoder(tmp_path / "store", Apart(count)),
            )
        told.add(str(caught.value))
    layout, _ = find_layout(folder, SCHEMA)
    (tmp_path / "token").write_text("mine")
    part = DecodedPart(tmp_path, "mine", ())
    with pytest.raises(ReadingError) as caught:
        part((0, Pictures(file, layout, SCHEMA, np.arange(40), 0, 40)))
    told.add(str(caught.value))
    assert told == {"The data files cannot be read to the end."}
    # What a pool sends along with the exception, and Ray returns.
    text = "".join(traceback.format_exception(caught.value))
    assert "Smith" not in text and "Arrow" not in text and "OSError" not in text


def test_workers_write_to_the_private_zone_alone_and_nobody_is_admitted_twice(
    reserved, monkeypatch
):
    admitted, admit = [], reserved.ledger.admit
    monkeypatch.setattr(
        type(reserved.ledger),
        "admit",
        lambda self, *a, **k: admitted.append(len(a[1])) or admit(*a, **k),
    )

    @contextmanager
    def opened(self: Compute) -> Iterator[Apart]:
        assert reserved.ledger.release(reserved.id).status == "RESERVED"
        yield Apart(3)

    monkeypatch.setattr(Compute, "open_workers", opened)
    pairs.read(reserved, reserved.root / "data", heldout_key=KEY, progress=silent)
    made = {p.relative_to(reserved.root).parts[0] for p in reserved.root.rglob("*") if p.is_file()}
    assert made == {"data", "population.yaml", "ledger", "models", "private"}
    assert sorted(p.name for p in reserved.private.iterdir()) == ["counts.json", "heldout", "train"]
    assert len(admitted) == 1 and admitted[0] == len(pairs.load_train(reserved))
    monkeypatch.setattr(Compute, "open_workers", lambda self: pytest.fail("workers for nothing"))
    pairs.read(reserved, reserved.root / "data", heldout_key=KEY, progress=silent)


def test_workers_read_only_after_the_reservation_is_opened(reserved, monkeypatch):
    seen, decode = [], DecodedPart.__call__

    def spy(self, shard):
        seen.append(reserved.ledger.release(reserved.id).status)
        return decode(self, shard)

    monkeypatch.setattr(DecodedPart, "__call__", spy)
    monkeypatch.setattr(Compute, "open_workers", lambda self: nullcontext(Apart(2)))
    pairs.read(reserved, reserved.root / "data", heldout_key=KEY, progress=silent)
    assert len(seen) == 16 and set(seen) == {"OPENED"}  # eight parts of each pass


def test_a_cluster_that_does_not_answer_costs_nothing(reserved, monkeypatch):
    def nobody(self: Compute) -> SimpleNamespace:
        raise WorkerLost("no Ray cluster answers")

    monkeypatch.setattr(Compute, "open_workers", nobody)
    with pytest.raises(WorkerLost):
        pairs.read(reserved, reserved.root / "data", heldout_key=KEY, progress=silent)
    assert reserved.ledger.release(reserved.id).status == "RESERVED"


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "another private zone"])
def test_a_worker_without_the_data_drops_nobody(tmp_path, there):
    folder, store = named_images(tmp_path / "data"), tmp_path / "store"
    layout, _ = find_layout(folder, SCHEMA)
    layout = replace(layout, cache=tmp_path / "none")  # stated, and needed by no file
    whole = Pictures(layout.records, layout, SCHEMA, np.arange(60), 0, 63)

    class Elsewhere(Apart):
        """Workers on a machine where not all folders are mounted."""

        def map_shards(self, function, shards):
            if there == "another private zone":
                (function.folder / "token").write_text("of another release")
            else:
                (folder / "images").rename(folder / "elsewhere")
            if there == "an empty folder":
                (folder / "images").mkdir()
            return map(function, shards)

    assert len(Decoder(store, Apart(2))(whole, lambda done: None)[0]) > 50
    with pytest.raises(WorkerLost, match="does not find the data"):
        Decoder(store, Elsewhere(2))(whole, lambda done: None)


def test_a_full_private_zone_is_not_called_damaged_data(tmp_path, monkeypatch):
    folder = write(tmp_path / "data", columns(40))
    monkeypatch.setattr(DecodedPart, "file", lambda self, number: tmp_path / "full" / "0.part")
    with pytest.raises(ReadingError, match="cannot be written to the private zone"):
        read_pairs(folder, SCHEMA, heldout_key=None, decode=Decoder(tmp_path / "store", Apart(2)))
