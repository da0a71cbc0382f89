"""Configurations: what the matrix is, and that every mistake is one line that names file, key and remedy."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import config, plan
from bench.catalogue import Catalogue, PluginError
from bench.cell import Cell
from tests.bench_plugins import write_method

METHOD = '[[method]]\nkey = "blorc"\n'
PROBLEM = "[[problem]]\nn = 8\n"


def cells_of(tmp_path: Path, text: str, plugins: tuple[Path, ...] = ()) -> list[Cell]:
    path = tmp_path / "some.toml"
    path.write_text(text)
    settings = config.load(path)
    return plan.expand(settings, Catalogue.of(plan.plugin_files(settings, path, plugins)), str(path))


def test_lists_are_axes_and_their_cross_product_is_the_matrix(tmp_path: Path) -> None:
    text = '[[problem]]\nn = [8, 16]\nseed = [0, 1, 2]\n[[method]]\nkey = "blorc"\ngamma = [1e-9, 1e-3]\n'
    cells = cells_of(tmp_path, text + '[measure]\ndtype = ["float64", "float32"]\n')
    found = [
        (cell.instance.n, cell.instance.parameters["seed"], cell.dtype, cell.method_parameters["gamma"])
        for cell in cells
    ]
    assert found == list(itertools.product((8, 16), (0, 1, 2), ("float64", "float32"), (1e-9, 1e-3)))
    assert len({cell.cell_id for cell in cells}) == len(cells)


def test_one_element_written_twice_is_one_cell(tmp_path: Path) -> None:
    assert len(cells_of(tmp_path, "[[problem]]\nn = [8, 8]\n[[problem]]\nn = 8\n" + METHOD + METHOD)) == 1


def test_the_id_depends_on_the_cell_alone(tmp_path: Path) -> None:
    """The id that a baseline names must not change when other cells come or go."""
    alone = cells_of(tmp_path, PROBLEM + METHOD)[0]
    among = cells_of(tmp_path, '[[problem]]\nn = [4, 8]\n[[method]]\nkey = "active_set_adjoint"\n' + METHOD)
    assert alone.cell_id in {cell.cell_id for cell in among}
    assert len(alone.cell_id) == 12
    assert int(alone.cell_id, 16) >= 0


def test_parameters_that_are_set_name_the_variant_and_solvers_are_tables(tmp_path: Path) -> None:
    text = (
        '[[method]]\nkey = "unrolled_reverse"\nsolver = ["dual_pgd", { key = "admm", rho = [0.5, 2.0] }]\nsteps = 7\n'
    )
    cells = cells_of(tmp_path, PROBLEM + text)
    assert [cell.variant for cell in cells] == [
        "unrolled_reverse[solver=dual_pgd,steps=7]",
        "unrolled_reverse[solver=admm(rho=0.5),steps=7]",
        "unrolled_reverse[solver=admm(rho=2),steps=7]",
    ]


def test_a_method_can_be_restricted_to_some_problems(tmp_path: Path) -> None:
    problems = '[[problem]]\nname = "small"\nn = 4\n[[problem]]\nname = "large"\nn = 16\n'
    text = problems + METHOD + '[[method]]\nkey = "active_set_adjoint"\nproblems = ["small"]\n'
    found = {(cell.method, cell.instance.n) for cell in cells_of(tmp_path, text)}
    assert found == {("blorc", 4), ("blorc", 16), ("active_set_adjoint", 4)}


def test_batches_share_the_pairs(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, "[[problem]]\nn = 8\npairs = 6\nbatch = [2, 6]\n" + METHOD)
    assert [cell.chunks for cell in cells] == [[slice(0, 2), slice(2, 4), slice(4, 6)], [slice(0, 6)]]


def test_only_selects_by_any_property(tmp_path: Path) -> None:
    text = '[[problem]]\nn = [4, 8]\nseed = [0, 1]\n[[method]]\nkey = "blorc"\ngamma = [1e-9, 1e-3]\n'
    cells = cells_of(tmp_path, text)
    chosen = plan.select(cells, "n=8,gamma=0.001,seed=0,seed=1")
    assert [(cell.instance.n, cell.method_parameters["gamma"]) for cell in chosen] == [(8, 1e-3)] * 2
    assert plan.select(cells, f"cell_id={cells[3].cell_id}") == [cells[3]]
    with pytest.raises(config.ConfigError, match=r"no cell has a 'gama': did you mean 'gamma'\?"):
        plan.select(cells, "gama=1e-3")
    with pytest.raises(config.ConfigError, match="no cell has n = 5: choose one of: 4, 8"):
        plan.select(cells, "n=5")


MISTAKES = {
    "not TOML": ("[[problem]\n", "not TOML"),
    "no method": (PROBLEM, "method: missing: add a table [[method]]"),
    "one bracket": ("[problem]\n" + METHOD, "problem: a table must be written [[problem]]"),
    "unknown table": ("[mesure]\n" + PROBLEM + METHOD, "mesure: unknown key: did you mean 'measure'?"),
    "unknown family": ('[[problem]]\nfamily = "analysis_l2"\n' + METHOD, "problem[0].family: there is no"),
    "nearest family": ('[[problem]]\nfamily = "analysis_l2"\n' + METHOD, "did you mean 'analysis_l1'?"),
    "unknown method": (PROBLEM + '[[method]]\nkey = "blork"\n', "method[0].key: there is no method 'blork'"),
    "unknown setting": ("[[problem]]\nsede = 1\n" + METHOD, "problem[0].sede: unknown key: did you mean 'seed'?"),
    "unknown entry key": ("[[problem]]\nbacth = 1\n" + METHOD, "problem[0].bacth: unknown key: did you mean 'batch'?"),
    "unknown field": (PROBLEM + METHOD + "gama = 1.0\n", "method[0].gama: unknown key: did you mean 'gamma'?"),
    "unknown solver": (
        PROBLEM + '[[method]]\nkey = "unrolled_reverse"\nsolver = "adm"\n',
        "method[0].solver: methods.solvers has no 'adm': did you mean 'admm'?",
    ),
    "unknown solver key": (
        PROBLEM + '[[method]]\nkey = "unrolled_reverse"\nsolver = { key = "admm", roh = 1.0 }\n',
        "method[0].solver.roh: unknown key: did you mean 'rho'?",
    ),
    "unknown measure key": (PROBLEM + METHOD + "[measure]\nproceses = 1\n", "did you mean 'processes'?"),
    "wrong type": ('[[problem]]\nn = "many"\n' + METHOD, "problem[0].n: input should be a valid integer"),
    "out of range": ("[[problem]]\nnoise = -1\n" + METHOD, "problem[0].noise: input should be greater"),
    "second element": ("[[problem]]\nn = [8, 0]\n" + METHOD, "problem[0].n: input should be greater than or"),
    "not a square": ('[[problem]]\nsignal = "patches"\nn = 50\n' + METHOD, "n = 50 is not a square"),
    "too many rows": (
        '[[problem]]\nn = 4\nk = 99\ntransform = "finite_difference"\n' + METHOD,
        "problem[0]: analysis_l1 cannot be built: finite_difference has at most 6 rows for n = 4, not k = 99",
    ),
    "list in [measure]": (PROBLEM + METHOD + "[measure]\nvalues = [1, 2]\n", "measure.values: input should be"),
    "empty axis": ("[[problem]]\nn = []\n" + METHOD, "problem[0].n: an empty list leaves no cell"),
    "empty matrix": (
        PROBLEM + '[[problem]]\nname = "b"\nn = 8\n[[method]]\nkey = "blorc"\nproblems = []\n',
        "method[0].problems: tuple should have at least 1 item",
    ),
    "unknown label": (PROBLEM + METHOD + 'problems = ["analysis"]\n', "method[0].problems: no problem is called"),
    "batch": ("[[problem]]\npairs = 6\nbatch = 4\n" + METHOD, "4 does not divide pairs = 6: use 1, 2, 3, 6"),
    "device": (PROBLEM + METHOD + '[measure]\ndevice = "gpu"\n', "measure.device[0]: there is no device 'gpu'"),
    "infinite": (PROBLEM + METHOD + "[measure]\nmin_seconds = inf\n", "min_seconds: input should be a finite number"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    text, expected = MISTAKES[name]
    with pytest.raises(config.ConfigError) as error:
        cells_of(tmp_path, text)
    line = str(error.value)
    assert line.startswith(str(tmp_path / "some.toml") + ": ")
    assert expected in line
    assert "\n" not in line


def test_a_missing_file_is_a_mistake_too(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="there is no such file"):
        config.load(tmp_path / "absent.toml")


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_brings_anything_but_a_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.toml"
    path.write_text("title = ''\n" + text + "\n" + PROBLEM + METHOD, encoding="utf-8")
    try:
        said = config.load(path).title
    except config.ConfigError as error:
        said = str(error)
    assert "\n" not in said


def test_a_plugin_is_a_method_or_a_problem_and_joins_by_its_file_name(tmp_path: Path) -> None:
    write_method(tmp_path, "mine")
    family = tmp_path / "family.py"
    family.write_text(
        "from problems.analysis_l1 import AnalysisL1\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Family(AnalysisL1):\n    'A family of its own.'\n"
    )
    text = 'plugins = ["mine.py"]\n[[problem]]\nfamily = "family"\nn = 4\n[[method]]\nkey = "mine"\ngain = [1.0, 2.0]\n'
    cells = cells_of(tmp_path, text, plugins=(family, tmp_path / "mine.py"))
    assert [(cell.instance.family, cell.variant) for cell in cells] == [
        ("family", "mine[gain=1]"),
        ("family", "mine[gain=2]"),
    ]


BAD_PLUGINS = {
    "blorc": ("", "'blorc' is the key of a shipped file: rename yours"),
    "broken": ("import absent_module\n", "ModuleNotFoundError on import"),
    "empty": ("", "define exactly one concrete Method, it defines 0; define exactly one concrete Problem"),
}


@pytest.mark.parametrize("stem", BAD_PLUGINS)
def test_a_plugin_that_cannot_join_is_refused(tmp_path: Path, stem: str) -> None:
    text, expected = BAD_PLUGINS[stem]
    path = tmp_path / f"{stem}.py"
    path.write_text(text)
    with pytest.raises(PluginError, match=expected):
        Catalogue.of([path])


def test_a_plugin_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="does not exist"):
        Catalogue.of([tmp_path / "absent.py"])


def test_threads_are_an_axis(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, PROBLEM + METHOD + "[measure]\nthreads = [1, 2]\n")
    assert [cell.threads for cell in cells] == [1, 2]
    assert len({cell.cell_id for cell in cells}) == 2
    assert [str(cell) for cell in cells] == [
        "blorc on analysis_l1 identity n=8",
        "blorc on analysis_l1 identity n=8 threads=2",
    ]
    assert plan.select(cells, "threads=2") == cells[1:]
