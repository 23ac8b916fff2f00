"""The project from Python: plan, release, sample, lineage. One page shows all of it
(docs/how-to/python.md).

The functions do what the commands of the same names do, without Dagster, MLflow and the private
report. They take the folder of population.yaml and, where they need it, the data folder; relative
data folders start there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.data.progress import Progress, silent

if TYPE_CHECKING:
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population
    from dagster_project.pipeline.release import Compute
    from dagster_project.pipeline.request import Priced

__all__ = ["Made", "lineage", "plan", "release", "sample"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle that may be published.

    Attributes:
        release_id: The release it belongs to.
        bundle: Its folder.
    """

    release_id: str
    bundle: Path


def plan(
    root: str | Path = ".", *, data: str | Path = "data", epsilon: float, delta: float,
    **request: Any,
) -> Priced:  # fmt: skip
    """Solve and price a release; reads no record and spends nothing.

    Args:
        root: Folder with population.yaml.
        data: Data folder.
        epsilon, delta: The guarantee asked for.
        **request: Other fields of `pipeline.request.ReleaseRequest`: name, preset, settings,
            people, allow_delta.

    Returns:
        `plan` (with every mechanism and its noise), `price` (share of the lifetime budget, whether
        it fits) and `verdict` (whether it will serve as pictures).

    Raises:
        ValueError: If the request or the form of the data is wrong.
        LedgerError: If the ledger refuses the plan whatever its price.
    """
    from dagster_project.data.versions import data_version
    from dagster_project.pipeline.request import ReleaseRequest, price_of, schema_of

    folder = Path(root) / data
    schema = schema_of(folder)
    asked = ReleaseRequest(epsilon=epsilon, delta=delta, **request)
    with _opened(root) as (population, ledger):
        version = data_version(folder).text
        return price_of(asked, schema, population, ledger, data_version=version)


def release(
    root: str | Path = ".",
    *,
    data: str | Path = "data",
    epsilon: float,
    delta: float,
    approved_by: str,
    n: int = 4000,
    seed: int = 1,
    compute: Compute | None = None,
    progress: Progress = silent,
    **request: Any,
) -> Made:
    """Make a private release. **This spends**; the same call again resumes or returns it.

    Args:
        root, data, epsilon, delta, request: As for `plan`.
        approved_by: Who decided to spend; recorded in the ledger.
        n: Number of synthetic pairs.
        seed: Public seed of the sampling.
        compute: Device and workers (`pipeline.release.Compute`).
        progress: Callback that receives the fraction done and a text.

    Raises:
        ValueError: If the request or the form of the data is wrong.
        LedgerError: If the ledger refuses; nothing that it did not allow has run then.
    """
    from dagster_project.data.versions import data_version
    from dagster_project.ledger.population import Population
    from dagster_project.pipeline import beforehand
    from dagster_project.pipeline.privacy_plan import solve
    from dagster_project.pipeline.request import ReleaseRequest, schema_of
    from dagster_project.pipeline.run import run

    if n < 1 or seed < 0:
        raise ValueError("n must be at least 1 and seed at least 0")
    folder = (Path(root) / data).absolute()
    schema = schema_of(folder)
    asked = ReleaseRequest(epsilon=epsilon, delta=delta, **request)
    beforehand.require_for_new_ledger(schema, Population.load(Path(root) / "population.yaml"))
    with _opened(root) as (population, ledger):
        beforehand.require_numbers(schema, population, ledger.cohorts(), asked.people)
        people = None if asked.people == "all" else ledger.cohort(asked.people)
        solved = solve(
            schema,
            population,
            name=asked.name,
            epsilon=asked.epsilon,
            delta=asked.delta,
            settings=asked.settings,
            preset_name=asked.preset,
            data_version=data_version(folder).text,
            people=people,
        )
        bundle = run(
            solved,
            folder,
            ledger,
            schema=schema,
            root=Path(root).absolute(),
            heldout_key=population.member_key(),
            approved_by=approved_by,
            allow_delta=asked.allow_delta,
            n=n,
            seed=seed,
            compute=compute,
            progress=progress,
        )
    return Made(release_id=solved.release_id, bundle=bundle)


def sample(
    root: str | Path,
    release_id: str,
    *,
    n: int,
    seed: int,
    out: str | Path,
    where: str | None = None,
    compute: Compute | None = None,
    progress: Progress = silent,
) -> Made:
    """Draw more pairs from a release's models, if asked under a condition; costs nothing.

    Args:
        root: Folder with population.yaml.
        release_id: The release.
        n, seed: Number of pairs, and public seed.
        out: Folder of the new bundle.
        where: A condition such as "finding == 'effusion' and age >= 60" (`table.conditions`).
        compute: Device and workers (`pipeline.release.Compute`).
        progress: Callback that receives the fraction done and a text.

    Raises:
        ValueError: If the condition is malformed, or the models hardly ever meet it.
        LedgerError: If there is no such release, or its models were altered.
    """
    from dagster_project.pipeline import synthetic_release
    from dagster_project.pipeline.release import Compute, Release

    if n < 1 or seed < 0:
        raise ValueError("n must be at least 1 and seed at least 0")
    with _opened(root) as (_, ledger):
        made = Release.load(
            release_id, root=Path(root).absolute(), ledger=ledger, compute=compute or Compute()
        )
        synthetic_release.make(made, Path(out), n=n, seed=seed, where=where, progress=progress)
        synthetic_release.commit(made, Path(out))
    return Made(release_id=release_id, bundle=Path(out))


def lineage(root: str | Path, target: str | Path, *, public: bool = False) -> Mapping[str, Any]:
    """Return the chain from a release, or a released file, back to every use of private data.

    Args:
        root: Folder with population.yaml.
        target: A release's id or a released file.
        public: Leave out what is itself private.

    Raises:
        UntracedFile: If the file is in no release.
        LedgerError: If the target is neither a release nor a file.
    """
    from dagster_project.ledger import lineage as chains

    with _opened(root) as (population, ledger):
        chain = chains.trace(ledger, target, key=population.member_key())
    return chains.public_view(chain) if public else chain


@contextmanager
def _opened(root: str | Path) -> Iterator[tuple[Population, Ledger]]:
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population

    population = Population.load(Path(root) / "population.yaml")
    ledger = Ledger.open(population)
    try:
        yield population, ledger
    finally:
        ledger.close()
