"""The program's commands as functions, made from its own table of options."""

import inspect
import json
import keyword
import logging
import os
import tempfile
import textwrap
from collections.abc import Mapping

from lieq import _lieq

# Of the command line alone: records are returned, messages go to the module logging.
_LEFT_OUT = {"json", "quiet", "verbose"}
# What these write is the record that they return, so that the file may be left out.
_RECORD_IS_THE_FILE = {"diagnose", "sensitivity", "plan"}
_PROGRESS = "called with (stage, unit, done, total, note) after each step"


def _python_name(name):
    """group-size is group_size, for is for_, RUN... is run."""
    name = name.removesuffix("...").replace("-", "_").replace(" ", "_").lower()
    return name + "_" if keyword.iskeyword(name) else name


def _options(command):
    """Those that a function takes, the output first: it may be given by its place."""
    options = [option for option in command["options"] if option["name"] not in _LEFT_OUT]
    return sorted(options, key=lambda option: option["name"] != "output")


def _signature(command):
    by_place, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    names = [_python_name(name) for name, _ in command["positionals"]]
    parameters = [inspect.Parameter(name, by_place) for name in names]
    for option in _options(command):
        is_output = option["name"] == "output"
        default = None if option["value"] else False
        if option["required"] and not (is_output and command["name"] in _RECORD_IS_THE_FILE):
            default = inspect.Parameter.empty
        kind = by_place if is_output else by_name
        parameters.append(inspect.Parameter(_python_name(option["name"]), kind, default=default))
    parameters.append(inspect.Parameter("progress", by_name, default=None))
    return inspect.Signature(parameters)


def _documentation(command):
    rows = command["positionals"] + [(each["name"], each["help"]) for each in _options(command)]
    lines = [command["summary"][0].upper() + command["summary"][1:] + ".", ""]
    lines += textwrap.wrap(command["details"], 96)
    lines += ["", f"Returns the record that `lieq {command['name']} --json` prints.", "", "Args:"]
    for name, text in [*rows, ("progress", _PROGRESS)]:
        text = f"{_python_name(name)}: {text}"
        lines += textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


def _word(name, value, folder):
    """A value as the command line has it; a record becomes a file in `folder`."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        path = os.path.join(folder, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(value), file)
        return path
    return str(value)


def _words(command, values, folder):
    """The command line that says the same as a call's arguments."""
    words = ["lieq", *command["name"].split()]
    for name, _ in command["positionals"]:
        value = values[_python_name(name)]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            word = _word(_python_name(name), each, folder)
            words.append("./" + word if word.startswith("-") else word)
    for option in _options(command):
        value = values[_python_name(option["name"])]
        if option["value"] == "":
            words += ["--" + option["name"]] if value else []
            continue
        if value is None and not option["required"]:
            continue
        if value is None:  # of _RECORD_IS_THE_FILE
            value = os.path.join(folder, command["name"] + ".json")
        parts = value if isinstance(value, (list, tuple)) else [value]
        parts = [_word(option["name"], part, folder) for part in parts]
        parts = parts if option["many"] else [",".join(parts)]
        words += [f"--{option['name']}={part}" for part in parts]
    return [*words, "--json"]


def _function(command):
    signature = _signature(command)

    def run(*args, **options):
        values = signature.bind(*args, **options)
        values.apply_defaults()
        values = values.arguments
        if values.get("as_") and not values["output"]:
            raise ValueError("as_ writes another tool's file: say where with output")
        with tempfile.TemporaryDirectory(prefix="lieq-") as folder:
            words = [os.fsencode(word) for word in _words(command, values, folder)]
            answer = _lieq.run(words, values["progress"], logging.getLogger("lieq").log)
        return json.loads(answer)

    run.__name__ = run.__qualname__ = _python_name(command["name"])
    run.__module__ = "lieq"
    run.__signature__ = signature
    run.__doc__ = _documentation(command)
    return run


_FUNCTIONS = [_function(command) for command in _lieq.commands()]
__all__ = [function.__name__ for function in _FUNCTIONS]
globals().update(zip(__all__, _FUNCTIONS))
