"""LieQ in Python: quantized models as arrays of numpy, and the program's commands as functions.

    model = lieq.open("model folder, or a .gguf file")
    model["model.layers.0.mlp.down_proj.weight"].values()

    lieq.quantize("Qwen3-0.6B", "Qwen3-0.6B-2.25", bits=2.25, calibration="text.txt")

    lieq.quantize("Qwen/Qwen3-0.6B", "Qwen3-0.6B-2.25", bits=2.25)  # from the hub, with lieq[hub]
    lieq.push("Qwen3-0.6B-2.25", "me/Qwen3-0.6B-2.25")

A command takes the options of the command line as keyword arguments and returns the record that the
program prints under --json, as a dict (docs/records.md). See docs/python.md.
"""

from lieq import _commands
from lieq._commands import *  # noqa: F403: one function for each command of the program
from lieq._hub import push
from lieq._lieq import Error, Tensor, __version__
from lieq._model import Model, open

__all__ = ["Error", "Model", "Tensor", "__version__", "open", "push", *_commands.__all__]
