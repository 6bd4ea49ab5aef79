"""spqr_quant without a GPU. Its packer and its dequantiser are C++ for the host, in an extension that is otherwise CUDA: that one
source is built here, with a stub in place of the kernel.
"""
import os
import pathlib
import sysconfig
import tempfile

import torch.utils.cpp_extension as extension

STUB = """
#include <cuda_runtime.h>
#include <cstdint>
int spqr_matvec(int, int, int, int, int, const void *, const void *, int, void *, void *, int, void *, void *, cudaStream_t, void *,
                uint32_t) { return -1; }
int torch_matvec(int, int, void *, void *, void *, void *, cudaStream_t) { return -1; }
"""


def cuda_headers():
    """Of the toolkit (CUDA_HOME), or those that come with torch's wheel."""
    if "CUDA_HOME" in os.environ:
        return str(pathlib.Path(os.environ["CUDA_HOME"]) / "include")
    return str(next(pathlib.Path(sysconfig.get_path("purelib"), "nvidia").glob("*/include/cuda_runtime.h")).parent)


def host_part():
    """The module spqr_quant.inference of the package on sys.path, whose dequantize() runs and whose forward() does not."""
    build = extension.load

    def load_host_part(name, sources, **_):
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "stub.cpp").write_text(STUB)
        host = [source for source in sources if source.endswith(".cpp")]
        return build(name=name, sources=[*host, str(folder / "stub.cpp")], build_directory=str(folder),
                     extra_include_paths=[cuda_headers()], extra_cflags=["-O1"])

    extension.load = load_host_part
    try:
        from spqr_quant import inference
    finally:
        extension.load = build
    return inference
