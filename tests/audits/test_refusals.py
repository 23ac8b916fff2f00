"""A release that does not fit is refused before a record is read; and reading one is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dagster_project.audits import refusals, toys
from dagster_project.audits.file_calls import can_trace

traced = pytest.mark.skipif(
    not can_trace(), reason="REFUSAL AUDIT NOT RUN: strace is missing or may not trace here"
)


@traced
def test_a_process_that_reads_records_is_seen_to(tmp_path: Path) -> None:
    toys.write_project(tmp_path / "p")
    data = tmp_path / "p" / "data"
    file = str(data / "train.parquet")
    footer = f"import pyarrow.parquet as pq; pq.read_schema({file!r})"
    for script, reads_records in (
        (footer, False),
        (f"import pyarrow.parquet as pq; pq.read_table({file!r})", True),
        (f"open({file!r}, 'rb').read()", True),
        (f"import mmap; f = open({file!r}, 'rb'); mmap.mmap(f.fileno(), 0, prot=1)", True),
    ):
        code, reads = refusals.traced_reads([sys.executable, "-c", script], data)
        assert code == 0 and reads
        assert (refusals.record_bytes(reads) > 0) == reads_records, script


@traced
def test_a_release_that_does_not_fit_is_refused_before_a_record_is_read() -> None:
    assert [finding for finding in refusals.audit_refusals() if not finding.holds] == []
