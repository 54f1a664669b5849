"""Calls that mypy must take, and some that it must refuse; checked by tests/python/run, not run."""

from pathlib import Path

import lieq
import numpy as np
from numpy.typing import NDArray


def step(stage: str, unit: str, done: int, total: int, note: str) -> None:
    print(stage, unit, done, total, note)


def uses(folder: Path) -> NDArray[np.float32]:
    diagnosis = lieq.diagnose(folder, text="text.txt", calibration=["a.txt", "b.txt"], progress=step)
    plan = lieq.plan(folder, diagnostics=diagnosis, bits=2.25, widths=(2, 4))
    lieq.quantize(folder, folder / "out", plan=plan, group_size="row", force=True, for_="gguf")
    lieq.quantize(folder)  # type: ignore[call-arg]  # no output
    lieq.quantize(folder, "out", bit=2)  # type: ignore[call-arg]  # misspelt
    lieq.quantize(folder, "out", force="yes")  # type: ignore[arg-type]  # a flag
    lieq.calibrate("out")  # type: ignore[call-arg]  # into which file?
    with_model: lieq.Model = lieq.open(folder / "out")
    lieq.inspect(with_model)
    tensor = with_model.linear(0, "down")
    tensor.codes()[0]  # type: ignore[index]  # None for floats
    address: str = lieq.push(folder / "out", "me/out", private=True)
    lieq.push(folder, address, public=False)  # type: ignore[call-arg]  # misspelt
    return tensor.values()
