from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

class Error(Exception):
    """A wrong input or machine."""

    what: str
    where: str
    expected: str
    found: str
    hint: str

class Tensor:
    """A matrix [rows, columns] or a vector of a model."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def grid(self) -> dict[str, Any] | None: ...
    def codes(self) -> NDArray[np.uint8] | None: ...
    def scales(self) -> NDArray[np.float32] | None: ...
    def zeros(self) -> NDArray[np.uint8] | None: ...
    def minima(self) -> NDArray[np.float32] | None: ...
    def values(self) -> NDArray[np.float32]: ...

class OpenedModel:
    config: str
    quantized: bool
    tensors: list[Tensor]

def open(path: str | PathLike[str]) -> OpenedModel: ...
def commands() -> list[dict[str, Any]]: ...
def run(
    words: list[bytes],
    progress: Callable[[str, str, int, int, str], object] | None,
    log: Callable[[int, str], object],
) -> str: ...
def main(words: list[bytes]) -> int: ...
