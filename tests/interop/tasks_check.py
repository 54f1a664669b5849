#!/usr/bin/env python3
"""Whether lm-evaluation-harness on transformers gives the same answers to zero-shot tasks.

Prompts, choices and metrics are those of the harness's own task files; only where their data sets lie
is changed, from the hub to files made of the original layouts (LIEQ_TASKS, default ../shared/tasks).
The first LIEQ_TASK_LIMIT questions of each task (default 200), of a few subjects of MMLU 20. Both run in float32.
An answer may differ where the harness's own two best choices are closer than TIE.

    tests/interop/tasks_check.py --lieq build/release/lieq --text ANY MODEL...
"""

import csv
import json
import logging
import os
import pathlib
import tempfile

import lm_eval
import torch
import transformers
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import common

TASKS = pathlib.Path(os.environ.get("LIEQ_TASKS", "../shared/tasks"))
LIMIT = int(os.environ.get("LIEQ_TASK_LIMIT", "200"))
SUBJECTS, SUBJECT_LIMIT = ("anatomy", "astronomy", "world_religions"), 20
TIE = 1e-3
HARNESS = pathlib.Path(lm_eval.__file__).parent / "tasks"


def rows_of(path):
    with open(TASKS / path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def piqa():
    labels = (TASKS / "piqa/valid-labels.lst").read_text().split()
    return [{**row, "label": int(label)} for row, label in zip(rows_of("piqa/valid.jsonl"), labels)]


def choices_of(path, stem):
    return [{stem: row["question"]["stem"], "answerKey": row["answerKey"],
             "choices": {"text": [each["text"] for each in row["question"]["choices"]],
                         "label": [each["label"] for each in row["question"]["choices"]]}}
            for row in rows_of(path)]


def super_glue(path):
    return [{**row, "label": int(row["label"])} for row in rows_of(path)]


def hellaswag():
    # Our copy has ctx alone; the harness joins ctx_a and ctx_b with a space that it strips again.
    return [{"activity_label": row["activity_label"], "ctx_a": row["ctx"], "ctx_b": "", "endings": row["endings"],
             "label": str(row["label"])} for row in rows_of("hellaswag/hellaswag_val.jsonl")]


def mmlu(split, subject):
    with open(TASKS / "mmlu" / split / f"{subject}_{split}.csv", encoding="utf-8", newline="") as file:
        return [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in csv.reader(file)]


# name: the harness's file, the split it evaluates on, rows in the hub's layout
FILES = {
    "piqa": ("piqa/piqa.yaml", "validation", piqa),
    "arc_easy": ("arc/arc_easy.yaml", "test", lambda: choices_of("arc_easy/ARC-Easy-Test.jsonl", "question")),
    "arc_challenge": ("arc/arc_challenge.yaml", "test",
                      lambda: choices_of("arc_challenge/ARC-Challenge-Test.jsonl", "question")),
    "boolq": ("super_glue/boolq/default.yaml", "validation", lambda: super_glue("boolq/val.jsonl")),
    "hellaswag": ("hellaswag/hellaswag.yaml", "validation", hellaswag),
    "winogrande": ("winogrande/default.yaml", "validation", lambda: rows_of("winogrande/dev.jsonl")),
    "openbookqa": ("openbookqa/openbookqa.yaml", "test", lambda: choices_of("openbookqa/test.jsonl", "question_stem")),
    "copa": ("super_glue/copa/default.yaml", "validation", lambda: super_glue("copa/val.jsonl")),
}


def write_task(folder, name, include, splits, extra):
    """A task file that takes all from the harness's but the data, which lies in `folder`."""
    files = {}
    for split, rows in splits.items():
        files[split] = str(folder / f"{name}.{split}.jsonl")
        with open(files[split], "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    task = {"include": str(HARNESS / include), "task": "lieq_" + name, "tag": None, "dataset_path": "json",
            "dataset_name": None, "dataset_kwargs": {"data_files": files}, "training_split": None,
            "validation_split": None, "test_split": None, **extra}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))


