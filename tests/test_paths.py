"""Paths that cannot be written, disks that are full, readers that go away: one line, exit code 2, and nothing lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import journal
from bench.config import read as read_config
from bench.lines import Lines
from bench.system_errors import in_one_line
from bench.whole_file import copy_whole, try_file, try_folder, whole, write_whole
from tests.in_process import bench
from tests.test_journal import record, written

ROOT = Path(__file__).parents[1]
CONFIG = """
[[problem]]
n = 6
transform = "dct"
scale = 0.2
[[method]]
key = "blorc"
[measure]
processes = 1
timing = false
memory = false
"""
LEARN = "epochs = 1\nbatch = 2\nvalidation_pairs = 0\n[problem]\nn = 6\npairs = 2\n"
DENOISE = """
[[denoiser]]
key = "total_variation"
[pictures]
names = ["camera"]
crop = 16
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is there already."""
    folder = tmp_path_factory.mktemp("run") / "run"
    written(folder, record("a", error_relative=1e-12, reference_error_relative=1e-13))
    return folder


@pytest.fixture(scope="module")
def baseline(run: Path) -> Path:
    path = run.parent / "baseline.json"
    assert bench("check", run, "--baseline", path, "--update").exit_code == 0
    return path


def config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def refused(*arguments: str | Path) -> str:
    """What the command says, which must be one line, of the path and of what would be right."""
    done = bench(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert not line.endswith(":")
    return line


# --- before anything is measured --------------------------------------------------------------------------------------

WRONG: dict[str, Callable[[Path], Path]] = {
    "a file": lambda folder: folder / "a_file",
    "below a file": lambda folder: folder / "a_file" / "below",
    "not to be made": lambda folder: Path("/proc/nothing/here"),
    "too long": lambda folder: folder / ("x" * 300),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["run", "learn", "denoise", "report", "check"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, run: Path, baseline: Path, command: str, wrong: str
) -> None:
    (tmp_path / "a_file").touch()
    out = WRONG[wrong](tmp_path)
    text = {"learn": LEARN, "denoise": DENOISE}.get(command, CONFIG)
    target = run if command == "report" else config(tmp_path, text)
    more = ["--baseline", baseline] if command == "check" else []
    line = refused(command, target, *more, "--out", out)
    assert str(out) in line
    assert (tmp_path / "a_file").read_bytes() == b""
    assert {path.name for path in tmp_path.iterdir()} <= {"a_file", "config.toml"}


FILES = {**{name: make for name, make in WRONG.items() if name != "a file"}, "a folder": lambda folder: folder}
FILES |= {"in no folder": lambda folder: folder / "none" / "file"}


@pytest.mark.parametrize("wrong", FILES)
@pytest.mark.parametrize("option", ["--junit", "--summary"])
@pytest.mark.parametrize("command", ["check", "compare"])
def test_a_file_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, run: Path, baseline: Path, command: str, option: str, wrong: str
) -> None:
    (tmp_path / "a_file").touch()
    path = FILES[wrong](tmp_path)
    arguments = [config(tmp_path), "--baseline", baseline] if command == "check" else [run, run]
    line = refused(command, *arguments, option, path)
    assert str(path) in line
    assert {path.name for path in tmp_path.iterdir()} <= {"a_file", "config.toml"}


@pytest.mark.parametrize("wrong", [name for name in FILES if name != "in no folder"])
def test_a_baseline_that_cannot_be_written_is_told_before_any_work(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "a_file").touch()
    path = FILES[wrong](tmp_path)
    refused("check", config(tmp_path), "--baseline", path, "--update")
    assert {path.name for path in tmp_path.iterdir()} <= {"a_file", "config.toml"}


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    try_file(tmp_path / "kept")
    try_file(tmp_path / "new")
    try_folder(tmp_path / "far" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was"


# --- configurations ---------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = config(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_config(path)) == ["problem", "method", "measure"]


@pytest.mark.parametrize("text", [CONFIG.encode("utf-16"), b"\x89PNG\r\n\x1a\n\0", bytes(range(256))])
@pytest.mark.parametrize("command", ["plan", "run", "learn", "denoise"])
def test_a_configuration_that_is_no_text_is_one_line(tmp_path: Path, text: bytes, command: str) -> None:
    (tmp_path / "config.toml").write_bytes(text)
    line = refused(command, tmp_path / "config.toml")
    assert line.endswith("config.toml: not TOML: it is not UTF-8 text: save it as UTF-8")


@pytest.mark.parametrize("command", ["plan", "run", "learn", "denoise"])
def test_a_configuration_that_is_a_folder_is_one_line(tmp_path: Path, command: str) -> None:
    assert refused(command, tmp_path).endswith(f"{tmp_path}: is a folder: name the TOML file itself")


# --- a disk that fills up while something is written ------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing reaches the disk."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_keeps_the_baseline_that_was_there(baseline: Path, run: Path, full: None) -> None:
    before = baseline.read_bytes()
    line = refused("check", run, "--baseline", baseline, "--update")
    assert f"{baseline}: no space left on device: free some space" in line
    assert baseline.read_bytes() == before
    assert {path.name for path in baseline.parent.iterdir()} == {"baseline.json", "run"}


@pytest.mark.parametrize("option", ["--junit", "--summary"])
def test_verdicts_are_printed_although_their_file_cannot_be_written(baseline: Path, run: Path, option: str) -> None:
    for arguments in (["check", run, "--baseline", baseline], ["compare", run, run]):
        done = bench(*arguments, option, "/dev/full")
        assert done.exit_code == 2
        assert done.stderr.splitlines()[-1].startswith("error: /dev/full: no space left on device: free some space")
        assert "1 " in done.stdout


def test_a_record_without_room_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two cells: the first is there, nothing of the second is, and the same command goes on."""
    two = CONFIG.replace("[measure]", '[[method]]\nkey = "torch_closed_form"\n[measure]')
    path, out = config(tmp_path, two), tmp_path / "run"
    sync, calls = Lines.sync, list[int]()

    def full_at_the_second(lines: Lines) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / "journal.jsonl"))
        sync(lines)

    monkeypatch.setattr(Lines, "sync", full_at_the_second)
    done = bench("run", path, "--out", out)
    assert done.exit_code == 2, done.output
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("[", "references"))]
    assert errors == [
        f"error: {out}/journal.jsonl: no space left on device: free some space, and give the same command again"
    ]
    first, *_ = (out / "journal.jsonl").read_text().splitlines()
    assert not (out / "lock").exists()
    again = bench("run", path, "--out", out)
    assert again.exit_code == 0, again.output
    assert (out / "journal.jsonl").read_text().splitlines()[0] == first
    assert len(journal.read(out)) == 2


