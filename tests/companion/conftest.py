"""What several tests of experiments stand on."""

from collections import defaultdict
from dataclasses import replace

import pytest

from cimlib.bench import spice
from companion.experiments import agreement, offsets_iris


@pytest.fixture
def stand_in(monkeypatch):
    """In place of ngspice, so that all this holds without it: every node of every circuit is at 1 V.

    Gives the circuits that it was asked to solve. The networks in them are trained for a moment only, and so
    are those without hardware beside them, at which no test here looks.
    """
    asked = []

    def simulate(circuit):
        asked.append(str(circuit))
        return defaultdict(lambda: 1.0)

    def networks(params, full=agreement.Params.networks):
        return replace(full(params), epochs=5, update_epochs=2)

    class Brief(offsets_iris.Iris):
        def software(self, epochs, lr):
            return super().software(1, lr)

    monkeypatch.setattr(spice, "simulate", simulate)
    monkeypatch.setattr(offsets_iris, "Iris", Brief)
    monkeypatch.setattr(agreement.Params, "networks", networks)
    return asked
