"""The program's commands as functions, made from its own table of options."""

import difflib
import inspect
import json
import keyword
import logging
import numbers
import os
import tempfile
import textwrap
from collections.abc import Mapping

from lieq import _hub, _lieq, _sharing

# Of the command line alone: records are returned, messages go to the module logging.
_LEFT_OUT = {"json", "quiet", "verbose"}
# What these write is the record that they return, so that the file may be left out.
_RECORD_IS_THE_FILE = {"diagnose", "sensitivity", "plan"}
# Options that take a record, or a file of it; of the words given by place plans and runs do.
_RECORDS = {"plan", "diagnostics", "sensitivities", "base", "scores", "A", "B", "RUN..."}
# Models, by place or as the value of an option: on the hub, they may be names (lieq._hub).
_MODELS = {"MODEL", "MODEL..."}
# What the values of options are, by the word that help has for them.
_PATHS = {"FILE", "FOLDER", "PATH", "MODEL"}
_WORDS = {"NAME", "KIND", "MODE", "TEXT", "ROW", "TYPE", "CONTAINER", "LIST"}
_PROGRESS = "called with (stage, unit, done, total, note) after each step"
_EXECUTOR = (
    "a concurrent.futures.Executor, such as Dask's Client.get_executor(), that parts are computed on; its "
    "workers read the inputs by the same paths"
)
_PARTS = "with an executor: how many (default one for each worker)"


def _python_name(name):
    """group-size is group_size, for is for_, RUN... is run."""
    name = name.removesuffix("...").replace("-", "_").replace(" ", "_").lower()
    return name + "_" if keyword.iskeyword(name) else name


def _options(command):
    """Those that a function takes, the output first: it may be given by its place."""
    options = [option for option in command["options"] if option["name"] not in _LEFT_OUT]
    return sorted(options, key=lambda option: option["name"] != "output")


def _can_be_shared(command):
    """Whether it can be done in parts."""
    return any(option["name"] == "part" for option in command["options"])


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
    if _can_be_shared(command):
        parameters.append(inspect.Parameter("executor", by_name, default=None))
        parameters.append(inspect.Parameter("parts", by_name, default=None))
    return inspect.Signature(parameters)


def _documentation(command):
    rows = command["positionals"] + [(each["name"], each["help"]) for each in _options(command)]
    lines = [command["summary"][0].upper() + command["summary"][1:] + ".", ""]
    lines += textwrap.wrap(command["details"], 96)
    lines += ["", f"Returns the record that `lieq {command['name']} --json` prints.", "", "Args:"]
    rows.append(("progress", _PROGRESS))
    if _can_be_shared(command):
        rows += [("executor", _EXECUTOR), ("parts", _PARTS)]
    for name, text in rows:
        text = f"{_python_name(name)}: {text}"
        lines += textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


def _is_number(value):
    """bool is an int to Python, and --bits=True to nobody."""
    return isinstance(value, numbers.Real) and not _is_bool(value)


def _is_bool(value):
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _expects(name, expected, value):
    return TypeError(f"{_python_name(name)}: expected {expected}, found {value!r}")


def _check_one(name, kind, value):
    """Raises TypeError where an option of this kind does not take the value, whatever it says."""
    record = name in _RECORDS
    if isinstance(value, str) or (isinstance(value, os.PathLike) and kind in _PATHS):
        return
    if record and isinstance(value, Mapping):
        return
    if kind in _PATHS:
        raise _expects(name, "a path (str or os.PathLike)" + (" or a dict" if record else ""), value)
    if kind in _WORDS and kind != "LIST":
        raise _expects(name, "a str", value)
    if not _is_number(value):
        raise _expects(name, "a number or a str", value)


def _parts(name, kind, many, value):
    """The values of an option one by one, each of a type that it takes."""
    several = many or "," in kind or kind == "LIST"
    if not isinstance(value, (list, tuple)):
        parts = [value]
    elif not several:
        raise _expects(name, "one value", value)
    elif not value:
        raise ValueError(f"{_python_name(name)}: an empty list")
    else:
        parts = list(value)
    for part in parts:
        _check_one(name, kind, part)
    return parts