@pytest.mark.parametrize(("command", "text"), [("learn", LEARN), ("denoise", DENOISE)], ids=["learn", "denoise"])
def test_wherever_the_disk_fills_up_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, text: str
) -> None:
    """At the k-th file that is to reach the disk, for every sixth k, until it has room enough."""
    path, fsync, left = config(tmp_path, text), os.fsync, [0]

    def full_at_last(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_last)
    codes = []
    for room in range(0, 120, 6):
        left[0] = room
        done = bench(command, path, "--out", tmp_path / "run")
        codes.append(done.exit_code)
        if done.exit_code == 0:
            break
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "no space left on device: free some space, and give the same command again" in line
        assert f"error: {tmp_path}/run/" in line
        assert not list(tmp_path.rglob("*.part"))
    assert codes == [2] * (len(codes) - 1) + [0]
    assert len(codes) > 2


def test_a_line_without_room_leaves_no_part_of_itself(tmp_path: Path) -> None:
    """A child may write files of 4 KiB at most: the line that crosses that is cut off again."""
    code = f"""
import resource, signal
from pathlib import Path
from bench.lines import Lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
lines = Lines(Path({str(tmp_path / "lines")!r}))
try:
    for number in range(100):
        lines.append(str(number) * 300)
except OSError as error:
    print(error.filename, error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{tmp_path / 'lines'} File too large"
    text = (tmp_path / "lines").read_text()
    assert text.splitlines() == [str(number) * 300 for number in range(len(text.splitlines()))]
    assert text.endswith("\n")


@pytest.mark.parametrize("write", [lambda path: write_whole(path, "new"), lambda path: copy_whole(path, path)])
def test_a_file_is_replaced_or_stays(tmp_path: Path, full: None, write: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "file")
    assert error.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_a_link_and_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    write_whole(Path("/dev/null"), "nothing")
    assert Path("/dev/null").is_char_device()


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with whole(tmp_path / "file") as first, whole(tmp_path / "file") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_what_a_killed_writer_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "plan.json.0123abcd.part").touch()
    written(tmp_path, record("a"))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


# --- readers that go away ---------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_costs_nothing_but_the_lines_that_it_does_not_read() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = python_m_bench("--help", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["--help", "list"])
def test_an_output_that_cannot_be_written_is_one_line(command: str) -> None:
    with open("/dev/full", "w") as nowhere:
        done = python_m_bench(command, stdout=nowhere.fileno())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: standard output: no space left on device")


def python_m_bench(command: str, stdout: int) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "bench", command]
    return subprocess.run(given, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENOTDIR, errno.EISDIR, errno.ELOOP])
def test_each_refusal_names_the_path_and_the_remedy(number: int) -> None:
    path, what, remedy = in_one_line(OSError(number, os.strerror(number), "a/path")).split(": ", 2)
    assert path == "a/path"
    assert what.lower() == os.strerror(number).lower()
    assert remedy
