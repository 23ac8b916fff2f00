"""The crash audit finds nothing in the ledger, and everything in a ledger with a planted fault."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dagster_project.audits import crashes, resuming
from dagster_project.audits.file_calls import Call, Disk, TraceError, can_trace, record
from dagster_project.audits.lives import MUTANTS

Lives = dict[str, tuple[Path, list[Call]]]


traced = pytest.mark.skipif(
    not can_trace(), reason="CRASH AUDIT NOT RUN: strace is missing or may not trace here"
)


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    """One recorded life without a fault, and one with each."""
    root = tmp_path_factory.mktemp("lives")
    return {
        mutant: (root / f"life{mutant}", crashes.record_life(root / f"life{mutant}", mutant=mutant))
        for mutant in ("", *MUTANTS)
    }


def audit(lives, mutant: str, model: str, every: int = 6) -> crashes.CrashReport:
    folder, calls = lives[mutant]
    return crashes.audit_crashes(calls, folder, model=model, mutant=mutant, every=every)


@traced
@pytest.mark.parametrize("model", crashes.MODELS)
def test_no_crash_under_counts_breaks_or_loses(lives, model: str) -> None:
    report = audit(lives, "", model)
    assert report.calls >= 250 and report.points >= 40
    assert report.holds, report


@traced
def test_an_output_that_was_whole_is_committed_and_nothing_is_drawn_again(lives) -> None:
    """Without the record of a finished run, each of these points forfeited the stage, or had
    training run again."""
    killed = audit(lives, "", "kill", every=1)
    assert killed.holds and killed.whole >= 60, killed
    # What remains are the calls that write the record: two for each of six outputs.
    assert killed.recovered == killed.whole - 12, killed
    for model in ("power_cut", "torn"):
        report = audit(lives, "", model, every=2)
        assert report.holds and 0 < report.recovered < report.whole, report


@traced
@pytest.mark.parametrize("fault", resuming.FAULTS)
def test_another_way_to_resume_is_found(lives, fault: str) -> None:
    folder, calls = lives[""]
    report = crashes.audit_crashes(
        calls, folder, model="kill", every=3, resumed_by=resuming.FAULTS[fault]
    )
    assert report.redrawn > 0 and not report.holds


@traced
@pytest.mark.parametrize("mutant", ["record_late", "admit_late"])
def test_recording_afterwards_is_found(lives, mutant: str) -> None:
    assert audit(lives, mutant, "kill", every=3).under_counts > 0


@traced
def test_a_missing_sync_is_found_by_a_power_cut_and_not_by_a_kill(lives) -> None:
    assert audit(lives, "normal_sync", "kill").holds
    for model in ("power_cut", "torn"):
        assert audit(lives, "normal_sync", model).under_counts > 10


@traced
def test_a_life_killed_for_real_is_as_its_replay_says(lives) -> None:
    _, calls = lives[""]
    report = crashes.audit_kills(calls, every=70)
    assert report.points >= 5 and report.holds, report


@traced
def test_the_trace_sees_what_a_process_does_to_files(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    script = (
        "import os, sys; a, b = sys.argv[1:];"
        "handle = os.open(a, os.O_WRONLY | os.O_CREAT);"
        "os.write(handle, b'1234'); os.pwrite(handle, b'x', 1); os.fsync(handle);"
        "os.ftruncate(handle, 3); os.rename(a, b); os.unlink(b); open('/dev/null', 'w')"
    )
    a, b = str(folder / "a"), str(folder / "b")
    calls = record([sys.executable, "-c", script, a, b], folder)
    names = [(call.name, call.data, call.offset) for call in calls]
    assert names == [
        ("open", b"", None),
        ("write", b"1234", None),
        ("write", b"x", 1),
        ("sync", b"", None),
        ("truncate", b"", 3),
        ("rename", b"", None),
        ("unlink", b"", None),
    ]
    for unknown in ("os.link(sys.argv[1], sys.argv[2])", "os.chdir(sys.argv[3]); os.unlink('a')"):
        (folder / "a").touch()
        command = [sys.executable, "-c", f"import os, sys; {unknown}", a, b, str(folder)]
        with pytest.raises(TraceError):
            record(command, folder)


def after(tmp_path: Path, calls: list[Call], *, survives: bool) -> dict[str, bytes]:
    disk = Disk(Path("/traced"), {"kept": b"old"})
    for call in calls:
        disk.apply(call)
    target = tmp_path / f"after-{survives}"
    target.mkdir()
    disk.write(target, lambda: survives)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_only_what_was_synced_survives_a_power_cut(tmp_path: Path) -> None:
    def path(name: str) -> tuple[str, ...]:
        return (f"/traced/{name}",)

    new = [Call("open", path("new"), created=True), Call("write", path("new"), b"data")]
    file, folder = Call("sync", path("new")), Call("sync", ("/traced",))
    assert after(tmp_path / "", new, survives=True) == {"kept": b"old", "new": b"data"}
    for number, (calls, left) in enumerate(
        [
            (new, {}),
            ([*new, file], {}),
            ([*new, folder], {"new": b""}),
            ([*new, file, folder], {"new": b"data"}),
            ([*new, file, folder, Call("write", path("new"), b"ab", 1)], {"new": b"data"}),
            ([*new, file, folder, Call("truncate", path("new"), offset=1)], {"new": b"data"}),
            ([*new, file, folder, Call("unlink", path("new"))], {"new": b"data"}),
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        assert after(place, calls, survives=False) == {"kept": b"old"} | left


def test_a_file_goes_with_the_name_of_any_folder_on_its_path(tmp_path: Path) -> None:
    def path(name: str) -> tuple[str, ...]:
        return (f"/traced/{name}",)

    calls = [
        Call("mkdir", path("a")),
        Call("mkdir", path("a/b")),
        Call("open", path("a/b/new"), created=True),
        Call("sync", path("a/b")),
        Call("sync", path("a")),
    ]
    disk = Disk(Path("/traced"), {})
    for call in calls:
        disk.apply(call)
    disk.write(tmp_path, lambda: False)
    assert not list(tmp_path.iterdir())


def test_a_rename_that_was_not_synced_leaves_the_old_file(tmp_path: Path) -> None:
    def path(*names: str) -> tuple[str, ...]:
        return tuple(f"/traced/{name}" for name in names)

    calls = [
        Call("open", path("new"), created=True),
        Call("write", path("new"), b"data"),
        Call("sync", path("new")),
        Call("rename", path("new", "kept")),
    ]
    assert after(tmp_path, calls, survives=False) == {"kept": b"old"}
    assert after(tmp_path, calls, survives=True) == {"kept": b"data"}
