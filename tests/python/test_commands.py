"""Commands as functions, against the program's own output and files."""

import ast
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import lieq
import numpy as np
from support import CALIBRATION, PROGRAM, SAMPLE, TEXT, InFolder, program, without

# Machine and time.
MEASURED = ("seconds", "peak_bytes")
FAST = dict(method="gptq", samples=8, context=64, calibration=CALIBRATION)
FAST_WORDS = [*"--method gptq --samples 8 --context 64 --calibration".split(), CALIBRATION]


def files_of(folder, program_name=""):
    """Bytes by name of file, less the program's name in them."""
    contents = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            contents[name] = file.read().replace(program_name.encode(), b"")
    return contents


class Records(InFolder):
    def test_inspect(self):
        self.assertEqual(lieq.inspect(SAMPLE), program("inspect", SAMPLE))

    def test_a_model_stands_for_its_path(self):
        self.assertEqual(lieq.inspect(lieq.open(SAMPLE)), program("inspect", SAMPLE))

    def test_evaluate(self):
        found = lieq.evaluate(SAMPLE, text=TEXT, context=128, samples=2)
        expected = program("evaluate", SAMPLE, "--text", TEXT, "--context", "128", "--samples", "2")
        self.assertGreater(found["perplexity"], 1)
        self.assertEqual(without(found, *MEASURED), without(expected, *MEASURED))

    def test_diagnose(self):
        expected = program("diagnose", SAMPLE, "-o", self.path("a.json"), "--text", TEXT,
                           "--context", "128", "--samples", "2", "--calibration", CALIBRATION)  # fmt: skip
        found = lieq.diagnose(SAMPLE, text=TEXT, context=128, samples=2, calibration=[CALIBRATION])
        self.assertEqual(len(found["layers"]), 6)
        self.assertEqual(found, expected)

    def test_an_output_that_is_asked_for_is_written(self):
        found = lieq.diagnose(SAMPLE, self.path("d.json"), inputs="weights")
        with open(self.path("d.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), found)

    def test_plan_from_a_record(self):
        diagnosis = lieq.diagnose(SAMPLE, self.path("d.json"), calibration=CALIBRATION)
        found = lieq.plan(SAMPLE, diagnostics=diagnosis, bits=2.5, widths=(2, 3))
        expected = program("plan", SAMPLE, "-o", self.path("p.json"), "--bits", "2.5",
                           "--widths", "2,3", "--diagnostics", self.path("d.json"))  # fmt: skip
        self.assertEqual({row["bits"] for row in found["layers"]}, {2, 3})
        self.assertEqual(found, expected)

    def test_quantize_writes_the_programs_bytes(self):
        found = lieq.quantize(SAMPLE, self.path("ours"), uniform=2, group_size=32, **FAST)
        expected = program("quantize", SAMPLE, "-o", self.path("theirs"), "--uniform", "2",
                           "--group-size", "32", *FAST_WORDS)  # fmt: skip
        # The package and the program may be of two commits, which "program" names.
        varying = ("output", "program", *MEASURED)
        self.assertEqual(without(found, *varying), without(expected, *varying))
        ours = files_of(self.path("ours"), found["program"])
        theirs = files_of(self.path("theirs"), expected["program"])
        self.assertEqual(set(ours), set(theirs))
        self.assertEqual([name for name in ours if ours[name] != theirs[name]], ["run.json"])

    def test_quantize_takes_a_plan_as_a_record(self):
        plan = lieq.plan(SAMPLE, high_layers=2, ranking="first")
        lieq.quantize(SAMPLE, self.path("out"), plan=plan, method="rtn")
        self.assertEqual(lieq.inspect(self.path("out"))["layer_bits"], [4, 4, 2, 2, 2, 2])

    def test_dry_run_writes_nothing(self):
        record = lieq.quantize(SAMPLE, self.path("out"), uniform=4, method="rtn", dry_run=True)
        self.assertEqual(record["kind"], "estimate")
        self.assertFalse(os.path.exists(self.path("out")))

    def test_verify_finds_a_difference(self):
        for bits in (2, 3):
            lieq.quantize(SAMPLE, self.path(str(bits)), uniform=bits, method="rtn")
        exported = lieq.export(self.path("2"), self.path("2.gguf"), to="gguf")
        self.assertTrue(exported["verified"])
        self.assertTrue(lieq.verify(self.path("2.gguf"), against=self.path("2"))["equal"])
        self.assertFalse(lieq.verify(self.path("2.gguf"), against=self.path("3"))["equal"])

    def test_a_packed_file_is_the_model_it_was_made_from(self):
        lieq.quantize(SAMPLE, self.path("2"), uniform=2, method="rtn")
        record = lieq.pack(self.path("2"), self.path("packed"))
        self.assertEqual(record["bytes"], os.path.getsize(self.path("packed")))
        self.assertTrue(lieq.verify(self.path("packed"))["equal"])
        ids = lieq.generate(self.path("2"), prompt="The", new_tokens=6, kernels="packed")["ids"]
        self.assertEqual(lieq.generate(self.path("packed"), prompt="The", new_tokens=6)["ids"], ids)

    def test_plan_diff_and_report(self):
        plans = [lieq.plan(SAMPLE, uniform=bits) for bits in (2, 4)]
        difference = lieq.plan_diff(*plans)
        self.assertEqual(difference["kind"], "plan difference")
        self.assertFalse(difference["agree"])
        self.assertTrue(lieq.plan_diff(plans[0], plans[0])["agree"])
        report = lieq.report([plans[0]], self.path("r.html"))
        self.assertEqual(report["records"], 1)
        self.assertEqual(report["bytes"], os.path.getsize(report["output"]))

    def test_plan_for_another_tool_wants_an_output(self):
        with self.assertRaises(ValueError):
            lieq.plan(SAMPLE, uniform=2, as_="mlx")
        record = lieq.plan(SAMPLE, self.path("mlx.py"), uniform=2, as_="mlx")
        self.assertEqual(record["kind"], "plan export")
        self.assertTrue(os.path.getsize(self.path("mlx.py")))


class Mistakes(InFolder):
    def test_an_error_has_its_parts_as_attributes(self):
        with self.assertRaises(lieq.Error) as caught:
            lieq.inspect(self.path("none"))
        error = caught.exception
        self.assertIn(self.path("none"), error.where)
        for part in (error.what, error.where):
            self.assertIn(part, str(error))

    def test_a_row_that_a_table_lacks(self):
        with self.assertRaisesRegex(ValueError, "expected .*gptq.*, found 'magic'"):
            lieq.quantize(SAMPLE, self.path("out"), method="magic")

    def test_a_misspelt_value_is_answered_with_the_one_that_was_meant(self):
        for options, meant in [
            (dict(method="gtpq"), "gptq"),
            (dict(offset="simmetric"), "symmetric"),
            (dict(act_order="statik"), "static"),
            (dict(clip="serch"), "search"),
            (dict(grid="q3k"), "q3_k"),
            (dict(for_="ggfu"), "gguf"),
            (dict(ranking="compactnes"), "compactness"),
            (dict(transform=["fuse", "rotat"]), "rotate"),
            (dict(allocation="optimum"), "optimal"),
        ]:
            with self.assertRaisesRegex(ValueError, f"did you mean '{meant}'"):
                lieq.quantize(SAMPLE, self.path("out"), **options)
        with self.assertRaisesRegex(ValueError, "did you mean 'llama.cpp'"):
            lieq.evaluate(SAMPLE, text=TEXT, convention="lama.cpp")
        with self.assertRaisesRegex(ValueError, "did you mean 'layers'"):
            lieq.study("layer", SAMPLE, self.path("out"), texts=TEXT)
        with self.assertRaisesRegex(ValueError, "did you mean 'arc_easy'"):
            lieq.evaluate(SAMPLE, tasks="arc-easy")

    def test_a_misspelt_keyword_is_answered_with_the_one_that_was_meant(self):
        for option, meant in [
            ("grup_size", "group_size"),
            ("group-size", "group_size"),
            ("for", "for_"),
            ("bit", "bits"),
            ("dryrun", "dry_run"),
        ]:
            with self.assertRaisesRegex(TypeError, f"quantize.*'{option}'.*mean '{meant}'"):
                lieq.quantize(SAMPLE, self.path("out"), **{option: 1})
        with self.assertRaisesRegex(TypeError, "no argument 'zzz'$"):
            lieq.quantize(SAMPLE, self.path("out"), zzz=1)

    def test_a_value_of_another_type(self):
        for options in [
            dict(force="no"),
            dict(force=1),
            dict(dry_run=None),
            dict(bits=True),
            dict(bits=[2, 3]),
            dict(bits={"bits": 2}),
            dict(bits=b"2"),
            dict(method=3),
            dict(method=["rtn", "gptq"]),
            dict(plan=3),
            dict(calibration=7),
            dict(calibration=[CALIBRATION, None]),
            dict(calibration={"text": "a"}),
            dict(widths={2, 4}),
            dict(progress="yes"),
        ]:
            with self.subTest(options):
                (name,) = options
                with self.assertRaisesRegex(TypeError, f"^{name}: expected .*, found "):
                    lieq.quantize(SAMPLE, self.path("out"), **options)
        for model in (None, 3, b"x", [SAMPLE], {"a": 1}):
            with self.assertRaisesRegex(TypeError, "^model: expected "):
                lieq.quantize(model, self.path("out"))
        with self.assertRaisesRegex(TypeError, "^output: expected "):
            lieq.quantize(SAMPLE, None)
        with self.assertRaisesRegex(ValueError, "calibration: an empty list"):
            lieq.quantize(SAMPLE, self.path("out"), calibration=[])
        with self.assertRaisesRegex(ValueError, "NUL"):
            lieq.quantize(SAMPLE, self.path("a\0b"), uniform=2)
        self.assertEqual(os.listdir(self.folder), [])

    def test_numbers_of_numpy_are_numbers(self):
        plan = lieq.plan(SAMPLE, uniform=np.int64(2), group_size=np.int32(32))
        self.assertEqual(plan, lieq.plan(SAMPLE, uniform=2, group_size="32"))
        record = lieq.quantize(
            SAMPLE, self.path("out"), high_layers=1, ranking="first", widths=np.array([2, 4]).tolist(),
            damping=np.float32(0.5), dry_run=np.bool_(True), method="rtn")  # fmt: skip
        self.assertEqual(record["kind"], "estimate")

    def test_several_records_are_several(self):
        plans = [lieq.plan(SAMPLE, uniform=bits) for bits in (2, 4)]
        self.assertEqual(lieq.report(plans, self.path("r.html"))["records"], 2)

    def test_a_value_out_of_range(self):
        with self.assertRaisesRegex(ValueError, "--damping: expected 0 to 1, found '2'"):
            lieq.quantize(SAMPLE, self.path("out"), damping=2)

    def test_a_negative_value_is_no_option(self):
        with self.assertRaisesRegex(ValueError, "--damping: expected 0 to 1, found '-1'"):
            lieq.quantize(SAMPLE, self.path("out"), damping=-1)

    def test_an_option_of_another_command(self):
        with self.assertRaisesRegex(TypeError, "to"):
            lieq.quantize(SAMPLE, self.path("out"), to="gguf")

    def test_an_option_that_must_be_given(self):
        with self.assertRaisesRegex(TypeError, "imatrix"):
            lieq.calibrate(SAMPLE)

    def test_nothing_is_left_of_a_command_that_fails(self):
        with self.assertRaises(lieq.Error):
            lieq.quantize(SAMPLE, self.path("out"), uniform=2, calibration=self.path("none"))
        self.assertEqual(os.listdir(self.folder), [])


class WhileItRuns(InFolder):
    def quantize(self, **options):
        return lieq.quantize(SAMPLE, self.path("out"), uniform=2, **FAST, **options)

    def test_progress_goes_through_the_layers(self):
        steps = []
        self.quantize(progress=lambda *step: steps.append(step))
        done = [step[2] for step in steps if step[:2] == ("quantizing", "layer")]
        self.assertEqual(done, list(range(7)))
        self.assertEqual({step[3] for step in steps if step[0] == "quantizing"}, {6})
        last = [step for step in steps if step[0] == "quantizing"][-1]
        self.assertIn("relative error", last[4])

    def test_an_exception_of_progress_stops_it_and_the_next_call_goes_on(self):
        def stop(stage, unit, done, total, note):
            if stage == "quantizing" and done == 2:
                raise RuntimeError("enough")

        with self.assertRaisesRegex(RuntimeError, "enough"):
            self.quantize(progress=stop)
        self.assertFalse(os.path.exists(self.path("out")))
        stages = set()
        self.quantize(progress=lambda stage, *_: stages.add(stage))
        self.assertIn("resuming", stages)

        lieq.quantize(SAMPLE, self.path("whole"), uniform=2, **FAST)
        self.assertEqual(
            without(files_of(self.path("out")), "run.json"),
            without(files_of(self.path("whole")), "run.json"),
        )

    def test_control_c_stops_it(self):
        # One without messages and progress: Python runs nothing that would see the signal.
        def threads():
            return len(os.listdir("/proc/self/task"))

        def interrupt():
            waiting.set()
            while threads() == before:  # the command's own are not there yet
                time.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)

        waiting = threading.Event()
        before = threads() + 1
        interrupter = threading.Thread(target=interrupt, daemon=True)
        interrupter.start()
        waiting.wait()
        with self.assertRaises(KeyboardInterrupt):
            lieq.diagnose(SAMPLE, self.path("d.json"), text=TEXT, context=256)
        interrupter.join()
        self.assertFalse(os.path.exists(self.path("d.json")))

    def test_other_threads_run(self):
        turns, seen = 0, []
        worker = threading.Thread(
            target=self.quantize, kwargs={"progress": lambda *_: seen.append(turns)}
        )
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # the interpreter passes on only where it is let go
        self.addCleanup(sys.setswitchinterval, interval)
        worker.start()
        while worker.is_alive():
            turns += 1
            time.sleep(0)
        self.assertGreater(len(set(seen)), 1)  # one if the command held it

    def test_messages_go_to_logging(self):
        with self.assertLogs("lieq", "WARNING") as logs:
            lieq.evaluate(SAMPLE, text=TEXT, context=1024, samples=1000)
        self.assertIn("fewer than --samples 1000", logs.output[0])


class Interface(unittest.TestCase):
    def test_the_help_of_every_command_lists_its_arguments(self):
        for name in ("inspect", "diagnose", "sensitivity", "plan", "plan_diff", "quantize", "study",
                     "evaluate", "export", "verify", "report"):  # fmt: skip
            words = name.split("_") if name == "plan_diff" else [name]
            help_words = [PROGRAM, *words, "--help"]
            page = subprocess.run(help_words, capture_output=True, text=True).stdout
            for parameter in inspect.signature(getattr(lieq, name)).parameters.values():
                of_python = ("progress", "executor", "parts")
                if parameter.name in of_python or parameter.kind is not parameter.KEYWORD_ONLY:
                    continue
                option = "--" + parameter.name.rstrip("_").replace("_", "-")
                self.assertIn(option, page, name)
                self.assertIn(f"    {parameter.name}: ", getattr(lieq, name).__doc__)

    def test_the_stub_has_the_functions_and_their_arguments(self):
        stub = os.path.join(os.path.dirname(lieq._lieq.__file__), "_commands.pyi")
        with open(stub, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        stubs = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.assertEqual(list(stubs), lieq._commands.__all__)
        for name, arguments in stubs.items():
            parameters = inspect.signature(getattr(lieq, name)).parameters
            found = [argument.arg for argument in arguments.args + arguments.kwonlyargs]
            self.assertEqual(found, list(parameters), name)

    def test_the_stub_of_tensors_has_what_they_have(self):
        stub = os.path.join(os.path.dirname(lieq._lieq.__file__), "_lieq.pyi")
        with open(stub, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        (body,) = [node.body for node in tree.body if getattr(node, "name", "") == "Tensor"]
        names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        self.assertEqual(names, {name for name in dir(lieq.Tensor) if not name.startswith("_")})

    def test_the_package_runs_as_the_program(self):
        for words in (["inspect", SAMPLE], ["inspect", "none"], ["inspect"]):
            ours, theirs = (
                subprocess.run([*command, *words], capture_output=True)
                for command in ([sys.executable, "-m", "lieq"], [PROGRAM])
            )
            self.assertEqual(
                (ours.returncode, ours.stdout, ours.stderr),
                (theirs.returncode, theirs.stdout, theirs.stderr),
            )


if __name__ == "__main__":
    unittest.main()
