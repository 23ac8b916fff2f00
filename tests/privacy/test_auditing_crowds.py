"""The crowd audit: exact grants, and a check that is apart from its record over-grants."""

from __future__ import annotations

from pathlib import Path

from dagster_project.privacy.auditing.crowds import audit_crowd


def test_a_crowd_is_granted_exactly_what_fits(tmp_path: Path) -> None:
    report = audit_crowd(tmp_path, processes=4, each=20)
    assert report.holds and report.granted == report.fits == 53, report


def test_a_check_apart_from_its_record_over_grants(tmp_path: Path) -> None:
    report = audit_crowd(tmp_path, processes=4, each=20, mutant="check_then_act")
    assert report.granted > report.fits, report
