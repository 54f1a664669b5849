#!/usr/bin/env python3
"""Whether `lieq evaluate --tasks` answers as lm-evaluation-harness with transformers does, item by item.

The prompts, targets, normalisation and metrics are lm-eval's own: each task includes the YAML that comes
with lm-eval and replaces only its data set, by the original files of a folder turned into the hub's
fields. Two steps, since the first takes long:

    lm_eval_tasks.py MODEL --limit 200 --reference-out REFERENCE      # lm-eval: float32, on the processor
    lm_eval_tasks.py --reference REFERENCE --predictions PREDICTIONS  # of lieq evaluate --predictions

The second prints a table, task by task; exit code 1 where an answer or an accuracy differs.
"""

import argparse
import csv
import json
import math
import os
import sys
import tempfile

import common

# Log-likelihoods of float32 sums in another order; those seen are below 3e-5.
TOLERANCE = 1e-3


def lines_of(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def labels_of(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return [line.strip() for line in file]


def piqa(folder):
    labels = labels_of(folder, "valid-labels.lst")
    return [dict(item, label=int(label)) for item, label in zip(lines_of(folder, "valid.jsonl"), labels)]


def question(item):
    choices = item["question"]["choices"]
    return {"question": item["question"]["stem"], "question_stem": item["question"]["stem"],
            "choices": {"text": [each["text"] for each in choices], "label": [each["label"] for each in choices]},
            "answerKey": item["answerKey"]}


def hellaswag(name):
    # The original has the context also in two parts, of which lm-eval capitalizes the second; a file
    # with `ctx` alone gives it as the first part, so that it stays as it is.
    return lambda folder: [dict(item, ctx_a=item.get("ctx_a", item["ctx"]), ctx_b=item.get("ctx_b", ""),
                                label=str(item["label"])) for item in lines_of(folder, name)]


def boolq(folder):
    return [dict(item, label=int(item["label"])) for item in lines_of(folder, "val.jsonl")]


def mmlu(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in csv.reader(file)]


# name: lm-eval's YAML, folder of the data, its reader.
TASKS = {
    "piqa": ("piqa/piqa.yaml", "piqa", piqa),
    "arc_easy": ("arc/arc_easy.yaml", "arc_easy",
                 lambda folder: [question(item) for item in lines_of(folder, "ARC-Easy-Test.jsonl")]),
    "arc_challenge": ("arc/arc_challenge.yaml", "arc_challenge",
                      lambda folder: [question(item) for item in lines_of(folder, "ARC-Challenge-Test.jsonl")]),
    "boolq": ("super_glue/boolq/default.yaml", "boolq", boolq),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag", hellaswag("hellaswag_val.jsonl")),
    "winogrande": ("winogrande/default.yaml", "winogrande", lambda folder: lines_of(folder, "dev.jsonl")),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa",
                   lambda folder: [question(item) for item in lines_of(folder, "test.jsonl")]),
    "copa": ("super_glue/copa/default.yaml", "copa", lambda folder: lines_of(folder, "val.jsonl")),
}
# Not among "all": the part of HellaSwag whose contexts lm-eval leaves as they are.
WIKIHOW = {"hellaswag_wikihow": ("hellaswag/hellaswag.yaml", "hellaswag", hellaswag("hellaswag_val.wikihow.jsonl"))}


def subjects(data):
    names = sorted(os.listdir(os.path.join(data, "mmlu", "test")))
    return ["mmlu_" + name[: -len("_test.csv")] for name in names if name.endswith("_test.csv")]


def write_split(path, items):
    with open(path, "w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item) + "\n")
    return path


def write_task(name, data, folder):
    """lm-eval's configuration of one task over local files. Returns the number of its shots."""
    import lm_eval.tasks

    root = os.path.dirname(lm_eval.tasks.__file__)
    config = {"task": name, "tag": [], "dataset_path": "json", "dataset_name": None, "training_split": None,
              "validation_split": None, "test_split": "test"}
    if name.startswith("mmlu_"):
        subject = name[len("mmlu_") :]
        config["include"] = os.path.join(root, "mmlu/default", name + ".yaml")
        files = {split: mmlu(os.path.join(data, "mmlu", split, "%s_%s.csv" % (subject, split)))
                 for split in ("dev", "test")}
    else:
        yaml, place, read = (TASKS | WIKIHOW)[name]
        config["include"] = os.path.join(root, yaml)
        files = {"test": read(os.path.join(data, place))}
    config["dataset_kwargs"] = {"data_files": {split: write_split(os.path.join(folder, name + "." + split + ".json"),
                                                                  items) for split, items in files.items()}}
    with open(os.path.join(folder, name + ".yaml"), "w", encoding="utf-8") as file:
        json.dump(config, file)  # JSON is YAML
    return 5 if name.startswith("mmlu_") else None


def gold_of(sample):
    """The target's index; a task of several contexts (winogrande) scores one text, so takes its answer."""
    if "answer" in sample["doc"] and isinstance(sample["doc"]["answer"], str):
        return "12".index(sample["doc"]["answer"])
    return int(sample["doc"]["label"]) if "premise" in sample["doc"] else int(sample["target"])


def evaluate(arguments):
    """Runs lm-eval and writes one line for each item, and one with the results of each task."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_CACHE=os.path.join(folder, "cache"))
        import lm_eval
        import torch
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        model = HFLM(pretrained=arguments.model, dtype="float32", device="cpu", batch_size=arguments.batch)
        check_tokenizer(model, arguments.model)
        shots = {name: write_task(name, arguments.data, folder) for name in arguments.tasks}
        manager = TaskManager(include_path=folder, include_defaults=False)
        with open(arguments.reference_out, "w", encoding="utf-8") as out:
            for name in arguments.tasks:
                done = lm_eval.simple_evaluate(model, tasks=[name], num_fewshot=shots[name], limit=arguments.limit,
                                               task_manager=manager, log_samples=True, bootstrap_iters=1)
                for sample in sorted(done["samples"][name], key=lambda each: each["doc_id"]):
                    calls = [list(each["arguments"]) if isinstance(each, dict) else list(each)
                             for each in arguments_of(sample)]
                    line = {"task": name, "index": sample["doc_id"], "gold": gold_of(sample),
                            "log_likelihoods": [float(each[0][0]) for each in sample["resps"]],
                            "acc": sample["acc"], "acc_norm": sample.get("acc_norm"),
                            "contexts": [each[0] for each in calls], "continuations": [each[1] for each in calls]}
                    out.write(json.dumps(line) + "\n")
                results = {key.split(",")[0]: value for key, value in done["results"][name].items()
                           if key.endswith(",none")}
                out.write(json.dumps({"task": name, "results": results}) + "\n")
                out.flush()
                print(name, results, flush=True)


def arguments_of(sample):
    """(context, continuation) of each choice, as this version of lm-eval keeps them."""
    kept = sample["arguments"]
    if isinstance(kept, dict):
        kept = [list(each.values()) for _, each in sorted(kept.items(), key=lambda pair: int(pair[0].split("_")[-1]))]
    return kept


def check_tokenizer(model, folder):
    """AutoTokenizer may rebuild a tokenizer by its model's name; lm-eval must see that of the folder."""
    import tokenizers

    text = "Question: It's 1234 caf\u00e9s,\n\n  two  spaces?\nAnswer: \u4e2d\u6587"
    ours = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(text).ids
    if list(model.tok_encode(text)) != list(ours):
        sys.exit("lm_eval_tasks.py: transformers' tokenizer is not that of " + folder)


def best(values, lengths):
    """The first of the largest, and how far the next is below, in nats of the shorter of the two."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    return order[0], (values[order[0]] - values[order[1]]) * min(lengths[i] for i in order[:2])


def answers_of(item, mine):
    """(metric, lm-eval's values, what they were divided by, our choice) of each metric of the task."""
    values = item["log_likelihoods"]
    answers = [("acc", values, [1] * len(values), mine["chosen"])]
    if item["acc_norm"] is not None:
        # By characters of the choice, without the space that joins it to the context.
        lengths = [len(text[1:]) for text in item["continuations"]]
        answers.append(("acc_norm", [value / length for value, length in zip(values, lengths)], lengths,
                        mine.get("chosen_normalized")))
    return answers


def compare(reference, predictions):
    items, results = {}, {}
    for line in lines_of(reference):
        if "results" in line:
            results[line["task"]] = line["results"]
        else:
            items.setdefault(line["task"], {})[line["index"]] = line
    ours = {}
    for line in lines_of(predictions):
        name = line["task"] + ("_" + line["subject"] if "subject" in line else "")
        ours.setdefault(name, {})[line["index"]] = line
    shared = [name for name in items if name in ours]
    if not shared:
        sys.exit("lm_eval_tasks.py: the two files have no task in common")
    table = common.Table("task", "items", "acc: lm-eval", "lieq", "acc_norm: lm-eval", "lieq", "answers differ",
                         "ties", "largest difference")
    for name in shared:
        compare_task(table, name, items[name], ours[name])
    table.finish()


def compare_task(table, name, theirs, ours):
    indices = [index for index in theirs if index in ours]
    good, differ, ties, apart = len(indices) == len(theirs) == len(ours), 0, 0, 0.0
    sums = {"acc": [0, 0], "acc_norm": [0, 0]}
    for index in indices:
        item, mine = theirs[index], ours[index]
        good = good and item["gold"] == mine["gold"] and len(item["log_likelihoods"]) == len(mine["log_likelihoods"])
        for left, right in zip(item["log_likelihoods"], mine["log_likelihoods"]):
            apart = max(apart, abs(left - right) / max(1.0, abs(left)))
        for metric, values, lengths, chosen in answers_of(item, mine):
            choice, margin = best(values, lengths)
            if item[metric] != float(choice == item["gold"]):
                sys.exit("lm_eval_tasks.py: %s %d: %s is not of the log-likelihoods kept" % (name, index, metric))
            tied = margin <= TOLERANCE
            ties += tied
            differ += chosen != choice and not tied
            sums[metric][0] += item[metric]
            # A tie may fall either way; it is counted as lm-eval has it.
            sums[metric][1] += item[metric] if tied and chosen != choice else float(chosen == mine["gold"])
    good = good and differ == 0 and apart <= TOLERANCE and all(left == right for left, right in sums.values())
    count = max(len(indices), 1)
    cells = ["%.4f" % (value / count) for value in sums["acc"]]
    has_norm = any(item["acc_norm"] is not None for item in theirs.values())
    cells += ["%.4f" % (value / count) if has_norm else "" for value in sums["acc_norm"]]
    table.row(good and not math.isnan(apart), name, len(indices), *cells, differ, ties, "%.1e" % apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a float model's folder, for the reference")
    parser.add_argument("--tasks", default="all", help="names with commas; all; mmlu; default: all")
    parser.add_argument("--data", default="../shared/tasks", help="the data sets in their original layouts")
    parser.add_argument("--limit", type=int, default=200, help="first items of each task (default 200)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--reference-out", help="run lm-eval on MODEL and write its answers here")
    parser.add_argument("--reference", help="such answers, to compare with")
    parser.add_argument("--predictions", help="what `lieq evaluate --predictions` wrote")
    arguments = parser.parse_args()
    names = []
    for name in arguments.tasks.split(","):
        names += list(TASKS) if name == "all" else subjects(arguments.data) if name == "mmlu" else [name]
    arguments.tasks = names
    if arguments.reference_out and arguments.model:
        evaluate(arguments)
    elif arguments.reference and arguments.predictions:
        compare(arguments.reference, arguments.predictions)
    else:
        parser.error("either MODEL and --reference-out, or --reference and --predictions")


main()
