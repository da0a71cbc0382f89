"""The command line.

Exit codes: 0 fine; 1 a status or an error got worse, or a run could not finish; 2 bad input; 3 only memory grew; 4 only
times did. What the operating system refuses, wherever that happens, is bad input.

What a command needs (torch, pandas, the reports) is imported inside it, so that `--help` answers at once.
"""

from __future__ import annotations

import enum
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from bench import system_errors, whole_file
from bench.lines import SchemaError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.record import Record, Status
    from bench.run import Request
    from bench.run_folder import Run as RunFolder
    from bench.slurm import SlurmOptions
    from reports.changes import Changes

BAD_INPUT = 2
FORMATS = ("html", "md", "tex", "csv", "pr")


class Commands(TyperGroup):
    """All commands: what the operating system refuses any of them, and a file of another version of the suite, is one
    line and exit code 2."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        try:
            try:
                return super().main(*arguments, **named)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as error:
            line = system_errors.in_one_line(error)
        except SchemaError as error:
            line = str(error)
        _say_error(line)
        sys.exit(BAD_INPUT)


app = typer.Typer(
    name="python -m bench",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Gradient methods for bilevel learning, measured on the same problems against a reference of known error.",
)


class Executor(enum.StrEnum):
    """Who measures the cells."""

    LOCAL = "local"
    SLURM = "slurm"


class Listed(enum.StrEnum):
    """What `list` can show."""

    METHODS = "methods"
    PROBLEMS = "problems"
    PAIRS = "pairs"


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file; see bench/configs.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A third party's method or problem: one Python file.")
]
Only = Annotated[str, typer.Option(help="Cells that meet key=value,... such as method=blorc,n=64.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1, or several as in cpu,cuda; in place of [measure] device.")
]
Out = Annotated[Path | None, typer.Option(help="The folder to write; one that exists is continued.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2**31,
        help="References, and cells without a clock, at a time (left out, one for each core); Slurm's jobs (left out, "
        "as many as it likes). Timed cells of one machine are measured alone.",
    ),
]
Retry = Annotated[str, typer.Option(help="Statuses that are measured again, such as crashed,timeout.")]


@app.command("list")
def list_(
    what: Annotated[Listed | None, typer.Argument(help="Left out, methods and problems.")] = None,
    plugin: Plugins = None,
) -> None:
    """What there is, what each needs, and why a pair is refused."""
    from bench import listing
    from bench.aligned import print_table
    from bench.catalogue import Catalogue, PluginError

    try:
        catalogue = Catalogue.of(plugin or [])
    except PluginError as error:
        _refuse(str(error))
    tables = {
        Listed.METHODS: listing.methods_table,
        Listed.PROBLEMS: listing.problems_table,
        Listed.PAIRS: listing.pairs_table,
    }
    for name in [what] if what else [Listed.METHODS, Listed.PROBLEMS]:
        print_table(tables[name](catalogue), _console())


@app.command()
def env() -> None:
    """The machine as the suite sees it, and what would make timings untrustworthy."""
    from bench import environment

    machine = environment.describe()
    for name, value in machine.items():
        typer.echo(f"{name}: {value}")
    typer.echo("")
    found = environment.warnings(machine)
    for warning in found or ["nothing found that would make timings untrustworthy"]:
        typer.echo(f"warning: {warning}" if found else warning)


@app.command()
def plan(
    config: ConfigFile,
    device: DeviceOption = "",
    only: Only = "",
    plugin: Plugins = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Runs to predict from; left out, all under results/.")
    ] = None,
    every: Annotated[bool, typer.Option("--every", help="A line for every cell, however many.")] = False,
) -> None:
    """The cells of a configuration, what they will probably take, and what would be pruned. Measures nothing."""
    from bench import forecast
    from bench.aligned import print_table
    from bench.isolation import Workers
    from bench.plan_table import plan_summary, plan_table
    from bench.run import make_plan

    for folder in against or []:
        _require_run(folder)
    with _bad_input(), Workers() as workers:
        planned = make_plan(_request(config, Path(), device, only=only, plugins=plugin or ()), workers)
    predictions = forecast.predictions(planned.cells, against or forecast.RUNS, planned.config.measure)
    console = _console()
    print_table(plan_table(predictions, every), console)
    console.print(plan_summary(predictions), markup=False, highlight=False)


@app.command()
def run(
    config: ConfigFile,
    out: Out = None,
    device: DeviceOption = "",
    only: Only = "",
    jobs: Jobs = None,
    plugin: Plugins = None,
    retry: Retry = "",
    executor: Annotated[Executor, typer.Option(help="This machine, or Slurm's jobs.")] = Executor.LOCAL,
    slurm: Annotated[list[str] | None, typer.Option(help="For its jobs, as in partition=gpu; may be repeated.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Write the report, too.")] = False,
) -> None:
    """Measure every cell of a configuration. The same command with the same --out continues where it stopped."""
    folder = out or _default_out(config)
    options = _slurm_options(executor, slurm or [], jobs)
    request = _request(
        config, folder, device, jobs, only=only, plugins=plugin or (), retry=_statuses(retry), slurm=options
    )
    records = _measured(request)
    from reports.terminal import terminal_table

    terminal_table(records, _console())
    typer.echo(f"run: {folder}")
    if report:  # in a process of its own: its libraries would double the runner's memory
        command = [sys.executable, "-m", "bench", "report", str(folder)]
        code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        if code:  # it has said why
            raise typer.Exit(code)
        typer.echo(f"report: {folder / 'report' / 'report.html'}")


@app.command()
def reproduce(
    cell_id: Annotated[str, typer.Argument(metavar="CELL_ID", help="As in the journal, or in a row's `reproduce`.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that it was recorded in.")],
) -> None:
    """Measure one recorded cell again and print both results; fails where they say another thing of the gradient."""
    _require_run(run)
    from bench.aligned import print_table
    from bench.progress import watcher
    from bench.reproduce import NoSuchCellError, disagreement, measure_again, printed, recorded, side_by_side

    try:
        record = recorded(cell_id, run)
    except NoSuchCellError as error:
        _refuse(str(error))
    with _bad_input(), _interruptible(f"stopped; nothing in {run} has changed"):
        again, said = measure_again(record, run, watcher(_progress()))
    print_table(side_by_side(record, again), _console())
    typer.echo(printed(record, run, said), nl=False)
    reason = disagreement(record, again)
    typer.echo(reason or "the same")
    raise typer.Exit(1 if reason else 0)


@app.command("report")
def report_(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `run` wrote, or one of `learn` or `denoise`.")
    ],
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="html, md, tex, csv or pr; left out, all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Left out, the folder `report` in the first run.")] = None,
) -> None:
    """Tables and figures of one or more runs; of several, what changed from each to the next, too."""
    formats = {part.strip() for given in format_ or [] for part in given.split(",")} or set(FORMATS)
    for unknown in sorted(formats - set(FORMATS)):
        _refuse(f"--format {unknown}: choose from {', '.join(FORMATS)}")
    if any(_holds_trainings(folder) or _holds_scores(folder) for folder in runs):
        _report_account(runs, out, formats)
        return
    from bench import journal

    for folder in runs:
        _require_run(folder)
        for line in journal.damage(folder):
            typer.echo(f"warning: {line}", err=True)
    from bench.run_folder import RunError
    from reports.write import write_report

    folder = out or runs[0] / "report"
    whole_file.try_folder(folder)
    changes = [_changes(a, b) for a, b in itertools.pairwise(runs)] if formats & {"html", "pr"} else []
    try:
        written = write_report(runs, folder, formats, changes)
    except RunError as error:
        _refuse(str(error))
    for path in written:
        typer.echo(str(path))


def _holds_trainings(folder: Path) -> bool:
    return (folder / "outcomes.jsonl").exists() or (folder / "curves.jsonl").exists()


def _holds_scores(folder: Path) -> bool:
    return (folder / "scores.jsonl").exists()


def _report_account(runs: list[Path], out: Path | None, formats: set[str]) -> None:
    """Of one folder that `learn` or `denoise` wrote."""
    (folder, *more) = runs
    if more:
        _refuse(f"{folder}: trainings, and scores of `denoise`, are reported one folder at a time")
    if _holds_trainings(folder):
        from reports.trainings_page import write_trainings as write
    else:
        from reports.denoised_page import write_denoised as write
    whole_file.try_folder(out or folder / "report")
    try:
        written = write(folder, out or folder / "report", formats)
    except ValueError as error:
        _refuse(str(error))
    for path in written:
        typer.echo(str(path))


def _changes(before: Path, after: Path) -> Changes:
    """What `compare` says of two runs, for the report; that they share no cell is a comparison too."""
    from bench import compare, compare_text
    from bench.change import FOR_THE_BETTER, FOR_THE_WORSE
    from bench.run_folder import Run, RunError
    from reports.changes import Changed, Changes

    title = f"From {before} (A) to {after} (B)"
    try:
        comparison = compare.compare(Run.read(before), Run.read(after))
    except RunError as error:
        return Changes(title, (), str(error), (), (), frozenset(), ())
    rows = tuple(
        Changed(
            cell_id=each.cell_id,
            method=comparison.b.records[each.cell_id].method,
            text=compare_text.row(each),
            numbers=compare_text.numbers(each),
            words={
                "time": str(each.timing.change) if each.timing else "no times",
                "accuracy": str(each.accuracy.change),
                "memory": str(each.memory.change),
            },
            interval=(each.timing.low, each.timing.ratio, each.timing.high) if each.timing else None,
            tone="bad" if each.changes & FOR_THE_WORSE else "good" if each.changes & FOR_THE_BETTER else "",
        )
        for each in comparison.compared
    )
    return Changes(
        title=title,
        header=tuple(compare_text.header(comparison)),
        headline=compare_text.headline(comparison),
        notes=tuple(compare_text.footer(comparison)),
        headings=compare_text.HEADINGS,
        numeric=compare_text.NUMERIC,
        rows=rows,
    )


@app.command()
def check(
    target: Annotated[Path, typer.Argument(metavar="CONFIG|RUN", help="What to run, or a run that is there already.")],
    baseline: Annotated[Path, typer.Option(help="The JSON file that the run is held against.")],
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline instead; the tolerances in it are kept.")
    ] = False,
    time: Annotated[str, typer.Option(help="soft: slow cells are told; hard: they fail.")] = "soft",
    out: Out = None,
    jobs: Jobs = None,
    plugin: Plugins = None,
    junit: Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Append the verdicts as Markdown.")] = None,
) -> None:
    """The gate: accuracy and memory hard, time soft, against a baseline.

    Exit codes: 0 passed; 1 a status or an error got worse, or a cell is missing; 2 bad input, or cells whose input is
    another than the baseline's; 3 only memory grew beyond its tolerance; 4 only times did, and --time hard was asked
    for.
    """
    from bench import gate, verdicts
    from bench.baseline import BaselineError, Machine, kept_tolerances, read_baseline, write_baseline

    if time not in ("soft", "hard"):
        _refuse(f"--time {time}: choose from soft, hard")
    _try_outputs(junit, summary)
    if update:
        whole_file.try_folder(baseline.parent)  # which is made where it is not there
        _try_outputs(baseline if baseline.parent.exists() else None)
    try:
        tolerances = kept_tolerances(baseline)
        known = None if update else read_baseline(baseline)
    except BaselineError as error:
        _refuse(str(error))
    with _scratch() as scratch:
        checked = _checked_run(target, out or scratch, jobs, plugin or [])
        machine = Machine.of(checked.environment)
        if known is None:
            write_baseline(baseline, checked.records, machine, tolerances)
            typer.echo(f"baseline of {len(checked.records)} cells: {baseline}")
            return
        judged = gate.judge(checked.records, known, machine, time == "hard")
        for verdict in judged:
            if verdict.outcome is verdicts.Outcome.FAILED:
                typer.echo(verdict.line, err=True)
            elif verdict.outcome is verdicts.Outcome.WARNED:
                typer.echo(f"warning: {verdict.line}", err=True)
        for line in gate.of_unknown_input(known, checked.records):
            typer.echo(f"warning: {line}", err=True)
        for line in [*verdicts.unjudged_lines(judged), gate.headline(judged)]:
            typer.echo(line)
        verdicts.write(judged, "gate", junit, summary, gate.summary(judged))
    raise typer.Exit(verdicts.exit_code(judged))


def _try_outputs(*files: Path | None) -> None:
    """Before anything is measured."""
    for file in files:
        if file is not None:
            whole_file.try_file(file)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, unless what was measured would go with it unjudged."""
    folder = Path(tempfile.mkdtemp(prefix="hypergrad-check-"))
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        if folder.exists():
            typer.echo(f"what was measured is kept in {folder}", err=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _checked_run(target: Path, out: Path, jobs: int | None, plugin: list[Path]) -> RunFolder:
    from bench.run_folder import Run, environment_of

    if target.is_dir():
        return _read_run(target)
    records = _measured(_request(target, out, jobs=jobs, plugins=plugin or ()))
    return Run(target, {record.cell_id: record for record in records}, environment_of(out))


def _read_run(folder: Path) -> RunFolder:
    from bench import journal
    from bench.run_folder import Run, RunError

    _require_run(folder)
    for line in journal.damage(folder):
        typer.echo(line, err=True)
    try:
        return Run.read(folder)
    except RunError as error:
        _refuse(str(error))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The folder of the run before.")],
    b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The folder of the run after.")],
    phase: Annotated[str, typer.Option(help="Whose time: total, solve or gradient.")] = "total",
    margin: Annotated[float, typer.Option(min=0.0, help="A change of time by less is none; 0.05 is 5 %.")] = 0.05,
    junit: Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Append the changes as Markdown.")] = None,
) -> None:
    """Two runs cell by cell: ratios of time with their intervals, changes of accuracy and of memory.

    Exit codes: 0 nothing got worse; 1 a status or an error did; 2 bad input; 3 only memory did; 4 only times did.
    """
    from bench import compare as comparing
    from bench import compare_text, verdicts
    from bench.run_folder import RunError

    if phase not in comparing.PHASES:
        _refuse(f"--phase {phase}: choose from {', '.join(comparing.PHASES)}")
    _try_outputs(junit, summary)
    try:
        comparison = comparing.compare(_read_run(a), _read_run(b), phase, margin)
    except RunError as error:
        _refuse(str(error))
    judged = comparing.verdicts(comparison)
    compare_text.print_comparison(comparison, _console())
    verdicts.write(judged, "compare", junit, summary, compare_text.summary(comparison))
    raise typer.Exit(verdicts.exit_code(judged))


