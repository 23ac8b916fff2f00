"""Audit of the audits: every planted fault must be caught by a check.

Faults of the mechanisms go through every check of the mechanisms; faults of the ledger, which need
their own processes, go through the crash or the crowd that is meant for them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dagster_project.audits import crashes, crowds, randomness, sensitivities
from dagster_project.audits.faults import TRAINING_FAULTS, LessNoise, Seeded, Training
from dagster_project.audits.file_calls import can_trace
from dagster_project.audits.finding import Finding, not_run
from dagster_project.audits.resuming import FAULTS as RESUMING

# Faults of the ledger: name -> (its name in `lives`, the crash that must show it).
CRASHING = {
    "record late": ("record_late", "kill"),
    "admit late": ("admit_late", "kill"),
    "NORMAL sync": ("normal_sync", "power_cut"),
}


def training_checks(training: Training, *, tries: int, rounds: int) -> list[str]:
    """Return the checks of DP-SGD that a training fails, with what they measured."""
    failed = []
    moved = sensitivities.training_sensitivity(training, tries=tries)
    if not moved <= 1 + sensitivities.ROUNDING:
        failed.append(f"sensitivity {moved:.3g}")
    noise = [randomness.training_noise(training) for _ in range(2)]
    error = min(randomness.scale_error(item) for item in noise)
    if not error <= randomness.scale_bound(randomness.DRAWS):
        failed.append(f"noise scale off by {error:.0%}")
    if (repeated := int((noise[0] == noise[1]).sum())) > 0:
        failed.append(f"{repeated} draws repeated")
    name, p = randomness.sampler_check(training, rounds=rounds)
    if not p > randomness.LEVEL:
        failed.append(f"{name} p = {p:.0e}")
    return failed


def pairs_checks() -> dict[str, list[str]]:
    """Return for each fault of the mean pairs the checks that catch it."""
    moved = sensitivities.pairs_sensitivity(sensitivities.RealisedMeans, tries=50)
    error = randomness.scale_error(randomness.pairs_noise(LessNoise))
    repeated = randomness.repeats(lambda: randomness.pairs_noise(Seeded))
    return {
        "realised-count mean, pairs": [f"sensitivity {moved:.3g}"] if moved > 1.001 else [],
        "half noise, pairs": [f"noise scale off by {error:.0%}"] if error > 0.01 else [],
        "seed reuse, pairs": [f"{repeated} draws repeated"] if repeated else [],
    }


def ledger_checks(*, releases: int, every: int) -> dict[str, list[str]]:
    """Return for each fault of the ledger the crash or crowd that catches it, if any."""
    caught: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (fault, model) in CRASHING.items():
            folder = Path(scratch) / fault
            calls = crashes.record_life(folder, releases=releases, mutant=fault)
            report = crashes.audit_crashes(calls, folder, model=model, mutant=fault, every=every)
            words = f"{model.replace('_', ' ')} under-counts at {report.under_counts} points"
            caught[name] = [words] if report.under_counts else []
        folder = Path(scratch) / "sound"
        calls = crashes.record_life(folder, releases=releases)
        for name, resumed_by in RESUMING.items():
            report = crashes.audit_crashes(
                calls, folder, model="kill", every=every, resumed_by=resumed_by
            )
            words = f"resuming after a kill draws again at {report.redrawn} points"
            caught[name] = [words] if report.redrawn else []
        place = Path(scratch) / "crowd"
        place.mkdir()
        crowd = crowds.audit_crowd(place, processes=4, each=20, mutant="check_then_act")
        words = f"a crowd is granted {crowd.granted} of {crowd.fits}"
        caught["check-then-act"] = [words] if crowd.granted > crowd.fits else []
    return caught


def audit_mutants(*, tries: int, rounds: int, releases: int, every: int) -> list[Finding]:
    """Audit every planted fault, and the product itself, which no check may catch."""
    expected = "caught by at least one check"
    sound = training_checks(Training(), tries=tries, rounds=rounds)
    caught = {
        name: training_checks(make(), tries=tries, rounds=rounds)
        for name, make in TRAINING_FAULTS.items()
    } | pairs_checks()
    missing = []
    if can_trace():
        caught |= ledger_checks(releases=releases, every=every)
    else:
        missing = [
            not_run(f"fault: {name}", expected, "strace is missing")
            for name in (*CRASHING, *RESUMING, "check-then-act")
        ]
    return [
        Finding(
            name="no fault planted",
            measured="; ".join(sound) or "caught by no check",
            expected="caught by no check",
            holds=not sound,
            size=f"{tries} neighbours, {rounds} samples",
        ),
        *(
            Finding(
                name=f"fault: {name}",
                measured="caught by " + "; ".join(by) if by else "NOT CAUGHT",
                expected=expected,
                holds=bool(by),
                size="1 fault",
            )
            for name, by in caught.items()
        ),
        *missing,
    ]
