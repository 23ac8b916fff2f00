"""The way from a released file back to every use of private data, and what each cohort spent when.

This module only reads the ledger. It returns dictionaries and text for others to display.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.ledger import Ledger, UnknownRelease, file_sha256, gdp_filter, identity
from dagster_project.ledger.records import ReleaseRecord, Stage

if TYPE_CHECKING:
    from dagster_project.ledger.records import Artifacts

# The attached facts that an outsider may see; any other fact stays inside.
_PUBLIC_FACTS = {"git_commit", "git_dirty", "lock_hash", "dagster_run", "mlflow_run", "version"}
_HIDDEN = "(private)"


class UntracedFile(LookupError):
    """No committed artifact has this content."""


def trace(ledger: Ledger, target: str | Path, *, key: bytes | None = None) -> dict[str, Any]:
    """Return the chain from a release or released file back to the events on private data.

    Args:
        ledger: The ledger to read.
        target: A release's name, a file (identified by its content, wherever it is), or a SHA-256.
        key: The population's identity key, to add the name by which Dagster knows the version of
            the data; None leaves it out.

    Returns:
        "target", "file" (path, sha256, release and stage, or None), the ledger's head, and
        "releases": the release and every release it was made from, each with its stages
        (status, files, parents, mechanisms). For a file, only the stages it descends from.

    Raises:
        UntracedFile: The file is in no release.
        UnknownRelease: The target is neither a file nor a release.
    """
    releases = ledger.releases()
    found: Artifacts | None = None
    wanted: set[tuple[str, str]]
    if str(target) in releases:
        sha256, path = None, None
        wanted = {(str(target), stage) for stage in releases[str(target)].stages}
    else:
        sha256 = _content(target)
        found, path = _find(releases, sha256, target)
        wanted = {(found.release_id, found.stage)}
    _add_ancestors(releases, wanted)
    owner = found.release_id if found is not None else str(target)
    names = [owner, *sorted({release for release, _ in wanted} - {owner})]
    head, cap = ledger.anchor(), ledger.cohorts()[0].cap
    return {
        "target": str(target),
        "file": None
        if found is None
        else {"path": path, "sha256": sha256, "release_id": owner, "stage": found.stage},
        "ledger": head.to_json(),
        "releases": [
            _describe(
                releases[name], {stage for release, stage in wanted if release == name}, key, cap
            )
            for name in names
        ],
    }


def _content(target: str | Path) -> str:
    text = str(target)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text
    if not Path(target).is_file():
        raise UnknownRelease(f"{text!r} is neither a release of the ledger nor a file")
    return file_sha256(Path(target))


def _find(
    releases: Mapping[str, ReleaseRecord], sha256: str, target: str | Path
) -> tuple[Artifacts, str]:
    for release in releases.values():
        for stage in release.stages.values():
            made = stage.artifacts
            if made is None:
                continue
            for path, value in made.files.items():
                if value == sha256:
                    return made, path
    raise UntracedFile(f"{Path(target).name!r} is not in any committed release, or was altered")


def _add_ancestors(releases: Mapping[str, ReleaseRecord], wanted: set[tuple[str, str]]) -> None:
    open_ends = list(wanted)
    while open_ends:
        release_id, name = open_ends.pop()
        made = releases[release_id].stages[name].artifacts
        for parent in made.parents if made is not None else ():
            owner, _, stage = parent.rpartition("/")
            origin = (owner or release_id, stage)
            if origin not in wanted:
                wanted.add(origin)
                open_ends.append(origin)


def _describe(
    release: ReleaseRecord, stages: set[str], key: bytes | None, cap: float
) -> dict[str, Any]:
    plan = release.plan
    facts: dict[str, Any] = {}
    for item in release.facts:
        facts |= item
    keyed = {"keyed_data_version": identity.keyed_version(key, plan["data_version"])} if key else {}
    charges = release.paid
    names = ("data_version", "schema_hash", "code_version", "n_public", "discretization")
    return {
        "release_id": release.release_id,
        "status": release.status,
        "entry": release.entry,
        "reserved_at": release.at,
        "approved_by": release.approved_by,
        "delta_exception": release.delta_exception,
        "plan_hash": release.plan_hash,
        "epsilon": plan["composed_epsilon"],
        "delta": plan["target_delta"],
        **{name: plan[name] for name in names},
        **keyed,
        "charges": dict(charges),
        "shares": {name: cost / cap for name, cost in charges.items()},
        "facts": facts,
        "stages": [
            _describe_stage(name, stage) for name, stage in release.stages.items() if name in stages
        ],
    }


def _describe_stage(name: str, stage: Stage) -> dict[str, Any]:
    made = stage.artifacts
    return {
        "stage": name,
        "status": stage.status,
        "begun": stage.starts,
        "steps_authorised": stage.steps,
        "entry": made.entry if made is not None else None,
        "files": dict(made.files) if made is not None else {},
        "parents": list(made.parents) if made is not None else [],
        "mechanisms": [
            {key: item[key] for key in ("name", "cohort", "event", "declared")}
            for item in stage.mechanisms
        ],
    }


def public_view(chain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chain without its private parts: the data's hash, people's names, internal facts."""
    releases = [
        dict(release)
        | {
            "data_version": _HIDDEN,
            "plan_hash": _HIDDEN,  # it covers the data's hash, which could be guessed and checked
            "approved_by": _HIDDEN,
            "facts": {k: v for k, v in release["facts"].items() if k in _PUBLIC_FACTS},
        }
        for release in chain["releases"]
    ]
    target = chain["target"] if chain["file"] is None else chain["file"]["path"]
    return dict(chain) | {"target": target, "releases": releases}


