"""The audit command at tiny sizes: it holds on the product, and each audit sees what it is for."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dagster_project.audits import (
    compositions,
    copies,
    distinguishing,
    lineages,
    malformed,
    mutants,
    one_run,
    suite,
    toy_release,
    toys,
)
from dagster_project.audits.faults import TRAINING_FAULTS, LessNoise
from dagster_project.audits.finding import Finding, not_run
from dagster_project.cli import main as cli
from dagster_project.privacy.accounting import epsilon

TINY = replace(
    suite.QUICK,
    sequences=5,
    tries=20,
    rounds=500,
    plans=2,
    inputs=12,
    entries=60,
    traced=10,
    images=50,
)
# Those that trace processes or run crowds have tests of their own.
HERE = (
    "sensitivity", "randomness", "composition", "one run", "lattice", "sequences", "lineage",
    "malformed", "copies", "rows",
)  # fmt: skip


def row(*, holds: bool) -> Finding:
    return Finding(name="a", measured="1", expected="1", holds=holds, size="1")


def command(monkeypatch, capsys, audits, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command with these audits."""
    monkeypatch.setattr(suite, "audits", lambda sizes: audits)
    code = cli.main(["audit", *arguments])
    return code, capsys.readouterr().out


def test_all_audits_hold_and_are_told_as_json(monkeypatch, capsys) -> None:
    every = suite.audits(TINY)
    chosen = {name: every[name] for name in HERE}
    code, out = command(monkeypatch, capsys, chosen, "--quick", "--json")
    told = json.loads(out)
    assert [f for f in told["findings"] if not f["holds"]] == []
    assert code == 0 and told["holds"] and told["size"] == "quick"
    for finding in told["findings"]:
        assert all(finding[key] for key in ("name", "measured", "expected", "size"))


def test_quick_and_full_have_the_same_audits_but_two() -> None:
    full, quick = suite.audits(suite.FULL), suite.audits(suite.QUICK)
    assert set(full) - set(quick) == {"release", "server crowd"} and set(quick) <= set(full)
    assert suite.FULL.sequences == 10_000 and suite.FULL.crash_every == suite.FULL.kill_every == 1
    assert (suite.FULL.plans, suite.FULL.inputs, suite.FULL.runs) == (200, 500, 400_000)


@pytest.mark.parametrize("size", ["--quick", "--full"])
def test_one_finding_that_does_not_hold_is_exit_code_1(monkeypatch, capsys, size: str) -> None:
    audits = {"one": lambda: [row(holds=True)], "two": lambda: [row(holds=False)]}
    code, out = command(monkeypatch, capsys, audits, size)
    assert code == 1 and "FAILS" in out and f"1 of 2 hold ({size[2:]} sizes" in out
    assert command(monkeypatch, capsys, {"one": audits["one"]}, size)[0] == 0


def test_an_audit_that_breaks_down_or_cannot_run_does_not_hold(monkeypatch, capsys) -> None:
    audits = {"broken": lambda: [1 / 0], "absent": lambda: [not_run("x", "y", "no strace")]}
    code, out = command(monkeypatch, capsys, audits, "--json")
    assert code == 1
    assert [f["holds"] for f in json.loads(out)["findings"]] == [False, False]
    assert "ZeroDivisionError" in out and "NOT RUN: no strace" in out


def test_every_fault_of_training_is_caught_and_the_product_is_not() -> None:
    wanted = {"seed reuse", "realised-count mean", "lost clip", "half noise", "shuffle", "NaN"}
    assert wanted | {"doubled q"} == set(TRAINING_FAULTS)
    for name, make in TRAINING_FAULTS.items():
        assert mutants.training_checks(make(), tries=20, rounds=500), name
    assert all(mutants.pairs_checks().values())


def test_a_price_that_adds_epsilons_or_forgets_a_count_is_seen() -> None:
    def added(events) -> float:
        return sum(compositions.our_epsilon([event]) for event in events)

    def forgotten(events) -> float:
        return compositions.our_epsilon([replace(event, count=1) for event in events])

    for price in (added, forgotten):
        both = compositions.audit_compositions(plans=2, price=price)
        assert not any(finding.holds for finding in both), price


