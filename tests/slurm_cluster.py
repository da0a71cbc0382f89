"""Clusters for the tests: jobs of submitit's local executor, and a private Slurm of one node in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import submitit

from bench.cluster import FORGOTTEN, Cluster, Seen, become

DAEMONS = ("munged", "slurmctld", "slurmd")
PATIENCE_SECONDS = 120.0
"""A test's; a busy machine is no failure."""


class LocalJobs(Cluster):
    """Processes of this machine, which outlive the one that submitted them; how they ended is forgotten."""

    def submit(
        self, logs: Path, commands: Sequence[Sequence[str]], settings: Mapping[str, Any], at_once: int
    ) -> list[str]:
        """All at once, whatever the settings."""
        del settings, at_once
        executor = submitit.LocalExecutor(folder=logs)
        return [executor.submit(become, tuple(command)).job_id for command in commands]

    def states(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        """A job's id is that of its process."""
        return {job_id: Seen("RUNNING" if _is_alive(int(job_id)) else FORGOTTEN) for job_id in job_ids}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """As Slurm does, by SIGTERM; submitit's controller hands it on."""
        for job_id in job_ids:
            with suppress(ProcessLookupError):
                os.kill(int(job_id), signal.SIGTERM)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(happened: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Looks often. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds:g} s")
        time.sleep(0.05)


CONFIGURATION = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class PrivateSlurm:
    """munged, slurmctld and slurmd of this machine, with their sockets, state and logs in a temporary folder.

    Needs root and the packages `slurm-wlm` and `munge`. Whoever talks to it needs the environment's `variables`.
    Leaving cancels the jobs and ends the daemons.
    """

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, as a socket's path must be
        self.folder.chmod(0o711)
        self.node = socket.gethostname().partition(".")[0]
        self.variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._environment = {**os.environ, **self.variables}
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.ask("scancel", "--me")
        with suppress(TimeoutError):  # what is left then is found by `processes`
            wait_until(lambda: not self.ask("squeue", "--noheader").strip())
        self._stop()

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands says."""
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        ).stdout

    def processes(self) -> list[psutil.Process]:
        """All that runs with this cluster's configuration: daemons, steps, jobs."""
        ours = f"SLURM_CONF={self.variables['SLURM_CONF']}".encode()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if ours in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.append(process)
        return found

    def _start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        controller_port, node_port = _free_ports(2)
        values = {"host": self.node, "user": getpass.getuser(), "folder": self.folder}
        ports = {"controller_port": controller_port, "node_port": node_port}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values, **ports))
        places = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        munge = [f"--{name}{'-file' * (name != 'socket')}={path}" for name, path in places.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        wait_until(places["socket"].exists)
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D")
        wait_until(self._is_ready)

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "wb") as output:
            self._daemons.append(
                subprocess.Popen(command, env=self._environment, stdout=output, stderr=subprocess.STDOUT)
            )

    def _is_ready(self) -> bool:
        failed = [daemon for daemon in self._daemons if daemon.poll() is not None]
        if failed:
            raise RuntimeError("\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.out")))
        with suppress(subprocess.CalledProcessError):
            return self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle"
        return False

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
