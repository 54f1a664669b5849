"""Commands done in parts on an executor: anything with the interface of concurrent.futures.Executor."""

import concurrent.futures
import json
import logging
import os
import tempfile

from lieq import _lieq

_TRIES = 3  # of a part whose worker was lost


def run_part(words, progress=None):
    """Computes a part in this process, as the command line `words` says. Returns the part as text.

    Where the words name no output, nothing is left on this machine.
    """
    log = logging.getLogger("lieq").log
    with tempfile.TemporaryDirectory(prefix="lieq-") as folder:
        words = [os.fsencode(word) for word in words]
        if not any(word.startswith(b"--output=") for word in words):
            words.append(b"--output=" + os.fsencode(os.path.join(folder, "part")))
        answer = json.loads(_lieq.run([*words, b"--json"], progress, log))
        with open(answer["file"], encoding="utf-8") as file:
            return file.read()


def _workers(executor):
    """How many there are, so far as the executor says."""
    if isinstance(getattr(executor, "_max_workers", None), int):
        return executor._max_workers
    client = getattr(executor, "_client", None)  # of Dask
    if client is not None:
        return max(1, len(client.scheduler_info().get("workers", {})))
    return os.cpu_count() or 1


def _collect(executor, commands, progress):
    """The parts that the commands come to, in order; one whose worker was lost is done again."""
    parts = [None] * len(commands)
    tries = [0] * len(commands)
    running = {}

    def submit(number):
        tries[number] += 1
        running[executor.submit(run_part, commands[number])] = number

    try:
        for number in range(len(commands)):
            submit(number)
        while running:
            done = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done.pop()
            number = running.pop(done)
            try:
                parts[number] = done.result()
            except (_lieq.Error, ValueError, TypeError):
                raise  # the work itself is wrong: it would be again
            except Exception:
                if tries[number] >= _TRIES:
                    raise
                submit(number)  # a pool that is broken refuses, by its own error
                continue
            if progress is not None:
                finished = sum(part is not None for part in parts)
                progress("parts", "part", finished, len(parts), "")
    finally:
        for future in running:
            future.cancel()
    return parts


def run(words, output, executor, parts, progress):
    """The answer of the command line `words`, computed in parts. output: what it writes, or None."""
    count = _workers(executor) if parts is None else parts
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise TypeError(f"parts: expected a number of at least 1, found {parts!r}")
    written = [] if output is None else [f"--output={output}"]
    commands = [[*words, *written, f"--part={i}/{count}"] for i in range(1, count + 1)]
    texts = _collect(executor, commands, progress)
    with tempfile.TemporaryDirectory(prefix="lieq-") as folder:
        files = [os.path.join(folder, f"part-{i}") for i in range(1, count + 1)]
        for file_name, text in zip(files, texts):
            with open(file_name, "w", encoding="utf-8") as file:
                file.write(text)
        merge = ["lieq", "merge", *files, f"--output={output or os.path.join(folder, 'whole')}", "--json"]
        log = logging.getLogger("lieq").log
        answer = _lieq.run([os.fsencode(word) for word in merge], progress, log)
    for i in range(1, count + 1):  # they are in the result now
        part = f"{output}.part-{i}-of-{count}"
        if output is not None and os.path.exists(part):
            os.remove(part)
    return answer
