"""The folder `plugins/` of a run: each version of a plug-in that rows came from, which nothing overwrites.

    plugins/SHA256/my_layer.py     the plug-in, and beside it the modules that it imports, as they were; SHA256 is that
    plugins/SHA256/helper.py       of `plugins.sources_sha256`, and of the record's `plugin_sha256`

A record whose method and family are both plug-ins names the hash of the two (`Catalogue.plugin_sha256`). Runs of before
have one file for each plug-in, `plugins/my_layer.py`, of the newest version.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench import plugins
from bench.catalogue import STOPPED, Catalogue, ChangedError, joint_sha256
from bench.plugins import Sources
from bench.record import Record
from bench.whole_file import make_folder, whole

FOLDER = "plugins"


class NoVersionError(ValueError):
    """The folder does not hold the version of a plug-in that a row came from; one line."""


def keep(catalogue: Catalogue, run: Path) -> None:
    """The plug-ins as they are, each in a folder of its own. Raises ChangedError."""
    for key, path in {**catalogue.plugin_methods, **catalogue.plugin_problems}.items():
        sources = catalogue.sources[key]
        target = run / FOLDER / plugins.sources_sha256(sources)
        if not target.exists():
            partial = target.with_name(f"{target.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            _copy(Path(path), sources, partial)
            os.replace(partial, target)


def _copy(plugin: Path, sources: Sources, folder: Path) -> None:
    for name, sha256 in sources.items():
        content = (plugin.parent / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ChangedError(f"plug-in {plugin}: {name} changed while the run was under way: {STOPPED}")
        make_folder((folder / name).parent)
        with whole(folder / name) as file:
            file.write(content)


def kept(record: Record, run: Path) -> list[Path]:
    """The plug-ins that made a row, in their version of then. Raises NoVersionError."""
    if record.plugin_sha256 is None:  # no plug-in, or a run of before
        return [file for key in (record.method, record.problem) if (file := run / FOLDER / f"{key}.py").is_file()]
    versions = {key: _versions(run, key) for key in (record.method, record.problem)}
    for key, known in versions.items():
        if record.plugin_sha256 in known:
            return [known[record.plugin_sha256] / f"{key}.py"]
    for method, family in itertools.product(*versions.values()):
        if joint_sha256([method, family]) == record.plugin_sha256:
            folders = versions[record.method][method], versions[record.problem][family]
            return [folder / f"{key}.py" for folder, key in zip(folders, versions, strict=True)]
    raise NoVersionError(
        f"{run / FOLDER}: does not hold the version {record.plugin_sha256[:8]} of the plug-in of {record.method} on "
        f"{record.problem} that this row came from, as it was then: it cannot be measured again"
    )


def _versions(run: Path, key: str) -> dict[str, Path]:
    """The folders that hold a plug-in of that key, by the hash of what is in them now."""
    found = sorted((run / FOLDER).glob(f"*/{key}.py"))
    return {plugins.sources_sha256(_contents(file.parent)): file.parent for file in found}


def _contents(folder: Path) -> Sources:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def files_changed_since(run: Path, record: Record, now: Mapping[str, Sources]) -> list[str]:
    """Of the plug-ins of a row, those files that are others now; none where its version was not kept."""
    try:
        before = {file.stem: _contents(file.parent) for file in kept(record, run)} if record.plugin_sha256 else {}
    except NoVersionError:
        return []
    changed = (plugins.changed_files(before[key], sources) for key, sources in now.items() if key in before)
    return list(dict.fromkeys(itertools.chain.from_iterable(changed)))
