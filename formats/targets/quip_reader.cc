#include "formats/targets/quip_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <bit>

#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"

namespace lathe {
namespace {

constexpr int64_t kCodebookId = 7, kVector = 8, kCodes = 1 << 16;
constexpr int64_t kRowTile = 16, kColumnTile = 64;  // that the words are arranged in

/// Magnitudes of a vector of E8P, in halves.
using Magnitudes = std::array<int, kVector>;

/// Of squared norm 12: those that fill the 227 of the ball up to 256, in the source's order.
constexpr std::array<std::string_view, 29> kNorm12 = {
    "31113333", "13113333", "11313333", "11133333", "33313311", "33313131", "33311331", "33313113",
    "33311313", "33311133", "33133311", "33133131", "33131331", "33133113", "33131313", "33131133",
    "31333311", "31333131", "31331331", "31333113", "31331313", "13331133", "13333311", "13333131",
    "13331331", "13333113", "13331313", "11331333", "33113331"};

/// The 256 vectors of magnitudes: odd halves within a ball of radius sqrt(10), in lexicographic order, and
/// kNorm12.
std::vector<Magnitudes> e8p_magnitudes() {
  std::vector<Magnitudes> all;
  for (int number = 0; number < 6561; ++number) {  // base 3, the first coordinate the highest digit
    Magnitudes vector;
    int rest = number, squares = 0;
    for (size_t i = kVector; i-- > 0; rest /= 3) {
      vector[i] = 2 * (rest % 3) + 1;
      squares += vector[i] * vector[i];
    }
    if (squares <= 40) all.push_back(vector);
  }
  for (const std::string_view digits : kNorm12) {
    Magnitudes vector;
    for (size_t i = 0; i < kVector; ++i) vector[i] = digits[i] - '0';
    all.push_back(vector);
  }
  LATHE_ASSERT(all.size() == 256, "E8P has {} vectors of magnitudes", all.size());
  return all;
}

/// Bits 0 to 7 are signs, of coordinates 0, 2, 4, 6, 1, 3, 5, 7; the rest the place of the magnitudes. An odd
/// number of signs means E8 - 1/4 and turns the first; else it is E8 + 1/4. Magnitudes of odd sum have their
/// last coordinate negative, so that the lattice is E8.
at::Tensor make_e8p_codebook() {
  constexpr std::array<int, kVector> kSignOf = {0, 4, 1, 5, 2, 6, 3, 7};  // bit of each coordinate
  const std::vector<Magnitudes> magnitudes = e8p_magnitudes();
  at::Tensor codebook = at::empty({kCodes, kVector}, at::kFloat);
  float* out = codebook.data_ptr<float>();
  for (int code = 0; code < kCodes; ++code) {
    const Magnitudes& halves = magnitudes[static_cast<size_t>(code >> 8)];
    int sum = 0;
    for (const int half : halves) sum += half;
    const int odd = std::popcount(static_cast<unsigned>(code & 255)) & 1, signs = (code & 255) ^ odd;
    for (size_t i = 0; i < kVector; ++i) {
      const bool negative = ((signs >> kSignOf[i] & 1) != 0) != (i + 1 == kVector && sum / 2 % 2 != 0);
      const float value = static_cast<float>(halves[i]) / 2;
      *out++ = (negative ? -value : value) + (odd != 0 ? -0.25f : 0.25f);
    }
  }
  return codebook;
}

}  // namespace

const at::Tensor& e8p_codebook() {
  static const at::Tensor codebook = make_e8p_codebook();
  return codebook;
}

/// A word holds the codes of two rows and two neighbouring vectors: the high bytes of (0, 0), (1, 0), (0, 1),
/// (1, 1) in its low half, and above them bit j of each in the nibble j. Words of 8 x 4 such squares stand
/// together.
at::Tensor unpack_e8p(const at::Tensor& words) {
  const int64_t out = words.size(0), in = words.size(1) * 32;
  LATHE_ASSERT(out % kRowTile == 0 && in % kColumnTile == 0, "E8P words of [{}, {}]", out, in);
  const at::Tensor squares = words.reshape({out / kRowTile, in / kColumnTile, 8, 4}).transpose(1, 2);
  std::vector<at::Tensor> codes;
  for (int64_t t = 0; t < 4; ++t) {
    at::Tensor code = squares.bitwise_right_shift(8 * t).bitwise_and(255).bitwise_left_shift(8);
    for (int64_t j = 0; j < 8; ++j)
      code =
          code.bitwise_or(squares.bitwise_right_shift(32 + 4 * j + t).bitwise_and(1).bitwise_left_shift(j));
    codes.push_back(code.reshape({out / 2, in / 16}));
  }
  const at::Tensor pairs = at::stack(codes, 2).view({out / 2, in / 16, 2, 2});  // vector, row
  return pairs.permute({0, 3, 1, 2}).reshape({out, in / kVector}).to(at::kInt);
}

QuipReader::QuipReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph) {
  StrictObject config(checkpoint->config().at("quip_params"),
                      (checkpoint->folder() / "config.json").string() + ": quip_params");
  config.word("codebook", {"E8P12"});
  config.integer("codesz", kVector, kVector);
  config.integer("packsz", 4, 4);
  config.word("idx_dtype", {"torch.int64"});
  config.optional_integer("codebook_version", 1, 1, 1);
  config.optional_integer("lora_rank", 0, 0, 0);
  rescales_ = config.truth("rescale_WH");
  // The residual's scale is that of other codebooks.
  config.informational({"resid_scale_override", "model_version", "fused", "train_mode", "pack_out"});
  config.no_other_keys();

  const Scheme scheme = Scheme::of_vectors("QuIP# E8P12", 2);
  for (const Block& block : graph.blocks) {
    for (const Linear& linear : block.linears) {
      const Part part = part_of(block, linear);
      const std::string& m = part.module;
      if (!checkpoint->contains(m + ".Qidxs")) {
        check_floating(linear, {".SU", ".SV", ".Wscale", ".codebook_id"});
        continue;
      }
      if (part.rows % kRowTile != 0 || linear.in % kColumnTile != 0 || !has_hadamard(part.rows) ||
          !has_hadamard(linear.in)) {
        user_error(
            "{}: '{}' of shape [{}, {}] can't be stored as {}: no tiles or no Hadamard matrix of this size",
            checkpoint->folder().string(), m, part.rows, linear.in, scheme.describe());
      }
      std::vector<PlannedTensor> tensors = {{m + ".Qidxs", {DType::I64, {part.rows, linear.in / 32}}},
                                            of_floats(m + ".SU", {linear.in}),
                                            of_floats(m + ".SV", {part.rows}),
                                            of_floats(m + ".Wscale", {}),
                                            {m + ".codebook_id", {DType::I64, {}}}};
      if (rescales_) tensors.push_back(of_floats(m + ".scaleWH", {linear.in}));
      if (part.place >= 0)
        tensors.push_back(of_floats(m + ".fuse_scales", {m.ends_with("qkv_proj") ? 3 : 2}));
      add(planned(linear, scheme), tensors);
      parts_.emplace(linear.name, part);
    }
  }
}

