"""The digest of a function: what must change it, and what must not, by planted edits."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from companion import definitions, sources

TOY = {
    "toy/__init__": '"""The front."""\nfrom toy.core import area as surface\nfrom toy.shapes import Square\n',
    "toy/core": '''"""Areas."""
import functools
import math

from toy import rules
from toy.numbers import SCALE, half

TABLE = {}  # by name


def area(square, factor=SCALE):
    """Area of a square."""
    return half(square.side) * factor * math.pi


def register(function):
    TABLE[function.__name__] = function
    return function


@functools.cache
def rounded(square):
    return rules.down(area(square))


def unrelated():
    return 7


def looked_up(name):
    return TABLE[name]


TABLE["seven"] = unrelated
''',
    "toy/numbers": """SCALE = 2.0
DIVISOR = 2


def half(x):
    return x / DIVISOR


def other(x):
    return -x
""",
    "toy/rules": """def down(x):
    return x // STEP


STEP = 0.5


def up(x):
    return -down(-x)
""",
    "toy/shapes": """from toy.numbers import half


class Shape:
    corners = 0


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def edge(self):
        return half(4 * self.side)


def check(function):
    return function


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)
""",
    "toy/runs/__init__": "",
    "toy/runs/first": """from toy import Square, surface
from toy import core as c
from toy import shapes
from toy.shapes import check


@check
def run(side):
    from toy.numbers import other as turned

    side = turned(side)
    return surface(Square(side)) + c.rounded(Square(side))


def parity(n):
    return shapes.even(n)


def chosen(name):
    return c.looked_up(name)
""",
}


class Toy:
    """A toy tree whose files can be edited."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in TOY.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        forget()

    def read(self, name: str) -> str:
        return (self.root / f"{name}.py").read_text(encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert text.count(old) == 1, (name, old)
        self.write(name, text.replace(old, new))

    def cut(self, name: str, first: str) -> str:
        """Takes a definition that begins with ``first`` out of a file, and gives it."""
        blocks = self.read(name).split("\n\n\n")
        (found,) = (block for block in blocks if block.strip().startswith(first))
        self.write(name, "\n\n\n".join(block for block in blocks if block is not found))
        return found.strip() + "\n"

    def digest(self, *names: str) -> str:
        return definitions.digest("toy.runs.first", *(names or ("run",)))


def forget() -> None:
    """Lets the next question read the files again."""
    for function in (sources.all_modules, sources._imports, *vars(definitions).values()):
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "PACKAGES", ("toy",))
    yield Toy(tmp_path)
    forget()


def test_a_digest_has_sixteen_digits_and_is_another_for_another_function(toy: Toy) -> None:
    digests = {toy.digest("run"), toy.digest("parity"), toy.digest("run", "parity")}
    assert len(digests) == 3 and {len(digest) for digest in digests} == {16}


# --- what leaves it alone -------------------------------------------------------------------------------


def test_a_function_that_moves_leaves_it_alone(toy: Toy) -> None:
    before = toy.digest()
    toy.write("toy/halves", "from toy.numbers import DIVISOR\n\n\n" + toy.cut("toy/numbers", "def half"))
    toy.edit("toy/core", "import SCALE, half", "import SCALE\nfrom toy.halves import half")
    toy.edit("toy/shapes", "from toy.numbers", "from toy.halves")
    assert toy.digest() == before


def test_a_function_that_moves_behind_a_package_leaves_it_alone(toy: Toy) -> None:
    before = toy.digest()
    toy.write("toy/halves/__init__", "from toy.halves.inner import by_two as half\n")
    body = toy.cut("toy/numbers", "def half")
    toy.write("toy/halves/inner", "from toy.halves.deep import half as by_two\n")
    toy.write("toy/halves/deep", "from toy.numbers import DIVISOR\n\n\n" + body)
    toy.edit("toy/core", "import SCALE, half", "import SCALE\nfrom toy.halves import half")
    toy.edit("toy/shapes", "from toy.numbers", "from toy.halves")
    assert toy.digest() == before


