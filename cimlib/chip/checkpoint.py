"""What decides the output of a network on hardware and is no parameter: it travels in the ``state_dict``.

Each layer on hardware, and each digital stage that follows from a seed, has one entry more than the plain
layer, torch's ``_extra_state``: a uint8 tensor of JSON and a checksum, so that whatever stores tensors stores it too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CHECK = 4  # bytes of the checksum at the end


def decoded(state: Any) -> dict[str, Any]:
    """What an entry ``_extra_state`` says. Raises ``ValueError`` for what is no such entry."""
    try:
        entry = bytes(state.to("cpu", torch.uint8).tolist())
    except AttributeError:
        entry = b""
    text = entry[:-_CHECK]
    if len(entry) <= _CHECK or zlib.crc32(text).to_bytes(_CHECK, "big") != entry[-_CHECK:]:
        raise ValueError("no state of a network on hardware; such entries are taken whole, not averaged")
    kept: dict[str, Any] = json.loads(text)
    return kept


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The ``state_dict`` of ``model`` without what belongs to its hardware: what the digital network loads.

    Conductances of a network trained in its array and digital stages are no part of that network: it refuses
    them by name.
    """
    return {key: value for key, value in model.state_dict().items() if not key.endswith("_extra_state")}


class Remembering(nn.Module):
    """A module whose ``state_dict`` holds, beside parameters and buffers, what :meth:`remembered` gives.

    A plain checkpoint, which has no such entry, loads all the same, strictly; it leaves this as it is. One
    that has it loads into nothing else: torch names the key that a plain model does not know.
    """

    def remembered(self) -> dict[str, Any]:
        """What to keep, of JSON's types."""
        raise NotImplementedError

    def recall(self, kept: Mapping[str, Any]) -> None:
        """Take over what :meth:`remembered` gave. Raises ``ValueError`` if it does not fit."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """:meth:`remembered` as a tensor (n,), uint8."""
        text = json.dumps(self.remembered()).encode()
        return torch.frombuffer(bytearray(text + zlib.crc32(text).to_bytes(_CHECK, "big")), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """The inverse of :meth:`get_extra_state`. Raises ``ValueError`` for what it did not make."""
        self.recall(decoded(state))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = f"{prefix}_extra_state"
        try:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
        except ValueError as error:
            error_msgs.append(f"{own}: {error}")
        if own in missing_keys:  # a plain checkpoint
            missing_keys.remove(own)
