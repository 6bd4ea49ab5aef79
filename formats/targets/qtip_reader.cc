#include "formats/targets/qtip_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"
#include "lib/numeric/hadamard.h"

namespace lathe {
namespace {

constexpr int64_t kKernelTile = 16;

/// A sum of the four bytes, of mean 0 and variance 1.
float gaussian_of_bytes(uint32_t x) {
  const uint32_t sum = (x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24);
  return static_cast<float>(static_cast<int>(sum) - 510) / 147.800537109375f;
}

float decode_1mad(uint32_t state) { return gaussian_of_bytes(state * 34038481u + 76625530u); }

float decode_2mad(uint32_t state) {
  const uint32_t x = state * 264435761u + 1013904223u;
  return gaussian_of_bytes(static_cast<uint32_t>(uint64_t{x} * 1664525u >> 32) + x);
}

/// The sum of two halves whose exponents are masked into one small range.
float decode_3inst(uint32_t state) {
  const uint32_t bits = ((state * 89226354u + 64248484u) & 0x8fff8fffu) ^ 0x3b603b60u;
  const float sum = from_half(static_cast<uint16_t>(bits >> 16)) + from_half(static_cast<uint16_t>(bits));
  return from_half(to_half(sum));
}

/// The table's row of a state; quantlut_sym: 2^table_bits above it where the first number is negated.
int64_t table_row(const QtipParameters& parameters, int64_t state) {
  const int64_t mixed = (state + 1) * state, mask = (int64_t{1} << parameters.table_bits) - 1;
  if (parameters.mode == "quantlut") return mixed >> (16 - parameters.table_bits) & mask;
  return (mixed >> (15 - parameters.table_bits) & mask) | (mixed >> 15 & 1) << parameters.table_bits;
}

QtipParameters parse_parameters(StrictObject& config) {
  QtipParameters found;
  found.mode = config.word("decode_mode", {"1mad", "2mad", "3inst", "lut", "quantlut", "quantlut_sym"});
  found.state_bits = config.integer("L", 1, 16);
  found.bits = config.integer("K", 1, 8);
  found.vector = config.integer("V", 1, 2);
  found.table_bits = config.optional_integer("tlut_bits", 0, 16, 0);
  found.tile_rows = config.integer("td_x", 1, 1 << 10);
  found.tile_columns = config.integer("td_y", 1, 1 << 10);
  if (found.step_bits() > found.state_bits)
    config.refuse("K", fmt::format("at most L / V = {}", found.state_bits / found.vector));
  if (!found.has_table() && found.vector != 1) config.refuse("V", "1, with " + found.mode);
  if (found.mode == "quantlut_sym" && found.table_bits > 15) config.refuse("tlut_bits", "at most 15");
  if (found.mode == "lut" && found.table_bits != found.state_bits)
    config.refuse("tlut_bits", fmt::format("L = {}", found.state_bits));
  if (found.tile_columns % found.vector != 0) config.refuse("td_y", "a multiple of V");
  return found;
}

}  // namespace

bool QtipParameters::has_kernel() const {
  return mode == "quantlut_sym" && state_bits == 16 && vector == 2 && bits >= 2 && bits <= 4 &&
         table_bits == 9 && tile_rows == kKernelTile && tile_columns == kKernelTile;
}

at::Tensor trellis_states(const at::Tensor& words, const QtipParameters& parameters, int64_t values) {
  const int64_t total = values * parameters.bits, steps = values / parameters.vector;
  LATHE_ASSERT(words.is_contiguous() && words.scalar_type() == at::kShort && words.size(1) * 16 >= total,
               "a trellis of {} words for {} bits", words.size(1), total);
  at::Tensor states = at::empty({words.size(0), steps}, at::kInt);
  auto* out = states.data_ptr<int32_t>();
  for (int64_t tile = 0; tile < words.size(0); ++tile) {
    const int16_t* const stream = words.const_data_ptr<int16_t>() + tile * words.size(1);
    const auto bit = [&](int64_t i) { return static_cast<uint16_t>(stream[i / 16]) >> (15 - i % 16) & 1; };
    int32_t state = 0;
    for (int64_t i = 0; i < parameters.state_bits; ++i) state = state << 1 | bit(i % total);
    for (int64_t t = 0; t < steps; ++t) {
      *out++ = state;
      for (int64_t i = 0; i < parameters.step_bits(); ++i)
        state = (state << 1 | bit((t * parameters.step_bits() + parameters.state_bits + i) % total)) &
                ((1 << parameters.state_bits) - 1);
    }
  }
  return states;
}

/// Bytes of a square of tiles: [32, 2 columns of tiles, 2 rows, bits], those of a tile from the last of each
/// `bits` up, and of two the second is a word's high one.
at::Tensor untangle_kernel_tiles(const at::Tensor& words, int64_t out, int64_t in, int bits) {
  const int64_t rows = out / kKernelTile, columns = in / kKernelTile;
  const at::Tensor bytes = words.contiguous().view(at::kByte);
  return bytes.view({rows / 2, columns / 2, kKernelTile * kKernelTile / 8, 2, 2, bits})
      .permute({0, 4, 1, 3, 2, 5})
      .flip({-1})
      .reshape({rows * columns, -1, 2})
      .flip({-1})
      .contiguous()
      .view({rows * columns, -1})
      .view(at::kShort);
}

at::Tensor qtip_codebook(const QtipParameters& parameters, const at::Tensor& table) {
  const int64_t states = int64_t{1} << parameters.state_bits;
  if (parameters.mode == "lut") return table;
  if (parameters.has_table()) {
    at::Tensor rows = at::empty({states}, at::kLong);
    for (int64_t s = 0; s < states; ++s) rows.data_ptr<int64_t>()[s] = table_row(parameters, s);
    at::Tensor turned = table.clone();
    turned.select(1, 0).neg_();
    return at::cat({table, turned}).index_select(0, rows);
  }
  const auto decode = parameters.mode == "1mad"   ? decode_1mad
                      : parameters.mode == "2mad" ? decode_2mad
                                                  : decode_3inst;
  at::Tensor values = at::empty({states, 1}, at::kFloat);
  for (int64_t s = 0; s < states; ++s) values.data_ptr<float>()[s] = decode(static_cast<uint32_t>(s));
  return values;
}

at::Tensor qtip_values(const at::Tensor& trellis, const at::Tensor& codebook,
                       const QtipParameters& parameters, int64_t out, int64_t in) {
  const int64_t x = parameters.tile_rows, y = parameters.tile_columns;
  const bool kernel = parameters.has_kernel();
  const at::Tensor words = kernel ? untangle_kernel_tiles(trellis, out, in, parameters.bits) : trellis;
  const at::Tensor states = trellis_states(words.contiguous(), parameters, x * y);
  const at::Tensor values = codebook.index_select(0, states.view({-1}));
  if (!kernel) return values.view({out / x, in / y, x, y}).transpose(1, 2).reshape({out, in});
  // Of a fragment: row in 8, pair of columns in 4, halves of columns and of rows, one of the pair.
  return values.view({out / x, in / y, 8, 4, 2, 2, 2}).permute({0, 5, 2, 1, 4, 3, 6}).reshape({out, in});
}

QtipReader::QtipReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph) {
  const std::string place = (checkpoint->folder() / "config.json").string() + ": quip_params";
  StrictObject config(checkpoint->config().at("quip_params"), place);
  parameters_ = parse_parameters(config);
  const int value_bits = config.optional_integer("K_v_proj", 1, 8, parameters_.bits);
  config.optional_word("codebook", {"bitshift"});
  config.optional_integer("codebook_version", 0, 0, 0);
  config.words("skip_list", false);                 // the tensors say it
  config.informational({"split_for_tp", "fused"});  // rcp says it
  config.no_other_keys();

  for (const Linear& linear : graph.linears()) {
    const std::string& m = linear.name;
    if (!checkpoint->contains(m + ".trellis")) {
      check_floating(linear, {".SU", ".SV", ".tlut"});
      continue;
    }
    QtipParameters own = parameters_;
    if (linear.role == LinearRole::v_proj) own.bits = value_bits;
    const int64_t x = own.tile_rows * (own.has_kernel() ? 2 : 1),
                  y = own.tile_columns * (own.has_kernel() ? 2 : 1);
    const int64_t bits = own.tile_rows * own.tile_columns * own.bits;
    if (linear.out % x != 0 || linear.in % y != 0 || bits % 16 != 0 || bits < own.state_bits ||
        own.step_bits() > own.state_bits) {
      user_error("{}: '{}' of shape [{}, {}] can't be stored in tiles of {} x {} and {} bits a weight", place,
                 m, linear.out, linear.in, own.tile_rows, own.tile_columns, own.bits);
    }
    const int64_t tiles = linear.out / own.tile_rows * (linear.in / own.tile_columns);
    std::vector<PlannedTensor> tensors = {{m + ".trellis", {DType::I16, {tiles, bits / 16}}},
                                          of_floats(m + ".SU", {linear.in}),
                                          of_floats(m + ".SV", {linear.out}),
                                          {m + ".rcp", {DType::I64, {}}},
                                          {m + ".tp_rank", {DType::I64, {}}}};
    if (own.has_table())
      tensors.push_back(of_floats(m + ".tlut", {int64_t{1} << own.table_bits, own.vector}));
    add(planned(linear, Scheme::of_vectors(fmt::format("QTIP {} {} bits", own.mode, own.bits), own.bits)),
        tensors);
    bits_.emplace(m, own.bits);
  }
}

