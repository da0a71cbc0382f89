"""What is asked of a cluster: jobs submitted, looked at, cancelled; and what may be asked of Slurm for them."""

from __future__ import annotations

import abc
import functools
import io
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

from problems.registry import nearest

SETTINGS = (
    *("account", "comment", "constraint", "cpus_per_task", "dependency", "exclude", "exclusive", "gpus_per_node"),
    *("gres", "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "partition", "qos", "setup", "time", "wckey"),
)
"""What `--slurm KEY=VALUE` can set: options of sbatch under its own names, and `setup`, shell lines that a job begins
with."""
FORGOTTEN = "no longer known to Slurm"
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
"""Slurm's words for jobs that do not come back; one that it has requeued is PENDING again."""
ANSWER_SECONDS = 60.0
KEPT_LINES, KEPT_WIDTH = 3, 500


class ClusterError(RuntimeError):
    """One line: what is refused and why, or that there is no answer."""


class Seen(NamedTuple):
    """A job as its cluster sees it."""

    state: str
    """Slurm's word, or FORGOTTEN."""
    node: str = ""
    reason: str = "None"
    """Why it waits; Slurm's word again."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED or self.state == FORGOTTEN


class Cluster(abc.ABC):
    """Where jobs run. All raise ClusterError."""

    @abc.abstractmethod
    def submit(
        self, logs: Path, commands: Sequence[Sequence[str]], settings: Mapping[str, Any], at_once: int
    ) -> list[str]:
        """One job for each command, or none at all; their ids. Job 7 writes to `logs/7_0_log.out` and `.err`."""

    @abc.abstractmethod
    def states(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        """Of each of them."""

    @abc.abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> None:
        """Those that have not ended."""


class Slurm(Cluster):
    """The cluster that this machine's `sbatch` submits to. Its accounting (`sacct`) is used where there is any."""

    def submit(
        self, logs: Path, commands: Sequence[Sequence[str]], settings: Mapping[str, Any], at_once: int
    ) -> list[str]:
        """One job array."""
        try:
            import submitit
        except ImportError:
            raise ClusterError("--executor slurm needs submitit: pip install 'submitit>=1.5,<2'") from None
        kept = {name: os.environ[name] for name in ["SLURM_CONF"] if name in os.environ}
        try:
            executor = submitit.SlurmExecutor(folder=logs)
            # None in place of submitit's own defaults: no key, and the partition's time instead of 5 minutes. use_srun:
            # since Slurm 22.05 a step is not given the job's cpus_per_task.
            given = {"time": None, "wckey": None, **settings}
            executor.update_parameters(**given, array_parallelism=at_once, use_srun=False)
            # clean_env: of the job that this process may itself be. submitit prints what sbatch says, and raises it.
            with submitit.helpers.clean_env(), redirect_stderr(io.StringIO()):
                os.environ.update(kept)
                jobs = executor.submit_array([functools.partial(become, tuple(command)) for command in commands])
        except (RuntimeError, OSError) as error:  # sbatch's words, or that there is no sbatch
            raise ClusterError(f"no job was submitted: {ending(str(error))}") from None
        return [job.job_id for job in jobs]

    def states(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        """By squeue, which knows a job until some minutes after its end, and for older ones by sacct."""
        listed = _output("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%N|%r")
        fields = [line.split("|", 3) for line in listed.splitlines()]
        seen = {job_id: Seen(state, node, reason) for job_id, state, node, reason in fields}
        return {job_id: seen[job_id] if job_id in seen else _accounted(job_id) for job_id in job_ids}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """In one request."""
        _output("scancel", "--quiet", *job_ids)


def become(command: tuple[str, ...]) -> None:
    """What a job calls: its process turns into the command, so that signals reach that and no go-between."""
    os.execv(command[0], command)


def settings_of(given: Sequence[str]) -> dict[str, Any]:
    """The values of `--slurm KEY=VALUE`, of which `setup` may come several times. Raises ClusterError."""
    settings: dict[str, Any] = {}
    for clause in given:
        key, _, value = clause.partition("=")
        if key not in SETTINGS:
            raise ClusterError(f"--slurm {clause}: there is no '{key}': {nearest(key, list(SETTINGS))}")
        if not value:
            raise ClusterError(f"--slurm {clause}: a value is missing, as in time=2:00:00 or exclusive=true")
        if key == "setup":
            settings.setdefault(key, []).append(value)
        else:
            settings[key] = True if value == "true" else value
    return settings


def census(jobs: Iterable[Seen]) -> str:
    """`jobs: 1 running, 3 pending (Resources)`; empty where all have ended."""
    reasons = [(job.state.lower(), job.reason if job.state == "PENDING" else "None") for job in jobs if not job.ended]
    words = (state if reason == "None" else f"{state} ({reason})" for state, reason in reasons)
    counted = ", ".join(f"{count} {what}" for what, count in Counter(words).items())
    return f"jobs: {counted}" if counted else ""


def ending(text: str) -> str:
    """The last few lines of a text in one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-KEPT_LINES:])[-KEPT_WIDTH:]


def _accounted(job_id: str) -> Seen:
    try:
        listed = _output(
            "sacct", f"--jobs={job_id}", "--allocations", "--noheader", "--parsable2", "--format=State,NodeList"
        )
    except ClusterError:  # many clusters keep no accounts
        listed = ""
    state, _, node = listed.partition("\n")[0].partition("|")
    seen = Seen(state.partition(" ")[0], node.strip())  # `CANCELLED by 1000`
    return seen if seen.ended else Seen(FORGOTTEN)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS).stdout
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{command[0]}: {ending(error.stderr)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{command[0]} does not answer: {error}") from None