@app.command()
def learn(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file such as bench/configs/learn_1d.toml.")],
    out: Out = None,
    ranks: Annotated[int, typer.Option(min=1, max=4096, help="Processes that share every batch, on this machine.")] = 1,
    plugin: Plugins = None,
) -> None:
    """Learn theta on any backend's gradients. The same command with the same --out continues where it stopped.

    For ranks on several machines start it under torchrun, with --out on a file system that they share.
    """
    # Before any OpenMP library loads: threads that wait in a loop take a shared core from those that work, 40 ms an
    # update where it takes 5; on an idle machine the loop would save a sixth.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from bench import learn as learning
    from bench.learning.ranks import become_torchrun, is_under_torchrun

    if is_under_torchrun() and out is None:
        _refuse("--out: under torchrun all ranks must be given the same folder")
    folder = out or _default_out(config)
    if not is_under_torchrun():  # where ranks would make and remove it under each other's hands
        whole_file.try_folder(folder)
    with _bad_input():
        if ranks > 1 and not is_under_torchrun():
            learning.check(config, plugin or [])
            plugins = [part for path in plugin or [] for part in ("--plugin", str(path))]
            become_torchrun(ranks, ["learn", str(config), "--out", str(folder), *plugins])
        raise typer.Exit(learning.learn(config, folder, plugin or [], _console(), _progress()))


