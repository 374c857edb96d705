r"""Mapping: weights laid out on an array so that its broken cells matter least.

**The assignment.** With :math:`\hat w_{qj}(w)` the weight that the chip makes of :math:`w` in physical row
:math:`q` and column :math:`j`, placing row :math:`p` of the weights on row :math:`q` costs

.. math:: C_{pq} = \sum_j \alpha_{pj}\,\big|\hat w_{qj}(w_{pj}) - w_{pj}\big|^r ,

and the cheapest placement of all rows is a linear assignment problem; :math:`\alpha` says how much each
weight matters. Columns are placed likewise. That rows are matched to rows is the idea of DATE 2017
(third-party summary) and ITT-RNA (abstract); this cost is derived here, theirs is not found.

**Two mappings.** :func:`mapped` gives each layer the best orders of its own, behind a router.
:func:`mapped_jointly` needs none: it moves hidden units, each column together with the rows that it feeds.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from cimlib.chip.crossbar import AnalogReLU, Crossbar, crossbars
from cimlib.chip.placement import Placement
from cimlib.devices.defects import FaultMap
from cimlib.devices.effects import require
from cimlib.methods.placement_costs import Weighting, _Costs, _costs, _held, _made
from cimlib.networks.plain import BATCH_NORMS, BiasRow

_STAY = 1e-6  # of the largest cost: what moving all lines must gain


_ROUNDS = 3  # of rows and columns in turn; later ones gain less than 1 % (measured)


_POOLS = (
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)


#: Modules that do to each channel the same, wherever it lies, but for parameters that move along.
_CHANNELWISE = (
    *(Crossbar, AnalogReLU, BiasRow, nn.Flatten, nn.Identity, *BATCH_NORMS),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, *_POOLS),
)


def _assigned(costs: Tensor, lines: Sequence[int], places: Sequence[int]) -> list[int]:
    """The cheapest place for each of ``lines``, its own unless another one gains something, and a spare row
    only where no other does."""
    block = costs[torch.tensor(lines)][:, torch.tensor(places)].double().cpu().numpy()
    away = np.not_equal.outer(lines, places).astype(float)
    away += len(lines) * np.greater_equal(places, len(costs))
    gain = _STAY * (block[np.isfinite(block)].max() or 1.0) / len(lines) ** 2
    return [places[int(place)] for place in linear_sum_assignment(block + gain * away)[1]]


def _with_rows(costs: _Costs) -> Placement:
    """The placement with the cheapest order of rows, for each tile of columns if it can have its own."""
    placement, found = costs.layer.placement, costs.of_rows()
    home, inputs = placement.row_tiles, costs.alpha.shape[1]
    orders = []
    for cost in found.sum(0, keepdim=True) if costs.layer.one_order else found:
        order: list[int] = []
        for tile in range(home[-1] + 1):
            places = [q for q, own in enumerate(home) if own == tile]
            order += _assigned(cost, [q for q in places if q < inputs], places)
        orders.append(tuple(order))
    return replace(placement, rows=tuple(orders) * (len(found) // len(orders)))


def _with_columns(costs: _Costs) -> Placement:
    """The placement with the cheapest order of columns."""
    placement, found = costs.layer.placement, costs.of_columns()
    columns: list[int] = []
    for tile in range(placement.column_tiles[-1] + 1):
        places = [k for k, own in enumerate(placement.column_tiles) if own == tile]
        columns += _assigned(found, places, places)
    return replace(placement, columns=tuple(columns))


@torch.no_grad()
def mapped(
    model: nn.Module,
    known: Mapping[str, FaultMap] | None = None,
    *,
    weighting: Weighting = "uniform",
    power: float = 1.0,
    rows: bool = True,
    columns: bool = False,
    spares: int | None = None,
    tile: tuple[int, int] | None = None,
    layers: Collection[str] | None = None,
) -> nn.Module:
    r"""A copy of a network on its chip, in which the weights of every layer lie where they suffer least.

    For a network of one's own::

        chip = fabricate(program(model, Hardware(StuckAt(on=0.02, off=0.09))), 7)
        better = mapped(chip)
        print(evaluate(better, x, y, chips=[7]))

    Args:
        model: a network on hardware that holds a chip; it is not changed. One that is mapped already is
            mapped anew, on the spares and in the tiles that it has.
        known: the stuck cells that are known, by layer: :func:`fault_map`, or what
            :func:`~.detected` leaves of it. ``None``: everything that the chip does to a
            conductance, spread and stuck cells, is known exactly. Wires and amplifiers are not considered.
        weighting: :math:`\alpha`. ``"uniform"``: 1; ``"magnitude"``: :math:`|w|`, which takes large weights
            off broken cells, but lets small ones lie on cells stuck on, where errors are largest; or a
            number ≥ 0 for each weight, by layer: :func:`sensitivity`.
        power: :math:`r` > 0. 2 with the Fisher information is the loss to second order, layer by layer.
        rows: whether rows are moved.
        columns: whether columns are moved, in turn with the rows: a local optimum, several times as slow. It
            gains nothing worth mentioning where a layer has many more rows than columns (measured).
        spares: spare rows in each tile of rows; ``None``: as many as there are. They are part of the
            design: to know their faults, map once with ``rows=False`` and test that.
        tile: most rows and most columns of a tile, for rows of a ``Conv2d`` in·kh·kw; ``None``: as it is, or
            no limit. Each tile has its own order of rows, unless it shares a reference with others that is
            made of cells or behind wires; columns stay in their tile.
        layers: names of the layers to map; default all.

    The placement is the best for the chip held now, and stays when another chip is taken. Raises
    ``ValueError`` for a model that is not on hardware or holds no chip, unknown names, maps or weightings of
    other layers or shapes, and hardware on which lines cannot move as asked (:class:`Mapped`).
    """
    named = {layer.name for layer in _held(model)}
    require(not isinstance(layers, str), "layers", layers, "a collection of names, not one string")
    chosen = named if layers is None else set(layers)
    require(chosen <= named, "layers", sorted(chosen), f"some of {sorted(named)}")
    model, found = _prepared(model, chosen, known, weighting, power, spares, tile)
    moves = [move for move, wanted in ((_with_rows, rows), (_with_columns, columns)) if wanted]
    for costs in found.values():
        layer = costs.layer
        for _ in range(_ROUNDS if rows and columns else 1):
            before = layer.placement
            for move in moves:
                layer.place(move(costs))
            if layer.placement == before:
                break
    return model


def _prepared(
    model: nn.Module,
    chosen: Collection[str],
    known: Mapping[str, FaultMap] | None,
    weighting: Weighting,
    power: float,
    spares: int | None = None,
    tile: tuple[int, int] | None = None,
) -> tuple[nn.Module, dict[str, _Costs]]:
    """A copy of ``model`` in which the layers ``chosen`` can be placed, and their costs by name."""
    named = {layer.name for layer in crossbars(model)}
    words = not isinstance(weighting, str) or weighting in ("uniform", "magnitude")
    require(words, "weighting", weighting, "'uniform', 'magnitude' or tensors by layer")
    for name, given in (("known", known), ("weighting", None if isinstance(weighting, str) else weighting)):
        if given is not None:
            fits = set(chosen) <= set(given) <= named
            require(fits, name, sorted(given), f"one for each of {sorted(chosen)}")
    model = copy.deepcopy(model)
    made = {layer: _made(layer, spares, tile) for layer in crossbars(model) if layer.name in chosen}
    found = {}
    for layer in made.values():
        if isinstance(weighting, str):
            weight = layer.hardware.array.decode(layer.wanted()).reshape(layer.weight_shape)
            alpha = weight.abs() if weighting == "magnitude" else torch.ones_like(weight)
        else:
            alpha = weighting[layer.name]
        found[layer.name] = _costs(layer, None if known is None else known[layer.name], alpha, power)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, Crossbar) and child in made:
                setattr(parent, name, made[child])
    return made.get(model, model) if isinstance(model, Crossbar) else model, found


@torch.no_grad()
def mapped_jointly(
    model: nn.Module,
    known: Mapping[str, FaultMap] | None = None,
    *,
    chains: Sequence[Sequence[str]] | None = None,
    weighting: Weighting = "uniform",
    power: float = 1.0,
) -> nn.Module:
    """A copy of a network on its chip, with hidden units in the order in which they suffer least.

    It needs no routing: the columns of a layer and the rows of the next one have the same order, so that the
    lines between them run straight. Inputs and outputs of a chain stay in place. A channel of a convolution
    moves as a block of the rows that it feeds, kh·kw of a ``Conv2d`` or height·width of a ``Linear`` behind
    ``Flatten``; the row of a :class:`~.BiasRow` stays. The order of one hidden layer, given the
    others, is one assignment, of the cost of its columns plus that of the rows; hidden layers take turns.
    Derived here; the order is the best if there is one hidden layer, else a local optimum.

    Args:
        model: a network on hardware that holds a chip; it is not changed. Layers of ``chains`` start from
            straight lines, in the tiles that they have, which no line leaves.
        known, weighting, power: see :func:`mapped`.
        chains: names of layers, each feeding the next one and nothing else, with nothing between them but
            what treats all channels alike; other layers stay as they are. ``None``: all layers, for an
            ``nn.Sequential`` with only activations, ``BatchNorm``, dropout, pooling and ``Flatten`` between.

    Raises ``ValueError`` as :func:`mapped` does, for chains that are none or have no hidden layer, a network
    in which they are not found, spare rows (no column ends there), and a convolution with groups behind a
    hidden layer.
    """
    layers = {layer.name: layer for layer in _held(model)}
    chains = [_chain(model)] if chains is None else chains
    require(not any(isinstance(c, str) for c in chains), "chains", chains, "tuples of names, not strings")
    chosen = {name for chain in chains for name in chain}
    require(chosen <= set(layers), "chains", chains, f"names of {sorted(layers)}")
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    hidden = (
        "two or more layers in a chain: of one layer alone no units are hidden; mapped(model) moves its rows"
    )
    require(all(len(chain) > 1 for chain in chains) and bool(pairs), "chains", chains, hidden)
    once = all(len(set(lines)) == len(lines) for lines in (*chains, *zip(*pairs, strict=True)))
    require(once, "chains", chains, "one layer before and one behind each, none twice")
    for first, second in pairs:
        groups = getattr(layers[second]._template, "groups", 1)
        require(groups == 1, f"groups of {second!r}", groups, "1, behind another layer")
        units, shape = layers[first].weight_shape[0], layers[second].weight_shape
        block, rest = divmod(shape[1], units)
        fits = block >= 1 and rest <= (len(shape) == 2)
        require(fits, f"inputs of {second!r}", shape[1], f"a multiple of the {units} outputs of {first!r}")
        blocks = len(shape) == 2 < len(layers[first].weight_shape)  # positions of channels, behind Flatten
        said = f"the {units} outputs of {first!r}, each one row"
        require(blocks or block == 1 or units == 1, f"inputs of {second!r}", shape[1], said)
    model, costs = _prepared(model, chosen, known, weighting, power)
    for layer in (one.layer for one in costs.values()):
        old = layer.placement
        require(old.spares == 0, f"spares of {layer.name!r}", old.spares, "0, for a joint order")
        layer.place(Placement.straight(*old.shape, 0, old.tile, old.groups))
    for _ in range(_ROUNDS):
        before = [one.layer.placement for one in costs.values()]
        for first, second in pairs:
            _place_between(costs[first], costs[second])
        if before == [one.layer.placement for one in costs.values()]:
            break
    return model


def _chain(model: nn.Module) -> list[str]:
    """The layers of ``model``, if they run one after another and keep channels apart."""
    every = [m for _, m in model.named_modules(remove_duplicate=False)]
    modules = [m for m in every if type(m).forward is not nn.Sequential.forward]
    places = [k for k, module in enumerate(modules) if isinstance(module, Crossbar)]
    others = {type(m).__name__ for m in modules[: places[-1]] if not isinstance(m, _CHANNELWISE)}
    require(not others, "chains", None, f"names of layers, for a network with {sorted(others)}")
    layers = [module for module in modules if isinstance(module, Crossbar)]
    for (first, second), (start, end) in zip(pairwise(layers), pairwise(places), strict=True):
        fits = _feeds(first, second, modules[start + 1 : end])
        said = f"names of layers: outputs of {first.name!r} may be no inputs of {second.name!r} one by one"
        require(fits, "chains", None, said)
    return [layer.name for layer in layers]


def _feeds(first: Crossbar, second: Crossbar, between: Sequence[nn.Module]) -> bool:
    """Whether outputs of ``first`` are inputs of ``second``, in their order: a ``Linear`` has them in the
    last dimension, a convolution in the one behind the batch."""
    before, behind = (isinstance(layer.plain, nn.Linear) for layer in (first, second))
    if before:
        return behind and not any(isinstance(module, _POOLS) for module in between)
    flat = any(isinstance(m, nn.Flatten) and (m.start_dim, m.end_dim) == (1, -1) for m in between)
    return flat or not behind


def _place_between(first: _Costs, second: _Costs) -> None:
    """Move the outputs of one layer, and with them the rows of the next, to the cheapest lines."""
    units, inputs = len(first.alpha), second.alpha.shape[1]
    block = inputs // units
    moved = units * block
    rows = second.of_rows().sum(0)[:moved, :moved].reshape(units, block, units, block)
    lines = range(units)
    columns = _assigned(first.of_columns() + rows.diagonal(dim1=1, dim2=3).sum(-1), lines, lines)
    first.layer.place(replace(first.layer.placement, columns=tuple(columns)))
    order = (*(line * block + i for line in columns for i in range(block)), *range(moved, inputs))
    place = second.layer.placement
    second.layer.place(replace(place, rows=(order,) * len(place.rows)))