/// How many parts are transformed by themselves, and of what: `way` 0: none, 1: inputs, 2: outputs.
int64_t QtipReader::parts(const std::string& name, int64_t& way) const {
  const PlannedLinear& linear = this->linear(name);
  way = words(name + ".rcp").item<int64_t>();
  const int64_t rank = way == 0 ? 1 : words(name + ".tp_rank").item<int64_t>();
  const int64_t in = way == 1 && rank > 0 ? linear.in / rank : linear.in,
                out = way == 2 && rank > 0 ? linear.out / rank : linear.out;
  const bool whole = rank > 0 && linear.in % rank == 0 && linear.out % rank == 0;
  if (way < 0 || way > 2) {
    user_error("{}: expected 0 (no part), 1 (of the inputs) or 2 (of the outputs), found {}",
               describe_tensor(checkpoint(), name + ".rcp"), way);
  }
  if (whole && has_hadamard(in) && has_hadamard(out)) return rank;
  user_error("{}: '{}' of shape [{}, {}] in {} parts: there is no Hadamard matrix of this size",
             checkpoint().folder().string(), name, linear.out, linear.in, rank);
}

QuantizedTensor QtipReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  QtipParameters own = parameters_;
  own.bits = bits_.at(name);
  int64_t way = 0;
  const int64_t rank = parts(name, way);
  const at::Tensor table = own.has_table() ? read_float_tensor(checkpoint(), name + ".tlut") : at::Tensor();
  at::Tensor values =
      qtip_values(words(name + ".trellis"), qtip_codebook(own, table), own, linear.out, linear.in)
          .contiguous();
  release(name + ".trellis");
  values =
      hadamard_rows(values.view({-1, way == 1 ? linear.in / rank : linear.in})).view({linear.out, linear.in});
  values = values.t().contiguous();
  values = hadamard_rows(values.view({-1, way == 2 ? linear.out / rank : linear.out}))
               .view({linear.in, linear.out});
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F16, .codes = {}, .scales = {}, .zero_points = {}};
  tensor.values = values.t()
                      .mul(read_float_tensor(checkpoint(), name + ".SV").unsqueeze(1))
                      .mul_(read_float_tensor(checkpoint(), name + ".SU"))
                      .contiguous();
  return tensor;
}

}  // namespace lathe
