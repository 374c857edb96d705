"""What must hold when a memory cell is written in place."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimlib.training import PulseOptimizer, Pulses, curvature, write_verify

G_MIN, G_MAX = 1.0, 101.0
LABELS = (-9.0, -4.88, -1.0, -0.01, 0.0, 0.01, 1.46, 2.4, 4.88, 9.0)
deterministic = settings(deadline=None, derandomize=True, database=None)


def conductance(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def parameter(cells: object, grad: object) -> Tensor:
    """A float64 parameter holding ``cells``, with gradient ``grad``."""
    p = torch.tensor(cells, dtype=torch.float64).requires_grad_()
    p.grad = torch.tensor(grad, dtype=torch.float64)
    return p


def optimiser(p: Tensor, pulses: Pulses | None = None, **options: Any) -> PulseOptimizer:
    return PulseOptimizer([p], pulses or Pulses(), g_min=G_MIN, g_max=G_MAX, **options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# the nonlinearity label


@pytest.mark.parametrize("label", np.linspace(0.05, 9.0, 30))
def test_the_label_is_the_perpendicular_distance_from_the_diagonal(label: float) -> None:
    a, x = curvature(label), np.linspace(0, 1, 200_001)
    y = np.expm1(-x / a) / np.expm1(-1 / a)
    assert ((y - x) / math.sqrt(2)).max() == pytest.approx(0.07 * label, rel=1e-6)


def test_a_label_of_zero_is_linear_and_the_sign_of_a_label_is_that_of_its_curvature() -> None:
    assert curvature(0.0) == math.inf
    assert all(curvature(-label) == -curvature(label) < 0 for label in (0.01, 1.75, 9.0))


def test_a_larger_label_is_always_more_strongly_curved() -> None:
    curvatures = [curvature(label) for label in np.linspace(0.01, 9.0, 900)]
    assert all(a > b > 0 for a, b in pairwise(curvatures))


@pytest.mark.parametrize("label", [1e-3, 1e-5, 1e-7])
def test_small_labels_follow_their_series(label: float) -> None:
    assert curvature(label) * label == pytest.approx(1 / (0.56 * math.sqrt(2)), rel=1e-6)


@pytest.mark.parametrize("label", [9.01, -9.01, 10.2, math.inf, math.nan])
def test_labels_outside_the_published_range_are_refused(label: float) -> None:
    with pytest.raises(ValueError, match=r"label = .* -9 ≤ label ≤ 9"):
        curvature(label)


# one write


def test_a_linear_cell_adds_up_its_pulses_and_stops_at_its_limits() -> None:
    g, n = conductance(1, 50, 50, 99, 3, 101), conductance(1, -7, 0, 10, -10, 100)
    assert torch.equal(Pulses(levels=100).write(g, n, G_MIN, G_MAX), conductance(2, 43, 50, 101, 1, 101))


@pytest.mark.parametrize(("up", "down"), list(zip(LABELS, LABELS[3:] + LABELS[:3], strict=True)))
@pytest.mark.parametrize("levels", [1, 32, 100])
def test_all_pulses_cross_the_range_at_once_and_one_by_one(up: float, down: float, levels: int) -> None:
    pulses, g = Pulses(levels, up, down), conductance(G_MIN)
    full = torch.full_like(g, levels)
    top = pulses.write(g, full, G_MIN, G_MAX)
    bottom = pulses.write(top, -full, G_MIN, G_MAX)
    assert top.item() == pytest.approx(G_MAX, rel=1e-12)
    assert bottom.item() == pytest.approx(G_MIN, rel=1e-12)
    if max(abs(up), abs(down)) < 9:  # at 9 the flat end is below the resolution of float64 too
        for _ in range(levels):
            g = pulses.write(g, torch.ones_like(g), G_MIN, G_MAX)
        assert g.item() == pytest.approx(G_MAX, rel=1e-9)
        for _ in range(levels):
            g = pulses.write(g, -torch.ones_like(g), G_MIN, G_MAX)
        assert g.item() == pytest.approx(G_MIN, rel=1e-9)


@pytest.mark.parametrize("label", [-4.88, -1.0, 0.5, 1.75, 2.4, 4.88])
def test_a_write_finds_the_position_adds_the_pulses_and_reads_the_curve(label: float) -> None:
    p_max, a = 97, curvature(label) * 97
    b = (G_MAX - G_MIN) / (1 - math.exp(-p_max / a))
    g, n = np.meshgrid(np.linspace(G_MIN, G_MAX, 41), np.arange(-p_max, p_max + 1))
    position = -a * np.log(1 - (g - G_MIN) / b)
    expected = np.clip(b * (1 - np.exp(-(position + n) / a)) + G_MIN, G_MIN, G_MAX)
    written = Pulses(p_max, label, label).write(torch.tensor(g), torch.tensor(n), G_MIN, G_MAX)
    np.testing.assert_allclose(written.numpy(), expected, rtol=1e-10)


@given(label=st.floats(-5, 5), g=st.floats(20, 80), first=st.integers(-5, 5), then=st.integers(-5, 5))
@deterministic
def test_equal_labels_make_pulses_additive_and_so_reversible(
    label: float, g: float, first: int, then: int
) -> None:
    pulses, start = Pulses(1000, label, label), conductance(g)

    def write(g: Tensor, n: int) -> Tensor:
        return pulses.write(g, torch.full_like(g, n), G_MIN, G_MAX)

    torch.testing.assert_close(write(write(start, first), then), write(start, first + then))
    torch.testing.assert_close(write(write(start, first), -first), start)


def test_a_positive_potentiation_label_steps_most_at_low_conductance() -> None:
    g = torch.linspace(G_MIN, G_MAX - 5, 30, dtype=torch.float64)
    step = Pulses(potentiation=2.4).write(g, torch.ones_like(g), G_MIN, G_MAX) - g
    assert (step > 0).all()
    assert (step.diff() < 0).all()


def test_opposite_signs_step_unequally_up_and_down_and_equal_signs_almost_equally() -> None:
    g = conductance(10, 90)
    one = torch.ones_like(g)

    def rise_over_fall(pulses: Pulses) -> list[float]:
        rise = pulses.write(g, one, G_MIN, G_MAX) - g
        fall = g - pulses.write(g, -one, G_MIN, G_MAX)
        return [float(r) for r in rise / fall]

    low, high = rise_over_fall(Pulses(100, 2.4, -4.88))
    assert low > 4
    assert high < 1 / 4
    assert rise_over_fall(Pulses(100, 1.75, 1.46)) == pytest.approx([1, 1], abs=0.1)


@pytest.mark.parametrize("label", [0.0, 1.46, 4.88, 9.0])
def test_depression_with_a_negative_label_mirrors_potentiation_with_the_positive_one(
    label: float,
) -> None:
    g = torch.linspace(G_MIN, G_MAX, 30, dtype=torch.float64)
    n = torch.arange(30, dtype=torch.float64)
    pulses = Pulses(100, potentiation=label, depression=-label)
    up = pulses.write(g, n, G_MIN, G_MAX)
    down = pulses.write(G_MIN + G_MAX - g, -n, G_MIN, G_MAX)
    torch.testing.assert_close(down, G_MIN + G_MAX - up, rtol=1e-12, atol=1e-12)


def test_depression_from_the_top_follows_the_mirrored_closed_form() -> None:
    p_max, a = 100, abs(curvature(-4.88)) * 100
    b = (G_MAX - G_MIN) / (1 - math.exp(-p_max / a))
    k = torch.arange(p_max + 1, dtype=torch.float64)
    written = Pulses(p_max, 2.4, -4.88).write(torch.full_like(k, G_MAX), -k, G_MIN, G_MAX)
    torch.testing.assert_close(written, G_MAX - b * (1 - torch.exp(-k / a)))


@pytest.mark.parametrize("pulses", [1, 4, 25])
def test_cycle_to_cycle_noise_grows_with_the_root_of_the_number_of_pulses(pulses: int) -> None:
    sigma, cells = 0.01, 40_000
    g = torch.full((cells,), 40.0, dtype=torch.float64)
    n = torch.full_like(g, pulses)
    noisy = Pulses(100, 0.5, 0.5, sigma).write(g, n, G_MIN, G_MAX, generator())
    error = noisy - Pulses(100, 0.5, 0.5).write(g, n, G_MIN, G_MAX)
    expected = sigma * (G_MAX - G_MIN) * math.sqrt(pulses)
    assert error.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * cells))
    assert abs(error.mean().item()) < 5 * expected / math.sqrt(cells)


def test_the_noise_is_that_of_the_generator() -> None:
    pulses, g, n = Pulses(cycle_to_cycle=0.05), torch.full((8,), 50.0), torch.ones(8)
    first, again, other = (pulses.write(g, n, G_MIN, G_MAX, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


labels = st.floats(-9, 9)


@given(
    up=labels,
    down=labels,
    sigma=st.sampled_from([0.0, 0.05, 10.0]),
    levels=st.integers(1, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    cells=st.lists(st.tuples(st.floats(0, 1), st.integers(-3000, 3000)), min_size=1),
)
@deterministic
def test_a_write_never_leaves_the_range_and_moves_towards_its_pulses(
    up: float,
    down: float,
    sigma: float,
    levels: int,
    dtype: torch.dtype,
    cells: list[tuple[float, int]],
) -> None:
    place, n = torch.tensor(cells, dtype=dtype).T
    g = (G_MIN + place * (G_MAX - G_MIN)).clamp(G_MIN, G_MAX)
    new = Pulses(levels, up, down, sigma).write(g, n, G_MIN, G_MAX, generator())
    assert ((new >= G_MIN) & (new <= G_MAX)).all()
    assert torch.equal(new[n == 0], g[n == 0])
    if sigma == 0:
        assert ((new - g) * n >= 0).all()


def test_a_write_changes_neither_its_input_nor_the_global_generator() -> None:
    g, before = torch.full((4,), 50.0), torch.get_rng_state()
    Pulses(100, 2.4, -4.88, 0.1).write(g, torch.ones(4), G_MIN, G_MAX, generator())
    assert torch.equal(g, torch.full((4,), 50.0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("levels", 0),
        ("levels", 2.5),
        ("potentiation", 9.5),
        ("potentiation", math.nan),
        ("depression", -10.0),
        ("cycle_to_cycle", -0.1),
        ("cycle_to_cycle", math.inf),
        ("endurance", 0),
        ("endurance", 2.5),
        ("endurance", math.nan),
        ("levels_down", 0),
        ("levels_down", 2.5),
        ("device_to_device", -0.1),
        ("device_to_device", math.inf),
    ],
)
def test_impossible_cells_are_refused(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{argument} = {value}"):
        Pulses(**{argument: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (5, 1), (-1, 5), (0, math.inf), (math.nan, 1)])
def test_an_impossible_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="g_min"):
        Pulses().write(torch.ones(1), torch.ones(1), low, high)


def test_noise_without_a_generator_is_refused() -> None:
    with pytest.raises(ValueError, match="generator"):
        Pulses(cycle_to_cycle=0.1).write(torch.ones(1), torch.ones(1), G_MIN, G_MAX)


# up and down, and from cell to cell


@pytest.mark.parametrize("label", [0.0, 2.4])
def test_a_cell_of_fewer_levels_down_walks_the_same_curve_in_larger_steps(label: float) -> None:
    g, n = conductance(50, 50, 50), conductance(-1, -4, 4)
    unequal = Pulses(100, label, label, levels_down=25).write(g, n, G_MIN, G_MAX)
    equal = Pulses(100, label, label).write(g, conductance(-4, -16, 4), G_MIN, G_MAX)
    torch.testing.assert_close(unequal, equal)


def test_steps_up_and_down_are_those_of_a_hand_calculation() -> None:
    cell, g = Pulses(10, 2.0, -3.0, levels_down=4), conductance(30)
    up, down = curvature(2.0), curvature(-3.0)
    top = G_MIN + (G_MAX - G_MIN) / (1 - math.exp(-1 / up))
    bottom = G_MIN + (G_MAX - G_MIN) / (1 - math.exp(-1 / down))
    rise = (top - 30) * (1 - math.exp(-3 / 10 / up))
    fall = (bottom - 30) * (1 - math.exp(2 / 4 / down))
    assert cell.write(g, conductance(3), G_MIN, G_MAX).item() == pytest.approx(30 + rise)
    assert cell.write(g, conductance(-2), G_MIN, G_MAX).item() == pytest.approx(30 + fall)
    assert rise > 0 > fall
    far = conductance(1, 101)
    across = cell.write(far, conductance(10, -4), G_MIN, G_MAX)
    torch.testing.assert_close(across, conductance(101, 1))


@given(up=labels, step=st.floats(0, 3), n=st.integers(-40, 40), times=st.integers(1, 4))
@deterministic
def test_a_cell_s_step_counts_as_so_many_nominal_pulses_however_they_are_bundled(
    up: float, step: float, n: int, times: int
) -> None:
    cell, g = Pulses(1000, up / 2, -up / 2, levels_down=500, device_to_device=0.3), conductance(50)
    own, nominal = conductance(step), replace(cell, device_to_device=0.0)
    once = cell.write(g, conductance(n * times), G_MIN, G_MAX, step=own)
    again = g
    for _ in range(times):
        again = cell.write(again, conductance(n), G_MIN, G_MAX, step=own)
    torch.testing.assert_close(again, once)
    torch.testing.assert_close(once, nominal.write(g, own * n * times, G_MIN, G_MAX))


def test_a_weak_cell_crosses_its_range_in_one_write_of_more_pulses_than_there_are_levels() -> None:
    cell = Pulses(100, device_to_device=0.3)
    g, own = conductance(G_MIN, G_MIN, G_MIN), conductance(0.5, 0.25, 0)
    assert cell.write(g, conductance(200, 200, 200), G_MIN, G_MAX, step=own).tolist() == [G_MAX, 51, G_MIN]


def test_a_step_below_zero_is_a_cell_that_does_not_move() -> None:
    own = Pulses(device_to_device=0.5).steps(conductance(-3, -2, -1, 0, 1))
    assert own.tolist() == [0, 0, 0.5, 1, 1.5]
    assert Pulses().steps(conductance(-9, 9)).tolist() == [1, 1]


def test_cells_that_differ_without_their_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="step = None.*device_to_device"):
        Pulses(device_to_device=0.1).write(torch.ones(1), torch.ones(1), G_MIN, G_MAX)


# cells wear out


def used(*pulses: int) -> Tensor:
    return torch.tensor(pulses)


def test_a_cell_moves_for_as_many_pulses_as_it_endures_and_then_stays_where_it_is() -> None:
    cell, p = Pulses(endurance=5), parameter([[[[50.0, 50.0]]]], [[[[-2.0, 2.0]]]])
    descent = optimiser(p, cell)
    path = []
    for _ in range(4):
        descent.step()
        path.append(p.flatten().tolist())
    assert path == [[52, 48], [54, 46], [55, 45], [55, 45]]
    assert descent.state[p]["pulses"].flatten().tolist() == [8, 8]
    assert descent.state[p]["writes"].flatten().tolist() == [4, 4]


def test_a_cell_ages_by_pulses_in_either_direction_and_by_those_that_hit_its_limit() -> None:
    p = parameter([[[[50.0, G_MAX]]]], [[[[-1.0, -1.0]]]])
    descent = optimiser(p, Pulses(endurance=3))
    for _ in range(4):
        descent.step()
        assert p.grad is not None
        p.grad[..., 0].neg_()
    assert p.flatten().tolist() == [51, G_MAX]  # up, down, up, and no more
    p.grad = torch.ones_like(p)
    descent.step()
    assert p.flatten().tolist() == [51, G_MAX]


def test_what_is_left_of_a_life_is_what_moves_the_cell() -> None:
    g, n = conductance(50, 50, 50, 50), conductance(4, -4, 4, -4)
    written = Pulses(endurance=10).write(g, n, G_MIN, G_MAX, used=used(6, 7, 10, 12))
    assert written.tolist() == [54, 47, 50, 50]


def test_a_worn_cell_has_no_noise_and_the_others_keep_theirs() -> None:
    g, n = conductance(50, 50), conductance(1, 1)
    noisy = Pulses(cycle_to_cycle=0.05).write(g, n, G_MIN, G_MAX, generator())
    worn = Pulses(cycle_to_cycle=0.05, endurance=10).write(g, n, G_MIN, G_MAX, generator(), used(10, 0))
    assert worn[0] == 50
    assert worn[1] == noisy[1] != 51


def test_endurance_without_a_history_is_refused() -> None:
    with pytest.raises(ValueError, match="used"):
        Pulses(endurance=10).write(torch.ones(1), torch.ones(1), G_MIN, G_MAX)


def test_a_cell_written_before_training_is_that_much_older() -> None:
    p = parameter([[[[50.0, 50.0]]]], [[[[-1.0, -1.0]]]])
    descent = optimiser(p, Pulses(endurance=4))
    descent.state[p]["pulses"] += torch.tensor([3, 0])
    for _ in range(6):
        descent.step()
    assert p.flatten().tolist() == [51, 54]


# programming

TARGETS = torch.linspace(G_MIN, G_MAX, 301, dtype=torch.float64)
BLANK = torch.full_like(TARGETS, G_MIN)


@pytest.mark.parametrize("levels", [1, 30, 64, 1000])
def test_a_linear_cell_takes_a_pass_per_halving_and_ends_at_the_nearest_level(levels: int) -> None:
    done = write_verify(BLANK, TARGETS, Pulses(levels=levels), G_MIN, G_MAX)
    steps = (TARGETS - G_MIN) * levels / (G_MAX - G_MIN)
    assert ((done.g - TARGETS).abs() * levels / (G_MAX - G_MIN)).max() <= 0.5 + 1e-9
    assert (done.pulses - steps).abs().max() <= 0.5 + 1e-9
    assert done.writes.max() <= math.ceil(math.log2(levels)) + 1
    assert torch.equal(BLANK, torch.full_like(BLANK, G_MIN))


def test_every_pass_asks_for_half_of_what_is_missing_and_at_least_one_pulse() -> None:
    blank, target = conductance(1, 1, 1, 1), conductance(41, 1.4, 1.6, 3)
    sent = [write_verify(blank, target, Pulses(), G_MIN, G_MAX, passes=n).pulses.tolist() for n in (1, 2, 9)]
    assert sent == [[20, 0, 1, 1], [30, 0, 1, 2], [40, 0, 1, 2]]
    done = write_verify(blank, target, Pulses(), G_MIN, G_MAX)
    assert done.writes.tolist() == [6, 0, 1, 2]  # 20 + 10 + 5 + 2 + 2 + 1
    assert done.g.tolist() == [41, 1, 2, 3]


@pytest.mark.parametrize("start", [G_MIN, 70.0, G_MAX])
@pytest.mark.parametrize(
    ("up", "down", "apart"),
    [(3.0, -3.0, 0.0), (2.4, -4.88, 0.0), (1.75, 1.46, 0.0), (0.0, 5.0, 0.0), (5.0, -5.0, 0.01)],
)
def test_a_curved_cell_arrives_but_for_the_few_that_one_pulse_carries_across(
    up: float, down: float, apart: float, start: float
) -> None:
    before = torch.full_like(TARGETS, start)
    done = write_verify(before, TARGETS, Pulses(100, up, down), G_MIN, G_MAX, tolerance=0.01)
    error = (done.g - TARGETS).abs()
    assert (error > 1 + 1e-9).double().mean() <= apart
    assert error.max() < 2


def test_a_pulse_four_times_too_steep_both_up_and_down_is_too_steep() -> None:
    steep, low = Pulses(100, 5.0, 5.0), TARGETS < G_MIN + 10
    done = write_verify(BLANK, TARGETS, steep, G_MIN, G_MAX, tolerance=0.01)
    assert ((done.g - TARGETS).abs() > 1)[low].double().mean() > 0.5


@pytest.mark.parametrize(("up", "down"), [(0.0, 0.0), (2.4, -4.88)])
def test_verifying_mends_noise(up: float, down: float) -> None:
    cell = Pulses(100, up, down, cycle_to_cycle=0.035)
    few, many = (
        write_verify(BLANK, TARGETS, cell, G_MIN, G_MAX, tolerance=0.01, passes=passes, generator=generator())
        for passes in (5, 100)
    )
    assert ((few.g - TARGETS).abs() > 1).double().mean() > 0.3
    assert (many.g - TARGETS).abs().max() <= 1 + 1e-9
    assert (many.pulses >= few.pulses).all()


def test_no_more_passes_are_made_than_allowed_and_none_that_no_cell_needs() -> None:
    cell = Pulses(100, 3.0, -3.0)
    assert write_verify(BLANK, TARGETS, cell, G_MIN, G_MAX, passes=3).writes.max() == 3
    source = generator()
    before = source.get_state()
    there = write_verify(TARGETS, TARGETS, Pulses(cycle_to_cycle=0.1), G_MIN, G_MAX, generator=source)
    assert torch.equal(there.g, TARGETS) and there.writes.sum() == 0
    assert torch.equal(source.get_state(), before)


def test_a_wider_tolerance_needs_fewer_writes_and_is_kept() -> None:
    cell = Pulses(cycle_to_cycle=0.02)
    fine, coarse = (
        write_verify(
            BLANK, TARGETS, cell, G_MIN, G_MAX, tolerance=tolerance, passes=500, generator=generator()
        )
        for tolerance in (0.0, 0.05)
    )
    assert coarse.pulses.sum() < 0.9 * fine.pulses.sum()
    assert coarse.writes.sum() < 0.5 * fine.writes.sum()
    assert 1 < (coarse.g - TARGETS).abs().max() <= 5


def test_verifying_mends_cells_that_differ_and_needs_more_pulses_of_the_weak_ones() -> None:
    cell, own = (
        Pulses(levels_down=40, device_to_device=0.3),
        torch.linspace(0.3, 1.8, 301, dtype=torch.float64),
    )
    high = torch.full_like(TARGETS, 71)
    for start in (BLANK, torch.full_like(BLANK, G_MAX)):
        done = write_verify(start, high, cell, G_MIN, G_MAX, tolerance=0.03, step=own)
        assert (done.g - high).abs().max() <= 3 + 1e-9
        assert done.pulses[0] > 3 * done.pulses[-1] > 0
    with pytest.raises(ValueError, match="step = None"):
        write_verify(BLANK, high, cell, G_MIN, G_MAX)


def test_a_linear_cell_of_unequal_levels_ends_at_the_nearest_level_from_either_end() -> None:
    cell = Pulses(100, levels_down=40)
    for start, levels in ((G_MIN, 100), (G_MAX, 40)):
        done = write_verify(torch.full_like(TARGETS, start), TARGETS, cell, G_MIN, G_MAX)
        assert (done.g - TARGETS).abs().max() <= 50 / levels + 1e-9


def test_a_cell_that_wears_out_while_it_is_programmed_stays_short_of_its_target() -> None:
    done = write_verify(BLANK, TARGETS, Pulses(levels=100, endurance=40), G_MIN, G_MAX)
    assert done.g.max() == G_MIN + 40
    near = TARGETS <= G_MIN + 40
    assert (done.g - TARGETS)[near].abs().max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"tolerance": -0.1}, "tolerance = -0.1.*0 ≤ tolerance < 1"),
        ({"passes": 0}, "passes = 0.*whole number"),
        ({"target": torch.ones(2)}, "shape of target"),
        ({"target": torch.full_like(TARGETS, 200.0)}, "target.*out of range"),
        ({"g": BLANK * 1e-6}, "g = .*out of range"),
        ({"pulses": Pulses(cycle_to_cycle=0.1)}, "generator"),
        ({"step": torch.full_like(TARGETS, math.nan)}, r"step = \[nan, .*finite numbers ≥ 0"),
        ({"step": torch.full_like(TARGETS, math.inf)}, r"step = \[inf, "),
        ({"step": torch.full_like(TARGETS, -1.0)}, r"step = \[-1.0, "),
        ({"step": torch.ones(3)}, r"shape of step = \(3,\)"),
        ({"step": torch.tensor(1.0)}, r"shape of step = \(\)"),
    ],
    ids=str,
)
def test_impossible_programming_is_refused(options: dict[str, Any], names: str) -> None:
    whole: dict[str, Any] = {
        "g": BLANK,
        "target": TARGETS,
        "pulses": Pulses(),
        "g_min": G_MIN,
        "g_max": G_MAX,
    }
    with pytest.raises(ValueError, match=names):
        write_verify(**(whole | options))
