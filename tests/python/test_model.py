"""Tensors of open models, against files decoded by numpy."""

import gc
import os
import shutil
import tempfile
import unittest

import lieq
import numpy as np
from support import SAMPLE, InFolder, common

# Every kind of offset, a K-quant, whole rows and a width that is no divisor of 32.
GRIDS = {
    "symmetric": dict(uniform=2),
    "half": dict(uniform=2, offset="half", group_size=32),
    "integer": dict(uniform=3, offset="integer", group_size=128),
    "float": dict(uniform=2, offset="float"),
    "rows": dict(uniform=4, group_size="row"),
}


class FloatFolder(unittest.TestCase):
    def setUp(self):
        self.model = lieq.open(SAMPLE)
        self.file = common.tensors_of(SAMPLE)

    def test_has_the_tensors_of_the_files_by_their_names(self):
        self.assertEqual(set(self.model), set(self.file))

    def test_values_are_those_of_the_files(self):
        for name, tensor in self.model.items():
            self.assertEqual(tensor.name, name)
            self.assertEqual(tensor.shape, self.file[name].shape)
            self.assertEqual(tensor.values().dtype, np.float32)
            np.testing.assert_array_equal(tensor.values(), self.file[name], err_msg=name)

    def test_matrices_are_views_of_the_file_and_vectors_are_widened(self):
        matrix = self.model.linear(0, "down")
        self.assertEqual((matrix.dtype, matrix.bits, matrix.bytes), ("BF16", 16, 256 * 768 * 2))
        norm = self.model["model.norm.weight"]
        self.assertEqual((norm.dtype, norm.bits, norm.bytes), ("F32", 32, 256 * 4))

    def test_floats_have_no_codes(self):
        for tensor in self.model.values():
            for part in (tensor.codes, tensor.scales, tensor.zeros, tensor.minima):
                self.assertIsNone(part())
            self.assertIsNone(tensor.grid)

    def test_config_is_the_file(self):
        self.assertEqual(self.model.config, common.config_of(SAMPLE))
        self.assertFalse(self.model.quantized)

    def test_a_tensor_outlives_its_model(self):
        tensor = lieq.open(SAMPLE).linear(2, "v")
        gc.collect()
        np.testing.assert_array_equal(tensor.values(), self.file[tensor.name])

    def test_arrays_are_the_callers_own(self):
        tensor = self.model["model.norm.weight"]
        tensor.values()[:] = 0
        np.testing.assert_array_equal(tensor.values(), self.file[tensor.name])

    def test_linears_go_by_layer_and_site(self):
        name = "model.layers.3.mlp.gate_proj.weight"
        self.assertIs(self.model.linear(3, "gate"), self.model[name])
        with self.assertRaises(KeyError):
            self.model.linear(6, "gate")


