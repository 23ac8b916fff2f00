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
    monkeypatch.setattr(terminal.Lines.__init__, "__kwdefaults__", {"every": 0.01})
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    now = 100.0
    show = ComputeResource(bars=True).progress("table_model", print)
    _wait_for("table_model: 0 % after 0 s\n", pipe)
    now = 103.0
    show(0.33, "private text")
    _wait_for("table_model: 30 % after 3 s, about 7 s left\n", pipe)  # in twentieths
    show(1.0, "done")
    (thread,) = [each for each in threading.enumerate() if each.name == "progress of table_model"]
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert "private" not in pipe.getvalue()


def _wait_for(line: str, out: io.StringIO) -> None:
    for _ in range(3000):
        if line in out.getvalue():
            return
        threading.Event().wait(0.01)
    pytest.fail(f"no line {line!r} in {out.getvalue()[-300:]!r}")


def test_a_closed_stream_ends_the_lines(pipe) -> None:
    lines = terminal.Lines("one", pipe, every=0.01)
    pipe.close()
    (thread,) = [each for each in threading.enumerate() if each.name == "progress of one"]
    thread.join(timeout=30)
    assert not thread.is_alive() and not lines._ended.is_set()


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