def render_text(chain: Mapping[str, Any], *, public: bool = False) -> str:
    """Return a chain as text for a terminal."""
    if public:
        chain = public_view(chain)
    lines = []
    if chain["file"] is not None:
        file = chain["file"]
        lines += [f"file {file['path']}", f"  sha256 {file['sha256']}"]
    for release in chain["releases"]:
        lines += _release_lines(release)
    head = chain["ledger"]
    lines.append(f"ledger: {head['entries']:,} entries, head {head['head']}")
    return "\n".join(lines)


def _release_lines(release: Mapping[str, Any]) -> list[str]:
    lines = [
        f"release {release['release_id']}  {release['status']}  "
        f"epsilon {release['epsilon']:.4g}  delta {release['delta']:g}",
        f"  reserved {release['reserved_at']} (entry {release['entry']:,}), "
        f"approved by {release['approved_by']}",
        f"  data {release['data_version']}  schema {release['schema_hash'][:12]}  "
        f"code {release['code_version'][:12]}  n_public {release['n_public']:,}",
    ]
    if "keyed_data_version" in release:
        lines.append(f"  data in Dagster {release['keyed_data_version']}")
    if release["delta_exception"]:
        lines.append("  delta above 1 / (10 n_public), excepted for public data")
    charges = ", ".join(
        f"{gdp_filter.percent(share)} of the lifetime budget of {name}"
        for name, share in release["shares"].items()
    )
    lines.append(f"  charged: {charges}")
    lines += [f"  {key}: {value}" for key, value in sorted(release["facts"].items())]
    for stage in release["stages"]:
        origin = f"  from {', '.join(stage['parents'])}" if stage["parents"] else ""
        lines.append(f"  stage {stage['stage']}  {stage['status']}{origin}")
        if not stage["mechanisms"]:
            lines.append("    post-processing, no cost")
        for item in stage["mechanisms"]:
            event = "  ".join(f"{k}={_short(v)}" for k, v in item["event"].items() if k != "type")
            lines.append(
                f"    {item['name']}: {item['event']['type']}  {event}  cohort={item['cohort']}"
            )
            declared = "  ".join(f"{key}={_short(v)}" for key, v in item["declared"].items())
            lines.append(f"      {declared}")
        if stage["steps_authorised"]:
            lines.append(f"    {stage['steps_authorised']:,} steps authorised, replays included")
        lines += [f"    {sha256[:12]}  {path}" for path, sha256 in stage["files"].items()]
    return lines


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def timeline(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what each cohort has spent of its cap, after each charge and each return.

    Returns:
        Rows in the ledger's order: "entry", "at", "cohort", "release_id", "event" (RESERVED, VOID
        or STOPPED), "change", "spent", "cap" (sums of costs, see `gdp_filter`), "share" of the cap
        that is used, "releases_left" (how many at epsilon 1 still fit), "lifetime_epsilon".
    """
    fixed: Mapping[str, Any] = {}
    spent: dict[str, Fraction] = {}
    changes: dict[tuple[str, str], Mapping[str, float]] = {}
    rows = []
    for entry in ledger.entries():
        if entry.kind == "CREATED":
            fixed = entry.body
        if entry.kind == "RESERVED":
            name, charges = entry.body["release_id"], entry.body["charges"]
            changes[name, "RESERVED"] = changes[name, "VOID"] = charges
            changes[name, "STOPPED"] = entry.body.get("refunds", {})
        if entry.kind not in ("RESERVED", "VOID", "STOPPED"):
            continue
        release_id, sign = entry.body["release_id"], 1 if entry.kind == "RESERVED" else -1
        for cohort, cost in changes[release_id, entry.kind].items():
            spent[cohort] = spent.get(cohort, Fraction(0)) + sign * Fraction(cost)
            rows.append(
                {
                    "entry": entry.seq,
                    "at": entry.at,
                    "cohort": cohort,
                    "release_id": release_id,
                    "event": entry.kind,
                    "change": sign * cost,
                    "spent": float(spent[cohort]),
                    "cap": fixed["cap"],
                    "share": float(spent[cohort]) / fixed["cap"],
                    "releases_left": gdp_filter.releases_left(
                        fixed["cap"] - float(spent[cohort]), target_delta=fixed["target_delta"]
                    ),
                    "lifetime_epsilon": fixed["lifetime_epsilon"],
                }
            )
    return rows
