"""What must hold of cells with a measured table of levels."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cimlib import Hardware, evaluate, fabricate, program
from cimlib.arrays import DoubleArray, SignedArray
from cimlib.devices import Device, Gaussian, Levels, StuckAt
from cimlib.devices.draws import sample, seeded
from cimlib.networks import mlp

TABLE = Levels((10.0, 40.0, 60.0, 100.0), (0.5, 2.0, 1.0, 4.0))


def obtained(levels: Levels, g: Tensor, seed: int = 0, low: float = 10.0, high: float = 100.0) -> Tensor:
    z = {slot: sample(draw, seeded(seed), g) for slot, draw in levels.draws(tuple(g.shape)).items()}
    return levels(g, z, low, high)


def test_a_target_takes_the_nearest_level_and_half_way_the_lower_one() -> None:
    exact = Levels(TABLE.means, (0.0,) * 4)
    g = torch.tensor([10.0, 24.9, 25.0, 25.1, 49.0, 79.0, 81.0, 100.0, 3.0, 400.0])
    assert obtained(exact, g).tolist() == [10, 10, 10, 40, 40, 60, 100, 100, 10, 100]


@pytest.mark.parametrize(("level", "mean", "std"), list(zip(range(4), TABLE.means, TABLE.stds, strict=True)))
def test_every_level_has_its_own_mean_and_spread_per_cell_in_microsiemens(
    level: int, mean: float, std: float
) -> None:
    n = 200_000
    g = obtained(TABLE, torch.full((n,), mean + 1, dtype=torch.float64), seed=level)
    assert g.mean().item() == pytest.approx(mean, abs=4 * std / n**0.5)
    assert g.std().item() == pytest.approx(std, rel=4 / (2 * n) ** 0.5)


def test_a_cell_may_leave_the_range_but_never_conducts_less_than_nothing() -> None:
    wide = Levels((0.0, 50.0), (5.0, 5.0))
    g = obtained(wide, torch.tensor([0.0, 50.0]).repeat(1000), low=0.0, high=50.0)
    assert g.min() == 0 and g.max() > 55
    assert (g == 0).float().mean().item() == pytest.approx(0.25, abs=0.06)


def test_the_gradient_is_that_of_the_target() -> None:
    g = torch.linspace(10, 100, 13, requires_grad=True)
    (gradient,) = torch.autograd.grad((obtained(TABLE, g) * torch.arange(13.0)).sum(), g)
    assert gradient.tolist() == list(range(13))


def test_a_signed_conductance_takes_the_level_of_its_magnitude() -> None:
    levels = Levels((0.0, 50.0, 100.0), (0.0, 0.0, 0.0))
    g = torch.tensor([-100.0, -60.0, -3.0, 3.0, 60.0])
    assert obtained(levels, g, low=0.0).tolist() == [-100, -50, 0, 0, 50]
    hardware = Hardware(levels, SignedArray())
    layer = fabricate(program(nn.Linear(3, 2), hardware), 0)
    assert torch.isfinite(layer(torch.ones(1, 3))).all()


def test_the_ends_of_the_array_must_be_those_of_the_table_to_half_a_step() -> None:
    for low, high in ((10.0, 100.0), (0.0, 110.0), (20.0, 90.0)):
        obtained(TABLE, torch.tensor([50.0]), low=low, high=high)
    for low, high in ((30.0, 100.0), (10.0, 200.0), (10.0, 60.0), (1e-5, 1e-4)):
        with pytest.raises(ValueError, match=r"\(g_min, g_max\).*range of the levels, \(10, 100\) µS"):
            obtained(TABLE, torch.tensor([50.0]), low=low, high=high)


def test_levels_are_a_device_of_a_chip_with_one_draw_per_cell() -> None:
    device = Device(TABLE, StuckAt(on=0.1))
    model = program(mlp(4, 8, 3, seed=0), Hardware(device, DoubleArray(*TABLE.range)))
    x, y = torch.rand(50, 4), torch.randint(3, (50,))
    result = evaluate(model, x, y, chips=range(4))
    assert (result.accuracy == evaluate(model, x, y, chips=range(4)).accuracy).all()
    with pytest.raises(ValueError, match="source of spread"):
        Device(TABLE, Gaussian(0.1))


@pytest.mark.parametrize(
    ("means", "stds", "names"),
    [
        ((10.0,), (1.0,), "means.*at least two"),
        ((10.0, 10.0, 20.0), (1.0,) * 3, r"means = \[10.0\].*once"),
        ((10.0, 30.0, 20.0), (1.0,) * 3, "means.*ascending"),
        ((-1.0, 20.0), (1.0,) * 2, "means.*≥ 0"),
        ((10.0, float("nan")), (1.0,) * 2, "means.*finite"),
        ((10.0, 20.0), (1.0, -1.0), "stds.*≥ 0"),
        ((10.0, 20.0), (1.0,), "a spread for each"),
    ],
)
def test_impossible_levels_are_refused(means: tuple[float, ...], stds: tuple[float, ...], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        Levels(means, stds)


def test_a_file_says_its_units_and_extra_columns_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "levels.csv"
    path.write_text("level,mean_S,std_nS\n0,1e-5,500\n1,4e-5,2000\n2,6e-5,1000\n3,1e-4,4000\n", "utf-8")
    found = Levels.from_csv(path)
    assert found.means == pytest.approx(TABLE.means) and found.stds == pytest.approx(TABLE.stds)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mean_uS\n10\n20\n", "std_uS"),
        ("mean,std\n10,1\n20,1\n", "mean_uS"),
        ("mean_uS,std_uS\n10,1\n10,1\n", "once"),
        ("mean_uS,std_uS\n20,1\n10,1\n", "ascending"),
        ("mean_uS,std_uS\n10,1\n,1\n", "mean_uS, row 2"),
        ("mean_uS,std_uS\n10,1\n20,nan\n", "std_uS, row 2"),
        ("mean_uS,std_uS\n10,1\n", "at least two"),
        ("mean_uS,std_uS\n1e-5,1e-6\n1e-4,1e-6\n", "looks like S, not uS"),
        ("mean_nS,std_nS\n1e-5,1e-6\n1e-4,1e-6\n", "looks like S, not nS"),
        ("mean_uS,std_uS\n10,1e-6\n100,4e-6\n", "largest std"),
        ("mean_uS,std_uS\n10,1000\n100,4000\n", "largest std .*4000.*90 µS"),
        ("std_uS,mean_uS\n10,1\n100,4\n", "largest std .*100.*swapped"),
    ],
)
def test_files_that_hold_no_levels_are_refused(text: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "levels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=names):
        Levels.from_csv(path)


def test_levels_of_nanosiemens_and_without_spread_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "levels.csv"
    path.write_text("mean_nS,std_nS\n0.1,0\n0.5,0\n", encoding="utf-8")
    assert Levels.from_csv(path).range == pytest.approx((1e-4, 5e-4))
