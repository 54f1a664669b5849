"""Models by their names on the Hugging Face hub, and results sent there (the extra `lieq[hub]`)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
from typing import Any

from lieq import _lieq

__all__ = ["push"]

# What LieQ reads of a model, and what tools of others need beside it. Nothing here is ever executed: no
# pickles, no *.py. The card and the licence are read for the card of a result.
_READ = ["*.safetensors", "*.json", "*.txt", "*.jinja", "README.md", "LICENSE", "LICENSE.md"]
# Folders hold other containers of the same weights (onnx/, original/), and so does the second name.
_NOT_READ = ["*/*", "consolidated*"]
# What LieQ writes into a result.
_SENT = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md"]
_SENT += ["LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"]
_NOT_SENT = ["*/*", "*.py", "run.json"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
_INSTALL = "pip install 'lieq[hub]' (or huggingface_hub)"


def _is_name(model: str) -> bool:
    """owner/name, and nothing on this machine that it may be a mistyped path of."""
    if not _NAME.fullmatch(model) or ".." in model or model.endswith("."):
        return False
    return not os.path.lexists(model) and not os.path.exists(model.split("/")[0])


def _error(what: str, where: str, expected: str = "", found: str = "", hint: str = "") -> _lieq.Error:
    """lieq.Error, in the words and lines of the program's."""
    lines = [f"{where}: {what}"]
    parts = {"expected:": expected, "found:": found, "try:": hint}
    lines += [f"  {name:9} {text}" for name, text in parts.items() if text]
    error = _lieq.Error("\n".join(lines))
    error.what, error.where, error.expected = what, where, expected
    error.found, error.hint = found, hint
    return error


def _refused(error: Exception) -> int:
    """The HTTP status that the hub answered with, 0 where it gave no answer."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def local(model: str) -> str:
    """The folder of a snapshot where `model` is a name on the hub, else `model` as it is.

    A path that is there is never looked up. Without huggingface_hub, and where the hub is not reached and
    the snapshot is not in its cache, the name is given back: what opens it says what to do. Raises
    lieq.Error where the hub answers that there is no such model, or that it may not be had.
    """
    if not _is_name(model) or importlib.util.find_spec("huggingface_hub") is None:
        return model
    hub: Any = importlib.import_module("huggingface_hub")
    try:  # its errors are of other classes from version to version (requests, httpx)
        return str(hub.snapshot_download(model, allow_patterns=_READ, ignore_patterns=_NOT_READ))
    except Exception as error:
        status = _refused(error)
        if status in (401, 403, 404):
            raise _error(
                "the hub gives no such model", model, "the name of a model that this account may read",
                f"HTTP status {status}", "look for a mistyped name; `hf auth login` for gated and private ones",
            ) from error  # fmt: skip
        logging.getLogger("lieq").warning("%s was not brought from the hub: %s", model, error)
        return model


def push(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool | None = None,
    message: str | None = None,
) -> str:
    """Sends a result and its model card to a repository of the hub; gives the repository's address.

    Files that are there already under the same names are replaced by a new commit, others stay. run.json,
    which describes this machine, is not sent, nor is any file of a kind that LieQ does not write.

    Args:
        folder: what `quantize`, `tune` or `export` wrote: with lieq.json and README.md.
        repo: owner/name; made where it is not there.
        private: of a repository that is made; None: as the account has it.
        message: of the commit.

    Raises lieq.Error where huggingface_hub is not installed, the folder is no result, or the hub refuses
    it. The account is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    path = os.fspath(folder)
    if not isinstance(repo, str) or not _NAME.fullmatch(repo):
        raise _error("no name of a repository", "repo", "owner/name", repr(repo))
    needed = {"lieq.json": "a result of quantize, tune or export", "README.md": "its model card"}
    for name, expected in needed.items():
        if not os.path.isfile(os.path.join(path, name)):
            raise _error("not a folder to send", os.path.join(path, name), expected, "no such file")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise _error("sending needs huggingface_hub", repo, hint=_INSTALL)
    hub: Any = importlib.import_module("huggingface_hub")
    try:
        address = hub.create_repo(repo, exist_ok=True, private=private)
        hub.upload_folder(
            repo_id=repo,
            folder_path=path,
            allow_patterns=_SENT,
            ignore_patterns=list(_NOT_SENT),
            commit_message=message or f"LieQ {_lieq.__version__}",
        )
    except Exception as error:
        status = _refused(error)
        found = f"HTTP status {status}" if status else str(error)
        hint = "`hf auth login` with a token that may write" if status in (401, 403) else ""
        raise _error("the hub did not take it", repo, "an upload", found, hint) from error
    return str(address)
