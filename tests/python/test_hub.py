"""Models by their names on the hub, and results sent there: against a server on loopback."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import unittest

import lieq
from hub_server import COMMIT, TOKEN, Hub
from lieq import _hub
from support import CALIBRATION, SAMPLE, TEXT, InFolder, program, without

HAS_HUB = importlib.util.find_spec("huggingface_hub") is not None
NEEDS_HUB = "huggingface_hub is not installed (pip install 'lieq[hub]')"
CARD = b"---\nlicense: mit\nlanguage: en\n---\nThe sample.\n"


def sample_repository():
    """The sample as a repository, with what nobody should bring home."""
    files = {name: pathlib.Path(SAMPLE, name).read_bytes() for name in os.listdir(SAMPLE)}
    return files | {
        "README.md": CARD,
        "modeling_sample.py": b"raise SystemExit('executed')",
        "pytorch_model.bin": b"a pickle",
        "consolidated.safetensors": b"the same weights again",
        "onnx/config.json": b"{}",
    }


def run(code, folder, address, **environment):
    """Python code in a process of its own, since huggingface_hub reads the environment once."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    kept |= {"HF_ENDPOINT": address, "HF_HOME": os.path.join(folder, "hf"), "HF_HUB_DISABLE_XET": "1"}
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | environment
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=kept, text=True,
                          capture_output=True, timeout=240)  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Names(InFolder):
    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_one_slash_between_plain_words_is_a_name(self):
        for name in ("Qwen/Qwen3-0.6B", "a/b", "org_1/x.y-z"):
            self.assertTrue(_hub._is_name(name), name)

    def test_a_path_is_none(self):
        for path in ("", "/", "a", "a/", "/a/b", "./a", "../a", "a/../b", "a/b/c", "~/model", "a b/c", "a/b\n", "a//b"):
            self.assertFalse(_hub._is_name(path), path)

    def test_what_is_there_is_a_path(self):
        os.mkdir("owner")
        self.assertFalse(_hub._is_name("owner/name"))
        os.symlink("nothing", "owner/broken")
        self.assertFalse(_hub._is_name("owner/broken"))

    @unittest.skipIf(HAS_HUB, "huggingface_hub is installed")
    def test_without_the_extra_the_message_says_how_to_download(self):
        with self.assertRaises(lieq.Error) as raised:
            lieq.inspect("owner/name")
        self.assertIn("hf download owner/name", raised.exception.hint)
        with self.assertRaises(lieq.Error) as raised:
            lieq.open("owner/name")
        self.assertIn("hf download owner/name", raised.exception.hint)


class PushIsRefused(InFolder):
    def test_what_is_no_result(self):
        with self.assertRaises(lieq.Error) as raised:
            lieq.push(SAMPLE, "me/sample")
        self.assertEqual(raised.exception.where, os.path.join(SAMPLE, "lieq.json"))
        self.assertIn("expected: a result", str(raised.exception))

    def test_a_name_that_is_none(self):
        for name in ("sample", "me/my/sample", "", None, "me/ sample"):
            with self.assertRaises(lieq.Error) as raised:
                lieq.push(self.folder, name)
            self.assertEqual(raised.exception.found, repr(name))

    @unittest.skipIf(HAS_HUB, "huggingface_hub is installed")
    def test_without_the_extra(self):
        for name in ("lieq.json", "README.md"):
            with open(self.path(name), "w", encoding="utf-8"):
                pass
        with self.assertRaises(lieq.Error) as raised:
            lieq.push(self.folder, "me/sample")
        self.assertIn("lieq[hub]", raised.exception.hint)


