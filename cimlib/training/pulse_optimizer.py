"""Training in the array: gradients become numbers of pulses, which are written and counted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from cimlib.devices.draws import sample, seeded
from cimlib.devices.effects import require
from cimlib.training.pulses import Pulses, by_direction, require_range

Rule = Literal["proportional", "manhattan"]


Rounding = Literal["nearest", "truncate", "stochastic"]


Pair = Literal["both", "one", "potentiate"]


_SILENT = 10  # steps without one pulse after which the rate is said to be too small


class PulseOptimizer(Optimizer):
    r"""Training in the array: turns gradients with respect to conductances into counted writes.

    Parameters are conductances, µS, of shape (..., slices, sides, \*weight): sides is 2 for a
    differential pair (side 0 is :math:`g^+`, side 1 is :math:`g^-`) and 1 for a single array.
    Leading dimensions are independent replicas (seeds trained side by side); differentiate the
    *sum* of their losses, so that each sees only its own gradient.

    **How many pulses** a cell gets from its gradient :math:`\partial E/\partial g`:

    - ``"proportional"``: :math:`n = \mathrm{round}\big(-\eta\,\frac{\partial E}{\partial g}\,
      \frac{P_{max}}{G_{max}-G_{min}}\big)`, gradient descent in units of one pulse, with
      :math:`P_{max}` of its direction. With a linear cell and infinitely many levels it *is* gradient
      descent on the conductances.
    - ``"manhattan"``: :math:`n = -\mathrm{sgn}(\partial E/\partial g)`, one pulse in the right
      direction, its size left to the cell (Zamanidoost et al.; the chip of Prezioso et al., Nature
      521:61, 2015). ``lr`` and ``rounding`` have no effect.

    **The rounding decides whether anything is learnt.** One pulse moves a cell by 1/levels of its
    range, and a per-sample gradient often asks for less. ``"truncate"`` drops every request below
    one pulse and ``"nearest"`` (what NeuroSim's code does) every one below half a pulse, however
    often it is repeated. ``"stochastic"`` writes the fraction as a probability: unbiased. If the first
    ten steps with a gradient send not one pulse to a group of parameters, a ``UserWarning`` says so once.

    **Which cell of a pair** (derived: :math:`w \propto g^+ - g^-`, so the gradients are opposite):

    - ``"both"``: each follows its own gradient; the weight moves by two cells' steps. The only
      choice for a single array.
    - ``"one"``: only :math:`g^+` is written, :math:`g^-` stays (arXiv 2511.03858 reports in its
      abstract nearly half the training energy); half the writes, half the step.
    - ``"potentiate"``: requests to depress are dropped; their partner is potentiated by its own,
      opposite request. No depression curve is ever used, but both cells climb, and a weight whose
      cells have both reached g_max cannot move any more.

    ``state[p]["pulses"]`` and ``state[p]["writes"]`` (int64, like ``p``) count pulses sent to, and
    write events at, each cell; a pulse counts even where it cannot move a cell, at its limit or worn out.
    They are the cell's age, which its ``endurance`` is compared with: add to them what it has gone
    through before.

    Args:
        params: conductances, or parameter groups with their own values of the options below
            (except ``pulses``, ``seed``, ``chip`` and ``place``).
        pulses: the cell.
        g_min, g_max: range of one cell, µS, 0 ≤ g_min < g_max < ∞.
        lr: η > 0, µS² per unit of E: :math:`\Delta g = -\eta\,\partial E/\partial g` is in µS. The
            weights then descend at the rate η/scale² (scale in µS per unit of weight), or twice
            that where both cells of a pair move (derived).
        rule, rounding, pair: as above.
        weight_dim: dimensions of one weight tensor, ≥ 1: 2 for a matrix, 4 for a Conv2d. ``None``: found
            from each parameter, 2 of four dimensions and 4 of six. Parameters of five or more that may be
            replicas need it said, and so do those of more than one slice.
        seed: seeds the optimiser's own generator (noise, stochastic rounding).
        chip: whose cells they are, ≥ 0, if they differ (``device_to_device``); the first of as many chips as
            there are replicas. Each cell's step is drawn once, from chip and place of the parameter, and is
            kept as ``state[p]["step"]``, like ``p``, for :func:`.write_verify`, say. Its place is its number
            among the parameters of this optimiser, over all groups: give the layers of a chip to **one**
            optimiser, in the same order. In two optimisers of the same ``chip`` and ``place``, parameters of
            one shape have identical cells.
        place: number of the first parameter among those of its chip, ≥ 0. An optimiser for further layers of
            the chip takes the number of parameters before them.

    Raises ``ValueError`` naming the argument for any other value, for parameters of another shape
    or outside the range, and for replicas that differ between parameters; ``FloatingPointError`` for a
    gradient that is not a number.
    """

    def __init__(
        self,
        params: ParamsT,
        pulses: Pulses,
        *,
        g_min: float,
        g_max: float,
        lr: float = 1.0,
        rule: Rule = "proportional",
        rounding: Rounding = "nearest",
        pair: Pair = "both",
        weight_dim: int | None = None,
        seed: int = 0,
        chip: int = 0,
        place: int = 0,
    ) -> None:
        for name, value in (("chip", chip), ("place", place)):
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            require(whole, name, value, "an integer ≥ 0")
        self.cell, self.chip, self.place = pulses, chip, place
        self._asked: dict[int, list[float]] = {}  # of a group without pulses: largest request of each step
        options = {"g_min": g_min, "g_max": g_max, "lr": lr, "rule": rule, "rounding": rounding}
        super().__init__(params, options | {"pair": pair, "weight_dim": weight_dim})
        device = self.param_groups[0]["params"][0].device
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add conductances, with their own options if any; their counts start at zero."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        require_range(group["g_min"], group["g_max"])
        require(0 < group["lr"] < math.inf, "lr", group["lr"], "0 < lr < ∞")
        for name, names in (("rule", Rule), ("rounding", Rounding), ("pair", Pair)):
            require(group[name] in get_args(names), name, group[name], str(get_args(names)))
        dim = group["weight_dim"]
        require(dim is None or dim >= 1, "weight_dim", dim, "None or weight_dim ≥ 1")
        for p in group["params"]:
            self._require_conductances(p, group)
            zeros = torch.zeros_like(p, dtype=torch.int64, requires_grad=False)
            self.state[p] = {"pulses": zeros, "writes": zeros.clone()}
            if self.cell.device_to_device > 0:
                self.state[p]["step"] = self._steps(
                    p, _weight_dim(p, group), self.place + len(self.state) - 1
                )
        self._asked[len(self.param_groups) - 1] = []

    def _steps(self, p: Tensor, weight_dim: int, place: int) -> Tensor:
        """Steps of the cells of ``p``, the parameter number ``place``: replica r is chip ``chip + r``."""
        cells = p.shape[-weight_dim - 2 :]
        chips = range(self.chip, self.chip + math.prod(p.shape[: -weight_dim - 2]))
        z = [sample(("normal", cells), seeded(chip, "pulses", place, "step"), p) for chip in chips]
        return self.cell.steps(torch.stack(z).reshape(p.shape))

    def _require_conductances(self, p: Tensor, group: dict[str, Any]) -> None:
        inner, shape = _weight_dim(p, group) + 2, tuple(p.shape)
        sides = (1, 2) if group["pair"] == "both" else (2,)
        fits = p.ndim >= inner and shape[1 - inner] in sides
        wanted = f"(..., slices, sides, *weight), {inner - 2} of weight, sides in {sides}"
        require(fits, "shape of params", shape, wanted)
        require(p.is_floating_point(), "dtype of params", p.dtype, "floating point")
        first = self.param_groups[0]
        other = first["params"][0]
        replicas = tuple(other.shape[: -_weight_dim(other, first) - 2])
        require(shape[:-inner] == replicas, "replicas of params", shape[:-inner], str(replicas))
        low, high, slack = group["g_min"], group["g_max"], 1e-5 * (group["g_max"] - group["g_min"])
        inside = bool(((p >= low - slack) & (p <= high + slack)).all())
        require(inside, "params", "conductances out of range", f"[{low:g}, {high:g}] µS")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Write every cell that has a gradient once; returns the loss of ``closure``, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if any(p.grad is not None and p.grad.isnan().any() for g in self.param_groups for p in g["params"]):
            raise FloatingPointError("gradient of params = nan: nothing was written")
        for index, group in enumerate(self.param_groups):
            given = [p for p in group["params"] if p.grad is not None]
            sent = [self._step(p, group) for p in given]
            if index in self._asked and any(p.grad.any() for p in given):
                self._listen(index, group, given, any(n.any() for n in sent))
        return loss

    def _step(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Write the cells of ``p``; returns the pulses sent, like ``p``."""
        assert p.grad is not None
        n, state = self._request(p.grad, _weight_dim(p, group), group), self.state[p]
        low, high = group["g_min"], group["g_max"]
        p.copy_(self.cell.write(p, n, low, high, self.generator, state["pulses"], state.get("step")))
        state["pulses"] += n.abs().long()
        state["writes"] += n != 0
        return n

    def _listen(self, index: int, group: dict[str, Any], given: list[Tensor], sent: bool) -> None:
        """Say so if the first steps of a group with a gradient have sent nothing."""
        asked = self._asked[index]
        if sent:
            del self._asked[index]
            return
        asked.append(max(float(self._asks(p, group).abs().max()) for p in given))
        if len(asked) < _SILENT:
            return
        del self._asked[index]
        largest, lr, rounding = max(asked), group["lr"], group["rounding"]
        enough = 0.5 if rounding == "nearest" else 1.0
        said = f"pair={group['pair']!r} drops all that is asked for"
        if largest > 0:
            how = "asks for one" if rounding == "stochastic" else f"sends one by rounding={rounding!r}"
            said = f"the largest request was {largest:.3g} pulses; "
            said += f"lr = {lr:g} would have to grow by a factor of {enough / largest:.3g}, which {how}"
        said = f"not one pulse was sent in {_SILENT} steps with a gradient: {said}"
        warnings.warn(said, UserWarning, stacklevel=5)

    def _asks(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Signed pulses before any rounding, like ``p``."""
        exact = group | {"rounding": None}
        assert p.grad is not None
        return self._request(p.grad, _weight_dim(p, group), exact)

    def _request(self, grad: Tensor, weight_dim: int, group: dict[str, Any]) -> Tensor:
        """Signed whole pulses for every cell, like ``grad``; fractions too if ``rounding`` is ``None``."""
        if group["rule"] == "manhattan":
            n = -grad.sign()
        else:
            span = group["g_max"] - group["g_min"]
            n = grad * (-group["lr"] * self.cell.levels / span)
            if self.cell.down != self.cell.levels:
                n *= by_direction(n, 1.0, self.cell.down / self.cell.levels)
            if group["rounding"] == "stochastic":
                u = torch.rand(n.shape, generator=self.generator, dtype=n.dtype, device=n.device)
                n = n.add_(u).floor_()
            elif group["rounding"] is not None:
                n = n.round_() if group["rounding"] == "nearest" else n.trunc_()
        if group["pair"] == "one":
            n.select(-weight_dim - 1, 1).zero_()
        elif group["pair"] == "potentiate":
            n.clamp_(min=0)
        return n.clamp_(-self.cell.down, self.cell.levels)

    def pulses(self) -> Tensor:
        """Pulses sent so far, summed over cells and parameters; int64, one number per replica."""
        return self._total("pulses")

    def writes(self) -> Tensor:
        """Write events so far, summed over cells and parameters; int64, one number per replica."""
        return self._total("writes")

    def _total(self, count: str) -> Tensor:
        totals = []
        for group in self.param_groups:
            for p in group["params"]:
                cells = tuple(range(-_weight_dim(p, group) - 2, 0))
                totals.append(self.state[p][count].sum(cells))
        return torch.stack(totals).sum(0)

    def __getstate__(self) -> dict[str, Any]:
        names = ("cell", "chip", "place", "generator", "_asked")
        return super().__getstate__() | {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Options, counts and the state of the generator: what an exact continuation needs."""
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict()``; the conductances themselves belong to the model."""
        super().load_state_dict(state_dict)
        self.generator.set_state(state_dict["generator"].cpu())
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(keys, params, strict=True):  # torch casts counts to the dtype of p
            saved = state_dict["state"][key]
            dtypes = {"step": p.dtype}
            self.state[p] = {k: v.to(p.device, dtypes.get(k, torch.int64)).clone() for k, v in saved.items()}


def _weight_dim(p: Tensor, group: dict[str, Any]) -> int:
    """Dimensions of the weights that conductances ``p`` hold: those given, or found where none is."""
    given: int | None = group["weight_dim"]
    if given is not None:
        return given
    shape = tuple(p.shape)
    require(len(shape) >= 4, "shape of params", shape, "(..., slices, sides, *weight), conductances in µS")
    kinds = "2 for a Linear, 3 for a Conv1d, 4 for a Conv2d"
    wanted = f"weight_dim ({kinds}), because params of shape {shape} may be replicas or of several slices"
    require(len(shape) in (4, 6) and shape[0] == 1, "weight_dim", None, wanted)
    return len(shape) - 2
