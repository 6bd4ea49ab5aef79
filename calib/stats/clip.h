// Where to clip: the magnitude that the largest level of a number format should stand for, chosen from a
// histogram of magnitudes. Candidates are 128, 129, ... bins, up to all that hold anything.
#pragma once

#include <cstdint>

#include "calib/stats/histogram.h"
#include "lib/numeric/level_grid.h"

namespace lathe {

struct Clip {
  double magnitude = 0;  // the clip: bins * width; 0 where all values are
  int64_t bins = 0;
  double score = 0;  // what was minimised: mean squared error, or divergence in nats
};

constexpr int64_t kFirstClipBins = 128;

/// Minimises the mean of (x - Q(x))^2, rounding to the nearest level and clipping included, with the values
/// of a bin spread evenly over it: the error of a level's cell and of the tail is then an integral in closed
/// form, so a step narrower than a bin is judged right, too. Ties go to the wider clip.
Clip mse_clip(const Histogram& histogram, const LevelGrid& grid);

/// Minimises KL(P || Q), TensorRT's recipe (Migacz, "8-bit inference with TensorRT", GTC 2017, slides 38-39).
/// For a candidate of i bins:
///   P: bins 0 .. i-1, and what lies beyond added to the last of them (the outliers saturate there);
///   Q: bins 0 .. i-1 without the outliers, merged to the format's levels, and each level's sum spread evenly
///      over those of its bins that P holds anything in; bins empty in P stay empty in Q and cost nothing.
/// Both normalised. Bin 0 counts as much as bin 1, whatever it holds: as in NVIDIA's calibrators, against the
/// zeros of a ReLU, which would else be all that the divergence looks at. For integers a level is floor(k *
/// levels / i) of bin k, 128 levels for INT8, as in the recipe; for floating-point formats the level nearest
/// to the bin's middle (ties up), the clip standing for the largest. Where a level holds outliers in P alone,
/// Q has nothing for them and the divergence is infinite: the candidate is passed over (others smooth with an
/// epsilon there). Ties go to the wider clip. The clip is the bins' upper edge, i * width, as in
/// pytorch-quantization and modelopt (the slides take (i + 0.5) * width): for integers all is as their
/// _compute_amax_entropy has it, but that our bins' width is a power of two. Floating-point formats are ours:
/// their calibrators offer integers alone.
///
/// What is lost by clipping counts for little here, however large the values: rare ones. On inputs of
/// down_proj, where they carry the signal, this takes several times the squared error of mse_clip(), in this
/// and in NVIDIA's code alike.
Clip entropy_clip(const Histogram& histogram, const LevelGrid& grid);

/// The end of the symmetric range whose grid has its largest level where the clip is: integers' ranges end
/// half a step beyond it (kernels::group_params), those of floating-point formats there.
double range_end(const Clip& clip, const LevelGrid& grid);

}  // namespace lathe
