"""Writes the instances of vLLM's Machete kernel that tests/peer/consumers/gpu_kernels.py calls, with vLLM's own generator.

    machete_instances.py FOLDER_OF_VLLM'S_CSRC FOLDER_OF_CUTLASS_LIBRARY

vLLM compiles eleven tiles of each of eight types; these are FP16 activations with 4-bit codes with and without zero points and with 8-bit
codes, on the tile that it takes for up to 16 rows and that computes any number of them.
"""

import importlib
import pathlib
import shutil
import sys


def configurations(generator):
    half, none = generator.DataType.f16, generator.DataType.void
    tile = generator.ScheduleConfig((128, 16), (1, 1, 1), kernel_schedule=generator.TmaMI, epilogue_schedule=generator.TmaCoop,
                                    tile_scheduler=generator.TileSchedulerType.StreamK)
    rows = [(generator.VLLMDataType.u4b8, none), (generator.VLLMDataType.u8b128, none), (generator.DataType.u4, half)]
    return [
        generator.ImplConfig(
            generator.TypeConfig(a=half, b=codes, b_group_scale=half, b_group_zeropoint=zeros, b_channel_scale=none, a_token_scale=none, out=half,
                                 accumulator=generator.DataType.f32), [tile], [("true", tile)])
        for codes, zeros in rows]


def main(csrc, library):
    sys.path[:0] = [str(csrc / "cutlass_extensions"), str(library), str(csrc / "quantization" / "machete")]
    generator = importlib.import_module("generate")
    target = csrc / "quantization" / "machete" / "generated"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, code in generator.create_sources(configurations(generator), num_impl_files=3):
        (target / f"{name}.cu").write_text(code)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
