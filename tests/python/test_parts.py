"""Commands in parts on executors, against one process."""

import concurrent.futures
import multiprocessing
import os
import unittest

import lieq
from support import CALIBRATION, SAMPLE, TEXT, InFolder, without

MEASURED = ("seconds", "peak_bytes")
WORDS = dict(text=CALIBRATION, context=128, samples=130)  # two batches: of 128 windows, and of two
DAMAGE = dict(method="rtn", calibration=CALIBRATION, samples=2, context=64, damage_windows=2,
              damage_context=64, candidates="w2g32,w4g32")  # fmt: skip


class Here(concurrent.futures.Executor):
    """Runs each task when it is handed over; the first `lost` of them end as on a worker that died."""

    def __init__(self, lost=0, error=RuntimeError("the worker died")):
        self.lost, self.error, self.tasks = lost, error, 0

    def submit(self, function, *arguments):
        self.tasks += 1
        future = concurrent.futures.Future()
        if self.tasks <= self.lost:
            future.set_exception(self.error)
            return future
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future


class Parts(InFolder):
    def test_evaluate_on_processes(self):
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, spawn) as executor:
            found = lieq.evaluate(SAMPLE, executor=executor, threads=1, **WORDS)
        expected = lieq.evaluate(SAMPLE, **WORDS)
        self.assertEqual(without(found, *MEASURED), without(expected, *MEASURED))

    def test_sensitivity_writes_what_one_process_does(self):
        expected = lieq.sensitivity(SAMPLE, self.path("a.json"), **DAMAGE)
        found = lieq.sensitivity(SAMPLE, self.path("b.json"), executor=Here(), parts=3, **DAMAGE)
        self.assertEqual(without(found, "seconds"), without(expected, "seconds"))
        # Parts are gone, codes are shared.
        names = sorted(os.listdir(self.path(".")))
        self.assertEqual(names, ["a.json", "a.json.codes", "b.json", "b.json.codes"])
        codes = [sorted(os.listdir(self.path(each))) for each in ("a.json.codes", "b.json.codes")]
        self.assertEqual(*codes)

    def test_study(self):
        words = dict(texts=[TEXT], calibration=[CALIBRATION], windows=2, lengths="64", samples=2,
                     context=64, method="rtn", group_size=32, most=2)  # fmt: skip
        expected = lieq.study("layers", SAMPLE, self.path("a"), **words)
        found = lieq.study("layers", SAMPLE, self.path("b"), executor=Here(), parts=2, **words)
        self.assertEqual(found, expected)
        self.assertTrue(os.path.exists(self.path("b/study.json")))

    def test_a_part_whose_worker_was_lost_is_done_again(self):
        executor = Here(lost=2)
        seen = []
        found = lieq.evaluate(SAMPLE, executor=executor, parts=2, **WORDS,
                              progress=lambda *step: seen.append(step))  # fmt: skip
        self.assertEqual(executor.tasks, 4)
        self.assertGreater(found["perplexity"], 1)
        self.assertEqual([step[2:4] for step in seen if step[0] == "parts"], [(1, 2), (2, 2)])

    def test_workers_that_are_lost_again_and_again_end_it(self):
        executor = Here(lost=100)
        with self.assertRaisesRegex(RuntimeError, "the worker died"):
            lieq.evaluate(SAMPLE, executor=executor, parts=1, **WORDS)
        self.assertEqual(executor.tasks, 3)

    def test_what_is_wrong_is_not_tried_again(self):
        executor = Here()
        with self.assertRaises(lieq.Error):
            lieq.evaluate(SAMPLE, text=self.path("none.txt"), executor=executor, parts=1)
        self.assertEqual(executor.tasks, 1)

    def test_arguments_that_parts_do_not_take(self):
        with self.assertRaisesRegex(TypeError, "parts: expected"):
            lieq.evaluate(SAMPLE, executor=Here(), parts=0, **WORDS)
        with self.assertRaisesRegex(ValueError, "output"):
            lieq.sensitivity(SAMPLE, executor=Here(), **DAMAGE)
        with self.assertRaisesRegex(TypeError, "takes no argument 'executor'"):
            lieq.inspect(SAMPLE, executor=Here())


if __name__ == "__main__":
    unittest.main()