def test_a_function_that_moves_behind_the_name_of_its_package_leaves_it_alone(toy: Toy) -> None:
    """What calls it, imports it as before."""
    before = toy.digest()
    toy.write(
        "toy/areas",
        "from toy.numbers import SCALE, half\nimport math\n\n\n" + toy.cut("toy/core", "def area"),
    )
    toy.edit("toy/core", "from toy.numbers import SCALE, half", "from toy.areas import area")
    toy.edit("toy/__init__", "toy.core", "toy.areas")
    assert toy.digest() == before


def test_a_target_of_a_module_alias_that_moves_leaves_it_alone(toy: Toy) -> None:
    before = toy.digest()
    toy.write("toy/steps", toy.cut("toy/rules", "STEP"))
    toy.write("toy/rules", "from toy.steps import STEP\n\n\n" + toy.read("toy/rules"))
    assert toy.digest() == before
    toy.write("toy/floor", "from toy.steps import STEP\n\n\n" + toy.cut("toy/rules", "def down"))
    toy.edit("toy/core", "from toy import rules", "from toy import floor as rules")
    assert toy.digest() == before


def test_a_module_that_moves_leaves_it_alone(toy: Toy) -> None:
    before = toy.digest()
    toy.write("toy/deep/__init__", "")
    toy.write("toy/deep/amounts", toy.read("toy/numbers"))
    (toy.root / "toy/numbers.py").unlink()
    for name in ("toy/core", "toy/shapes", "toy/runs/first"):
        toy.edit(name, "from toy.numbers", "from toy.deep.amounts")
    assert toy.digest() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("toy/numbers", "SCALE = 2.0", "SCALE = 2.0\nMORE = 3"),
        ("toy/core", "def unrelated", "def neighbour(x):\n    return area(x)\n\n\ndef unrelated"),
        ("toy/core", "    return 7", "    return 8"),
        ("toy/rules", "    return -down(-x)", "    return -down(-x) + 0"),
        ("toy/core", "  # by name", "  # by its name"),
        ("toy/core", '"""Area of a square."""', '"""The area."""'),
        ("toy/core", '"""Areas."""\n', ""),
        (
            "toy/core",
            "half(square.side) * factor * math.pi",
            "(\n        half(square.side) * factor\n    ) * math.pi",
        ),
        ("toy/shapes", "    corners = 0", '    """A shape."""\n\n    corners = (0)  # none'),
        ("toy/__init__", "from toy.shapes import Square", "from toy.shapes import Shape, Square"),
        ("toy/runs/first", "from toy import shapes\n", "from toy import rules, shapes\n"),
        ("toy/core", "import functools\n", "import functools\nimport os\n"),
    ],
)
def test_neighbours_and_what_is_said_leave_it_alone(toy: Toy, name: str, old: str, new: str) -> None:
    before = toy.digest()
    toy.edit(name, old, new)
    assert toy.digest() == before


def test_the_order_of_definitions_leaves_it_alone(toy: Toy) -> None:
    before = toy.digest()
    for name in ("toy/rules", "toy/numbers"):
        toy.write(name, "\n\n\n".join(reversed(toy.read(name).split("\n\n\n"))))
    assert toy.digest() == before


def test_a_local_variable_with_the_name_of_a_neighbour_is_not_the_neighbour(toy: Toy) -> None:
    toy.edit(
        "toy/core",
        "    return half(square.side)",
        "    unrelated = 1\n    return unrelated * half(square.side)",
    )
    before = toy.digest()
    toy.edit("toy/core", "    return 7", "    return 8")
    assert toy.digest() == before


def test_arguments_and_variables_of_comprehensions_are_not_neighbours_either(toy: Toy) -> None:
    inner = (
        "    def inner(other):\n        return [DIVISOR for DIVISOR in other]\n\n    return inner([x])[0] / 2"
    )
    toy.edit("toy/numbers", "    return x / DIVISOR", inner)
    before = toy.digest("parity"), definitions.digest("toy.numbers", "half")
    toy.edit("toy/numbers", "DIVISOR = 2", "DIVISOR = 3")
    toy.edit("toy/numbers", "    return -x", "    return +x")
    assert (toy.digest("parity"), definitions.digest("toy.numbers", "half")) == before


