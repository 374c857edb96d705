"""The table of what is on hardware reads at a glance."""

from torch import nn

from cimlib import Hardware, program, summary
from cimlib.arrays import DoubleArray
from cimlib.chip import fabricate, with_conductances
from cimlib.chip.table import conductances
from cimlib.circuits import Converters, Wires
from cimlib.devices import Device, Gaussian, StuckAt


def test_a_row_says_what_is_not_at_its_default_and_no_more():
    circuit = Wires(1.0, 2.0, inner=Converters(adc_bits=6))
    hardware = Hardware(Device(Gaussian(0.1), StuckAt(on=0.02)), DoubleArray(w_max=2.0), circuit)
    row = summary(program(nn.Linear(4, 3), hardware)).rows[0]
    assert (row.design, row.effects) == ("DoubleArray(w_max=2.0)", "Gaussian(sigma=0.1), StuckAt(on=0.02)")
    assert row.circuit == "Wires(r_row=1.0, r_col=2.0, inner=Converters(adc_bits=6))"
    assert [summary(program(nn.Linear(4, 3), Hardware())).rows[0].effects] == ["none"]


def test_a_measured_chip_is_said_without_its_cells():
    chip = fabricate(program(nn.Linear(4, 3), Hardware(Gaussian(0.1))), 7)
    assert summary(with_conductances(chip, conductances(chip))).rows[0].effects == "Measured(chip=7)"
