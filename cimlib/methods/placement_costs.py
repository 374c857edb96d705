"""What it costs to place a row or a column of weights somewhere on a chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from cimlib.arrays.base import Array, Conductances
from cimlib.chip.crossbar import Crossbar, crossbars, fabricated
from cimlib.chip.mapped import Mapped, Written
from cimlib.chip.placement import Placement
from cimlib.circuits.base import Ideal
from cimlib.devices.defects import FaultMap
from cimlib.devices.effects import require, require_whole
from cimlib.networks.plain import evaluating
from cimlib.training.objectives import labelled, positions

Weighting = Literal["uniform", "magnitude"] | Mapping[str, Tensor]


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
        data: x (n, ...), y (n,) int64; of sequences and images the sum over positions.
        kind: ``"gradient"``: :math:`|\partial L/\partial w|` of the mean cross-entropy; ``"fisher"``: the
            mean over samples of each one's squared derivative, the diagonal of the empirical Fisher
            information.
        batch_size: samples per pass; it does not change the result.

    Raises ``ValueError`` for an unknown ``kind``, data that do not fit or are not finite.
    """
    (x, y), most = labelled(data), int(data[1].max())
    require(int(y.min()) >= 0, "label", int(y.min()), "0, 1, …")
    require(kind in ("gradient", "fisher"), "kind", kind, "'gradient', 'fisher'")
    require_whole("batch_size", batch_size, 1)
    layers = {layer.name: layer for layer in crossbars(model)}
    hardware = {module: module.hardware for module in fabricated(model)}
    with torch.no_grad():
        readings = {name: layer.read() for name, layer in layers.items()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        for name, layer in layers.items():
            layer.reading = (weights[name], *readings[name][1:])
        logits, labels = positions(model(x), y)
        require(most < logits.shape[1], "label", most, f"0 … {logits.shape[1] - 1}")
        return F.cross_entropy(logits, labels, reduction="sum")

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

        z, cells, alpha = self.layer.parts(), target.cells[..., order, :], self.alpha[order]
        connected = None if target.connected is None else target.connected[..., order, :]
        for row in range(min(height, inputs)):
            source = home * height + row  # this row of its tile, into every physical row of the tile
            fits = torch.nonzero(source < inputs).flatten()
            source = source.clamp(max=inputs - 1)
            reference = None if target.reference is None else target.reference[source]
            on = None if connected is None else _copied(connected, source)
            asked = Conductances(_copied(cells, source), reference, target.scale_of(order), on)
            error = self._error(asked, *self.layer.write(asked.cells, reference, z))
            total = error.new_zeros(len(costs), len(home)).index_add(0, tiles, _copied(alpha, source) * error)
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
            asked = Conductances(cells, reference, target.scale_of(source), connected)
            error = self._error(asked, *self.layer.write(cells, reference, z)).gather(1, rows)
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


def _copied(values: Tensor, source: Tensor) -> Tensor:
    """The rows ``source`` of ``values`` (..., rows); one row that goes everywhere is not copied."""
    once = source[:1] if bool((source == source[0]).all()) else source
    return values[..., once].expand(*values.shape[:-1], len(source))


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
