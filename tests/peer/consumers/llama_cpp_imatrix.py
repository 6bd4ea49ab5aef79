"""Our importance matrix in llama.cpp's own quantiser, through llama-cpp-python.

    llama_cpp_imatrix.py IMATRIX MODEL TEXT_IDS SCRATCH [OURS...]

IMATRIX is read by ggml's own GGUF reader, as llama-quantize does (in_sum2 / counts), and holds a row for every matrix of MODEL's blocks
(a GGUF file in F32). llama_model_quantize makes files of it with and without: IQ2_XS, which needs one, is refused without, and what it
makes with one is nearer to MODEL's own predictions than without (mean divergence over the tokens of TEXT_IDS, a JSON list).
OURS: files that Lathe made of the same model with the same matrix (`-TYPE.gguf` at the end): nearer than llama.cpp's without a matrix,
and no more than a tenth further than its with one (seen: 7 % further in Q2_K and 6 % in Q3_K_S to 13 % nearer in IQ4_XS).
Prints one JSON line each.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp
import numpy

TYPES = {"Q2_K": 10, "Q3_K_S": 11, "Q4_K_S": 14, "IQ4_XS": 30, "IQ2_XS": 20}  # llama.h: llama_ftype
NEEDED = {"IQ2_XS"}


class Reader(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.POINTER(ctypes.c_void_p))]


def read_tensors(file):
    """general.type, and the values of FP32 tensors by name, by ggml's reader."""
    library = ctypes.CDLL(str(pathlib.Path(llama_cpp.__file__).parent / "lib/libggml-base.so"))
    for name, result in (("gguf_init_from_file", ctypes.c_void_p), ("ggml_get_first_tensor", ctypes.c_void_p),
                         ("ggml_get_next_tensor", ctypes.c_void_p), ("ggml_get_name", ctypes.c_char_p), ("ggml_get_data", ctypes.c_void_p),
                         ("ggml_nelements", ctypes.c_int64), ("gguf_find_key", ctypes.c_int64), ("gguf_get_val_str", ctypes.c_char_p)):
        getattr(library, name).restype = result
    context = ctypes.c_void_p()
    file_handle = library.gguf_init_from_file(str(file).encode(), Reader(False, ctypes.pointer(context)))
    assert file_handle, f"ggml can't read {file}"
    kind_at = library.gguf_find_key(ctypes.c_void_p(file_handle), b"general.type")
    kind = library.gguf_get_val_str(ctypes.c_void_p(file_handle), ctypes.c_int64(kind_at)).decode() if kind_at >= 0 else "model"
    tensors, tensor = {}, library.ggml_get_first_tensor(context)
    while tensor:
        handle = ctypes.c_void_p(tensor)
        if ctypes.c_int32.from_address(tensor).value == 0:  # its type, F32; all bytes together are a tensor, too
            values = (ctypes.c_float * library.ggml_nelements(handle)).from_address(library.ggml_get_data(handle))
            tensors[library.ggml_get_name(handle).decode()] = numpy.array(values, dtype=numpy.float32)
        tensor = library.ggml_get_next_tensor(context, handle)
    return kind, tensors


def importances(file):
    """llama-quantize's load_imatrix: sums of squares over counts."""
    kind, tensors = read_tensors(file)
    assert kind == "imatrix", f"general.type is {kind}"
    found = {}
    for name in (name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")):
        sums, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"]
        assert (counts > 0).all() and len(sums) % len(counts) == 0, f"{name}: {len(sums)} sums, counts {counts}"
        found[name] = (sums.reshape(len(counts), -1) / counts[:, None]).ravel()
    return found


def quantize(model, file, ftype, values):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = ftype, 1
    if values:
        rows = [(name.encode(), numpy.ascontiguousarray(row)) for name, row in values.items()]
        table = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()  # ends with no name
        for place, (name, row) in zip(table, rows):
            place.name, place.data, place.size = name, row.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), len(row)
        parameters.imatrix = table
    return llama_cpp.llama_model_quantize(str(model).encode(), str(file).encode(), ctypes.byref(parameters))


def log_probabilities(file, ids):
    model = llama_cpp.Llama(str(file), n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False, flash_attn=False)
    model.eval(ids)
    logits = numpy.array(model.scores[:len(ids)], dtype=numpy.float64)
    logits -= logits.max(1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(1, keepdims=True))


def main(imatrix, model, ids_file, scratch, *ours):
    values = importances(imatrix)
    _, tensors = read_tensors(model)
    matrices = {name for name in tensors if name.startswith("blk.") and not name.endswith(("norm.weight", ".bias"))}
    assert matrices <= values.keys(), f"no importances of {sorted(matrices - values.keys())}"
    ids = json.loads(pathlib.Path(ids_file).read_text())
    original = log_probabilities(model, ids)

    def divergence(file):
        return float((numpy.exp(original) * (original - log_probabilities(file, ids))).sum(1).mean())

    own = {pathlib.Path(file).stem.rsplit("-", 1)[1]: file for file in ours}
    for name, ftype in TYPES.items():
        file = pathlib.Path(scratch) / f"{name}.gguf"
        result = {"type": name, "matrices": len(matrices)}
        for how, row in (("without", None), ("with", values)):
            code = quantize(model, file, ftype, row)
            assert (code == 0) == (row is not None or name not in NEEDED), f"{name} {how}: llama_model_quantize gives {code}"
            if code == 0:
                result[how] = divergence(file)
        if name in own:
            result["lathe"] = divergence(own[name])
        print(json.dumps(result), flush=True)
        if name in own:
            assert result["lathe"] < min(result["without"], 1.1 * result["with"]), f"{name}: Lathe's file is further: {result}"
        assert name in NEEDED or result["with"] < result["without"], f"{name}: no nearer with importances: {result}"


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
