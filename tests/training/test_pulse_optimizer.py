"""What must hold when training writes the cells: from gradients to pulses."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
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
        for _ in range(100):
            descent.step()
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
    descent = PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX)
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
        descent = optimiser(p, pulses, lr=5.0)
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
    optimiser(p, pair="one", weight_dim=4).step()
    assert (p[:, 0] == 49).all()
    assert (p[:, 1] == 50).all()


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
        PulseOptimizer([p, q], Pulses(), g_min=G_MIN, g_max=G_MAX)