class QuantizedFolders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.paths = {}
        for name, options in GRIDS.items():
            cls.paths[name] = os.path.join(cls.folder.name, name)
            lieq.quantize(SAMPLE, cls.paths[name], method="rtn", **options)

    def test_codes_scales_and_offsets_are_those_of_the_files(self):
        for name, path in self.paths.items():
            model, file = lieq.open(path), common.tensors_of(path)
            self.assertTrue(model.quantized)
            for layer in range(6):
                for site in ("q", "k", "v", "o", "gate", "up", "down"):
                    with self.subTest(grid=name, layer=layer, site=site):
                        self.compare(model.linear(layer, site), file)

    def compare(self, tensor, file):
        module = tensor.name.removesuffix(".weight")
        rows, cols = tensor.shape
        codes = common.unpack(file[module + ".weight_packed"], tensor.bits, cols)
        np.testing.assert_array_equal(tensor.codes(), codes)
        np.testing.assert_array_equal(tensor.scales(), file[module + ".weight_scale"])
        self.assertEqual(tensor.codes().dtype, np.uint8)
        self.assertEqual(tensor.scales().shape, (rows, cols // tensor.grid["group_size"]))
        if tensor.grid["offset"] == "integer":
            zeros = common.unpack(file[module + ".weight_zero_point"].T, tensor.bits, rows).T
            np.testing.assert_array_equal(tensor.zeros(), zeros)
        else:
            self.assertIsNone(tensor.zeros())
        if tensor.grid["offset"] == "float":
            np.testing.assert_array_equal(tensor.minima(), file[module + ".weight_minimum"])
        else:
            self.assertIsNone(tensor.minima())

    def test_values_are_those_that_numpy_decodes(self):
        for name, path in self.paths.items():
            model = lieq.open(path)
            for module, values in common.packed_modules(path).items():
                found = model[module + ".weight"].values()
                np.testing.assert_array_equal(found, values, err_msg=f"{name}: {module}")

    def test_values_follow_from_codes_scales_and_the_grid(self):
        for name, path in self.paths.items():
            tensor = lieq.open(path).linear(1, "up")
            wide = [
                None if each is None else np.repeat(each, tensor.grid["group_size"], axis=1)
                for each in (tensor.scales(), tensor.zeros(), tensor.minima())
            ]
            scales, zeros, minima = wide
            codes = tensor.codes().astype(np.float32)
            if minima is not None:
                values = scales * codes + minima
            else:
                values = scales * (codes - (tensor.grid["shared_zero"] if zeros is None else zeros))
            np.testing.assert_array_equal(tensor.values(), values, err_msg=name)

    def test_bits_add_up_to_what_inspect_says(self):
        for name, path in self.paths.items():
            model, said = lieq.open(path), lieq.inspect(path)
            linears = [each for each in model.values() if ".layers." in each.name and each.grid]
            weights = sum(tensor.shape[0] * tensor.shape[1] for tensor in linears)
            self.assertEqual(weights, said["linear_weights"], name)
            stored = sum(tensor.bytes for tensor in linears) * 8 / weights
            self.assertAlmostEqual(stored, said["bits_per_weight"], places=9, msg=name)

    def test_other_containers_give_the_same_arrays(self):
        source = lieq.open(self.paths["symmetric"])
        for container in ("gguf", "gptq", "mlx"):
            path = os.path.join(self.folder.name, "exported." + container)
            lieq.export(self.paths["symmetric"], path, to=container)
            model = lieq.open(path)
            self.assertEqual(set(model), set(source))
            for name, tensor in model.items():
                with self.subTest(container=container, tensor=name):
                    # Codes may be mirrored about zero; values must not differ.
                    self.assertTrue(np.array_equal(tensor.values(), source[name].values()))

    def test_a_k_quant_says_which(self):
        path = os.path.join(self.folder.name, "q2_k")
        lieq.quantize(SAMPLE, path, method="rtn", grid="q2_k")
        tensor = lieq.open(path).linear(0, "q")
        grid = dict(bits=2, group_size=16, offset="float", k_quant="q2_k", shared_zero=0.0)
        self.assertEqual(tensor.grid, grid)
        scales = np.repeat(tensor.scales(), 16, axis=1)
        minima = np.repeat(tensor.minima(), 16, axis=1)
        np.testing.assert_array_equal(tensor.values(), scales * tensor.codes() + minima)

    def test_an_embedding_may_have_codes(self):
        path = os.path.join(self.folder.name, "embedding")
        lieq.quantize(SAMPLE, path, method="rtn", uniform=2, embedding_bits=8)
        tensor = lieq.open(path)["model.embed_tokens.weight"]
        self.assertEqual((tensor.dtype, tensor.bits, tensor.codes().max() > 127), ("U8", 8, True))
        exact = lieq.open(SAMPLE)["model.embed_tokens.weight"].values()
        step = np.repeat(np.abs(tensor.scales()), tensor.grid["group_size"], axis=1)
        # Nearest rounding: half a step, and one more at the end of the range.
        self.assertLessEqual(np.max(np.abs(tensor.values() - exact) / step), 1.5)


class Refusals(InFolder):
    def test_a_folder_that_is_not_there(self):
        with self.assertRaises(lieq.Error) as caught:
            lieq.open(self.path("none"))
        self.assertIn(self.path("none"), caught.exception.where)
        self.assertTrue(caught.exception.what)
        self.assertIn(caught.exception.what, str(caught.exception))

    def test_a_tensor_of_another_shape_says_what_was_expected_and_found(self):
        path = shutil.copytree(SAMPLE, self.path("spoilt"))
        config = os.path.join(path, "config.json")
        with open(config, encoding="utf-8") as file:
            text = file.read()
        with open(config, "w", encoding="utf-8") as file:
            file.write(text.replace('"intermediate_size": 768', '"intermediate_size": 512'))
        with self.assertRaises(lieq.Error) as caught:
            lieq.open(path)
        error = caught.exception
        self.assertIn("512", error.expected)
        self.assertIn("768", error.found)
        self.assertIn("model.layers.0.mlp", error.where)
        self.assertIsInstance(error.hint, str)

    def test_names_of_files_may_hold_any_bytes(self):
        with self.assertRaises(lieq.Error) as caught:
            lieq.open(self.path(os.fsdecode(b"\xff")))
        self.assertTrue(caught.exception.what)


if __name__ == "__main__":
    unittest.main()
