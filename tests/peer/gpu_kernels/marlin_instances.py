"""Writes the instances of vLLM's Marlin kernel that tests/peer/consumers/gpu_kernels.py calls, with vLLM's own generator.

    marlin_instances.py FOLDER_OF_VLLM'S_CSRC_QUANTIZATION_MARLIN

vLLM compiles some thousand of them for an hour; these are FP16 activations with 4-bit codes with and without zero points and with 8-bit
codes, one group a row and groups of 128, the smaller tiles, and up to 8, 16 and 64 rows of activations. The kernel's own choice of a tile
passes over those that are missing.
"""

import importlib.util
import pathlib
import sys

TILES = [(128, 64, 128), (64, 128, 128)]  # of (in, out) features, and threads
ROWS = [0.5, 1, 4]  # in blocks of 16
GROUPS = [-1, 8]  # of 16 features


def main(folder):
    sys.argv = ["generate_kernels.py", "9.0", folder]  # it reads the architectures when it is loaded
    spec = importlib.util.spec_from_file_location("generate_kernels", pathlib.Path(folder) / "generate_kernels.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    half = {"a_type": ["kFloat16"], "c_type": ["kFloat16"], "thread_configs": TILES, "thread_m_blocks": ROWS, "group_blocks": GROUPS}
    generator.QUANT_CONFIGS = [dict(half, b_type=codes) for codes in ("kU4", "kU4B8", "kU8B128")]
    generator.remove_old_kernels()
    generator.generate_new_kernels()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