# --- what changes it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("toy/runs/first", " + c.rounded", " - c.rounded", id="itself"),
        pytest.param("toy/core", "* math.pi", "* math.e", id="function"),
        pytest.param("toy/core", "* math.pi", "* math.pi * 1", id="expression"),
        pytest.param("toy/core", "import math\n", "import cmath as math\n", id="another library"),
        pytest.param("toy/numbers", "SCALE = 2.0", "SCALE = 2", id="type of a constant"),
        pytest.param("toy/numbers", "SCALE = 2.0", "SCALE = 2.5", id="constant"),
        pytest.param("toy/numbers", "SCALE = 2.0", "SCALE: float = 2.0", id="annotation"),
        pytest.param("toy/numbers", "DIVISOR = 2", "DIVISOR = 3", id="two levels down"),
        pytest.param("toy/core", "factor=SCALE", "factor=1.0", id="default argument"),
        pytest.param("toy/shapes", "return half(4 * self.side)", "return half(3 * self.side)", id="method"),
        pytest.param("toy/shapes", "self.side = side", "self.side = side + 1", id="constructor"),
        pytest.param("toy/shapes", "class Square(Shape)", "class Square", id="base class"),
        pytest.param("toy/shapes", "corners = 0", "corners = 4", id="in the base class"),
        pytest.param("toy/shapes", "    return function", "    return function or 1", id="in the decorator"),
        pytest.param("toy/runs/first", "@check\n", "", id="decorator"),
        pytest.param("toy/core", "@functools.cache\n", "", id="another's decorator"),
        pytest.param("toy/rules", "x // STEP", "x % STEP", id="target of a module's alias"),
        pytest.param("toy/rules", "STEP = 0.5", "STEP = 0.25", id="constant behind a module's alias"),
        pytest.param("toy/core", "rules.down", "rules.up", id="another target of the alias"),
        pytest.param("toy/numbers", "    return -x", "    return +x", id="import inside a function"),
        pytest.param("toy/runs/first", "import other as", "import half as", id="another import inside"),
        pytest.param("toy/__init__", "import area as", "import unrelated as", id="what is passed on"),
    ],
)  # fmt: skip
def test_what_it_reaches_changes_it(toy: Toy, name: str, old: str, new: str) -> None:
    before = toy.digest()
    toy.edit(name, old, new)
    assert toy.digest() != before


@pytest.mark.parametrize(
    "imports",
    ["from toy.numbers import half as a, other as b", "import toy.numbers as n\n    a, b = n.half, n.other"],
)
def test_two_imports_inside_a_function_cannot_change_places_unseen(toy: Toy, imports: str) -> None:
    toy.write("toy/runs/second", f"def run(x):\n    {imports}\n    return a(b(x))\n")
    before = definitions.digest("toy.runs.second", "run")
    swapped = imports.replace("half", "_").replace("other", "half").replace("_", "other")
    toy.write("toy/runs/second", f"def run(x):\n    {swapped}\n    return a(b(x))\n")
    assert definitions.digest("toy.runs.second", "run") != before


def test_two_functions_that_read_the_same_cannot_change_places_unseen(toy: Toy) -> None:
    for name, value in (("one", 1), ("two", 2)):
        toy.write(f"toy/{name}", f"STEP = {value}\n\n\ndef step(x):\n    return x + STEP\n")
    imports = "from toy import one, two\nfrom toy.one import step\n"
    toy.write("toy/runs/second", f"{imports}\n\ndef run(x):\n    return step(x), one.step, two.step\n")
    before = definitions.digest("toy.runs.second", "run")
    toy.edit("toy/runs/second", "from toy.one import", "from toy.two import")
    assert definitions.digest("toy.runs.second", "run") != before


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ('TABLE["seven"] = unrelated\n', 'TABLE["eight"] = unrelated\n'),
        ('TABLE["seven"] = unrelated\n', 'TABLE["seven"] = area\n'),
        ('TABLE["seven"] = unrelated\n', ""),
        ('TABLE["seven"] = unrelated\n', 'TABLE["seven"] = unrelated\nTABLE.pop("seven")\n'),
        ('TABLE["seven"] = unrelated\n', 'for name in "ab":\n    TABLE[name] = unrelated\n'),
        ("def unrelated", "@TABLE.register\ndef unrelated"),
        ("    return 7", "    return 8"),
    ],
)
def test_a_registration_belongs_to_what_it_fills(toy: Toy, statement: str, changed: str) -> None:
    before, elsewhere = toy.digest("chosen"), toy.digest("parity")
    toy.edit("toy/core", statement, changed)
    assert toy.digest("chosen") != before and toy.digest("parity") == elsewhere


