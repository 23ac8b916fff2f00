"""Progress on a terminal and on a pipe, from within Dagster's steps."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading

import pytest

from dagster_project.orchestration import terminal
from dagster_project.orchestration.resources import ComputeResource


@pytest.fixture
def pipe(monkeypatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "_kept", out)
    return out


def test_a_pipe_gets_lines_with_the_time_left_until_the_stage_ends(pipe, monkeypatch) -> None:
    monkeypatch.setattr(terminal.Lines.__init__, "__kwdefaults__", {"every": 0.05})
    show = ComputeResource(bars=True).progress("table_model", print)
    threading.Event().wait(0.2)
    show(0.33, "private text")
    threading.Event().wait(0.12)
    show(1.0, "done")
    threading.Event().wait(0.1)
    lines = pipe.getvalue().splitlines()
    assert lines[0].startswith("table_model: 0 % after 0 s")
    assert lines[-1].startswith("table_model: 30 % after 0 s")  # of a fixed scale: twentieths
    assert "private" not in pipe.getvalue()
    assert len(lines) < 10


def test_the_lines_of_a_stage_that_failed_end_with_the_next(pipe) -> None:
    first, second = (terminal.Lines(name, pipe, every=60) for name in ("one", "two"))
    assert first._ended.is_set() and not second._ended.is_set()
    terminal.end()
    assert second._ended.is_set()


def test_a_terminal_shows_a_bar_even_where_streams_are_captured() -> None:
    """As in a step of Dagster: both standard streams lead elsewhere by then."""
    code = """
import os, sys, time
from dagster_project.orchestration import terminal
terminal.keep()
sink = os.open(os.devnull, os.O_WRONLY)
os.dup2(sink, 1), os.dup2(sink, 2)
show = terminal.bar("image_model", terminal.stream())
time.sleep(2.2)
show(0.5, "steps")
"""
    main, other = pty.openpty()
    ran = subprocess.Popen(
        [sys.executable, "-c", code], stdin=other, stdout=other, stderr=other, env={**os.environ}
    )
    os.close(other)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert ran.wait() == 0
    assert b"image_model  50% |" in shown
