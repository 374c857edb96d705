"""Nodal analysis of resistors, voltage sources and ideal operational amplifiers.

An oracle that knows nothing of weights: nodes are names, conductances µS, voltages V.
"""

import numpy as np


class Circuit:
    """Collects elements, then solves Kirchhoff's current law at every node at once."""

    def __init__(self):
        self.resistors, self.sources, self.amplifiers = [], [], []

    def resistor(self, a, b, conductance):
        self.resistors.append((a, b, conductance))

    def source(self, node, voltage):
        self.sources.append((node, voltage))

    def amplifier(self, plus, minus, out, offset=0.0):
        """Infinite gain: the output takes whatever voltage makes V(minus) = V(plus) + offset."""
        self.amplifiers.append((plus, minus, out, offset))

    def solve(self):
        """Voltage of every node."""
        names = {n for a, b, _ in self.resistors for n in (a, b)} | {n for n, _ in self.sources}
        node = {name: i for i, name in enumerate(sorted(names))}
        branches = len(self.sources) + len(self.amplifiers)
        a = np.zeros((len(node) + branches,) * 2)
        rhs = np.zeros(len(a))
        for p, q, g in self.resistors:
            i, j = node[p], node[q]
            a[i, i] += g
            a[j, j] += g
            a[i, j] -= g
            a[j, i] -= g
        row = len(node)
        for name, voltage in self.sources:
            a[node[name], row] = a[row, node[name]] = 1
            rhs[row] = voltage
            row += 1
        for plus, minus, out, offset in self.amplifiers:
            a[node[out], row] = 1
            a[row, node[minus]], a[row, node[plus]] = 1, -1
            rhs[row] = offset
            row += 1
        solution = np.linalg.solve(a, rhs)
        return {name: solution[i] for name, i in node.items()}