@unittest.skipUnless(HAS_HUB, NEEDS_HUB)
class Download(InFolder):
    def test_a_name_stands_for_its_snapshot(self):
        with Hub({"some/sample": sample_repository()}) as hub:
            out = run("""
                import lieq, json
                print(json.dumps(lieq.inspect("some/sample")))
                print(lieq.open("some/sample").path)
                """, self.folder, hub.address)  # fmt: skip

        record, path = out.splitlines()
        self.assertIn(f"models--some--sample/snapshots/{COMMIT}", path)
        self.assertEqual(without(json.loads(record), "model", "path"),
                         without(program("inspect", SAMPLE), "model", "path"))  # fmt: skip

    def test_names_in_a_list_and_as_an_option(self):
        with Hub({"some/sample": sample_repository()}) as hub:
            out = run(f"""
                import lieq
                found = lieq.evaluate(["some/sample"], text={TEXT!r}, reference="some/sample", context=64, samples=1)
                print(found["reference"]["mean_kl"])
                """, self.folder, hub.address)  # fmt: skip

        self.assertEqual(float(out), 0)

    def test_nothing_that_could_be_executed_is_brought(self):
        with Hub({"some/sample": sample_repository()}) as hub:
            run("import lieq; lieq.open('some/sample')", self.folder, hub.address)

            self.assertEqual(hub.fetched("some/sample"), sorted(["README.md", *os.listdir(SAMPLE)]))

    def test_once_brought_it_needs_no_network(self):
        with Hub({"some/sample": sample_repository()}) as hub:
            run("import lieq; lieq.open('some/sample')", self.folder, hub.address)
            address = hub.address

        out = run("import lieq; print(len(lieq.open('some/sample')))", self.folder, address, HF_HUB_OFFLINE="1")
        self.assertEqual(int(out), len(lieq.open(SAMPLE)))
        run("import lieq; lieq.open('some/sample')", self.folder, address)  # nobody listens there

    def test_where_the_hub_is_not_reached_the_message_says_how_to_download(self):
        with Hub() as hub:
            address = hub.address  # nobody listens there, once it is closed
        for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
            out = run("""
                import lieq
                try:
                    lieq.inspect("some/sample")
                except lieq.Error as error:
                    print(error.what, error.hint, sep="|")
                """, self.folder, address, **environment)  # fmt: skip
            self.assertEqual(out.split("|")[0], "no such folder")
            self.assertIn("hf download some/sample", out)

    def test_what_the_hub_refuses_is_said(self):
        with Hub({"some/gated": sample_repository()}) as hub:
            hub.gated.add("some/gated")
            for name, status in (("some/unknown", 401), ("some/gated", 403)):
                out = run(f"""
                    import lieq
                    try:
                        lieq.open("{name}")
                    except lieq.Error as error:
                        print(error.where, error.found, error.hint, sep="|")
                    """, self.folder, hub.address)  # fmt: skip
                self.assertEqual(out.split("|")[:2], [name, f"HTTP status {status}"])
                self.assertIn("hf auth login", out)

    def test_a_path_asks_nobody(self):
        with Hub() as hub:
            run(f"import lieq; lieq.inspect({SAMPLE!r}); lieq.open({SAMPLE!r})", self.folder, hub.address)
            self.assertEqual(hub.asked, [])


@unittest.skipUnless(HAS_HUB, NEEDS_HUB)
class FromTheHubAndBack(InFolder):
    """Quantizes a model by its name and sends the result: one process, since it takes a while."""

    def test_a_result_arrives_whole_with_its_card(self):
        with Hub({"some/sample": sample_repository()}) as hub:
            out = run(f"""
                import lieq, pathlib
                lieq.quantize("some/sample", "out", method="rtn", uniform=4, calibration={CALIBRATION!r})
                pathlib.Path("out/notes.py").write_text("not ours")
                print(lieq.push("out", "me/sample-4", message="four bits"))
                print(lieq.verify("out", against="out")["equal"])
                """, self.folder, hub.address, HF_TOKEN=TOKEN)  # fmt: skip

            self.assertEqual(out.splitlines(), [f"{hub.address}/me/sample-4", "True"])
            self.assertIn("four bits", hub.message)
            sent = hub.repositories["me/sample-4"]
        self.assertEqual(set(sent), set(os.listdir(self.path("out"))) - {"notes.py", "run.json"})
        for name, data in sent.items():
            with open(os.path.join(self.path("out"), name), "rb") as file:
                self.assertEqual(file.read(), data, name)
        card = sent["README.md"].decode()
        self.assertIn("base_model: some/sample", card)
        self.assertIn("license: mit", card)

    def test_a_token_that_may_not_write(self):
        for name in ("lieq.json", "README.md"):
            with open(self.path(name), "w", encoding="utf-8"):
                pass
        with Hub() as hub:
            out = run("""
                import lieq
                try:
                    lieq.push(".", "me/sample")
                except lieq.Error as error:
                    print(error.what, error.found, sep="|")
                """, self.folder, hub.address, HF_TOKEN="hf_anotherOne")  # fmt: skip
            self.assertEqual(out.strip(), "the hub did not take it|HTTP status 401")
            self.assertEqual(hub.repositories, {})


if __name__ == "__main__":
    unittest.main()