@app.command()
def denoise(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A TOML file such as bench/configs/denoise_bundled.toml.")
    ],
    out: Out = None,
    folder: Annotated[Path | None, typer.Option(help="Of pictures, in place of the configuration's.")] = None,
) -> None:
    """Learned transforms and baselines on noisy pictures. The same command with the same --out continues."""
    from bench import denoise as denoising

    run = out or _default_out(config)
    whole_file.try_folder(run)
    with _bad_input(), _interruptible(f"stopped; the same command with --out {run} continues"):
        denoised = denoising.denoise(config, run, str(folder) if folder else None, _progress())
    from reports.denoised import print_tables
    from reports.denoised_page import write_denoised

    print_tables(denoised, _console())
    for path in write_denoised(run, run / "report", {"html", "md"}):
        typer.echo(str(path))
    raise typer.Exit(1 if any(score.message for score in denoised.scores) else 0)


def _measured(request: Request) -> list[Record]:
    from bench.progress import watcher
    from bench.run import run

    with _bad_input(), _interruptible(f"stopped; the same command with --out {request.out} continues"):
        return run(request, watcher(_progress()))


def _slurm_options(executor: Executor, given: list[str], jobs: int | None) -> SlurmOptions | None:
    from bench.cluster import settings_of
    from bench.slurm import SlurmOptions

    if executor is Executor.SLURM:
        with _bad_input():
            return SlurmOptions(settings_of(given), jobs)
    if given:
        _refuse(f"--slurm {given[0]}: it goes with --executor slurm")
    return None