def _word(name, value, folder):
    """A value as the command line has it; a record becomes a file in `folder`."""
    if isinstance(value, os.PathLike):
        word = os.fsdecode(value)
    elif isinstance(value, Mapping):
        count = sum(each.startswith(_python_name(name)) for each in os.listdir(folder))
        file_name = _python_name(name) + (f"-{count + 1}" if count else "") + ".json"
        word = os.path.join(folder, file_name)
        with open(word, "x", encoding="utf-8") as file:
            json.dump(dict(value), file)
    else:
        word = str(value)
    if "\0" in word:
        raise ValueError(f"{_python_name(name)}: a NUL character in {word!r}")
    return word


def _words(command, values, folder):
    """The command line that says the same as a call's arguments."""
    words = ["lieq", *command["name"].split()]
    for name, _ in command["positionals"]:
        kind = "NAME" if name == "NAME" else "PATH"
        for each in _parts(name, kind, name.endswith("..."), values[_python_name(name)]):
            word = _word(name, each, folder)
            words.append("./" + word if word.startswith("-") else word)
    for option in _options(command):
        name, kind, value = option["name"], option["value"], values[_python_name(option["name"])]
        if kind == "":
            if not _is_bool(value):
                raise _expects(name, "True or False", value)
            words += ["--" + name] if value else []
            continue
        if value is None and not option["required"]:
            continue
        if value is None and command["name"] in _RECORD_IS_THE_FILE:
            value = os.path.join(folder, command["name"] + ".json")
        parts = [_word(name, part, folder) for part in _parts(name, kind, option["many"], value)]
        parts = parts if option["many"] else [",".join(parts)]
        words += [f"--{name}={part}" for part in parts]
    return [*words, "--json"]


def _bound(command, signature, args, options):
    """The call's arguments by name. Raises TypeError, with the name that was probably meant."""
    name, known = _python_name(command["name"]), list(signature.parameters)
    for option in options:
        if option in known:
            continue
        near = difflib.get_close_matches(option.replace("-", "_").lower(), known, 1)
        near += [each for each in known if each in (option + "_", option.replace("-", "_"))]
        text = f"lieq.{name}() takes no argument {option!r}"
        raise TypeError(text + (f"; did you mean {near[-1]!r}?" if near else ""))
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"lieq.{name}(): {error}") from None
    bound.apply_defaults()
    if bound.arguments["progress"] is not None and not callable(bound.arguments["progress"]):
        raise _expects("progress", "a function", bound.arguments["progress"])
    return bound.arguments


def _brought(command, values):
    """The values, where models that were given as names on the hub are the folders of their snapshots."""
    kinds = {name: name for name, _ in command["positionals"]}
    kinds |= {option["name"]: option["value"] for option in _options(command)}
    brought = dict(values)
    for name in (_python_name(name) for name, kind in kinds.items() if kind in _MODELS):
        value = values[name]
        if isinstance(value, str):
            brought[name] = _hub.local(value)
        elif isinstance(value, (list, tuple)):
            brought[name] = [_hub.local(each) if isinstance(each, str) else each for each in value]
    return brought


def _shared_words(command, values):
    """The command line without its output, paths absolute, and that output."""
    if any(isinstance(value, Mapping) for value in values.values()):
        raise ValueError("with an executor records are given as files, which workers read")
    if values["part"] is not None:
        raise ValueError("an executor is given the parts: part is none to say")
    kinds = {_python_name(option["name"]): option["value"] for option in _options(command)}
    kinds |= {_python_name(name): name for name, _ in command["positionals"] if name != "NAME"}
    absolute = dict(values)
    for name, kind in kinds.items():
        value = values[name]
        if (kind not in _PATHS and kind not in _MODELS) or value is None:
            continue
        several = isinstance(value, (list, tuple))
        paths = [os.fsdecode(each) for each in (value if several else [value])]
        paths = [os.path.abspath(_hub.local(each) if kind in _MODELS else each) for each in paths]
        absolute[name] = paths if several else paths[0]
    output = absolute["output"]
    if output is None and command["name"] != "evaluate":
        raise ValueError("output: say where, since codes lie beside it, where workers share them")
    words = _words(command, absolute, None)
    return [word for word in words if not word.startswith("--output=") and word != "--json"], output


def _run_shared(command, values):
    words, output = _shared_words(command, values)
    return _sharing.run(words, output, values["executor"], values["parts"], values["progress"])


def _function(command):
    signature = _signature(command)

    def run(*args, **options):
        values = _brought(command, _bound(command, signature, args, options))
        if values.get("as_") and not values["output"]:
            raise ValueError("as_ writes another tool's file: say where with output")
        if values.get("executor") is not None:
            return json.loads(_run_shared(command, values))
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
