"""The crowd audit: exact grants, and a check that is apart from its record over-grants."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.audits.crowds import CrowdReport, audit_crowd


def crowds(folder: Path) -> list[CrowdReport]:
    reports = []
    for mutant in ("", "check_then_act"):
        place = folder / f"crowd{mutant}"
        place.mkdir()
        reports.append(audit_crowd(place, processes=4, each=20, mutant=mutant))
    return reports


@pytest.mark.ahead(prepare=crowds)
def test_a_crowd_is_granted_exactly_what_fits_and_a_late_record_over_grants(ahead) -> None:
    sound, late = ahead(crowds)
    assert sound.holds and sound.granted == sound.fits == 53, sound
    assert late.granted > late.fits, late
