"""The crowd audit: exact grants, and a check that is apart from its record over-grants."""

from __future__ import annotations

from pathlib import Path

from dagster_project.audits.crowds import audit_crowd


def test_a_crowd_is_granted_exactly_what_fits_and_a_late_record_over_grants(tmp_path: Path) -> None:
    reports = []
    for mutant in ("", "check_then_act"):
        place = tmp_path / f"crowd{mutant}"
        place.mkdir()
        reports.append(audit_crowd(place, processes=4, each=20, mutant=mutant))
    sound, late = reports
    assert sound.holds and sound.granted == sound.fits == 53, sound
    assert late.granted > late.fits, late
