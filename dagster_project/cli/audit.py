"""Audits that try to refute the privacy claims, at quick or full size."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.audits import suite
    from dagster_project.audits.finding import Finding


def audit(options: argparse.Namespace) -> int:
    """Print one row per audit and return 0 only if all hold. Charges no real ledger."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for child processes; extra threads only wait
    from dagster_project.audits import suite

    sizes = suite.FULL if options.full else suite.QUICK
    chosen = _copies(options) if options.release else suite.audits(sizes)
    started, found = time.perf_counter(), []
    for finding in suite.run(chosen, progress=_note):
        found.append(finding)
        if not options.json:
            print(_text(finding), flush=True)
    seconds, holds = time.perf_counter() - started, all(finding.holds for finding in found)
    if options.json:
        content = {
            "size": sizes.name,
            "holds": holds,
            "seconds": round(seconds, 1),
            "findings": [finding.to_json() for finding in found],
        }
        print(json.dumps(content, indent=1))
    else:
        kept = sum(finding.holds for finding in found)
        print(f"{kept} of {len(found)} hold ({sizes.name} sizes, {seconds:.0f} s)")
    return 0 if holds else 1


def _copies(options: argparse.Namespace) -> Mapping[str, suite.Audit]:
    from dagster_project.audits import copies
    from dagster_project.cli.place import root_of

    root = root_of(options)
    bundle = root / "releases" / options.release
    images = root / "private" / options.release / "train" / "images.npy"
    for path in (bundle, images):
        if not path.exists():
            raise FileNotFoundError(f"the search for copies needs {path}, which does not exist")
    return {"copies": lambda: [copies.audit_bundle(bundle, images)]}


def _note(fraction: float, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{100 * fraction:3.0f} % {text}\r", end="", file=sys.stderr, flush=True)


def _text(finding: Finding) -> str:
    mark = "holds" if finding.holds else "FAILS"
    return (
        f"{mark}  {finding.name}\n"
        f"       measured  {finding.measured}\n"
        f"       expected  {finding.expected}\n"
        f"       size      {finding.size}, {finding.seconds:.1f} s"
    )