@pytest.mark.parametrize(
    "use",
    ["rules", "getattr(rules, name)", "rules.down(1) + getattr(rules, name)", "rules.missing"],
)
def test_a_module_that_is_used_as_a_whole_counts_as_a_whole(toy: Toy, use: str) -> None:
    toy.write("toy/runs/second", f"from toy import rules\n\n\ndef run(name):\n    return {use}\n")
    before = definitions.digest("toy.runs.second", "run")
    toy.edit("toy/rules", "    return -down(-x)", "    return -down(x)")
    assert definitions.digest("toy.runs.second", "run") != before


@pytest.mark.parametrize(
    "text",
    [
        "import toy.rules\n\n\ndef run(x):\n    return toy.rules.down(x)\n",
        "import toy\n\n\ndef run(x):\n    return toy.rules.down(x)\n",
        "import toy.rules as r\n\n\ndef run(x):\n    return r.down(x)\n",
        "def run(x):\n    import toy.rules as r\n\n    return r.down(x)\n",
        "def run(x):\n    import toy.rules\n\n    return toy.rules.down(x)\n",
        "def run(x):\n    from toy import rules\n\n    return rules.down(x)\n",
        "def run(x):\n    from toy import core\n\n    return core.rules.down(x)\n",
        "from toy.rules import down\n\ndown = staticmethod(down)\n\n\ndef run(x):\n    return down(x)\n",
        "from toy.rules import down\n\n\nclass run:\n    down = down\n",
        "try:\n    from toy.rules import down\nfinally:\n    pass\n\n\ndef run(x):\n    return down(x)\n",
    ],
)
def test_however_it_is_imported_what_is_meant_counts_and_its_neighbours_do_not(toy: Toy, text: str) -> None:
    toy.write("toy/runs/second", text)
    before = definitions.digest("toy.runs.second", "run")
    toy.edit("toy/rules", "    return -down(-x)", "    return -down(x)")
    assert definitions.digest("toy.runs.second", "run") == before
    toy.edit("toy/rules", "x // STEP", "x % STEP")
    assert definitions.digest("toy.runs.second", "run") != before


def test_a_package_that_is_used_as_a_whole_counts_with_what_it_passes_on(toy: Toy) -> None:
    toy.write("toy/runs/second", "import toy\n\n\ndef run(name):\n    return getattr(toy, name)\n")
    before = definitions.digest("toy.runs.second", "run")
    toy.edit("toy/numbers", "DIVISOR = 2", "DIVISOR = 3")
    assert definitions.digest("toy.runs.second", "run") != before


def test_a_name_that_a_package_passes_on_wins_over_its_module_of_that_name(toy: Toy) -> None:
    toy.write("toy/tools/__init__", "from toy.tools.fit import fit\n")
    toy.write("toy/tools/fit", "def fit():\n    return 1\n\n\ndef spare():\n    return 2\n")
    toy.write("toy/runs/second", "from toy.tools import fit\n\n\ndef run():\n    return fit()\n")
    before = definitions.digest("toy.runs.second", "run")
    toy.edit("toy/tools/fit", "return 2", "return 3")
    assert definitions.digest("toy.runs.second", "run") == before
    toy.edit("toy/tools/fit", "return 1", "return 3")
    assert definitions.digest("toy.runs.second", "run") != before


# --- cycles, and what is refused ------------------------------------------------------------------------


def test_functions_may_call_each_other(toy: Toy) -> None:
    before = toy.digest("parity")
    toy.edit("toy/shapes", "n != 0 and", "n > 0 and")
    assert toy.digest("parity") != before


