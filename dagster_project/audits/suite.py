"""The suite of all audits, in two sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from dagster_project.audits.finding import Finding

Audit = Callable[[], Iterable[Finding]]
TIMED = ("crowd", "server crowd", "lineage")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the audits.

    Attributes:
        name: Name of the size.
        sequences: Random sequences of ledger operations.
        releases, crash_every, kill_every: Releases in the life that is crashed; every n-th call is
            crashed in replay, or killed for real.
        processes, each, rate: Processes of the crowd, reservations of each, and the required
            answers per second.
        tries, rounds: Neighbouring data sets; Poisson samples.
        plans: Random plans priced twice.
        runs, groups: Runs on each side; thousands of canaries in the large one-run audit.
        lattice: Toy releases on each side of an attack on their last bits.
        inputs: Malformed inputs.
        entries, traced: Length of the ledger and number of traced files.
        images: Synthetic toy images for the search for copies.
        servers: Whether to try database servers as well.
        toy_release: Whether to make a whole release of toy people.
    """

    name: str
    sequences: int
    releases: int
    crash_every: int
    kill_every: int
    processes: int
    each: int
    rate: float
    tries: int
    rounds: int
    plans: int
    runs: int
    groups: int
    lattice: int
    inputs: int
    entries: int
    traced: int
    images: int
    servers: bool
    toy_release: bool


QUICK = Sizes(
    name="quick",
    sequences=200,
    releases=3,
    crash_every=10,
    kill_every=100,
    processes=4,
    each=50,
    rate=0,
    tries=100,
    rounds=1000,
    plans=20,
    runs=120_000,
    groups=0,
    lattice=50,
    inputs=60,
    entries=600,
    traced=50,
    images=300,
    servers=False,
    toy_release=False,
)
FULL = Sizes(
    name="full",
    sequences=10_000,
    releases=3,
    crash_every=1,
    kill_every=1,
    processes=8,
    each=1000,
    rate=200,
    tries=1000,
    rounds=4000,
    plans=200,
    runs=400_000,
    groups=100,
    lattice=200,
    inputs=500,
    entries=10_000,
    traced=300,
    images=2000,
    servers=True,
    toy_release=True,
)


def audits(sizes: Sizes) -> Mapping[str, Audit]:
    """Return every audit by name, in the order in which they start and are reported."""
    from dagster_project.audits import (
        compositions,
        copies,
        distinguishing,
        durability,
        lattice,
        lineages,
        malformed,
        mutants,
        one_run,
        probes,
        randomness,
        refusals,
        rows,
        sensitivities,
        toy_release,
    )

    chosen: dict[str, Audit] = {
        "refusal": refusals.audit_refusals,  # first: it is slow and runs in its own process
        "sensitivity": lambda: sensitivities.audit_sensitivities(tries=sizes.tries),
        "privacy loss": probes.audit_probes,
        "randomness": lambda: randomness.audit_randomness(rounds=sizes.rounds),
        "composition": lambda: compositions.audit_compositions(plans=sizes.plans),
        "many runs": lambda: distinguishing.audit_distinguishing(runs=sizes.runs),
        "one run": lambda: one_run.audit_one_run(groups=sizes.groups),
        "lattice": lambda: lattice.audit_lattice(
            releases=sizes.lattice, every=sizes.name == FULL.name
        ),
        "faults": lambda: mutants.audit_mutants(
            tries=min(sizes.tries, 100),
            rounds=min(sizes.rounds, 1000),
            releases=sizes.releases,
            every=min(sizes.crash_every, 3),  # few points show a fault; do not skip them
        ),
        "sequences": lambda: [durability.sequences_finding(sequences=sizes.sequences)],
        "crashes": lambda: durability.crash_findings(
            releases=sizes.releases, every=sizes.crash_every, kill_every=sizes.kill_every
        ),
        "crowd": lambda: [
            durability.crowd_finding(processes=sizes.processes, each=sizes.each, rate=sizes.rate)
        ],
        "lineage": lambda: lineages.audit_lineage(entries=sizes.entries, traced=sizes.traced),
        "rows": rows.audit_rows,
        "malformed": lambda: [malformed.audit_malformed(inputs=sizes.inputs)],
        "copies": lambda: [copies.audit_search(images=sizes.images)],
    }
    if sizes.servers:
        chosen["server crowd"] = lambda: [
            durability.server_crowd_finding(
                processes=sizes.processes, each=sizes.each, rate=sizes.rate
            )
        ]
    if sizes.toy_release:
        chosen["release"] = toy_release.audit_toy_release
    return chosen


def run(
    chosen: Mapping[str, Audit], *, progress: Callable[[float, str], None], workers: int = 2
) -> Iterator[Finding]:
    """Run audits and yield their findings.

    `workers` audits run at a time, because many wait for their own processes; those that measure a
    speed run one by one at the end. An audit that raises gives a finding that does not hold.
    """
    done = 0
    for names, at_once in (
        ([name for name in chosen if name not in TIMED], workers),
        ([name for name in chosen if name in TIMED], 1),
    ):
        with ThreadPoolExecutor(at_once) as pool:
            for found in pool.map(lambda name: _timed(name, chosen[name]), names):
                done += 1
                progress(done / len(chosen), "audited")
                yield from found


def _timed(name: str, audit: Audit) -> list[Finding]:
    started = time.perf_counter()
    try:
        found = list(audit())
    except Exception as error:
        broken = f"{type(error).__name__}: {error}"
        found = [Finding(name=name, measured=broken, expected="an answer", holds=False, size="0")]
    seconds = (time.perf_counter() - started) / max(1, len(found))
    return [replace(finding, seconds=round(seconds, 2)) for finding in found]
