"""File-changing system calls of a process, and the files that a crash after each would leave.

A process is traced once with strace. Its calls are then replayed up to each one in turn, so that
every crash point costs milliseconds. `crashes` interprets the files.

Three kinds of crash differ in which of the written bytes survive:
    kill: The process dies, the system lives. Everything issued survives.
    power_cut: Only bytes, lengths and names that were synced survive.
    torn: A random part of what was not synced survives as well, in any combination.

Shared-memory files (`-shm`) are omitted, because SQLite maps them and rebuilds them from the log.

Reference: Pillai et al., "All file systems are not created equal", OSDI 2014.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

# "?": not every architecture has the call.
TRACED = (
    "?open,openat,?creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,?rename,"
    "?renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,"
    "fsync,fdatasync,msync,sync,sync_file_range"
)
# Calls that the replay understands; any other call on a relevant file is an error, not ignored.
_LINE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*?)>)?(?: .*)?$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")
_SYNCS = ("fsync", "fdatasync")
_PATH_CALLS = {
    **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
    **dict.fromkeys(("unlink", "unlinkat"), "unlink"),
    **dict.fromkeys(("mkdir", "mkdirat"), "mkdir"),
}


class TraceError(RuntimeError):
    """Raised if the process could not be traced or made a call that the replay does not know."""


@dataclass(frozen=True)
class Call:
    """A call: its name, the paths it touches (a descriptor's path first) and its data."""

    name: str
    paths: tuple[str, ...]
    data: bytes = b""
    offset: int | None = None
    created: bool = False
    truncated: bool = False
    appending: bool = False
    # The system call and its number among calls of its kind, which tell where to kill the process.
    moment: tuple[str, int] = ("", 0)


def can_trace() -> bool:
    """Return whether strace is installed and this system lets it trace."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    )


def record(command: Sequence[str], folder: Path, *, cwd: Path | None = None) -> list[Call]:
    """Run a command, which must succeed, and return its file-changing calls in a folder.

    Raises:
        TraceError: strace is missing, the command failed, or a call cannot be replayed.
    """
    trace = folder.with_name(folder.name + ".trace")
    prefix = ["strace", "-o", str(trace), "-xx", "-y", "-s", "100000000", "-e", f"trace={TRACED}"]
    try:
        subprocess.run([*prefix, *command], cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise TraceError("strace is not installed") from None
    except subprocess.CalledProcessError as error:
        raise TraceError(f"the traced command failed: {error.stderr[-500:]}") from None
    root = str(folder.resolve())
    calls, made = [], Counter[str]()
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            name = line.partition("(")[0]
            made[name] += 1
            if (call := _parse(line, root)) is not None:
                calls.append(replace(call, moment=(name, made[name])))
    trace.unlink()
    return calls


def _text(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("\\x", "")).decode()


def _parse(line: str, root: str) -> Call | None:
    match = _LINE.match(line)
    if match is None or int(match[3]) < 0:
        return None  # signals, the exit line, and calls that failed
    name, arguments, result = match[1], match[2], int(match[3])
    strings = _STRING.findall(arguments)
    if name in ("open", "openat", "creat"):
        path = _text(match[4] or "")
        if not _inside(path, root):
            return None
        call = Call(
            name="open",
            paths=(path,),
            created="O_CREAT" in arguments or name == "creat",
            truncated="O_TRUNC" in arguments or name == "creat",
            appending="O_APPEND" in arguments,
        )
        return call if call.created or call.truncated or call.appending else None
    descriptor = _DESCRIPTOR.match(arguments)
    if descriptor is not None:
        path = _text(descriptor[2])
        if not _inside(path, root):
            return None
        last = arguments.rsplit(", ", 1)[-1]
        if name in ("write", "pwrite64"):
            data = bytes.fromhex(strings[0].replace("\\x", ""))[:result]
            offset = int(last) if name == "pwrite64" else None
            return Call(name="write", paths=(path,), data=data, offset=offset)
        if name == "ftruncate":
            return Call(name="truncate", paths=(path,), offset=int(last))
        if name in _SYNCS:
            return Call(name="sync", paths=(path,))
    else:
        paths = tuple(_text(item) for item in strings)
        if not all(path.startswith("/") for path in paths):
            raise TraceError(f"the call {name} names a relative path")
        if not any(_inside(path, root) for path in paths):
            return None
        if name in _PATH_CALLS:
            return Call(name=_PATH_CALLS[name], paths=paths)
    raise TraceError(f"the replay does not know the call {name}")


def _inside(path: str, root: str) -> bool:
    return (path + "/").startswith(root + "/") and not path.endswith("-shm")


@dataclass
class _File:
    """A file's bytes on the device, and the changes issued since its last sync."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    size: int = 0

    def change(self, offset: int, data: bytes | None) -> None:
        """Write data at an offset, or truncate the file there if data is None."""
        self.pending.append((offset, data))
        self.size = offset if data is None else max(self.size, offset + len(data))

    def content(self, survives: Callable[[], bool]) -> bytes:
        """Return the bytes after a crash; `survives` decides for each pending change."""
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if not survives():
                continue
            end = offset if data is None else offset + len(data)
            content.extend(bytes(max(0, end - len(content))))
            if data is None:
                del content[offset:]
            else:
                content[offset:end] = data
        return bytes(content)

    def sync(self) -> None:
        self.durable, self.pending = self.content(lambda: True), []


_FOLDER = _File()


class Disk:
    """A folder as the system sees it, and as the device stores it.

    Args:
        root: Path of the folder in the traced process.
        files: Durable content before the first call, by relative path.
    """

    def __init__(self, root: Path, files: Mapping[str, bytes]) -> None:
        self._root = str(root.resolve())
        self._names = {
            f"{self._root}/{path}": _File(durable=content, size=len(content))
            for path, content in files.items()
        }
        self._durable = dict(self._names)

    def apply(self, call: Call) -> None:
        """Replay one call."""
        path = call.paths[0]
        if call.name == "open":
            if path not in self._names and call.created:
                self._names[path] = _File()
            elif call.truncated:
                self._names[path].change(0, None)
        elif call.name == "write":
            file = self._names[path]
            # Files written without an offset (keys, logs, anchors) are written sequentially.
            file.change(file.size if call.offset is None else call.offset, call.data)
        elif call.name == "truncate":
            self._names[path].change(call.offset or 0, None)
        elif call.name == "rename":
            self._names[call.paths[1]] = self._names.pop(path)
        elif call.name == "unlink":
            del self._names[path]
        elif call.name == "mkdir":
            self._names[path] = _FOLDER
        elif path in self._names and self._names[path] is not _FOLDER:
            self._names[path].sync()
        else:
            self._sync_names(path)

    def _sync_names(self, folder: str) -> None:
        kept = {path: f for path, f in self._durable.items() if _parent(path) != folder}
        here = {path: f for path, f in self._names.items() if _parent(path) == folder}
        self._durable = kept | here

    def write(self, target: Path, survives: Callable[[], bool]) -> None:
        """Write what a crash at this point would leave to an empty folder.

        Args:
            survives: Called once for each unsynced change of names or bytes.
        """
        folders = {_parent(path) for path in self._names.keys() | self._durable.keys()}
        current = {folder: survives() for folder in sorted(folders)}
        left = {p: f for p, f in self._names.items() if current[_parent(p)]}
        left |= {p: f for p, f in self._durable.items() if not current[_parent(p)]}
        there = {self._root}
        for path in sorted(left):
            if _parent(path) not in there:
                continue  # the name of a folder on its path was lost
            place = target / path[len(self._root) + 1 :]
            if left[path] is _FOLDER:
                place.mkdir()
                there.add(path)
            else:
                place.write_bytes(left[path].content(survives))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def crashes(
    calls: Sequence[Call], disk: Disk, target: Path, survives: Callable[[], bool]
) -> Iterator[tuple[int, Sequence[Call]]]:
    """Write the folder after a crash before the first call and after each call.

    Yields:
        The number of completed calls, and these calls; `target` then holds what the crash left.
    """
    for done in range(len(calls) + 1):
        if done:
            disk.apply(calls[done - 1])
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        disk.write(target, survives)
        yield done, calls[:done]
