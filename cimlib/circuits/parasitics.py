r"""Wires have resistance: what a crossbar array delivers when its lines are not perfect.

Row :math:`i` is driven at its left end with :math:`V_i`, column :math:`j` ends below the last row in
a virtual ground, the far ends are open, and between two neighbouring cells lie :math:`r_\text{row}`
and :math:`r_\text{col}` (before the first cell of a row and below the last cell of a column too).
With word-line nodes :math:`v_{ij}` and bit-line nodes :math:`u_{ij}`, Kirchhoff's current law reads

.. math::
    \frac{(v_{ij}-v_{i,j-1})+(v_{ij}-v_{i,j+1})}{r_\text{row}}+G_{ij}(v_{ij}-u_{ij})=0,\qquad
    \frac{(u_{ij}-u_{i-1,j})+(u_{ij}-u_{i+1,j})}{r_\text{col}}-G_{ij}(v_{ij}-u_{ij})=0,

and column :math:`j` delivers :math:`I_j=\sum_i G_{ij}(v_{ij}-u_{ij})`. The system is symmetric, positive
definite and banded; it is solved for the *departure* from the ideal node voltages, so that small
resistances cost no digits. The gradient takes one more solve with the same factors (adjoint method,
derived): drive the ends of the columns instead of the rows, and

.. math:: \frac{\partial L}{\partial G_{ij}}=(v_{ij}-u_{ij})\,(\lambda^u_{ij}-\lambda^v_{ij}).

Here everything is in S, V, A and Ω, the units of a circuit simulator; elsewhere conductances are in
µS, so multiply by 1e-6 on the way in.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.autograd.function import once_differentiable

from cimlib.devices.effects import require

THREADS = ThreadpoolController()  # blocks are small: more than one thread of BLAS only waits


def crossbar_currents(conductance: Tensor, voltage: Tensor, r_row: float, r_col: float) -> Tensor:
    """Currents out of the columns of an array with wire resistance.

    Args:
        conductance: (m, n), S, finite and ≥ 0 (0 is an open cell).
        voltage: (b, m), b ≥ 1, V, of the row drivers, relative to the virtual ground of the columns.
        r_row, r_col: resistance of the wire from one cell to the next, Ω, finite and ≥ 0.

    Returns (b, n), A, in the dtype and on the device of the arguments; computed in float64 on the CPU,
    factored once for all inputs. Gradients reach ``conductance`` and ``voltage``, once. Where both
    resistances are 0 the result is ``voltage @ conductance`` itself.

    Raises ``ValueError`` for a shape, dtype or value that is not allowed.
    """
    _check(conductance, r_row, r_col)
    rows = conductance.shape[0]
    shaped = voltage.ndim == 2 and voltage.shape[1] == rows and len(voltage) > 0
    require(shaped, "voltage.shape", tuple(voltage.shape), f"(b, {rows}), b ≥ 1")
    require(voltage.dtype == conductance.dtype, "voltage.dtype", voltage.dtype, f"{conductance.dtype}")
    require(bool(voltage.isfinite().all()), "voltage", "not finite", "finite (V)")
    return _currents(conductance, voltage, r_row, r_col)


def effective_conductance(conductance: Tensor, r_row: float, r_col: float) -> Tensor:
    """The conductances that an array with wire resistance amounts to: currents are ``V @ G_eff``.

    Args:
        conductance: (m, n), S, finite and ≥ 0.
        r_row, r_col: resistance of the wire from one cell to the next, Ω, finite and ≥ 0.

    Returns (m, n), S. An array of resistors is reciprocal, so the n columns are driven and the rows
    read, which is one right-hand side for each column (derived). Differentiable, once.

    Raises ``ValueError`` as :func:`crossbar_currents` does.
    """
    _check(conductance, r_row, r_col)
    turned = conductance.flip(0, 1).T  # columns become rows, driven from their lower ends
    unit = torch.eye(len(turned), dtype=turned.dtype, device=turned.device)
    return _currents(turned, unit, r_col, r_row).flip(0, 1).T


def _check(conductance: Tensor, r_row: float, r_col: float) -> None:
    shaped = conductance.ndim == 2 and conductance.numel() > 0
    require(shaped, "conductance.shape", tuple(conductance.shape), "(m, n), m ≥ 1, n ≥ 1")
    floating = conductance.dtype in (torch.float32, torch.float64)
    require(floating, "conductance.dtype", conductance.dtype, "torch.float32 or torch.float64")
    allowed = (conductance >= 0) & conductance.isfinite()
    if not bool(allowed.all()):
        require(False, "conductance", conductance[~allowed][0].item(), "0 ≤ G < ∞ (S)")
    for name, resistance in (("r_row", r_row), ("r_col", r_col)):
        require(0 <= resistance < float("inf"), name, resistance, "0 ≤ r < ∞ (Ω)")


def _currents(conductance: Tensor, voltage: Tensor, r_row: float, r_col: float) -> Tensor:
    if r_row == r_col == 0:
        return voltage @ conductance
    if len(voltage) > conductance.shape[1]:  # there are fewer columns to drive than inputs
        return voltage @ effective_conductance(conductance, r_row, r_col)
    currents: Tensor = _Nodal.apply(conductance, voltage, r_row, r_col)
    return currents


class _Array:
    """One array with its nodal matrix factored, row by row.

    The word-line nodes of a row see no other row, and its bit-line nodes only those above and below. So the
    former are eliminated, and what is left of the latter is block tridiagonal: one dense block (n, n) a row,
    eliminated from the open ends to the feet. An array of more columns than rows is turned over first.
    """

    def __init__(self, conductance: NDArray[np.float64], r_row: float, r_col: float) -> None:
        self.turned = conductance.shape[0] < conductance.shape[1]
        if self.turned:  # columns become rows, driven from their lower ends
            conductance, r_row, r_col = conductance[::-1, ::-1].T, r_col, r_row
        m, n = conductance.shape
        self.conductance, self.r_col = conductance, r_col
        self.word = self.bit = None  # (m, n, n): inverses of word-line blocks, Ω, and of bit-line pivots, 1
        diagonal = np.arange(n)
        if r_row > 0:
            line = _differences(n)
            blocks = np.broadcast_to(line.T @ line, (m, n, n)).copy()
            blocks[:, diagonal, diagonal] += r_row * conductance
            self.word = r_row * np.linalg.inv(blocks)
        if r_col > 0:
            self.bit = np.zeros((m, n, n))
            if self.word is not None:
                self.bit -= r_col * conductance[:, :, None] * self.word * conductance[:, None, :]
            self.bit[:, diagonal, diagonal] += r_col * conductance + 2
            self.bit[0, diagonal, diagonal] -= 1  # the far end is open
            self.bit[0] = np.linalg.inv(self.bit[0])
            for above, row in pairwise(self.bit):
                row[:] = np.linalg.inv(row - above)

    def drops(self, applied: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voltages across the cells, given those between line ends; both (b, m, n) and linear."""
        if self.turned:
            return self._drops(applied[:, ::-1, ::-1].transpose(2, 1, 0)).transpose(2, 1, 0)[:, ::-1, ::-1]
        return self._drops(applied.transpose(1, 2, 0)).transpose(2, 0, 1)

    def _drops(self, applied: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same as this array lies, both (m, n, b)."""
        g = self.conductance[:, :, None]
        drops = applied.copy()
        if self.word is not None:  # what word lines lose, were bit lines perfect
            drops -= self.word @ (g * applied)
        if self.bit is None:
            return drops
        rise = self.r_col * (g * drops)  # of bit-line nodes, row by row down to the feet and back
        rise[0] = self.bit[0] @ rise[0]
        for row in range(1, len(rise)):
            rise[row] = self.bit[row] @ (rise[row] + rise[row - 1])
        for row in range(len(rise) - 2, -1, -1):
            rise[row] += self.bit[row] @ rise[row + 1]
        drops -= rise
        if self.word is not None:  # which lets word lines lose less
            drops += self.word @ (g * rise)
        return drops


def _differences(nodes: int) -> NDArray[np.float64]:
    """Along a line driven at its first node's end: D of voltages is the drop over each segment."""
    return np.eye(nodes) - np.eye(nodes, k=-1)


class _Nodal(torch.autograd.Function):
    """Currents (b, n) from conductances (m, n) and voltages (b, m), with the adjoint gradient."""

    @staticmethod
    def forward(ctx: Any, conductance: Tensor, voltage: Tensor, r_row: float, r_col: float) -> Tensor:
        cells, shape = _numpy(conductance), (len(voltage), *conductance.shape)
        with THREADS.limit(limits=1, user_api="blas"):
            array = _Array(cells, r_row, r_col)
            drops = array.drops(np.broadcast_to(_numpy(voltage)[:, :, None], shape))
        ctx.cells, ctx.array, ctx.drops = cells, array, drops
        return conductance.new_tensor(np.einsum("mn,bmn->bn", cells, drops))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        array, drops = ctx.array, ctx.drops
        with THREADS.limit(limits=1, user_api="blas"):
            adjoint = array.drops(np.broadcast_to(_numpy(gradient)[:, None, :], drops.shape))
        conductance = np.einsum("bmn,bmn->mn", drops, adjoint)
        voltage = np.einsum("mn,bmn->bm", ctx.cells, adjoint)
        return gradient.new_tensor(conductance), gradient.new_tensor(voltage), None, None


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()
