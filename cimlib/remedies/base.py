"""The face that all remedies have, and how they compose.

A remedy is something done about a chip. It says in which step it acts and what it has to know; once it has
acted, it says what it has cost. ``apply`` gives the network on that chip::

    chip = Chip(Kind(hardware), number=7)
    remedy = Composed(FaultMapping(), Retrained(epochs=5))
    better = remedy.apply(network, chip, Samples(x, y))

Steps come in the order of :data:`STEPS`, each at most once: training for chips in general, then what is done
about the one chip. What the chip is, :mod:`cimlib.remedies.chips` describes; what may be spent, and what was,
:mod:`cimlib.remedies.budget`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, get_args

from torch import nn

from cimlib.devices.effects import require, require_kind
from cimlib.remedies.budget import Budget, Costs
from cimlib.remedies.chips import Chip, Kind

#: The last one nobody has: how the cells of this chip will have changed. What knows it is a bound, no remedy.
Knowledge = Literal["the kind of chip", "this chip", "images", "labels", "the drift to come"]
Step = Literal["train", "map", "retrain", "pulse", "compensate", "adapt"]

#: The order in which remedies act, training before the chip is made and the rest on it.
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class Case:
    """A network on a chip under treatment.

    ``network``: the digital network as it was programmed, after all training ahead of the chip. ``treated``:
    remedies that have acted on the chip already. ``costs`` are counted while remedies act.
    """

    network: nn.Module
    chip: Chip
    budget: Budget
    treated: tuple[Remedy, ...] = ()
    costs: Costs = field(default_factory=Costs, compare=False)

    def model(self) -> nn.Module:
        """The network anew on the chip, as the remedies so far leave every chip that they read."""
        model = self.chip.holds(self.network)
        for n, remedy in enumerate(self.treated):
            model = remedy.equip(model, replace(self, treated=self.treated[:n]))
        return model


class Treated(NamedTuple):
    """``model``: the network on its chip after a remedy; ``network``: the digital network that was
    programmed; ``costs``: what was spent."""

    model: nn.Module
    network: nn.Module
    costs: Costs


class Remedy:
    """Base of the remedies; does nothing. A subclass says in which steps it acts and what it has to know, and
    overrides what it needs of :meth:`prepare`, :meth:`equip` and :meth:`act`, and of :meth:`verify`."""

    #: Steps in which it acts.
    steps: ClassVar[tuple[Step, ...]] = ()
    #: What it has to know.
    knows: ClassVar[frozenset[Knowledge]] = frozenset()

    @property
    def ahead(self) -> bool:
        """Whether it acts before any chip is made."""
        return bool(self.steps) and self.steps[-1] == "train"

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        """Raise ``ValueError`` for what can be seen beforehand not to work; ``model`` is the network on
        hardware like that of ``chip``, without a chip."""
        name = type(self).__name__
        require(bool(self.steps), f"steps of {name}", self.steps, "one or more: a remedy that does something")
        if "images" in self.knows:
            budget.images(getattr(self, "images", 0))

    def prepare(self, network: nn.Module, kind: Kind, budget: Budget, costs: Costs) -> nn.Module:
        """Before the chip: the digital network to program; ``network`` itself is not changed."""
        return network

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        """On the chip, at every reading of it: what is beside the arrays, or measured anew (in place)."""
        return model

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        """On the chip: ``model`` after the remedy, which may be changed in place."""
        return self.equip(model, case)

    def treat(self, network: nn.Module, chip: Chip, budget: Budget) -> Treated:
        """The digital ``network`` on ``chip`` after the remedy, with what that has cost.

        Raises as :meth:`apply` does.
        """
        require_kind("network", network, nn.Module, "a digital network")
        require_kind("chip", chip, Chip, "Chip(Kind(hardware), number=7)")
        require_kind("budget", budget, Budget, "Samples(x, y)")
        self.verify(chip.kind.program(network, chip.t), chip, budget)
        costs = Costs()
        prepared = self.prepare(network, chip.kind, budget, costs)
        model = self.act(chip.holds(prepared), Case(prepared, chip, budget, costs=costs))
        return Treated(model, prepared, costs)

    def apply(self, network: nn.Module, chip: Chip, budget: Budget) -> nn.Module:
        """The digital ``network`` (not changed) on ``chip`` after the remedy.

        Raises ``ValueError``, before any work where that can be seen, if it cannot be done on this chip, and
        ``TypeError`` for arguments of another kind.
        """
        return self.treat(network, chip, budget).model


@dataclass(frozen=True, init=False)
class Composed(Remedy):
    """Several remedies, in the order given, as in ``Composed(FaultMapping(), Retrained())``; none at all is
    to do nothing. Those of a composed one among them are ``remedies`` of this one.

    Raises ``TypeError`` for what is no remedy, and ``ValueError`` for remedies that act in no step or out of
    the order of :data:`STEPS`, for two in one step, and for a step behind pulses on the device: what stands
    in the cells then was asked for by no weight, so that there is nothing with which a compensation or a
    digital stage could be compared.
    """

    remedies: tuple[Remedy, ...]

    def __init__(self, *remedies: Remedy) -> None:
        for n, one in enumerate(remedies):
            such = "Composed(*remedies)" if isinstance(one, (list, tuple)) else "Compensation(): an object"
            require_kind(f"remedies[{n}]", one, Remedy, such)
        parts = [one.remedies if isinstance(one, Composed) else (one,) for one in remedies]
        object.__setattr__(self, "remedies", tuple(remedy for part in parts for remedy in part))
        idle = [type(remedy).__name__ for remedy in self.remedies if not remedy.steps]
        require(not idle, "remedies", idle, "remedies that act in a step; none at all to do nothing")
        steps = [step for remedy in self.remedies for step in remedy.steps]
        names = " + ".join(type(remedy).__name__ for remedy in self.remedies)
        ordered = all(STEPS.index(a) < STEPS.index(b) for a, b in pairwise(steps))
        require(
            ordered,
            "remedies",
            f"{names} ({', '.join(steps)})",
            f"each step once, in the order {', '.join(STEPS)}",
        )
        last = "pulse" not in steps or steps[-1] == "pulse"
        require(last, "remedies", names, "nothing behind pulses on the device")

    @property
    def steps(self) -> tuple[Step, ...]:  # type: ignore[override]
        """The steps of all of them."""
        return tuple(step for remedy in self.remedies for step in remedy.steps)

    @property
    def knows(self) -> frozenset[Knowledge]:  # type: ignore[override]
        """What any of them has to know."""
        return frozenset[Knowledge]().union(*(remedy.knows for remedy in self.remedies))

    def __repr__(self) -> str:
        return f"Composed({', '.join(map(repr, self.remedies))})"

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        for remedy in self.remedies:
            remedy.verify(model, chip, budget)

    def prepare(self, network: nn.Module, kind: Kind, budget: Budget, costs: Costs) -> nn.Module:
        for remedy in self.remedies:
            network = remedy.prepare(network, kind, budget, costs)
        return network

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        for remedy in self.remedies:
            model = remedy.equip(model, case)
            case = replace(case, treated=(*case.treated, remedy))
        return model

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        for remedy in self.remedies:
            model = remedy.act(model, case)
            case = replace(case, treated=(*case.treated, remedy))
        return model