def write_tasks(folder):
    for name, (include, split, rows) in FILES.items():
        write_task(folder, name, include, {split: rows()[:LIMIT]}, {f"{split}_split": split})
    for subject in SUBJECTS:
        write_task(folder, "mmlu_" + subject, f"mmlu/default/mmlu_{subject}.yaml",
                   {"dev": mmlu("dev", subject), "test": mmlu("test", subject)[:SUBJECT_LIMIT]},
                   {"test_split": "test", "fewshot_split": "dev"})


def harness(model, folder):
    """{task: [(gold, log likelihoods, right, right by length or none)]}, {task: (acc, error, norm, error)}"""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(model, "tokenizer.json"))
    tokenizer.eos_token = "<|endoftext|>"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    wrapped = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=8, device="cpu")
    answers, figures = {}, {}
    for shots, names in ((0, list(FILES)), (5, ["mmlu_" + subject for subject in SUBJECTS])):
        results = lm_eval.simple_evaluate(
            wrapped, tasks=["lieq_" + name for name in names], num_fewshot=shots, log_samples=True,
            task_manager=TaskManager(include_path=str(folder)), bootstrap_iters=100)
        for name in names:
            figure = results["results"]["lieq_" + name]
            figures[name] = [figure.get(key) for key in
                             ("acc,none", "acc_stderr,none", "acc_norm,none", "acc_norm_stderr,none")]
            samples = sorted(results["samples"]["lieq_" + name], key=lambda sample: sample["doc_id"])
            answers[name] = [([float(each[0]) for each in sample["filtered_resps"]], sample["acc"],
                              sample.get("acc_norm")) for sample in samples]
    return answers, figures


def ours(lieq, model, folder, name, tasks, limit):
    predictions = os.path.join(folder, "predictions.jsonl")
    record = json.loads(common.run(lieq, "evaluate", model, "--tasks", tasks, "--task-data", str(TASKS), "--limit",
                                   str(limit), "--predictions", predictions, "--json"))["tasks"][0]
    with open(predictions, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    if "subjects" in record:
        subject = name.removeprefix("mmlu_")
        record = next(each for each in record["subjects"] if each["name"] == subject)
        lines = [line for line in lines if line["subject"] == subject]
    return record, lines


def main():
    arguments = common.arguments(__doc__)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    table = common.Table("model", "task", "questions", "answers that differ", "ties", "largest difference, nats",
                         "acc", "acc_norm")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_tasks(folder)
            answers, figures = harness(model, folder)
            for task, theirs in answers.items():
                subject = task.startswith("mmlu_")
                record, lines = ours(arguments.lieq, model, name, task, "mmlu" if subject else task,
                                     SUBJECT_LIMIT if subject else LIMIT)
                differ = ties = 0
                apart = 0.0
                for line, (likelihoods, right, right_by_length) in zip(lines, theirs, strict=True):
                    apart = max(apart, *(abs(a - b) for a, b in zip(line["log_likelihoods"], likelihoods, strict=True)))
                    same = (line["chosen"] == line["gold"]) == bool(right) and \
                        line["chosen"] == max(range(len(likelihoods)), key=likelihoods.__getitem__)
                    if right_by_length is not None:
                        same = same and (line["chosen_normalized"] == line["gold"]) == bool(right_by_length)
                    best = sorted(likelihoods)[-2:]
                    tied = best[1] - best[0] < TIE
                    ties += tied
                    differ += not same and not tied
                pairs = [(record["accuracy"], figures[task][0]), (record["accuracy_error"], figures[task][1])]
                if "normalized" in record:
                    pairs += [(record["normalized"], figures[task][2]), (record["normalized_error"], figures[task][3])]
                equal = all(abs(a - b) < 1e-9 for a, b in pairs) or ties > 0
                cells = ["%.4f ± %.4f" % tuple(figures[task][i : i + 2]) if figures[task][i] is not None else ""
                         for i in (0, 2)]
                table.row(differ == 0 and equal, common.name_of(model), task, len(lines), differ, ties,
                          "%.1e" % apart, *cells)
    table.finish()


main()
