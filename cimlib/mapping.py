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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, prod
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from cimlib.arrays import Array, Conductances
from cimlib.circuits import Ideal
from cimlib.crossbar import AnalogReLU, Crossbar, crossbars, fabricated
from cimlib.defects import FaultMap
from cimlib.devices import require
from cimlib.models import BiasRow, evaluating
from cimlib.placement import Mapped, Placement, Written

Weighting = Literal["uniform", "magnitude"] | Mapping[str, Tensor]
_STAY = 1e-6  # of the largest cost: what moving all lines must gain
_ROUNDS = 3  # of rows and columns in turn; later ones gain less than 1 % (measured)
#: Modules that do to each channel the same, wherever it lies, but for parameters that move along.
_CHANNELWISE = (
    *(Crossbar, AnalogReLU, BiasRow, nn.Flatten, nn.Identity, nn.BatchNorm1d, nn.BatchNorm2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh),
    *(nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
)


def _made(layer: Crossbar, spares: int | None = None, tile: tuple[int, int] | None = None) -> Mapped:
    """``layer`` as it is mapped, or else with every weight in its own place."""
    old = layer.placement if isinstance(layer, Mapped) else None
    if old is not None:
        spares, tile = old.spares if spares is None else spares, tile or old.tile
        if isinstance(layer, Mapped) and (old.spares, old.tile) == (spares, tile):
            return layer
    shape, groups = layer.weight_shape, getattr(layer._template, "groups", 1)
    return Mapped(layer, Placement.straight(shape[0], prod(shape[1:]), spares or 0, tile, groups))


def _held(model: nn.Module) -> list[Crossbar]:
    """The layers of ``model``; raises ``ValueError`` unless each holds a chip."""
    layers = crossbars(model)
    held = all(layer.chip is not None for layer in layers)
    require(held, "model", "a network without a chip", "fabricate(model, chip)")
    return layers


@torch.no_grad()
def fault_map(model: nn.Module) -> dict[str, FaultMap]:
    """The stuck cells of the chip that ``model`` holds, by the name of the layer, in physical order.

    A cell is stuck if it ends in the same state whether ``g_min`` or ``g_max`` is written; on, if that
    is above the middle of the range. That is what a test can see: a cell that a large clipped spread takes to
    one end of its range from either side counts too. Spare rows are included.

    Raises ``ValueError`` for a model that is not on hardware or holds no chip.
    """
    return {layer.name: _faults(_made(layer)) for layer in _held(model)}


def _faults(layer: Mapped) -> FaultMap:
    array, z = layer.hardware.array, layer.parts()
    blank = layer.like().new_zeros(array.cell_shape(layer.placement.shape))
    reference = blank[0, 0, 0] if array.reference_is_cells else None

    def written(end: float) -> Written:
        return layer.write(blank + end, None if reference is None else reference + end, z)

    (low, low_reference), (high, high_reference) = written(array.g_min), written(array.g_max)

    def state(low: Tensor, high: Tensor) -> Tensor:
        return torch.where(low == high, torch.where(low > array.g_mid, 1, -1), 0).to(torch.int8)

    if low_reference is None or high_reference is None:
        return FaultMap(state(low, high))
    return FaultMap(state(low, high), state(low_reference, high_reference))


def sensitivity(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    kind: Literal["gradient", "fisher"] = "gradient",
    batch_size: int = 64,
) -> dict[str, Tensor]:
    r"""How much the loss feels each weight of each layer, (out, in, ...), to weigh an assignment with.

    Derivatives are with respect to the weights that the held chip gives, stuck ones included: those of the
    parameters would call a weight on a stuck cell unimportant. Amplifiers count as perfect.

    Args:
        model: a classifier on hardware, with a chip (or an ideal device).
        data: x (n, ...), y (n,) int64.
        kind: ``"gradient"``: :math:`|\partial L/\partial w|` of the mean cross-entropy; ``"fisher"``: the
            mean over samples of each one's squared derivative, the diagonal of the empirical Fisher
            information.
        batch_size: samples per pass; it does not change the result.

    Raises ``ValueError`` for an unknown ``kind`` or unequal data.
    """
    x, y = data
    require(kind in ("gradient", "fisher"), "kind", kind, "'gradient', 'fisher'")
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
    layers = {layer.name: layer for layer in crossbars(model)}
    hardware = {module: module.hardware for module in fabricated(model)}
    with torch.no_grad():
        readings = {name: layer.read() for name, layer in layers.items()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        for name, layer in layers.items():
            layer.reading = (weights[name], *readings[name][1:])
        return F.cross_entropy(model(x), y, reduction="sum")

    def one(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(weights, x[None], y[None])

    weights = {name: reading[0] for name, reading in readings.items()}
    found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    try:
        for module, own in hardware.items():
            module.hardware = replace(own, circuit=Ideal())
        with evaluating(model):
            for xs, ys in zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True):
                if kind == "fisher":
                    each = vmap(grad(one), in_dims=(None, 0, 0))(weights, xs, ys)
                    more = {name: g.square().sum(0) for name, g in each.items()}
                else:
                    more = grad(loss)(weights, xs, ys)
                found = {name: found[name] + more[name].detach() for name in found}
    finally:
        for module, own in hardware.items():
            module.hardware = own
        for layer in layers.values():
            layer.reading = None
    return {name: value.abs() / len(x) for name, value in found.items()}


@dataclass(frozen=True)
class _Costs:
    """What it costs to place weights: for each, ``alpha`` (out, rows) times its error to the ``power``.

    ``known`` are the faults that are known, ``None``: everything that the chip does.
    """

    layer: Mapped
    known: FaultMap | None
    alpha: Tensor
    power: float

    def of_rows(self) -> Tensor:
        """(tiles of columns, rows, physical rows), with the columns as they are; ∞ in another tile."""
        placement, target = self.layer.placement, self.layer.wanted()
        order = self._tensor(placement.columns).argsort()  # the output in each physical column
        home, tiles = self._tensor(placement.row_tiles), self._tensor(placement.column_tiles)
        inputs, height = self.alpha.shape[1], placement.rows_in_tile
        costs = self.alpha.new_full((placement.column_tiles[-1] + 1, inputs, len(home)), inf)
        if self.known is not None:
            costs[:, home[:inputs, None] == home] = 0.0
            for error, where in self._patterns(self.known):
                for tile, cost in enumerate(costs):
                    here = tiles == tile
                    cost += error[order[here]].T @ where[here]
            return costs

        def rows(values: Tensor, source: Tensor) -> Tensor:
            return values[..., order, :][..., source]

        z = self.layer.parts()
        for row in range(min(height, inputs)):
            source = home * height + row  # this row of its tile, into every physical row of the tile
            fits = torch.nonzero(source < inputs).flatten()
            source = source.clamp(max=inputs - 1)
            reference = None if target.reference is None else target.reference[source]
            connected = None if target.connected is None else rows(target.connected, source)
            asked = Conductances(rows(target.cells, source), reference, target.scale, connected)
            error = rows(self.alpha, source) * self._error(asked, *self.layer.write(*_written(asked), z))
            total = error.new_zeros(len(costs), len(home)).index_add(0, tiles, error)
            costs[:, source[fits], fits] = total[:, fits]
        return costs

    def of_columns(self) -> Tensor:
        """(outputs, physical columns), with the rows as they are; ∞ in another tile."""
        placement, target, array = self.layer.placement, self.layer.wanted(), self.layer.hardware.array
        tiles = self._tensor(placement.column_tiles)
        rows = self._tensor(placement.rows)[tiles]  # (physical columns, rows)
        first = torch.searchsorted(tiles, tiles)  # column of the same tile
        costs = self.alpha.new_full((len(tiles), len(tiles)), inf)
        if self.known is not None:
            costs[tiles[:, None] == tiles] = 0.0
            for error, where in self._patterns(self.known):
                costs += error @ where.gather(1, rows).T
            return costs

        def lay(values: Tensor, unused: float | bool) -> Tensor:
            blank = values.new_full((*values.shape[:-1], placement.shape[1]), unused)
            return blank.scatter(-1, rows.expand_as(values), values)

        z, reference = self.layer.parts(), target.reference
        if reference is not None:
            reference = lay(reference.expand_as(rows), array.g_mid)[0]
        for column in range(int(tiles.bincount().max())):
            source = (first + column).clamp(max=len(tiles) - 1)  # of its tile, into every column of the tile
            fits = torch.nonzero((first + column == source) & (tiles[source] == tiles)).flatten()
            connected = None if target.connected is None else lay(target.connected[:, :, source], False)
            cells = lay(target.cells[:, :, source], array.g_min)
            asked = Conductances(cells, reference, target.scale, connected)
            error = self._error(asked, *self.layer.write(*_written(asked), z)).gather(1, rows)
            costs[source[fits], fits] = (self.alpha[source] * error).sum(1)[fits]
        return costs

    def _patterns(self, known: FaultMap) -> Iterator[tuple[Tensor, Tensor]]:
        """For each way in which the cells of one weight can be stuck: what it costs each weight, (out, rows),
        and where it is found, (columns, physical rows), 1 or 0."""
        array, asked = self.layer.hardware.array, self.layer.wanted()
        state = known.cells.flatten(0, 1).to(self.alpha.device)
        if known.reference is not None:
            state = torch.cat((state, known.reference.to(state).expand_as(state[:1])))
        place = 3 ** torch.arange(len(state), device=state.device)
        code = (state * place[:, None, None]).sum(0)
        for value in set(code.flatten().tolist()) - {0}:
            where = code == value
            kind = state[:, where][:, 0]
            reference = asked.reference
            if reference is not None and known.reference is not None:
                reference = _stuck(reference, kind[-1], array)
            own = kind[: array.slices * array.sides].reshape(array.slices, array.sides, 1, 1)
            error = self._error(asked, _stuck(asked.cells, own, array), reference)
            yield self.alpha * error, where.to(self.alpha.dtype)

    def _error(self, asked: Conductances, cells: Tensor, reference: Tensor | None) -> Tensor:
        """Error of each weight where these are obtained, to the power."""
        got = replace(asked, cells=cells, reference=reference)
        return self.layer.hardware.array.decode(got - asked).abs() ** self.power

    def _tensor(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, device=self.alpha.device)


def _written(g: Conductances) -> Written:
    return g.cells, g.reference


def _stuck(g: Tensor, state: Tensor, array: Array) -> Tensor:
    """``g`` with cells stuck on where ``state`` is 1 and off where it is −1."""
    return torch.where(state > 0, array.g_max, torch.where(state < 0, array.g_min, g))


def row_costs(
    layer: Crossbar, known: FaultMap | None = None, alpha: Tensor | None = None, power: float = 1.0
) -> Tensor:
    r"""The cost :math:`C` of placing each row of the weights of ``layer`` on each physical row of its chip.

    Args:
        layer: on hardware, with a chip.
        known: faults that are known; ``None``: everything that the chip does.
        alpha: :math:`\alpha`, (out, in, ...), what each weight counts, ≥ 0; ``None``: 1.
        power: :math:`r` > 0.

    Returns (tiles of columns, rows, physical rows), with columns as they are placed and ∞ where a row would
    leave its tile. Raises ``ValueError`` for arguments out of range, and if no chip is held.
    """
    with torch.no_grad():
        _held(layer)
        alpha = layer.like().new_ones(layer.weight_shape) if alpha is None else alpha
        return _costs(_made(layer), known, alpha, power).of_rows()


def _costs(layer: Mapped, known: FaultMap | None, alpha: Tensor, power: float) -> _Costs:
    """Checked for shapes and values."""
    name, array = f"of layer {layer.name!r}", layer.hardware.array
    require(0 < power < inf, "power", power, "0 < power < ∞")
    shape = tuple(alpha.shape)
    require(shape == layer.weight_shape, f"shape of the weighting {name}", shape, f"{layer.weight_shape}")
    valid = bool((alpha >= 0).all()) and bool(alpha.isfinite().all())
    require(valid, f"weighting {name}", "negative or not finite", "0 ≤ alpha < ∞")
    if known is not None:
        found, wanted = tuple(known.cells.shape), array.cell_shape(layer.placement.shape)
        require(found == wanted, f"shape of the faults {name}", found, f"{wanted}")
        fits = (known.reference is not None) == array.reference_is_cells
        require(fits, f"reference of the faults {name}", known.reference, "one if it is made of cells")
    elif _only_stuck(layer, faults := _faults(layer)):
        known = faults  # all there is to know, and much faster than the general case
    return _Costs(layer, known, alpha.detach().to(layer.like()).flatten(1), power)


def _only_stuck(layer: Mapped, faults: FaultMap) -> bool:
    """Whether cells that are not stuck obtain what is asked for, tried with conductances drawn at random."""
    array = layer.hardware.array
    u = torch.rand(faults.cells.shape, generator=torch.Generator().manual_seed(0)).to(layer.like())
    asked = array.g_min + (array.g_max - array.g_min) * u
    reference = None if faults.reference is None else asked[0, 0, 0]
    cells, obtained = layer.write(asked, reference, layer.parts())
    pairs = [(cells, asked, faults.cells), (obtained, reference, faults.reference)]
    return all(
        torch.equal(got, _stuck(wanted, state, array))
        for got, wanted, state in pairs
        if got is not None and wanted is not None and state is not None
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
            :func:`~cimlib.defects.detected` leaves of it. ``None``: everything that the chip does to a
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
    ``Flatten``; the row of a :class:`~cimlib.models.BiasRow` stays. The order of one hidden layer, given the
    others, is one assignment, of the cost of its columns plus that of the rows; hidden layers take turns.
    Derived here; the order is the best if there is one hidden layer, else a local optimum.

    Args:
        model: a network on hardware that holds a chip; it is not changed. Layers of ``chains`` start from
            straight lines, in the tiles that they have, which no line leaves.
        known, weighting, power: see :func:`mapped`.
        chains: names of layers, each feeding the next one and nothing else, with nothing between them but
            what treats all channels alike; other layers stay as they are. ``None``: all layers, for an
            ``nn.Sequential`` with only activations, ``BatchNorm``, dropout, pooling and ``Flatten`` between.

    Raises ``ValueError`` as :func:`mapped` does, for chains that are none, a network in which they are not
    found, spare rows (no column ends there), and a convolution with groups behind a hidden layer.
    """
    layers = {layer.name: layer for layer in _held(model)}
    chains = [_chain(model)] if chains is None else chains
    require(not any(isinstance(c, str) for c in chains), "chains", chains, "tuples of names, not strings")
    chosen = {name for chain in chains for name in chain}
    require(chosen <= set(layers), "chains", chains, f"names of {sorted(layers)}")
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    once = all(len(set(lines)) == len(lines) for lines in (*chains, *zip(*pairs, strict=True)))
    require(once, "chains", chains, "one layer before and one behind each, none twice")
    for first, second in pairs:
        groups = getattr(layers[second]._template, "groups", 1)
        require(groups == 1, f"groups of {second!r}", groups, "1, behind another layer")
        units, shape = layers[first].weight_shape[0], layers[second].weight_shape
        block, rest = divmod(shape[1], units)
        fits = block >= 1 and rest <= (len(shape) == 2)
        require(fits, f"inputs of {second!r}", shape[1], f"a multiple of the {units} outputs of {first!r}")
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
    modules = [m for _, m in model.named_modules(remove_duplicate=False) if not isinstance(m, nn.Sequential)]
    places = [k for k, module in enumerate(modules) if isinstance(module, Crossbar)]
    others = {type(m).__name__ for m in modules[: places[-1]] if not isinstance(m, _CHANNELWISE)}
    require(not others, "chains", None, f"names of layers, for a network with {sorted(others)}")
    return [module.name for module in modules if isinstance(module, Crossbar)]


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
