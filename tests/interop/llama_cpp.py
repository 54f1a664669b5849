"""llama.cpp's own C functions, out of the extension module of the package xllamacpp.

The structures of parameters change from version to version and are passed by value, always as the
last argument: a block of bytes that is long enough stands for each of them, and only the first
members of one, which have stayed, are set.
"""

import ctypes
import glob
import importlib.util
import os

import numpy as np


class Params(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def load():
    """The library; None where the package is not installed."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None:
        return None
    lib = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(spec.origin), "xllamacpp*.so"))[0])
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    signatures = {
        "llama_backend_init": (None, []),
        "llama_log_set": (None, [pointer, pointer]),
        "llama_model_default_params": (Params, []),
        "llama_context_default_params": (Params, []),
        "llama_model_load_from_file": (pointer, [text, Params]),
        "llama_init_from_model": (pointer, [pointer, Params]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_vocab_n_tokens": (integer, [pointer]),
        "llama_tokenize": (
            integer,
            [pointer, text, integer, pointer, integer, ctypes.c_bool, ctypes.c_bool],
        ),
        "llama_batch_init": (Batch, [integer, integer, integer]),
        "llama_batch_free": (None, [Batch]),
        "llama_decode": (integer, [pointer, Batch]),
        "llama_get_memory": (pointer, [pointer]),
        "llama_memory_clear": (None, [pointer, ctypes.c_bool]),
        "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [pointer]),
        "llama_free": (None, [pointer]),
        "llama_model_free": (None, [pointer]),
        "ggml_row_size": (ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, text, pointer)(lambda *_: None)
    lib.llama_log_set(ctypes.cast(lib.quiet, pointer), None)
    lib.llama_backend_init()
    return lib


class Model:
    def __init__(self, lib, path, context, threads=2):
        self.lib, self.context = lib, context
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp does not load " + path)
        params = lib.llama_context_default_params()
        first = (ctypes.c_uint32 * 3).from_buffer(params)  # n_ctx, n_batch, n_ubatch
        first[0] = first[1] = first[2] = context
        self.session = lib.llama_init_from_model(self.model, params)
        if not self.session:
            raise RuntimeError("llama.cpp makes no context for " + path)
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.tokens = lib.llama_vocab_n_tokens(self.vocab)

    def close(self):
        self.lib.llama_free(self.session)
        self.lib.llama_model_free(self.model)

    def tokenize(self, text, special=False):
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = self.lib.llama_tokenize(
            self.vocab, data, len(data), ids, len(ids), special, special
        )
        return list(ids[:count])

    def logits(self, ids):
        """[len(ids), vocabulary]: of the token behind each."""
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.session), True)
        status = self.lib.llama_decode(self.session, batch)
        if status != 0:
            raise RuntimeError("llama_decode: %d" % status)
        values = self.lib.llama_get_logits(self.session)
        array = np.ctypeslib.as_array(values, shape=(len(ids), self.tokens)).astype(np.float64)
        self.lib.llama_batch_free(batch)
        return array

    def nll(self, ids):
        """Mean of minus the log probability of each token behind the first."""
        logits = self.logits(ids)[:-1]
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return float((log_sum - logits[np.arange(len(ids) - 1), ids[1:]]).mean())
