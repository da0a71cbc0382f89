"""Kernels as machine code: compiled once per machine, kept in the user's cache folder, loaded by every other process.

A module of kernels has a table SIGNATURES: the functions that Python calls by their names, and the signature of each,
the largest first.
Importing it compiles nothing, starts nothing and touches no file; `MachineCode.load`, before the first call, does.

- Compiling happens in two processes of their own, which a daemonic worker may start, too. What is called is
  always what was loaded, so that no process sums in another order than the next.
- What is kept is one file, written whole or not at all, whose name is a hash of all that it depends on and which begins
  with its own hash: one that is damaged is as if absent. A lock lets one process compile and the others wait.
- A folder that cannot be written costs the next process the same wait, and nothing else.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import itertools
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

_DIGEST = hashlib.sha256
_CHILD = """
import sys
end = sys.argv.index("--")
arguments, sys.path[:] = sys.argv[1:end], sys.argv[end + 1 :]
import importlib
importlib.import_module(arguments[0]).write(*arguments[1:])
"""

_loading = threading.RLock()
if sys.platform != "win32":
    # A process that is forked while some other thread loads would wait for that thread for ever.
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


class MachineCode:
    """That of one module's kernels. `what` names them in the one line that compiling costs."""

    def __init__(self, module: str, what: str, seconds: int) -> None:
        self._module, self._what, self._seconds = module, what, seconds
        self._loaded = False

    def load(self) -> None:
        """After the first time it costs nothing. Raises numba's own error where the kernels do not compile."""
        if self._loaded:
            return
        with _loading:
            if not self._loaded:
                _insert(self._module, self._payload())
                self._loaded = True

    def _payload(self) -> bytes:
        name = f"{self._module.rpartition('.')[2].lstrip('_')}-{_key(self._module)}.bin"
        folders = list(_folders())
        kept = _first_kept(folders, name)
        if kept is not None:
            return kept
        with _only_one(folders, f"waiting for another process that compiles {self._what}") as folder:
            kept = _first_kept(folders, name)  # by the process that was waited for
            if kept is not None:
                return kept
            _say(f"compiling {self._what} for this machine, once: about {self._seconds} seconds")
            payload = _all_compiled(self._module)
            if folder is not None:
                _keep(folder / name, payload)
        return payload


def write(module: str, *names: str) -> None:
    """What a process that compiles does: these kernels to its standard output."""
    gc.disable()  # a compiler keeps nearly all that it makes
    payload = pickle.dumps([_compiled(module, name) for name in names])
    sys.stdout.buffer.write(_DIGEST(payload).digest() + payload)


def _compiled(module: str, name: str) -> bytes:
    # A dispatcher of its own: what is called later is what was loaded, in whatever process it was compiled.
    kernels = importlib.import_module(module)
    kernel, signature = getattr(kernels, name), kernels.SIGNATURES[name]
    fresh = numba.jit(**kernel.targetoptions)(kernel.py_func)
    fresh.compile(signature)
    return bytes(dumps(fresh.overloads[signature]._reduce()))  # type: ignore[no-untyped-call]


def _all_compiled(module: str) -> bytes:
    """The first, which is the largest, in one process and the others in a second; here, where no process can be
    started, or one fails: the same error then comes here."""
    names = list(importlib.import_module(module).SIGNATURES)
    parts = [part for part in (names[:1], names[1:]) if part]
    processes = []
    with suppress(OSError):
        for part in parts:
            command = [sys.executable or "python", "-c", _CHILD, __name__, module, *part, "--", *sys.path]
            processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
    made = [_sound(process.communicate()[0]) for process in processes]
    kernels: list[bytes] = []
    for part, payload in itertools.zip_longest(parts, made):
        kernels += pickle.loads(payload) if payload else [_compiled(module, name) for name in part]
    return pickle.dumps(kernels)


def _insert(module: str, payload: bytes) -> None:
    """Into the module's dispatchers, which from then on refuse arguments of any other type."""
    kernels = importlib.import_module(module)
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    for name, compiled in zip(kernels.SIGNATURES, pickle.loads(payload), strict=True):
        kernel = getattr(kernels, name)
        rebuilt = CompileResult._rebuild(cpu_target.target_context, *pickle.loads(compiled))  # type: ignore[no-untyped-call]
        kernel.add_overload(rebuilt)
        kernel.disable_compile()


def _key(module: str) -> str:
    """Of the source, of who compiles and keeps it, and of the processor that it is compiled for."""
    kernels = importlib.import_module(module)
    assert kernels.__file__ is not None
    source = Path(kernels.__file__).read_bytes() + Path(__file__).read_bytes()
    versions = (numba.__version__, llvmlite.__version__, sys.version, cpu_target.target_context.codegen().magic_tuple())
    return _DIGEST(source + repr(versions).encode()).hexdigest()[:20]


# --- files ------------------------------------------------------------------------------------------------------------


def _folders() -> Iterator[Path]:
    """Where machine code may lie: the user's cache folder, or a private one among the temporary files."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen) / "hypergrad-bench"
    elif sys.platform == "win32":
        yield Path(os.environ.get("LOCALAPPDATA") or tempfile.gettempdir()) / "hypergrad-bench" / "kernels"
    elif sys.platform == "darwin":
        yield Path("~/Library/Caches/hypergrad-bench/kernels").expanduser()
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        yield Path(cache) / "hypergrad-bench" / "kernels"
    if sys.platform != "win32":
        with suppress(OSError):  # no temporary folder either
            yield Path(tempfile.gettempdir()) / f"hypergrad-bench-{os.getuid()}"


def _is_ours(folder: Path) -> bool:
    """Code from a folder that others may write is not run."""
    if sys.platform == "win32":
        return True
    status = folder.lstat() if folder.parent == Path(tempfile.gettempdir()) else folder.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(status.st_mode) and status.st_uid in (os.getuid(), 0) and not status.st_mode & others


def _first_kept(folders: list[Path], name: str) -> bytes | None:
    for folder in folders:
        with suppress(OSError):
            if _is_ours(folder):
                payload = _sound((folder / name).read_bytes())
                if payload is not None:
                    return payload
    return None


def _sound(data: bytes) -> bytes | None:
    """What follows the hash, if it is that of what follows."""
    size = _DIGEST().digest_size
    return data[size:] if len(data) > size and _DIGEST(data[size:]).digest() == data[:size] else None


def _keep(path: Path, payload: bytes) -> None:
    with suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_DIGEST(payload).digest() + payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


@contextmanager
def _only_one(folders: list[Path], waiting: str) -> Iterator[Path | None]:
    """The first folder that can be written, locked; None where there is none, and no lock then."""
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder):
                continue
            lock = (folder / "lock").open("wb")
        except OSError:
            continue
        with lock:
            _wait_for(lock, waiting)
            yield folder
        return
    yield None


def _wait_for(lock: Any, waiting: str) -> None:
    """Until this process has it; gone with the process. File systems without locks, and Windows, do without."""
    if sys.platform == "win32":
        return
    import fcntl

    with suppress(OSError):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)


def _say(line: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # a closed stream, or none
        sys.stderr.write(f"{line}\n")  # in one piece, as several processes may speak
        sys.stderr.flush()
