"""What is trained ahead of all chips against drift: digital stages, and the bound of all such sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from cimlib.chip.attachment import attach, state
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.layers import require_untransposed
from cimlib.chip.stages import Adapter, FullRank
from cimlib.devices.draws import seeded
from cimlib.devices.drift import seconds
from cimlib.devices.effects import require, require_kind, require_whole
from cimlib.methods.distillation import AdapterTraining
from cimlib.methods.schedule import Schedule, greedy
from cimlib.remedies.base import Case, Knowledge, Remedy
from cimlib.remedies.budget import Budget, Costs, require_training
from cimlib.remedies.chips import Chip, Kind
from cimlib.remedies.drift import Stages, carried
from cimlib.training.objectives import Batch

#: Numbers of the first instance of the drift to train on, and to judge a set by: no chip that is read.
TRAINING, SCORING = 100_000, 200_000


class Instances(AdapterTraining):
    """Stages that several networks have in common, trained on one of them a batch, at random."""

    def __init__(self, teacher: nn.Module, seed: int) -> None:
        super().__init__(teacher)
        self.generator = seeded("instances", seed)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        instances = list(model.children())
        chosen = int(torch.randint(len(instances), (), generator=self.generator))
        return super().__call__(instances[chosen], batch)


def _instance(case: Case, number: int, t: str, kind: Kind | None) -> Case:
    """The same network on another chip, of another kind perhaps, with the remedies so far."""
    return replace(case, chip=Chip(kind or case.chip.kind, number, t), costs=Costs())


@dataclass(frozen=True)
class _Asked:
    """What is trained or found once for all chips, and kept by what it depends on."""

    remedy: Remedy
    depends: tuple[object, ...]
    case: Case = field(compare=False)

    @classmethod
    def of(cls, remedy: Remedy, case: Case) -> _Asked:
        kind, network = case.chip.kind, case.network
        designs = (getattr(kind, one.name) for one in fields(kind))
        known = (tuple(one.items()) if isinstance(one, Mapping) else one for one in designs)
        trained = tuple(value._version for value in network.state_dict().values())  # anew after training
        depends = (network, trained, case.budget, case.treated, case.chip.t, type(kind), *known)
        return cls(remedy, depends, case)


@dataclass(frozen=True)
class StagesTrainedAhead(Remedy):
    """Digital stages trained on instances of the drift, one set for all chips; a clock chooses the set.

    Args:
        stages: which.
        images: trained on, without labels; 0: all. epochs, lr: of each set, ≥ 1, > 0.
        instances: of the drift, to train on and as many to judge a set by, ≥ 1.
        times: rising, such as ``"1 hour"``: a schedule by :func:`~.greedy` over them; none: one set, for the
            time at which the chip is treated.
        threshold: τ of the schedule, 0 < τ ≤ 1.
        check: validation images by which a set is judged; 0: all.
        kind: of the chips to train on; ``None``: those that the network will be on.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for stages or a kind that are none.
    """

    stages: Stages = field(default_factory=Stages)
    images: int = 1000
    epochs: int = 4
    lr: float = 0.01
    instances: int = 4
    times: tuple[str, ...] = ()
    threshold: float = 0.0
    check: int = 0
    kind: Kind | None = None

    steps = ("adapt",)

    @property
    def knows(self) -> frozenset[Knowledge]:  # type: ignore[override]
        """The kind of chip and images; for a schedule, whose sets are judged, labels too."""
        known: tuple[Knowledge, ...] = ("the kind of chip", "images", *(("labels",) if self.times else ()))
        return frozenset(known)

    def __post_init__(self) -> None:
        require_kind("stages", self.stages, Stages, "Stages('vera', rank=4)")
        require_training(self.epochs, self.lr, self.images, least=1)
        require_whole("instances", self.instances, 1)
        require_whole("check", self.check, 0)
        require(not isinstance(self.times, str), "times", self.times, "a tuple, such as ('1 hour', '1 year')")
        rising = all(a < b for a, b in pairwise([0.0, *map(seconds, self.times)]))
        require(rising, "times", self.times, "positive and rising")
        if self.kind is not None:
            require_kind("kind", self.kind, Kind, "Kind(hardware)")
        allowed = "0 < threshold ≤ 1 with times, 0 without"
        require(bool(self.times) == (0 < self.threshold <= 1), "threshold", self.threshold, allowed)

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        self.stages.verify(model)
        if self.times:
            budget.validation(self.check)

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        self.stages.attach(model)
        return model

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        model, (schedule, taken) = self.equip(model, case), self.schedule(case)
        case.costs.seconds["ahead"] = taken
        case.costs.sets = len(schedule) - bool(self.times)  # a schedule begins with stages that do nothing
        case.costs.set_times = [t for t, _ in schedule.sets][1:]
        trained = case.costs.sets if self.times else 1
        case.costs.passes_ahead += trained * self.epochs * len(case.budget.images(self.images)[0])
        model.load_state_dict({**model.state_dict(), **schedule.at(seconds(case.chip.t))})
        return model

    def schedule(self, case: Case) -> tuple[Schedule, float]:
        """The sets, and the seconds that training them took; the same for all chips of a kind."""
        t = self.times[-1] if self.times else case.chip.t
        return _trained(_Asked.of(self, _instance(case, 0, t, self.kind)))


@lru_cache(maxsize=1)
def _trained(asked: _Asked) -> tuple[Schedule, float]:
    remedy, case = asked.remedy, asked.case
    assert isinstance(remedy, StagesTrainedAhead)
    costs, budget, network = Costs(), case.budget, case.network

    def on(number: int, t: str) -> nn.Module:
        return _instance(case, number, t, None).model()

    def train(t: str) -> dict[str, Tensor]:
        models = [on(TRAINING + n, t) for n in range(remedy.instances)]
        remedy.stages.attach(*models)
        objective, batch = Instances(network, budget.seed), budget.images(remedy.images)
        budget.train(nn.ModuleList(models), objective, batch, epochs=remedy.epochs, lr=remedy.lr)
        return carried(state(models[0]))

    def score(stored: Mapping[str, Tensor], t: str) -> list[float]:
        found = []
        for chip in range(SCORING, SCORING + remedy.instances):
            model = on(chip, t)
            if stored:
                remedy.stages.attach(model)
                model.load_state_dict({**model.state_dict(), **stored})
            found.append(float(budget.read(model, budget.validation(remedy.check), [chip]).accuracy[0]))
        return found

    def scheduled() -> Schedule:
        if not remedy.times:
            return Schedule(((0.0, train(case.chip.t)),))
        text = {seconds(t): t for t in remedy.times}
        untrained = on(SCORING, "")
        remedy.stages.attach(untrained)
        return greedy(
            list(text),
            lambda stored, t: score(stored, text[t]),
            lambda t: train(text[t]),
            initial=carried(state(untrained)),
            reference=sum(score({}, "")) / remedy.instances,
            threshold=remedy.threshold,
        )

    with costs.timed("ahead"):
        schedule = scheduled()
    return schedule, costs.seconds["ahead"]


@dataclass(frozen=True)
class CommonChange(Remedy):
    """What each weight lacks in the mean over instances of the drift, added digitally on every chip.

    It stores as much as the network: a bound for all that is made ahead of the chips.

    Args:
        instances: of the drift, ≥ 1.
        kind: of their chips; ``None``: of those that the network will be on.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for a kind that is none.
    """

    instances: int = 4
    kind: Kind | None = None

    steps = ("adapt",)
    knows = frozenset({"the kind of chip"})

    def __post_init__(self) -> None:
        require_whole("instances", self.instances, 1)
        if self.kind is not None:
            require_kind("kind", self.kind, Kind, "Kind(hardware)")

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        for layer in crossbars(model):
            require_untransposed(layer.plain, layer.name, "CommonChange")

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        attach(model, FullRank)
        return model

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        lack = _lacking(_Asked.of(self, _instance(case, 0, case.chip.t, self.kind)))

        def changed(layer: Crossbar) -> FullRank:
            stage = FullRank(layer)
            with torch.no_grad():
                stage.change.copy_(lack[layer.name])
            return stage

        case.costs.sets = 1
        return attach(model, changed)


@lru_cache(maxsize=1)
@torch.no_grad()
def _lacking(asked: _Asked) -> dict[str, Tensor]:
    """What the weights of each layer lack in the mean, (out, in, ...), behind the remedies so far."""
    remedy, case = asked.remedy, asked.case
    assert isinstance(remedy, CommonChange)
    found = list[dict[str, Tensor]]()
    for number in range(TRAINING, TRAINING + remedy.instances):
        layers = crossbars(_instance(case, number, case.chip.t, None).model())
        held = {layer.name: layer.read()[0] for layer in layers}
        stages = {layer.name: layer.digital for layer in layers if isinstance(layer.digital, Adapter)}
        held |= {name: stage.merged(held[name]) for name, stage in stages.items()}
        found.append({layer.name: layer.asked - held[layer.name] for layer in layers})
    return {name: torch.stack([lack[name] for lack in found]).mean(0) for name in found[0]}