def test_many_runs_bound_a_gaussian_from_below() -> None:
    """Of a Gaussian of known mu the bound is near the best that its tails allow, and below it."""
    rng, mu = np.random.default_rng(0), 0.5
    noise = rng.standard_normal((2, 200_000))
    found = distinguishing.lower_bound(noise[0] + mu, noise[1], delta=1e-5)
    level = 3.0
    best = math.log(stats.norm.sf(level - mu) / stats.norm.sf(level))
    from dagster_project.privacy.events import Gaussian

    assert 0.5 * best < found < epsilon([Gaussian(noise_multiplier=1 / mu)], target_delta=1e-5)
    mirrored = distinguishing.lower_bound(-noise[1], -noise[0] - mu, delta=1e-5)
    assert mirrored == pytest.approx(found, rel=0.3)
    assert distinguishing.lower_bound(noise[0], noise[1], delta=1e-5) < 0.05


@pytest.mark.parametrize("mechanism", distinguishing.MECHANISMS)
def test_half_the_noise_refutes_the_claim(mechanism: str) -> None:
    halved = distinguishing.empirical_epsilon(mechanism, runs=120_000, generator=LessNoise)
    assert halved > distinguishing.CLAIMED


def test_one_run_p_value_is_the_binomial_tail_and_grows_with_delta() -> None:
    numbers = {"canaries": 1000, "guesses": 100, "right": 80, "epsilon": 1.0}
    tail = stats.binom.sf(79, 100, 1 / (1 + math.exp(-1)))
    assert one_run.p_value(**numbers, delta=0.0) == pytest.approx(tail)
    assert one_run.p_value(**numbers, delta=1e-5) > tail
    assert one_run.p_value(**numbers | {"right": 0}, delta=0.0) == 1
    # Everything guessed right refutes what one guess in so many may miss at 95 %.
    bound = one_run.lower_bound(canaries=1000, guesses=200, right=200, delta=0.0)
    assert math.exp(bound) / (1 + math.exp(bound)) == pytest.approx(0.05 ** (1 / 200), abs=1e-4)
    assert one_run.lower_bound(canaries=1000, guesses=200, right=100, delta=0.0) == 0


def test_trace_backs_and_written_bytes_are_counted() -> None:
    def careless(data: Path) -> None:
        (data / "note").write_text("x")
        raise KeyError("a record")

    refused, written, traces = malformed.failures(inputs=8, read=careless)
    assert (refused, written, len(traces)) == (0, 8, 8) and "KeyError" in traces[0]


def test_damage_that_changes_nothing_is_not_said_to_be_seen(tmp_path: Path) -> None:
    population, files = lineages.long_ledger(tmp_path, 30)
    assert len(files) == 5
    assert lineages._seen(population, "UPDATE entries SET hash = hash") == ""
    assert "entry 4" in lineages._seen(population, "UPDATE entries SET hash = '0' WHERE seq = 4")


def test_leaks_are_found_wherever_they_are_packed(tmp_path: Path) -> None:
    secret = f"{toys.SECRET}-7"
    for zone in ("data", "private/x", "models", "releases", "logs"):
        (tmp_path / zone).mkdir(parents=True)
    (tmp_path / "data" / "train.csv").write_text(secret)
    (tmp_path / "private" / "x" / "trace.txt").write_text(secret)
    (tmp_path / "logs" / "clean.txt").write_text("nothing here")
    assert toy_release.leaks(tmp_path) == (1, [])
    with zipfile.ZipFile(tmp_path / "models" / "m.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.npy", secret * 9)
    pq.write_table(pa.table({"a": [secret]}), tmp_path / "releases" / "p.parquet")
    (tmp_path / "logs" / "wide.txt").write_bytes(secret.upper().encode("utf-16-le"))
    (tmp_path / "logs" / f"{secret}.txt").touch()
    assert len(toy_release.leaks(tmp_path)[1]) == 4


def test_copies_of_private_images_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    private = rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    released = rng.integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
    assert copies.find_copies(released, private).near == 0
    released[3] = private[17]
    released[4] = private[18] ^ 1
    found = copies.find_copies(released, private)
    assert (found.exact, found.near) == (1, 2) and found.nearest < 0.1


def test_copies_in_a_release_are_looked_for_by_its_name(tmp_path, capsys) -> None:
    (tmp_path / "population.yaml").write_text(toys.POPULATION.format(lifetime=5.0))
    train, shards = tmp_path / "private/r/train", tmp_path / "releases/r/data"
    train.mkdir(parents=True)
    shards.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    np.save(train / "images.npy", images[:4])
    for taken, code in ((images[4:], 0), (images[3:], 1)):
        cells = [{"bytes": toys.encode(p[0]), "path": "x.png"} for p in taken]
        pq.write_table(pa.table({"image": cells}), shards / "train-0.parquet")
        assert cli.main(["audit", "--root", str(tmp_path), "--release", "r"]) == code
    assert cli.main(["audit", "--root", str(tmp_path), "--release", "other"]) == 2
    assert "1 exact copies" in capsys.readouterr().out
