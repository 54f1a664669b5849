#!/usr/bin/env python3
"""Writes lieq/_commands.pyi, the types of the functions that are made from the option table.

usage: tools/make_python_stub.py OUTPUT          with the built package on PYTHONPATH
"""

import inspect
import sys
import textwrap

from lieq import _commands

HEADER = '''\
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from os import PathLike
from typing import Any

_Path = str | PathLike[str]
_File = _Path | Mapping[str, Any]  # a record stands for a file of it
_Value = str | float | _File
_Values = _Value | Sequence[_Value]  # several: where the option takes them, or a list in its words
_Progress = Callable[[str, str, int, int, str], object]
'''


def type_of(parameter):
    if parameter.name == "progress":
        return "_Progress | None"
    if parameter.name == "executor":
        return "Executor | None"
    if parameter.name == "parts":
        return "int | None"
    if parameter.default is False:
        return "bool"
    if parameter.name in ("run", "part") and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
        return "_Path | Sequence[_Path]"
    if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
        return "_File" if parameter.default is parameter.empty else "_Path | None"
    return "_Values" if parameter.default is parameter.empty else "_Values | None"


def stub(name):
    function = getattr(_commands, name)
    lines, keywords = [f"def {name}("], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            lines.append("    *,")
            keywords = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default}"
        lines.append(f"    {parameter.name}: {type_of(parameter)}{default},")
    documentation = textwrap.indent(f'"""{function.__doc__}\n"""', "    ")
    return "\n".join([*lines, ") -> dict[str, Any]:", documentation, "    ..."]) + "\n"


def main():
    text = HEADER + f"\n__all__ = {_commands.__all__!r}\n\n"
    text += "\n".join(stub(name) for name in _commands.__all__)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
