#!/usr/bin/env python3
"""What calibration on chats gives a chat model.

    bench/chats.py MODEL [--options "..."] [--samples N] [--lieq PROGRAM] [--shared DIR] [--work DIR]

Splits the chats of dolly.sample.jsonl and hh-rlhf.sample.jsonl.gz into halves: every second one is held
out. Quantizes MODEL on the first halves by weight, on calibration.wiki-books.txt, and on both, and
prints the mean divergence from MODEL on the held-out halves, all tokens and answers alone, and on
wikitext2.test.raw: the first N windows of 512 tokens each.
"""
import argparse
import gzip
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def dolly(data):
    for line in (data / "dolly.sample.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        asked = "\n\n".join(filter(None, (row["instruction"], row["context"])))
        yield [("user", asked), ("assistant", row["response"])]


def hh(data):
    turn = re.compile(r"\n\n(Human|Assistant): (.*?)(?=\n\n(?:Human|Assistant): |\Z)", re.S)
    with gzip.open(data / "hh-rlhf.sample.jsonl.gz", "rt", encoding="utf-8") as rows:
        for line in rows:
            yield [("user" if who == "Human" else "assistant", text.strip())
                   for who, text in turn.findall(json.loads(line)["chosen"])]


def split(chats, name, work):
    """Writes the halves and gives their files."""
    chats = [chat for chat in chats
             if len(chat) > 1 and chat[-1][0] == "assistant" and all(text for _, text in chat)]
    files = []
    for half, first in (("calibration", 0), ("held-out", 1)):
        file = work / f"{name}.{half}.jsonl"
        file.write_text("".join(
            json.dumps({"messages": [{"role": r, "content": t} for r, t in chat]}) + "\n"
            for chat in chats[first::2]), encoding="utf-8")
        files.append(file)
    return files


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--options", default="--uniform w2g32 --samples 32 --context 512")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out/chats")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = options.shared / "data"
    halves = {name: split(chats(data), name, options.work)
              for name, chats in (("dolly", dolly), ("hh", hh))}
    book = data / "calibration.wiki-books.txt"
    chats = [f"{files[0]}:1" for files in halves.values()]
    texts = [*((file, more) for _, file in halves.values() for more in ([], ["--score", "answers"])),
             (data / "wikitext2.test.raw", [])]

    print(f"{options.model.name}, `{options.options}`, mean KL, {options.samples} windows of 512\n")
    print("| calibration | dolly | its answers | hh | its answers | WikiText-2 |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, calibration in (("wiki-books", [f"{book}:1"]), ("chats", chats),
                              ("both", [*chats, f"{book}:2"])):
        out = options.work / f"{options.model.name}-{name}"
        if not (out / "lieq.json").exists():
            run(options.lieq, "quantize", options.model, "-o", out, "-q", *options.options.split(),
                "--calibration", *calibration)
        cells = []
        for file, more in texts:
            record = json.loads(run(options.lieq, "evaluate", out, "--reference", options.model,
                                    "--text", file, "--context", "512", "--samples",
                                    str(options.samples), "--json", "-q", *more))
            cells.append(f"{record['reference']['mean_kl']:.4f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