QuipReader::Part QuipReader::part_of(const Block& block, const Linear& linear) const {
  const std::string parent = linear.name.substr(0, linear.name.rfind('.') + 1);
  using enum LinearRole;
  const std::vector<LinearRole> attention = {q_proj, k_proj, v_proj}, mlp = {up_proj, gate_proj};
  for (const auto& [name, roles] : {std::pair("qkv_proj", attention), {"upgate_proj", mlp}}) {
    const auto role = std::ranges::find(roles, linear.role);
    if (role == roles.end() || !checkpoint().contains(parent + name + ".Qidxs")) continue;
    Part part{.module = parent + name, .place = role - roles.begin()};
    for (size_t i = 0; i < roles.size(); ++i) {
      for (const Linear& other : block.linears) {
        if (other.role != roles[i] || !other.name.starts_with(parent)) continue;
        if (static_cast<int64_t>(i) < part.place) part.first_row += other.out;
        part.rows += other.out;
      }
    }
    return part;
  }
  return {.module = linear.name, .rows = linear.out};
}

void QuipReader::check_number(const std::string& module) const {
  const std::string name = module + ".codebook_id";
  const int64_t found = words(name).item<int64_t>();
  if (found != kCodebookId)
    user_error("{}: expected {} (E8P12), found {}", describe_tensor(checkpoint(), name), kCodebookId, found);
}

QuantizedTensor QuipReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const Part& part = parts_.at(name);
  const std::string& m = part.module;
  check_number(m);
  const at::Tensor codes = unpack_e8p(words(m + ".Qidxs"));
  release(m + ".Qidxs");
  at::Tensor values = e8p_codebook().index_select(0, codes.view({-1})).view({part.rows, linear.in});
  values = hadamard_rows(values);
  values = hadamard_rows(values.t().contiguous()).t();
  at::Tensor columns = read_float_tensor(checkpoint(), m + ".SU");
  if (rescales_) columns = columns / positive_scales(m + ".scaleWH");
  at::Tensor rows =
      read_float_tensor(checkpoint(), m + ".SV") * read_float_tensor(checkpoint(), m + ".Wscale");
  values = values.slice(0, part.first_row, part.first_row + linear.out);
  rows = rows.slice(0, part.first_row, part.first_row + linear.out);
  if (part.place >= 0) rows = rows * read_float_tensor(checkpoint(), m + ".fuse_scales")[part.place];
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F16, .codes = {}, .scales = {}, .zero_points = {}};
  tensor.values = (values * rows.unsqueeze(1)).mul_(columns).contiguous();
  return tensor;
}

}  // namespace lathe