def _request(config_path: Path, out: Path, device: str = "", jobs: int | None = None, **others: Any) -> Request:
    from bench import config
    from bench.run import Request
    from bench.threads import cores

    try:
        devices = [config.device_name(name.strip()) for name in device.split(",")] if device else None
    except ValueError as error:
        _refuse(f"--device {device}: {error}")
    with _bad_input():
        document = config.read(config_path)
    return Request(document, config_path, out, devices, jobs=jobs or cores(), **others)


def _statuses(retry: str) -> frozenset[Status]:
    from bench.record import Status
    from problems.registry import nearest

    words = [word.strip() for word in retry.split(",") if word.strip()]
    for word in words:
        if word not in list(Status):
            _refuse(f"--retry {word}: {nearest(word, [str(status) for status in Status])}")
    return frozenset(map(Status, words))


@contextmanager
def _bad_input() -> Iterator[None]:
    """What the user can put right is one line and exit code 2."""
    from bench.cluster import ClusterError
    from bench.config import ConfigError
    from bench.isolation import NoSocketError
    from bench.lock import InUseError
    from bench.plugin_store import NoVersionError
    from bench.run import TableError

    try:
        yield
    except (ClusterError, ConfigError, InUseError, NoSocketError, NoVersionError, TableError) as error:
        _refuse(str(error))


@contextmanager
def _interruptible(last_words: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM alike end the work in good order."""
    # The workers must not outlive it. Not by SIGINT, which a shell's background job ignores.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(last_words, err=True)
        raise typer.Exit(1) from None


def _default_out(config: Path) -> Path:
    return Path("results") / "runs" / f"{config.stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _require_run(folder: Path) -> None:
    if not (folder / "journal.jsonl").exists():
        _refuse(f"{folder}: not a run: it holds no journal.jsonl")


def _console() -> Console:
    """For results, on stdout."""
    return _console_on(sys.stdout)


def _progress() -> Console:
    """For what a command says while it works, on stderr, so that its results can be piped."""
    return _console_on(sys.stderr)


WIDE = 200
"""Characters of a line where output is no terminal and COLUMNS does not say how many it has."""


def _console_on(stream: TextIO) -> Console:
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    asked = int(columns) if columns.isdecimal() and int(columns) > 0 else WIDE
    return Console(file=stream, width=None if stream.isatty() else asked)


def _refuse(line: str) -> NoReturn:
    _say_error(line)
    raise typer.Exit(BAD_INPUT)


def _say_error(line: str) -> None:
    with suppress(OSError):
        typer.echo(f"error: {line}", err=True)
