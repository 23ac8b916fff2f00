"""What has been spent on these people, by which release, from which version of the data."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.orchestration.stage import StageRun, stage
from dagster_project.planning.provenance import LEDGER


@stage(runs=[LEDGER])
def budget_lineage(run: StageRun) -> Mapping[str, Any]:
    """Trace the released files back to every event that touched private data, and show what the
    population has spent so far."""
    from dagster_project.ledger import lineage, timeline_figure
    from dagster_project.ledger.gdp_filter import percent

    release = run.release
    chain = lineage.trace(release.ledger, release.id)
    public = not release.schema.public
    account = "\n".join(
        [
            "| cohort | share of the lifetime budget used | more releases at ε = 1 that fit |",
            "|---|---|---|",
            *(
                f"| {cohort.name} | {percent(cohort.share)} | {cohort.releases_left} |"
                for cohort in release.ledger.cohorts()
            ),
        ]
    )
    text = lineage.render_text(chain, public=public)
    figure = b64encode(timeline_figure.png(lineage.timeline(release.ledger))).decode()
    return {
        "timeline": dg.MetadataValue.md(
            f"![spent against the cap, by cohort and release](data:image/png;base64,{figure})"
        ),
        "account": dg.MetadataValue.md(account),
        "chain": dg.MetadataValue.md(f"```\n{text}\n```"),
        "ledger entries": len(release.ledger.entries()),
        "ledger head": release.ledger.head,
    }
