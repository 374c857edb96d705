"""What must hold when training writes the cells: from gradients to pulses."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR

from cimlib.training import PulseOptimizer, Pulses

G_MIN, G_MAX = 1.0, 101.0


def parameter(cells: object, grad: object) -> Tensor:
    """A float64 parameter holding ``cells``, with gradient ``grad``."""
    p = torch.tensor(cells, dtype=torch.float64).requires_grad_()
    p.grad = torch.tensor(grad, dtype=torch.float64)
    return p


def pair(plus: float, minus: float, grad: float) -> Tensor:
    """One weight held by two cells, (1, 2, 1, 1), whose gradients are opposite."""
    return parameter([[[[plus]], [[minus]]]], [[[[grad]], [[-grad]]]])


def optimiser(p: Tensor, pulses: Pulses | None = None, **options: Any) -> PulseOptimizer:
    return PulseOptimizer([p], pulses or Pulses(), g_min=G_MIN, g_max=G_MAX, **options)


def train(descent: PulseOptimizer, steps: int) -> None:
    for _ in range(steps):
        descent.step()


# gradients become pulses


def test_with_a_linear_noiseless_fine_grained_cell_training_is_gradient_descent() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    start = torch.rand(1, 2, 3, 5, dtype=torch.float64) * 40 + 30
    scale = 50.0
    runs = []
    for make in (
        lambda p: optimiser(p, Pulses(levels=1_000_000), lr=100.0),
        lambda p: torch.optim.SGD([p], lr=100.0),
    ):
        g = start.clone().requires_grad_()
        descent = make(g)
        for _ in range(50):
            weight = (g[0, 0] - g[0, 1]) / scale
            (g.grad,) = torch.autograd.grad(((x @ weight.T - target) ** 2).mean(), g)
            descent.step()
        runs.append(g.detach())
    assert (runs[1] - start).abs().max() > 5
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-5, atol=0)


def test_the_manhattan_rule_reads_only_the_sign_and_leaves_zero_gradients_alone() -> None:
    p = parameter([[[[50.0, 50.0, 50.0]]]], [[[[1e9, -1e-9, 0.0]]]])
    optimiser(p, rule="manhattan", lr=123.0).step()
    assert p.flatten().tolist() == [49, 51, 50]


@pytest.mark.parametrize(
    ("rounding", "steps"),
    [("truncate", [0, 0, -1, 2]), ("nearest", [0, -1, -1, 3])],
)
def test_requests_below_a_pulse_are_dropped_or_rounded(rounding: str, steps: list[float]) -> None:
    p = parameter([[[[50.0] * 4]]], [[[[0.4, 0.6, 1.4, -2.9]]]])
    optimiser(p, rounding=rounding).step()
    assert (p - 50).flatten().tolist() == steps


def test_a_small_gradient_repeated_for_ever_is_lost_unless_rounding_is_stochastic() -> None:
    moved = {}
    for rounding in ("truncate", "nearest", "stochastic"):
        p = parameter([[[[50.0]]]], [[[[-0.2]]]])
        descent = optimiser(p, rounding=rounding)
        silent = pytest.warns(UserWarning, match="not one pulse")
        with nullcontext() if rounding == "stochastic" else silent:
            train(descent, 100)
        moved[rounding] = p.item() - 50
    assert moved["truncate"] == moved["nearest"] == 0 < moved["stochastic"]


@pytest.mark.parametrize("request_", [0.03, 0.5, 2.25, -0.7, -3.1])
def test_stochastic_rounding_is_unbiased_and_uses_the_two_nearest_numbers(request_: float) -> None:
    cells = 40_000
    p = parameter(torch.full((1, 1, 1, cells), 50.0).tolist(), [[[[-request_] * cells]]])
    optimiser(p, rounding="stochastic").step()
    n = (p.detach() - 50).round()
    fraction = request_ - math.floor(request_)
    spread = math.sqrt(fraction * (1 - fraction) / cells)
    assert set(n.flatten().tolist()) == {math.floor(request_), math.ceil(request_)}
    assert n.mean().item() == pytest.approx(request_, abs=5 * spread)


def test_a_cell_without_gradient_gets_no_pulse_under_stochastic_rounding() -> None:
    p = parameter([[[[50.0] * 1000]]], [[[[0.0] * 1000]]])
    descent = optimiser(p, rounding="stochastic")
    descent.step()
    assert descent.pulses().item() == 0


def test_no_write_sends_more_pulses_than_cross_the_range() -> None:
    p = parameter([[[[G_MIN]]]], [[[[-1e6]]]])
    descent = optimiser(p)
    descent.step()
    assert p.item() == G_MAX
    assert descent.pulses().item() == 100


@pytest.mark.parametrize(
    ("scheme", "grad", "cells", "pulses"),
    [
        ("both", 3.0, [47, 53], [3, 3]),
        ("both", -3.0, [53, 47], [3, 3]),
        ("one", 3.0, [47, 50], [3, 0]),
        ("one", -3.0, [53, 50], [3, 0]),
        ("potentiate", 3.0, [50, 53], [0, 3]),
        ("potentiate", -3.0, [53, 50], [3, 0]),
    ],
)
def test_the_scheme_decides_which_cell_of_a_pair_is_written(
    scheme: str, grad: float, cells: list[float], pulses: list[int]
) -> None:
    p = pair(50.0, 50.0, grad)
    descent = optimiser(p, pair=scheme)
    descent.step()
    assert p.flatten().tolist() == cells
    assert descent.state[p]["pulses"].flatten().tolist() == pulses


def test_potentiation_alone_ends_with_both_cells_at_the_top() -> None:
    p = pair(50.0, 50.0, 1.0)
    descent = optimiser(p, rule="manhattan", pair="potentiate")
    for _ in range(200):
        descent.step()
        p.grad = -p.grad if p.grad is not None else None
    assert p.flatten().tolist() == [G_MAX, G_MAX]


def test_pulses_and_writes_are_counted_per_cell_and_totalled_per_replica() -> None:
    p = parameter([[[[[50.0, 50.0]]]], [[[[50.0, 101.0]]]]], [[[[[2.0, 0.0]]]], [[[[-3.0, -5.0]]]]])
    q = parameter([[[[[50.0]]]], [[[[50.0]]]]], [[[[[0.0]]]], [[[[1.0]]]]])
    descent = PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX, weight_dim=2)
    assert descent.pulses().tolist() == descent.writes().tolist() == [0, 0]
    descent.step()
    q.grad = None
    descent.step()
    assert descent.state[p]["pulses"].flatten().tolist() == [4, 0, 6, 10]
    assert descent.state[p]["writes"].flatten().tolist() == [2, 0, 2, 2]
    assert descent.state[q]["writes"].flatten().tolist() == [0, 1]
    assert descent.pulses().tolist() == [4, 17]
    assert descent.writes().tolist() == [2, 5]
    assert p.flatten().tolist() == [46, 50, 56, 101]


def test_replicas_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    start, grad = torch.rand(4, 2, 1, 2, 3, 5) * 100 + 1, torch.randn(4, 2, 1, 2, 3, 5)
    pulses = Pulses(64, 2.4, -4.88)

    def train(replicas: slice) -> tuple[Tensor, Tensor]:
        p = start[replicas].clone().requires_grad_()
        p.grad = grad[replicas].clone()
        descent = optimiser(p, pulses, lr=5.0, weight_dim=2)
        for _ in range(5):
            descent.step()
        return p.detach(), descent.pulses()

    together, counts = train(slice(None))
    alone, count = train(slice(2, 3))
    assert counts.shape == (4, 2)
    assert torch.equal(together[2:3], alone)
    assert torch.equal(counts[2:3], count)


def test_a_convolution_has_its_sides_before_its_four_weight_dimensions() -> None:
    p = torch.full((1, 2, 4, 3, 2, 2), 50.0, requires_grad=True)
    p.grad = torch.ones_like(p)
    optimiser(p, pair="one").step()
    assert (p[:, 0] == 49).all()
    assert (p[:, 1] == 50).all()


@given(
    outputs=st.integers(1, 3),
    inputs=st.integers(1, 3),
    sides=st.integers(1, 2),
    scheme=st.sampled_from(["both", "one", "potentiate"]),
)
def test_a_convolution_of_any_channel_count_has_one_count_of_pulses_and_its_own_sides(
    outputs: int, inputs: int, sides: int, scheme: str
) -> None:
    if sides == 1 and scheme != "both":
        return
    grad = torch.stack([torch.full((outputs, inputs, 3, 3), g) for g in (1.0, -1.0)[:sides]])[None]
    p = torch.full_like(grad, 50.0).requires_grad_()
    p.grad = grad
    descent = optimiser(p, pair=scheme)
    descent.step()
    moved = {"both": (-1, 1), "one": (-1, 0), "potentiate": (0, 1)}[scheme]
    assert all((p[0, side] == 50 + moved[side]).all() for side in range(sides))
    assert descent.pulses().shape == ()
    assert descent.pulses() == sum(map(abs, moved[:sides])) * grad[0, 0].numel()


def test_linear_and_convolution_are_told_apart_within_one_group() -> None:
    p, q = torch.full((1, 2, 3, 3), 50.0), torch.full((1, 2, 1, 2, 3, 3), 50.0)
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    descent = PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX, pair="one")
    descent.step()
    for cells in (p, q):
        assert (cells[:, 0] == 49).all() and (cells[:, 1] == 50).all()
    assert descent.pulses().item() == 9 + 18


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (4, 2, 1, 2, 3, 5), (2, 2, 3, 3), (1,) * 7])
def test_what_may_be_replicas_or_slices_needs_its_weight_dim(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weight_dim = None.*2 for a Linear.*4 for a Conv2d"):
        optimiser(torch.full(shape, 50.0))
    optimiser(torch.full((1, 1, 2, 3, 3), 50.0), weight_dim=2)
    optimiser(torch.full((1, 1, 2, 3, 3), 50.0), weight_dim=3)


def test_a_bias_among_the_parameters_is_refused_by_its_shape() -> None:
    with pytest.raises(ValueError, match=r"shape of params = \(10,\)"):
        optimiser(torch.full((10,), 50.0))


# cells that differ up and down, and from one to the next


def test_a_linear_cell_of_unequal_steps_up_and_down_still_descends_its_gradient() -> None:
    p = parameter([[[[50.0, 50.0]]]], [[[[-3.0, 3.0]]]])
    descent = optimiser(p, Pulses(levels=1000, levels_down=250), lr=2.0)
    descent.step()
    assert p.flatten().tolist() == pytest.approx([56, 44])
    assert descent.state[p]["pulses"].flatten().tolist() == [60, 15]


def test_no_write_down_sends_more_pulses_than_cross_the_range_downwards() -> None:
    p = parameter([[[[G_MIN, G_MAX]]]], [[[[-1e6, 1e6]]]])
    descent = optimiser(p, Pulses(levels=100, levels_down=30))
    descent.step()
    assert p.flatten().tolist() == [G_MAX, G_MIN]
    assert descent.state[p]["pulses"].flatten().tolist() == [100, 30]


@pytest.mark.parametrize("request_", [0.3, -0.3, -2.25])
def test_stochastic_rounding_is_unbiased_in_either_direction_of_an_unequal_cell(request_: float) -> None:
    cells = 40_000
    p = parameter(torch.full((1, 1, 1, cells), 50.0).tolist(), [[[[-request_] * cells]]])
    optimiser(p, Pulses(100, levels_down=40), rounding="stochastic").step()
    step = 1.0 if request_ > 0 else 2.5
    assert (p.detach() - 50).mean().item() == pytest.approx(request_, abs=5 * step / 2 / math.sqrt(cells))


def differing(chip: int, cells: int = 30_000, sigma: float = 0.2) -> tuple[Tensor, PulseOptimizer]:
    p = parameter(torch.full((1, 1, 1, cells), 50.0).tolist(), torch.full((1, 1, 1, cells), -2.0).tolist())
    return p, optimiser(p, Pulses(device_to_device=sigma), chip=chip)


def test_steps_differ_from_cell_to_cell_by_the_spread_asked_for_around_the_nominal_one() -> None:
    p, descent = differing(0)
    descent.step()
    step, cells = (p.detach() - 50) / 2, p.numel()
    assert step.mean().item() == pytest.approx(1, abs=4 * 0.2 / math.sqrt(cells))
    assert step.std().item() == pytest.approx(0.2, rel=4 / math.sqrt(2 * cells))


def test_a_cell_s_step_is_that_of_its_chip_and_the_same_at_every_write_up_and_down() -> None:
    p, descent = differing(3)
    assert p.grad is not None
    descent.step()
    first = p.detach() - 50
    descent.step()
    torch.testing.assert_close(p.detach() - 50, 2 * first)
    p.grad.neg_()
    descent.step()
    torch.testing.assert_close(p.detach() - 50, first)
    for chip, same in ((3, True), (4, False)):
        q, again = differing(chip)
        again.step()
        assert torch.equal(q - 50, first) is same


def test_two_layers_of_a_chip_do_not_have_the_same_cells_and_replicas_are_chips_in_a_row() -> None:
    def steps(shape: tuple[int, ...], chip: int, count: int = 1) -> list[Tensor]:
        layers = [torch.full(shape, 50.0) for _ in range(count)]
        cell = Pulses(device_to_device=0.2)
        descent = PulseOptimizer(layers, cell, g_min=G_MIN, g_max=G_MAX, weight_dim=2, chip=chip)
        return [descent.state[p]["step"] for p in layers]

    first, second = steps((1, 2, 3, 3), 5, count=2)
    assert not torch.equal(first, second)
    (together,), (alone,) = steps((4, 1, 2, 3, 3), 3), steps((1, 2, 3, 3), 5)
    assert torch.equal(together[2], alone) and torch.equal(alone, first)
    assert not torch.equal(together[1], together[2])


def test_an_optimiser_for_further_layers_of_a_chip_has_the_cells_of_one_for_all_if_it_says_their_place() -> (
    None
):
    def steps(count: int, place: int = 0) -> list[Tensor]:
        layers = [torch.full((1, 2, 3, 3), 50.0) for _ in range(count)]
        cell = Pulses(device_to_device=0.2)
        descent = PulseOptimizer(layers, cell, g_min=G_MIN, g_max=G_MAX, chip=3, place=place)
        assert copy.deepcopy(descent).place == place
        return [descent.state[p]["step"] for p in layers]

    (first, second), (alone,), (same,) = steps(2), steps(1, place=1), steps(1)
    assert torch.equal(alone, second) and not torch.equal(alone, first)
    assert torch.equal(same, first)


def test_training_mends_part_of_what_cells_differ_in() -> None:
    p, descent = differing(0, cells=1000)
    for _ in range(100):
        p.grad = (p.detach() - 80) / 4
        descent.step()
    assert (p - 80).abs().max() < 3


def test_a_saved_optimiser_keeps_the_cells_it_was_made_with(tmp_path: Path) -> None:
    p, descent = differing(1, cells=5)
    torch.save(descent.state_dict(), tmp_path / "state.pt")
    q, resumed = differing(2, cells=5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    twin = copy.deepcopy(descent)
    (r,) = twin.param_groups[0]["params"]
    r.grad = p.grad
    for one in (descent, resumed, twin):
        one.step()
    assert torch.equal(p, q) and torch.equal(p, r)
    assert resumed.state[q]["pulses"].dtype == torch.int64


# a rate that sends nothing


def silent(lr: float, shape: tuple[int, ...] = (1, 2, 3, 3), **options: Any) -> PulseOptimizer:
    """An optimiser of cells whose gradients are 1, -1 on the two sides of a pair, and 0 at one cell."""
    p = torch.full(shape, 50.0, requires_grad=True)
    p.grad = torch.stack([torch.ones(shape[2:]), -torch.ones(shape[2:])])[None]
    p.grad[..., 0] = 0
    return optimiser(p, lr=lr, **options)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (1, 2, 2, 2, 3, 3)])
@pytest.mark.parametrize("scheme", ["both", "one", "potentiate"])
@pytest.mark.parametrize(("rounding", "factor"), [("nearest", "12.5"), ("truncate", "25")])
def test_a_rate_that_sends_nothing_in_ten_steps_says_once_how_much_larger_it_must_be(
    rounding: str, factor: str, scheme: str, shape: tuple[int, ...]
) -> None:
    descent = silent(0.04, shape, rounding=rounding, pair=scheme)
    for _ in range(9):
        descent.step()
    said = rf"largest request was 0\.04 pulses; lr = 0\.04 .* grow by a factor of {factor}, which sends one"
    with pytest.warns(UserWarning, match=said) as warned:
        train(descent, 30)
    assert len(warned) == 1 and warned[0].filename == __file__
    assert descent.pulses().item() == 0
    enough = silent(0.04 * float(factor) * 1.001, shape, rounding=rounding, pair=scheme)
    enough.step()
    assert enough.pulses().item() > 0


def test_the_request_of_a_wider_range_is_smaller_and_its_group_speaks_for_itself() -> None:
    p, q = (torch.full((1, 1, 2, 2), g) for g in (50.0, 500.0))
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    groups = [{"params": [p]}, {"params": [q], "g_min": 100.0, "g_max": 1000.0}]
    descent = PulseOptimizer(groups, Pulses(), g_min=10.0, g_max=100.0, lr=1.0)
    with pytest.warns(UserWarning, match=r"request was 0\.111 .* lr = 1 .* factor of 4\.5, which") as warned:
        train(descent, 12)
    assert len(warned) == 1
    torch.testing.assert_close(p, torch.full_like(p, 50 - 12 * 0.9))  # one pulse of 0.9 µS each
    assert (q == 500).all()


def test_a_fraction_sent_by_chance_is_said_to_be_small_only_if_none_was_sent() -> None:
    rare, often = silent(1e-9, rounding="stochastic"), silent(0.1, rounding="stochastic")
    with pytest.warns(UserWarning, match=r"lr = 1e-09 .* factor of 1e\+09, which asks"):
        train(rare, 10)
    for _ in range(10):
        often.step()
    assert often.pulses().item() > 0


def test_steps_without_a_gradient_do_not_count_and_one_pulse_is_enough() -> None:
    descent = silent(0.04)
    (p,) = descent.param_groups[0]["params"]
    gradient = p.grad
    for gradients in [torch.zeros_like(p)] * 20 + [gradient] * 9 + [gradient * 100] + [gradient] * 20:
        p.grad = gradients
        descent.step()
    assert descent.pulses().item() > 0


def test_a_copied_optimiser_goes_on_counting_its_silent_steps() -> None:
    descent = silent(0.04)
    for _ in range(9):
        descent.step()
    twin = copy.deepcopy(descent)
    twin.param_groups[0]["params"][0].grad = descent.param_groups[0]["params"][0].grad
    for one in (descent, twin):
        with pytest.warns(UserWarning, match="not one pulse"):
            one.step()


def test_what_the_scheme_drops_is_not_called_a_matter_of_the_rate() -> None:
    p = parameter([[[[50.0]], [[50.0]]]], [[[[1.0]], [[1.0]]]])
    descent = optimiser(p, pair="potentiate")
    with pytest.warns(UserWarning, match="pair='potentiate' drops all"):
        train(descent, 10)


def test_a_gradient_that_is_not_a_number_writes_nothing() -> None:
    p, q = (
        parameter([[[[50.0, 50.0]]]], [[[[9.0, 9.0]]]]),
        parameter([[[[50.0, 50.0]]]], [[[[math.nan, 9.0]]]]),
    )
    descent = PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX)
    with pytest.raises(FloatingPointError, match="gradient of params"):
        descent.step()
    assert (p == 50).all() and (q == 50).all() and descent.pulses() == 0


def test_groups_have_their_own_options_and_schedulers_change_the_rate() -> None:
    p, q = (parameter([[[[50.0]]]], [[[[4.0]]]]) for _ in range(2))
    groups: list[dict[str, Any]] = [
        {"params": [p], "rule": "manhattan"},
        {"params": [q], "lr": 2.0},
    ]
    descent = PulseOptimizer(groups, Pulses(), g_min=G_MIN, g_max=G_MAX)
    schedule = ExponentialLR(descent, gamma=0.5)
    descent.step()
    schedule.step()
    descent.step()
    assert (p.item(), q.item()) == (48, 50 - 8 - 4)


def test_a_step_evaluates_its_closure_with_gradients_and_returns_the_loss() -> None:
    p = torch.full((1, 1, 1, 1), 50.0, requires_grad=True)
    descent = optimiser(p)

    def closure() -> float:
        (p.grad,) = torch.autograd.grad(loss := (p**2).sum() / 50, p)
        return loss.item()

    assert descent.step(closure) == 50
    assert p.item() == 48


def noisy_training(seed: int = 0) -> tuple[Tensor, PulseOptimizer]:
    p = parameter(torch.full((1, 2, 3, 3), 50.0).tolist(), torch.full((1, 2, 3, 3), 0.3).tolist())
    return p, optimiser(p, Pulses(100, 1.0, -1.0, 0.02), rounding="stochastic", seed=seed)


def test_the_same_seed_trains_the_same_and_leaves_the_global_generator_alone() -> None:
    before, results = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        p, descent = noisy_training(seed)
        for _ in range(5):
            descent.step()
        results.append(p.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_saved_optimiser_continues_exactly(tmp_path: Path) -> None:
    p, descent = noisy_training()
    descent.step()
    descent.state[p]["pulses"] += 2**60 + 1  # exact in int64, not in the dtype of p
    torch.save(descent.state_dict(), tmp_path / "state.pt")
    q, resumed = noisy_training(seed=9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    with torch.no_grad():
        q.copy_(p)
    descent.step()
    resumed.step()
    assert torch.equal(p, q)
    assert torch.equal(descent.pulses(), resumed.pulses())
    assert torch.equal(descent.writes(), resumed.writes())


def test_a_copied_optimiser_continues_exactly_on_its_own_parameters() -> None:
    p, descent = noisy_training()
    twin = copy.deepcopy(descent)
    q = twin.param_groups[0]["params"][0]
    q.grad = p.grad
    twin.step()
    assert not torch.equal(p, q)
    assert descent.writes().item() == 0
    descent.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"g_min": 5.0, "g_max": 5.0}, "g_min"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"lr": math.nan}, "lr = nan"),
        ({"rule": "adam"}, "rule = 'adam'.*proportional.*manhattan"),
        ({"rounding": "up"}, "rounding = 'up'.*nearest.*truncate.*stochastic"),
        ({"pair": "none"}, "pair = 'none'.*both.*one.*potentiate"),
        ({"weight_dim": 0}, "weight_dim = 0"),
        ({"weight_dim": 4}, "shape of params"),
        ({"weight_dim": 1}, "shape of params"),
        ({"chip": -1}, "chip = -1"),
        ({"place": -1}, "place = -1"),
        ({"place": 0.5}, "place = 0.5"),
        ({"g_min": 60.0}, "params.*out of range"),
        ({"g_max": 40.0}, "params.*out of range"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], names: str) -> None:
    p = torch.full((1, 2, 3, 3), 50.0, requires_grad=True)
    with pytest.raises(ValueError, match=names):
        PulseOptimizer([p], Pulses(), **({"g_min": G_MIN, "g_max": G_MAX} | options))


@pytest.mark.parametrize("scheme", ["one", "potentiate"])
def test_a_single_array_has_no_pair_to_choose_from(scheme: str) -> None:
    p = torch.full((1, 1, 3, 3), 50.0, requires_grad=True)
    with pytest.raises(ValueError, match=r"shape of params.*sides in \(2,\)"):
        optimiser(p, pair=scheme)


def test_whole_number_conductances_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype of params"):
        optimiser(torch.full((1, 1, 3, 3), 50))


def test_conductances_a_rounding_error_outside_the_range_are_taken_and_clipped() -> None:
    p = parameter([[[[G_MAX + 1e-6, G_MIN - 1e-6]]]], [[[[0.0, 0.0]]]])
    optimiser(p).step()
    assert p.flatten().tolist() == [G_MAX, G_MIN]


def test_parameters_with_different_replicas_are_refused() -> None:
    p, q = (torch.full((n, 1, 2, 3, 3), 50.0, requires_grad=True) for n in (4, 5))
    with pytest.raises(ValueError, match="replicas of params"):
        PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX, weight_dim=2)
