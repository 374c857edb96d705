"""The library alone, as a stranger has it: built, installed outside the tree, used, nothing left behind."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from cimlib.datasets.loading import FOLDER

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
(LINES,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ON_MNIST = {
    "mlp(4, 8, 3,": "mlp(784, 32, 10,",
    'load("iris")': 'load("mnist", "train", 1000)',
    "epochs=200": "epochs=2",
    'load("iris", "test")': 'load("mnist", "test", 200)',
}
WHERE = """
import importlib.util, os, cimlib
from cimlib.datasets import DataError, loading
assert importlib.util.find_spec("companion") is None
print(cimlib.__file__, loading.FOLDER, loading.CACHE, sep="\\n")
"""
WITHOUT_DATA = """
del os.environ["CIMLIB_DATA"]
try:
    load("mnist")
except DataError as error:
    print(error)
"""
TYPED = """
from cimlib import Hardware, load
from cimlib.devices import Lognormal

reveal_type(load("iris"))
Hardware(Lognormal("wide"))
"""
NOTHING_ELSE = """[mypy]
strict = True
[mypy-torch.*,torchvision.*,numpy.*,scipy.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


def call(*command: object, **options: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Stranger:
    """An environment of its own with the wheel in it, and a folder to work in, far from the tree."""

    def __init__(self, folder: Path) -> None:
        source = folder / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for package in ("cimlib", "companion"):
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        pip = (sys.executable, "-m", "pip")
        call(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", source)
        shutil.rmtree(source)
        (self.wheel,) = (folder / "dist").iterdir()
        self.home, prefix = folder / "home", folder / "environment"
        self.home.mkdir()
        venv.create(prefix, symlinks=True)
        paths = sysconfig.get_paths("venv", {"base": str(prefix), "platbase": str(prefix)})
        self.site = Path(paths["purelib"])
        self.python = Path(paths["scripts"], "python")
        call(*pip, "--python", self.python, "install", "-q", "--no-deps", "--no-index", self.wheel)
        (self.site / "torch_and_others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")

    def run(self, code: str, **env: str) -> str:
        mine = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
        nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        env = {**mine, "HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **nowhere, **env}
        return call(self.python, "-W", "error", "-c", code, cwd=self.home, env=env)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger"))


def test_the_wheel_holds_the_library_its_types_its_splits_and_its_licence(stranger: Stranger) -> None:
    held = {path.relative_to(stranger.site).as_posix() for path in stranger.site.rglob("*") if path.is_file()}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cimlib").rglob("*.py")}
    assert {name for name in held if name.startswith("cimlib/") and name.endswith(".py")} == modules
    assert {"cimlib/py.typed", "cimlib/datasets/splits.json"} < held
    assert stranger.wheel.name == "cimlib-0.2.0-py3-none-any.whl"
    assert "cimlib-0.2.0.dist-info/licenses/LICENSE" in held
    assert not [name for name in held if "companion" in name or name.endswith((".npz", ".gz", ".pt"))]
    assert stranger.wheel.stat().st_size < 500_000


def test_the_lines_of_the_readme_run_outside_the_tree_and_leave_nothing_in_the_environment(
    stranger: Stranger,
) -> None:
    before = sorted(path for path in stranger.site.rglob("*") if "__pycache__" not in path.parts)
    on_mnist = LINES
    for iris, mnist in ON_MNIST.items():
        assert on_mnist.count(iris) == 1
        on_mnist = on_mnist.replace(iris, mnist)
    given = os.environ.get("CIMLIB_DATA", "")
    data = given if Path(given, "mnist.npz").is_file() else str(FOLDER)
    told = stranger.run(WHERE + LINES + on_mnist + WITHOUT_DATA, CIMLIB_DATA=data).splitlines()
    file, folder, cache, iris, mnist, *said = told
    assert Path(file) == stranger.site / "cimlib" / "__init__.py"
    assert folder == "None"
    assert stranger.home in Path(cache).parents
    assert "100 chips" in iris
    assert "100 chips" in mnist
    assert f"  {cache} (MNIST files of torchvision)" in said
    assert "CIMLIB_DATA" in said[-1]
    assert sorted(path for path in stranger.site.rglob("*") if "__pycache__" not in path.parts) == before


def test_a_type_checker_sees_the_library_s_types(stranger: Stranger) -> None:
    (stranger.home / "mypy.ini").write_text(NOTHING_ELSE, encoding="utf-8")
    (stranger.home / "own.py").write_text(TYPED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--python-executable", stranger.python, "own.py"]
    done = subprocess.run([*map(str, command)], cwd=stranger.home, capture_output=True, encoding="utf-8")
    assert 'own.py:6: error: Argument 1 to "Lognormal" has incompatible type "str"' in done.stdout
    assert "Revealed type" in done.stdout
    assert "tuple[" in done.stdout
    assert "Found 1 error" in done.stdout
