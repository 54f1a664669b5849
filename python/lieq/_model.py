"""Open models."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from lieq import _hub, _lieq

_MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class Model(Mapping[str, _lieq.Tensor]):
    """The tensors of a model by their names in Hugging Face's layout, whatever its container.

    Attributes:
        path: as it was opened; of a name on the hub the folder of its snapshot.
        config: the model's config.json; of a GGUF file what it would be.
        quantized: whether any tensor holds codes.
    """

    path: str
    config: dict[str, Any]
    quantized: bool

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if isinstance(path, str):
            self.path = _hub.local(path)
        opened = _lieq.open(self.path)
        self.config = json.loads(opened.config)
        self.quantized = opened.quantized
        self._tensors = {tensor.name: tensor for tensor in opened.tensors}

    def linear(self, layer: int, site: str) -> _lieq.Tensor:
        """The matrix [out, in] of a decoder layer; site is q, k, v, o, gate, up or down.

        Raises KeyError for another site, or a layer that the model lacks.
        """
        if isinstance(layer, bool) or not hasattr(layer, "__index__"):
            raise TypeError(f"layer: expected an int, found {layer!r}")
        if not isinstance(site, str):
            raise TypeError(f"site: expected a str, found {site!r}")
        if site not in _MODULES:
            raise KeyError(f"site: expected {', '.join(_MODULES)}, found {site!r}")
        return self[f"model.layers.{layer}.{_MODULES[site]}.weight"]

    def __fspath__(self) -> str:  # so that commands take an open model in place of its path
        return self.path

    def __getitem__(self, name: str) -> _lieq.Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            near = difflib.get_close_matches(str(name), self._tensors, 1)
            text = f"{name!r} is no tensor of {self.path}"
            raise KeyError(text + (f"; did you mean {near[0]!r}?" if near else "")) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"<lieq.Model {self.path!r}, {len(self)} tensors>"


def open(path: str | os.PathLike[str]) -> Model:
    """Opens a folder (float, compressed-tensors, GPTQ or MLX), a GGUF file or, with lieq[hub], owner/name.

    Floats stay in the mapped file until they are asked for. Raises Error where the program could
    not open it either.
    """
    return Model(path)