def test_modules_may_import_each_other(toy: Toy) -> None:
    """Two functions that call each other, moved into modules of their own."""
    before = toy.digest("parity")
    odd = toy.cut("toy/shapes", "def odd")
    toy.write("toy/odds", "from toy import shapes\nfrom toy.shapes import even\n\n\n" + odd)
    toy.write("toy/shapes", "from toy.odds import odd\n" + toy.read("toy/shapes"))
    assert toy.digest("parity") == before
    toy.edit("toy/odds", "n != 0 and", "n > 0 and")
    assert toy.digest("parity") != before


def test_what_is_not_ours_is_refused(toy: Toy) -> None:
    with pytest.raises(ValueError, match=r"module='toy\.cores': none of ours; known: .*'toy\.core'"):
        definitions.digest("toy.cores", "area")
    with pytest.raises(ValueError, match=r"names=\['aria'\]: not defined in toy\.core"):
        definitions.digest("toy.core", "area", "aria")
    with pytest.raises(ValueError, match=r"names=\['math'\]: not defined in toy\.core"):
        definitions.digest("toy.core", "math")


@pytest.mark.parametrize(
    "line", ["from toy.numbers import *", "from . import numbers", "from .numbers import half"]
)
def test_an_import_that_does_not_say_what_it_brings_or_from_where_is_refused(toy: Toy, line: str) -> None:
    toy.write("toy/runs/second", f"{line}\n\n\ndef run(x):\n    return half(x)\n")
    with pytest.raises(ValueError, match=r"toy\.runs\.second, line 1"):
        definitions.digest("toy.runs.second", "run")


# --- the real tree --------------------------------------------------------------------------------------


ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = ("companion.experiments.deployed", "run", "data")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the library and the companion in which files can be edited."""
    for package in sources.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def moved(root: Path, one: definitions.Definition, to: str, *more: str) -> None:
    """Moves a function or class to a new module and mends every import of it; ``more`` follows it there."""
    old, new = (root.joinpath(*module.split(".")).with_suffix(".py") for module in (one.module, to))
    tree = ast.parse(old.read_text(encoding="utf-8"))
    (node,) = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == one.name)
    tree.body.remove(node)
    links = [target for _, target in definitions._links(one) if isinstance(target, definitions.Definition)]
    needs = [f"from {old} import {name}" for old, name in links if old == one.module and name != one.name]
    imports = [ast.unparse(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    new.write_text("\n".join([*imports, *needs, ast.unparse(node), *more]), encoding="utf-8")
    old.write_text(f"{ast.unparse(tree)}\nfrom {to} import {one.name}\n", encoding="utf-8")
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for n in [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == one.module]:
            if one.name in {alias.name for alias in n.names}:
                n.names = [alias for alias in n.names if alias.name != one.name] or n.names
                path.write_text(f"{ast.unparse(tree)}\nfrom {to} import {one.name}\n", encoding="utf-8")
    forget()


@pytest.mark.parametrize(
    ("module", "name", "to"),
    [
        ("cimlib.training", "accuracy", "cimlib.training.scores"),
        ("cimlib.devices", "StuckAt", "cimlib.devices.stuck"),
        ("cimlib.chip", "program", "cimlib.chip.begin"),
    ],
)
def test_what_moves_inside_a_room_of_the_library_makes_no_record_stale(
    copy: Path, module: str, name: str, to: str
) -> None:
    before = definitions.digest(*DEPLOYED)
    found = definitions._resolve(module, name)
    assert isinstance(found, definitions.Definition) and found in definitions.reached(*DEPLOYED)
    moved(copy, found, to, "def neighbour():\n    return 1\n")
    assert definitions._resolve(module, name) == (to, name)
    assert definitions.digest(*DEPLOYED) == before
    path = copy.joinpath(*to.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (node,) = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
    node.body += ast.parse("assert True").body
    path.write_text(ast.unparse(tree), encoding="utf-8")
    forget()
    assert definitions.digest(*DEPLOYED) != before


def test_a_constant_of_a_module_that_no_run_reaches_changes_no_digest(copy: Path) -> None:
    before = definitions.digest(*DEPLOYED)
    path = copy / "cimlib" / "bench" / "spice.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nMORE = 1\n", encoding="utf-8")
    forget()
    assert definitions.digest(*DEPLOYED) == before
