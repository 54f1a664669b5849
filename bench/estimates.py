#!/usr/bin/env python3
"""What `lieq quantize --dry-run` says against what the run then takes.

    bench/estimates.py [--models NAME=FOLDER ...] [--rows rtn gptq best bpw] [--samples 16]
                       [--damage-windows 4] [--work FOLDER] [--lieq PROGRAM] [--json FILE]

A row for each model and kind of run: seconds, memory and disk as estimated; seconds by the clock,
seconds of processor time over the threads, peak memory and disk as they were; and the factors,
estimate over truth. Estimates of time are for a machine with nothing else to do: on a busy one
compare with the processor's seconds. The first dry run of a model times this machine; the second,
which is the one that counts, remembers that.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = {
    "rtn": ["--uniform", "4", "--method", "rtn"],
    "gptq": ["--uniform", "4", "--method", "gptq"],
    "best": ["--uniform", "4", "--method", "best"],
    "bpw": ["--bpw", "3", "--method", "gptq"],
}


def folder_bytes(folder):
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:  # renamed meanwhile
                pass
    return total


class DiskWatch(threading.Thread):
    """The most bytes that lie below a folder while a run works."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self.over = folder, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            self.most = max(self.most, folder_bytes(self.folder))


def call(words):
    """Record printed, wall seconds and processor seconds of a command."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), wall, processor


def measure(model, kind, options):
    with tempfile.TemporaryDirectory(dir=options.work) as place:
        out = pathlib.Path(place) / "out"
        words = [options.lieq, "quantize", model, "-o", out, "--json", "-q", *ROWS[kind]]
        words += ["--samples", options.samples]
        if kind == "bpw":
            words += ["--damage-windows", options.damage_windows]
        if options.threads:
            words += ["--threads", options.threads]
        _, first, _ = call([*words, "--dry-run"])
        said, dry, _ = call([*words, "--dry-run"])
        if os.listdir(place):
            raise SystemExit(f"the dry run left {os.listdir(place)}")
        watch = DiskWatch(place)
        watch.start()
        _, wall, processor = call(words)
        watch.over.set()
        watch.join()
        run = json.loads((out / "run.json").read_text())
        return {"first_dry_seconds": first, "dry_seconds": dry, "said": said, "seconds": wall,
                "processor_seconds": processor, "threads": run["threads"],
                "peak_bytes": run["peak_bytes"], "disk_bytes": max(watch.most, folder_bytes(place)),
                "bytes": folder_bytes_of_weights(out)}


def folder_bytes_of_weights(out):
    return sum(file.stat().st_size for file in out.glob("*.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME=FOLDER",
                        default=[f"qwen3-24l={ROOT.parent / 'shared/models/qwen3-24l'}",
                                 f"smollm2-135m={ROOT.parent / 'models/smollm2-135m'}"])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--damage-windows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", help="where results go and are removed (default: TMPDIR)")
    parser.add_argument("--json", type=pathlib.Path, help="keep all figures in this file")
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    options = parser.parse_args()

    print(f"{'model':<14}{'run':<6}{'dry s':>7}{'said s':>9}{'s':>8}{'cpu s':>8}{'factor':>8}"
          f"{'by cpu':>8}{'said MB':>9}{'MB':>8}{'factor':>8}{'said disk':>11}{'disk MB':>9}")
    kept = []
    for model in options.models:
        name, _, folder = model.partition("=")
        for kind in options.rows:
            row = {"model": name, "run": kind, **measure(folder, kind, options)}
            kept.append(row)
            said, cpu = row["said"], row["processor_seconds"] / row["threads"]
            megabytes = [value / 1e6 for value in (said["memory_bytes"], row["peak_bytes"],
                                                   said["disk_bytes"], row["disk_bytes"])]
            print(f"{name:<14}{kind:<6}{row['dry_seconds']:>7.1f}{said['seconds']:>9.1f}"
                  f"{row['seconds']:>8.1f}{cpu:>8.1f}{said['seconds'] / row['seconds']:>8.2f}"
                  f"{said['seconds'] / cpu:>8.2f}{megabytes[0]:>9.0f}{megabytes[1]:>8.0f}"
                  f"{megabytes[0] / megabytes[1]:>8.2f}{megabytes[2]:>11.0f}{megabytes[3]:>9.0f}",
                  flush=True)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
