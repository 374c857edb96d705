"""What must hold of updates that remember past gradients: what is written, and what is still owed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cimlib.training import MixedPrecision, PulseMomentum, PulseOptimizer, Pulses, TikiTaka, symmetry_point

G_MIN, G_MAX, SCALE = 1.0, 101.0, 50.0
RANGE = {"g_min": G_MIN, "g_max": G_MAX}
CURVED = Pulses(potentiation=3.0, depression=-3.0)
MAKERS = [PulseMomentum, MixedPrecision, TikiTaka]


def cells(*shape: int, at: float = 50.0) -> Tensor:
    return torch.full(shape, at, dtype=torch.float64).requires_grad_()


def send(optimizer: PulseOptimizer, p: Tensor, gradients: Tensor) -> None:
    """One update for each of ``gradients``."""
    for gradient in gradients:
        p.grad = gradient.to(p).expand_as(p).clone()
        optimizer.step()


def regression(make: Any, steps: int = 50) -> Tensor:
    """A pair of arrays trained on random data, from the same start; float64."""
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.randn(30, n, generator=generator, dtype=torch.float64) for n in (5, 3))
    g = (torch.rand(1, 2, 3, 5, generator=generator, dtype=torch.float64) * 40 + 30).requires_grad_()
    optimizer = make([g])
    for _ in range(steps):
        weight = (g[0, 0] - g[0, 1]) / SCALE
        (g.grad,) = torch.autograd.grad(((x @ weight.T - target) ** 2).mean(), g)
        optimizer.step()
    return g.detach()


# --- exact limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_with_fine_symmetric_pulses_mixed_precision_is_gradient_descent(momentum: float) -> None:
    fine = Pulses(levels=10**9)
    ours = regression(lambda p: MixedPrecision(p, fine, lr=50.0, momentum=momentum, **RANGE))
    theirs = regression(lambda p: torch.optim.SGD(p, lr=50.0, momentum=momentum))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_with_fine_symmetric_pulses_momentum_is_that_of_torch(momentum: float) -> None:
    fine = Pulses(levels=10**9)
    ours = regression(lambda p: PulseMomentum(p, fine, lr=50.0, momentum=momentum, **RANGE))
    theirs = regression(lambda p: torch.optim.SGD(p, lr=50.0, momentum=momentum))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_without_momentum_it_is_the_plain_optimiser_bit_for_bit() -> None:
    plain = regression(lambda p: PulseOptimizer(p, CURVED, lr=500.0, rounding="stochastic", **RANGE))
    assert torch.equal(regression(lambda p: PulseMomentum(p, CURVED, lr=500.0, momentum=0.0, **RANGE)), plain)


@pytest.mark.parametrize("down", [None, 3])
def test_cell_and_accumulator_together_are_gradient_descent_at_any_number_of_levels(down: int | None) -> None:
    p, gradients = cells(1, 1, 4, 6), torch.randn(40, 4, 6, generator=torch.Generator().manual_seed(0))
    coarse = MixedPrecision([p], Pulses(levels=7, levels_down=down), lr=1.5, **RANGE)
    send(coarse, p, gradients)
    exact = 50 - 1.5 * gradients.double().sum(0)
    assert float((p.detach() - 50).abs().max()) > 10
    torch.testing.assert_close(p.detach()[0, 0] + coarse.state[p]["residue"][0, 0], exact)


def test_what_is_transferred_at_once_from_linear_fine_cells_is_descent_with_momentum_one() -> None:
    """With one input, so that every update transfers everything."""
    p, q = cells(1, 1, 8, 1), cells(1, 1, 8, 1)
    gradients = 0.1 * torch.randn(30, 8, 1, generator=torch.Generator().manual_seed(0))
    send(TikiTaka([p], Pulses(levels=10**9), lr=2.0, transfer=0.3, **RANGE), p, gradients)
    send(torch.optim.SGD([q], lr=2.0 * 0.3, momentum=1.0), q, gradients)  # type: ignore[arg-type]
    assert float((q.detach() - 50).abs().max()) > 1
    torch.testing.assert_close(p, q, rtol=0, atol=1e-4)


# --- what is written --------------------------------------------------------------------------------


def test_requests_below_a_pulse_wait_until_they_are_one_and_none_is_lost() -> None:
    p = cells(1, 1, 1, 1)
    owing = MixedPrecision([p], Pulses(), **RANGE)
    send(owing, p, torch.full((100, 1, 1), -0.21))
    assert p.item() == pytest.approx(50 + 20) or p.item() == pytest.approx(50 + 21)
    assert owing.pulses().item() == owing.writes().item() == round(p.item() - 50)


def test_gradients_that_change_sign_cancel_before_anything_is_written() -> None:
    """The plain optimiser writes them all, and an asymmetric cell moves to its symmetry point."""
    swinging = torch.tensor([0.6, -0.6]).repeat(200).reshape(-1, 1, 1)
    p, q = cells(1, 1, 1, 1, at=80.0), cells(1, 1, 1, 1, at=80.0)
    owing, plain = MixedPrecision([p], CURVED, **RANGE), PulseOptimizer([q], CURVED, **RANGE)
    send(owing, p, swinging), send(plain, q, swinging)
    assert p.item() == 80.0 and owing.writes().item() == 0
    assert q.item() < 60 and plain.writes().item() == 400


def test_of_a_pair_both_cells_or_one_are_written() -> None:
    for pair, moved in (("both", [52.0, 48.0]), ("one", [52.0, 50.0])):
        p = cells(1, 2, 1, 1)
        p.grad = torch.tensor([[[[-2.5]], [[2.5]]]], dtype=torch.float64)
        MixedPrecision([p], Pulses(), pair=pair, **RANGE).step()  # type: ignore[arg-type]
        assert p.flatten().tolist() == moved


@pytest.mark.parametrize("make", MAKERS)
def test_a_cell_without_gradient_is_never_written(make: Any) -> None:
    p = cells(1, 1, 3, 4)
    optimizer = make([p], CURVED, lr=1.0, **RANGE)
    gradients = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0))
    gradients[:, 1, 2] = 0.0
    send(optimizer, p, gradients)
    assert p[0, 0, 1, 2].item() == 50.0 and optimizer.state[p]["pulses"][0, 0, 1, 2] == 0
    assert (p != 50.0).sum() == 11


@pytest.mark.parametrize("make", MAKERS)
def test_each_replica_is_trained_as_if_alone(make: Any) -> None:
    """With requests of whole pulses, so that no random number is needed."""
    gradients = torch.randint(-3, 4, (20, 3, 1, 1, 2, 4), generator=torch.Generator().manual_seed(0)).double()
    many = cells(3, 1, 1, 2, 4)
    options = {"lr": 1.0, **RANGE} | ({"transfer": 1.0} if make is TikiTaka else {"momentum": 0.0})
    send(make([many], Pulses(), weight_dim=2, **options), many, gradients)
    for replica in range(3):
        one = cells(1, 1, 2, 4)
        send(make([one], Pulses(), **options), one, gradients[:, replica])
        assert torch.equal(one, many[replica])


@pytest.mark.parametrize("make", MAKERS)
def test_training_goes_on_from_a_checkpoint_bit_for_bit(make: Any) -> None:
    gradients = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    whole, parted = cells(1, 1, 3, 4), cells(1, 1, 3, 4)
    send(make([whole], CURVED, lr=1.0, **RANGE), whole, gradients)
    first, second = (make([parted], CURVED, lr=1.0, **RANGE) for _ in range(2))
    send(first, parted, gradients[:7])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    send(second, parted, gradients[7:])
    assert torch.equal(whole, parted)
    third = copy.deepcopy(second)
    assert third.pulses().item() == second.pulses().item() > 0


# --- two arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(3.0, -3.0), (1.0, -1.0), (2.4, -4.88), (-2.0, 3.0)])
def test_a_pulse_up_and_one_down_undo_each_other_at_the_symmetry_point(up: float, down: float) -> None:
    cell = Pulses(levels=200, potentiation=up, depression=down)
    centre = symmetry_point(cell, G_MIN, G_MAX)
    assert G_MIN < centre < G_MAX

    def net(at: float) -> float:
        g, one = torch.tensor([at], dtype=torch.float64), torch.ones(1)
        rise, fall = (cell.write(g, n, G_MIN, G_MAX).item() - at for n in (one, -one))
        return rise + fall

    assert net(centre) == pytest.approx(0, abs=1e-9)
    assert abs(net(centre + 5)) > 1e-3 and net(centre + 5) * net(centre - 5) < 0


def test_opposite_labels_of_one_size_have_it_in_the_middle_and_so_has_a_cell_that_has_none() -> None:
    for cell in (CURVED, Pulses(), Pulses(potentiation=1.5, depression=1.5), Pulses(levels_down=50)):
        assert symmetry_point(cell, G_MIN, G_MAX) == pytest.approx(51.0)


def test_an_asymmetric_fast_array_forgets_and_a_linear_one_does_not() -> None:
    """A push, then pulses up and down by chance."""
    left = {}
    for name, cell in (("asymmetric", CURVED), ("linear", Pulses())):
        p = cells(1, 1, 1, 400)
        fast = TikiTaka([p], cell, lr=1.0, every=10**9, **RANGE)
        send(fast, p, torch.full((5, 1, 400), -4.0))
        noise = torch.randint(0, 2, (300, 1, 400), generator=torch.Generator().manual_seed(0))
        send(fast, p, 2.0 * noise - 1)
        left[name] = float(fast.state[p]["fast"].mean()) - 51
        assert torch.equal(p, cells(1, 1, 1, 400))
    assert left["linear"] == pytest.approx(20, abs=3)
    assert abs(left["asymmetric"]) < 2


def test_inputs_are_transferred_in_turn_and_pulses_of_both_arrays_are_counted() -> None:
    p = cells(1, 1, 2, 3)
    optimizer = TikiTaka([p], Pulses(), lr=1.0, transfer=1.0, every=2, **RANGE)
    moved = []
    for _ in range(6):
        before = p.detach().clone()
        send(optimizer, p, torch.full((1, 2, 3), -1.0))
        moved.append((p != before)[0, 0].any(0).nonzero().flatten().tolist())
    assert moved == [[], [0], [], [1], [], [2]]
    assert (p - 50).detach()[0, 0, 0].tolist() == [2, 4, 6]
    assert optimizer.pulses().item() == 6 * 6 + 2 * (2 + 4 + 6)
    assert optimizer.writes().item() == 6 * 6 + 6


def test_what_the_fast_cells_of_a_pair_have_in_common_is_not_transferred() -> None:
    p = cells(1, 2, 2, 1)
    p.grad = torch.full_like(p, -3.0)
    TikiTaka([p], Pulses(), lr=1.0, transfer=1.0, **RANGE).step()
    assert torch.equal(p.detach(), cells(1, 2, 2, 1))


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (PulseMomentum, {"momentum": 1.0}),
        (MixedPrecision, {"momentum": -0.1}),
        (MixedPrecision, {"pair": "potentiate"}),
        (TikiTaka, {"transfer": 0.0}),
        (TikiTaka, {"transfer": math.inf}),
        (TikiTaka, {"every": 0}),
        (TikiTaka, {"lr": 0.0}),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make: Any, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        make([cells(1, 2, 2, 2)], Pulses(), **{**RANGE, **wrong})


def test_groups_of_another_rule_and_cells_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="rule"):
        MixedPrecision([{"params": [cells(1, 1, 2, 2)], "rule": "manhattan"}], Pulses(), **RANGE)
    with pytest.raises(ValueError, match="device_to_device"):
        TikiTaka([cells(1, 1, 2, 2)], Pulses(device_to_device=0.1), **RANGE)
