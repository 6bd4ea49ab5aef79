#include "formats/verify/plain_unpack.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"
#include "lib/numeric/float_format.h"
#include "lib/numeric/ggml_block.h"

namespace lathe {
namespace {

/// A tensor's bytes, element by element; its pages go when it does.
class Elements {
 public:
  Elements(const Checkpoint& checkpoint, std::string name)
      : checkpoint_(checkpoint), name_(std::move(name)), view_(checkpoint.view(name_)) {}
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;
  ~Elements() { checkpoint_.release(name_); }

  const TensorInfo& info() const { return view_.info; }
  int64_t count() const { return view_.info.numel(); }
  std::string where() const { return describe_tensor(checkpoint_, name_); }

  template <class T>
  T raw(int64_t i) const {
    T value;
    std::memcpy(&value, view_.bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }
  uint32_t word(int64_t i) const { return raw<uint32_t>(i); }
  uint8_t byte(int64_t i) const { return raw<uint8_t>(i); }

  /// `bits` bits of a stream of words that begins at word `first` and goes on every `stride` words.
  uint32_t field(int64_t first, int64_t stride, int64_t index, int bits) const {
    const int64_t bit = index * bits, at = bit / 32, shift = bit % 32;
    uint64_t both = word(first + at * stride);
    if (shift + bits > 32) both |= uint64_t{word(first + (at + 1) * stride)} << 32;
    return static_cast<uint32_t>(both >> shift) & ((1u << bits) - 1);
  }

  /// The number that an element is.
  float number(int64_t i) const {
    switch (view_.info.dtype) {
      case DType::F32:
        return raw<float>(i);
      case DType::F16:
        return from_half(raw<uint16_t>(i));
      case DType::BF16:
        return std::bit_cast<float>(uint32_t{raw<uint16_t>(i)} << 16);
      case DType::F8_E4M3:
        return static_cast<float>(decode_float(kE4M3, byte(i)));
      case DType::U8:
      case DType::F8_E8M0:
        return static_cast<float>(decode_e8m0(byte(i)));
      default:
        user_error("{}: expected floating-point numbers, found {}", where(), name_of(view_.info.dtype));
    }
  }

 private:
  const Checkpoint& checkpoint_;
  std::string name_;
  TensorView view_;
};

/// value(row, column) in each place.
template <class T, class Value>
at::Tensor filled(int64_t rows, int64_t columns, at::ScalarType type, Value&& value) {
  at::Tensor result = at::empty({rows, columns}, type);
  T* to = result.mutable_data_ptr<T>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) *to++ = static_cast<T>(value(r, c));
  return result;
}
template <class Value>
at::Tensor codes_by(int64_t rows, int64_t columns, Value&& value) {
  return filled<int8_t>(rows, columns, at::kChar, value);
}
template <class Value>
at::Tensor numbers_by(int64_t rows, int64_t columns, Value&& value) {
  return filled<float>(rows, columns, at::kFloat, value);
}

/// One linear of one checkpoint.
class PlainLinear {
 public:
  PlainLinear(const Checkpoint& checkpoint, const Linear& linear, const Scheme& scheme)
      : checkpoint_(checkpoint),
        name_(linear.name),
        out_(linear.out),
        in_(linear.in),
        result_{scheme, DType::F32, {}, {}, {}} {
    const auto [rows, groups] = scheme.parameter_shape(linear.out, linear.in);
    rows_ = rows;
    groups_ = groups;
  }

  std::optional<QuantizedTensor> read() {
    const auto& config = checkpoint_.config().at("quantization_config");
    const std::string method = config.value("quant_method", std::string());
    if (has(".W_q")) return hqq();
    if (has(".dense_weights")) return spqr();
    if (has(".qweight") && method == "gptq") return gptq();
    if (has(".qweight") && method == "awq") {
      std::string version = config.value("version", std::string("gemm"));
      std::ranges::transform(version, version.begin(), [](unsigned char c) { return std::tolower(c); });
      return version == "gemv" ? awq_gemv() : awq_gemm();
    }
    if (has(".weight_packed"))
      return result_.scheme.float_grid() != nullptr ? packed_floats() : packed_words();
    if (has(".weight") && (has(".weight_scale") || has(".weight_scale_inv"))) return plain_weight();
    return std::nullopt;
  }

 private:
  bool has(const char* suffix) const { return checkpoint_.contains(name_ + suffix); }
  Elements part(const char* suffix) const { return Elements(checkpoint_, name_ + suffix); }
  int lowest() const { return result_.scheme.qmin(); }

  /// [out, G] numbers of a tensor, or of one that holds them transposed.
  at::Tensor scales_of(const char* suffix, int64_t row_stride, int64_t column_stride) const {
    const Elements scales = part(suffix);
    return numbers_by(rows_, groups_, [&](int64_t r, int64_t g) {
      return scales.number(r * row_stride + g * column_stride);
    });
  }

  /// Zero points of symmetric grids that are stored all the same are those of the grid: then nothing.
  void take_zeros(at::Tensor zeros) {
    if (result_.scheme.symmetric && zeros.eq(0).all().item<bool>()) return;
    result_.zero_points = std::move(zeros);
  }

  QuantizedTensor packed_words() {
    const int bits = result_.scheme.bits;
    const Elements words = part(".weight_packed");
    const int64_t row = words.info().shape[1];
    result_.codes = codes_by(
        out_, in_, [&](int64_t o, int64_t i) { return int(words.field(o * row, 1, i, bits)) + lowest(); });
    result_.scales = scales_of(".weight_scale", groups_, 1);
    if (result_.scheme.symmetric) return result_;
    const Elements zeros = part(".weight_zero_point");  // along the outputs
    result_.zero_points = codes_by(out_, groups_, [&](int64_t o, int64_t g) {
      return int(zeros.field(g, groups_, o, bits)) + lowest();
    });
    return result_;
  }

  QuantizedTensor gptq() {
    const int bits = result_.scheme.bits;
    const auto& config = checkpoint_.config().at("quantization_config");
    const std::string format = config.value("checkpoint_format", config.value("format", std::string("gptq")));
    const bool minus_one = format != "gptq_v2";
    {
      const Elements words = part(".qweight");
      result_.codes = codes_by(
          out_, in_, [&](int64_t o, int64_t i) { return int(words.field(o, out_, i, bits)) + lowest(); });
    }
    {
      const Elements zeros = part(".qzeros");
      const int64_t row = zeros.info().shape[1];
      take_zeros(codes_by(out_, groups_, [&](int64_t o, int64_t g) {
        if (!minus_one) return int(zeros.field(g * row, 1, o, bits)) + lowest();
        if (bits == 3) return int((zeros.field(g * row, 1, o, bits) + 1) & 7) + lowest();
        // The word plus 1 in every field: where one borrowed from the next, the carry gives it back.
        const uint32_t word = zeros.word(g * row + o * bits / 32) + 0xffffffffu / uint32_t((1 << bits) - 1);
        return int(word >> (o * bits % 32) & uint32_t((1 << bits) - 1)) + lowest();
      }));
    }
    result_.scales = scales_of(".scales", 1, out_);
    if (has(".g_idx")) take_groups();
    return result_;
  }

  /// g_idx; groups that are neighbours have none.
  void take_groups() {
    const Elements index = part(".g_idx");
    at::Tensor groups = at::empty({in_}, at::kInt);
    int32_t* to = groups.mutable_data_ptr<int32_t>();
    bool rising = true;
    for (int64_t i = 0; i < in_; ++i) {
      to[i] = index.raw<int32_t>(i);
      if (to[i] < 0 || to[i] >= groups_)
        user_error("{}: expected groups 0 to {}, found {} for input {}", index.where(), groups_ - 1, to[i],
                   i);
      rising = rising && (i == 0 || to[i] >= to[i - 1]);
    }
    if (!rising) result_.group_index = groups;
  }

  QuantizedTensor awq_gemm() {
    constexpr std::array<int, 8> kSlot = {0, 4, 1, 5, 2, 6, 3, 7};  // of output 8 c + k
    const auto nibble = [&](const Elements& words, int64_t row, int64_t o) {
      return int(words.word(row * (out_ / 8) + o / 8) >> (4 * kSlot[static_cast<size_t>(o % 8)]) & 15) - 8;
    };
    const Elements words = part(".qweight"), zeros = part(".qzeros");
    result_.codes = codes_by(out_, in_, [&](int64_t o, int64_t i) { return nibble(words, i, o); });
    take_zeros(codes_by(out_, groups_, [&](int64_t o, int64_t g) { return nibble(zeros, g, o); }));
    result_.scales = scales_of(".scales", 1, out_);
    return result_;
  }

  QuantizedTensor awq_gemv() {
    const Elements words = part(".qweight"), zeros = part(".qzeros");
    const int64_t row = in_ / 8, zero_row = zeros.info().shape[1];
    result_.codes =
        codes_by(out_, in_, [&](int64_t o, int64_t i) { return int(words.field(o * row, 1, i, 4)) - 8; });
    take_zeros(codes_by(out_, groups_,
                        [&](int64_t o, int64_t g) { return int(zeros.field(o * zero_row, 1, g, 4)) - 8; }));
    result_.scales = scales_of(".scales", 8 * zero_row, 1);
    return result_;
  }

  /// A matrix of `rows` rows of groups, cut into parts that share words, the first in the highest field.
  QuantizedTensor hqq() {
    const Elements words = part(".W_q");
    const Scheme& scheme = result_.scheme;
    const int64_t length = scheme.group_length(out_, in_), groups = out_ * in_ / length;
    const int64_t rows = scheme.axis == 0 ? length : groups, columns = scheme.axis == 0 ? groups : length;
    const bool wide = words.info().dtype == DType::I32;
    const int bits = scheme.bits <= 4 ? scheme.bits : 8, fields = wide ? 10 : 8 / bits;
    const int64_t per_part = (rows + fields - 1) / fields;
    result_.codes = codes_by(out_, in_, [&](int64_t o, int64_t i) {
      const int64_t place = o * in_ + i, r = place / columns, c = place % columns;
      const int64_t at = r % per_part * columns + c, shift = bits * (fields - 1 - r / per_part);
      const uint32_t word = wide ? words.word(at) : words.byte(at);
      return int(word >> shift & ((1u << bits) - 1)) + lowest();
    });
    result_.scales = scales_of(".scale", groups_, 1);
    const Elements zeros = part(".zero");
    result_.zero_points = numbers_by(rows_, groups_, [&](int64_t r, int64_t g) {
      return zeros.number(r * groups_ + g) + static_cast<float>(lowest());
    });
    return result_;
  }

  QuantizedTensor packed_floats() {
    const Elements bytes = part(".weight_packed");
    const int bits = result_.scheme.bits;
    const int64_t row = in_ * bits / 8;
    result_.codes = codes_by(out_, in_, [&](int64_t o, int64_t i) {
      const int64_t bit = i * bits, at = o * row + bit / 8, shift = bit % 8;
      uint32_t both = bytes.byte(at);
      if (shift + bits > 8) both |= uint32_t{bytes.byte(at + 1)} << 8;
      return both >> shift & ((1u << bits) - 1);
    });
    result_.scales = scales_of(".weight_scale", groups_, 1);
    if (has(".weight_global_scale"))
      result_.global_scale = scalar(1 / part(".weight_global_scale").number(0));
    return result_;
  }

  /// A `weight` with scales beside it: INT8, FP8, and modelopt's nibbles.
  QuantizedTensor plain_weight() {
    const Elements bytes = part(".weight");
    const bool integers = result_.scheme.type == "int";
    result_.codes = codes_by(out_, in_, [&](int64_t o, int64_t i) {
      if (bytes.info().shape[0] < out_) return ((bytes.byte(o / 2 * in_ + i) >> (4 * (o % 2)) & 15) ^ 8) - 8;
      if (bytes.info().shape[1] < in_) return bytes.byte(o * (in_ / 2) + i / 2) >> (4 * (i % 2)) & 15;
      return int(bytes.byte(o * in_ + i));
    });
    result_.scales = scales_of(has(".weight_scale") ? ".weight_scale" : ".weight_scale_inv", groups_, 1);
    // Of integers it is how a kernel scales its products, and no part of the weight.
    if (has(".weight_scale_2") && !integers) result_.global_scale = scalar(part(".weight_scale_2").number(0));
    return result_;
  }

  static at::Tensor scalar(float value) { return at::scalar_tensor(value, at::kFloat); }

  QuantizedTensor spqr() {
    constexpr int64_t kTile = 16;
    const int64_t tiles = in_ / kTile;
    const Elements words = part(".dense_weights"), perm = part(".in_perm");
    const auto column = [&](int64_t place) { return int64_t{perm.raw<uint16_t>(place)}; };
    for (int64_t j = 0; j < in_; ++j) {
      if (column(j) >= in_)
        user_error("{}: expected columns 0 to {}, found {}", perm.where(), in_ - 1, column(j));
    }
    const auto word = [&](int64_t o, int64_t tile) {
      return words.raw<uint64_t>((o / kTile * tiles + tile) * kTile + o % kTile);
    };
    result_.codes = at::zeros({out_, in_}, at::kChar);
    int8_t* codes = result_.codes.mutable_data_ptr<int8_t>();
    for (int64_t o = 0; o < out_; ++o)
      for (int64_t j = 0; j < in_; ++j)
        codes[o * in_ + column(j)] =
            static_cast<int8_t>(int(word(o, j / kTile) >> (6 + 3 * (j % kTile)) & 7) + lowest());
    // The tile's four halves, two bytes each, the bytes two rows apart.
    const auto half = [&](int64_t b, int64_t tile, int64_t which) {
      const auto byte = [&](int64_t k) { return word(b * kTile + 2 * k, tile) >> 54 & 0xff; };
      return from_half(static_cast<uint16_t>(byte(2 * which) | byte(2 * which + 1) << 8));
    };
    const int64_t blocks = out_ / kTile;
    const auto halves = [&](int64_t which) {
      return numbers_by(blocks, tiles, [&](int64_t b, int64_t g) { return half(b, g, which); });
    };
    const auto level_codes = [&](int shift) {
      return filled<uint8_t>(out_, tiles, at::kByte,
                             [&](int64_t o, int64_t g) { return word(o, g) >> shift & 7; });
    };
    result_.second_level =
        SecondLevel{level_codes(0), level_codes(3), halves(0), halves(2), halves(1), halves(3)};
    const auto rounded = [](float value) { return from_half(to_half(value)); };
    const auto level = [&](int shift, int64_t scale, int64_t zero, float offset) {
      return numbers_by(out_, tiles, [&](int64_t o, int64_t g) {
        const float steps = rounded(static_cast<float>(word(o, g) >> shift & 7) - half(o / kTile, g, zero));
        return rounded(steps * half(o / kTile, g, scale)) + offset;
      });
    };
    result_.scales = level(0, 0, 2, 0);
    result_.zero_points = level(3, 1, 3, static_cast<float>(lowest()));
    take_tile_groups(column);
    take_outliers(column);
    return result_;
  }

  template <class Column>
  void take_tile_groups(const Column& column) {
    at::Tensor groups = at::zeros({in_}, at::kInt);
    int32_t* to = groups.mutable_data_ptr<int32_t>();
    for (int64_t j = 0; j < in_; ++j) to[column(j)] = static_cast<int32_t>(j / 16);
    if (!std::is_sorted(to, to + in_)) result_.group_index = groups;
  }

  template <class Column>
  void take_outliers(const Column& column) {
    const Elements offsets = part(".row_offsets"), entries = part(".col_vals");
    std::vector<int32_t> columns;
    std::vector<float> values;
    for (int64_t o = 0; o < out_; ++o) {
      std::vector<std::pair<int32_t, float>> row;
      const int64_t end = offsets.raw<int32_t>(o + 1);
      if (end < offsets.raw<int32_t>(o) || end > entries.count())
        user_error("{}: expected offsets that rise to {}, found {}", offsets.where(), entries.count(), end);
      for (int64_t k = offsets.raw<int32_t>(o); k < end; ++k) {
        const int64_t place = entries.word(k) & 0xffff;
        if (place >= in_)
          user_error("{}: expected columns 0 to {}, found {}", entries.where(), in_ - 1, place);
        row.emplace_back(column(place), from_half(static_cast<uint16_t>(entries.word(k) >> 16)));
      }
      std::ranges::sort(row);
      for (const auto& [at, value] : row) {
        columns.push_back(at);
        values.push_back(value);
      }
    }
    at::Tensor rows = at::empty({out_ + 1}, at::kInt);
    for (int64_t o = 0; o <= out_; ++o) rows.mutable_data_ptr<int32_t>()[o] = offsets.raw<int32_t>(o);
    result_.outliers = Outliers{rows, at::tensor(columns, at::kInt), at::tensor(values, at::kFloat)};
  }

  const Checkpoint& checkpoint_;
  std::string name_;
  int64_t out_, in_, rows_ = 0, groups_ = 0;
  QuantizedTensor result_;
};

/// "[3, 17]: 5 and -2"; nothing where both are equal, or both undefined. NaN equals NaN.
std::optional<std::string> first_difference(const std::string& what, const at::Tensor& a,
                                            const at::Tensor& b) {
  if (!a.defined() && !b.defined()) return std::nullopt;
  if (a.defined() != b.defined()) return what + ": one has them";
  if (a.sizes() != b.sizes()) return fmt::format("{}: {} and {} of them", what, a.numel(), b.numel());
  at::Tensor unequal = a.ne(b);
  if (a.is_floating_point()) unequal.logical_and_(a.isnan().logical_and(b.isnan()).logical_not());
  if (!unequal.any().item<bool>()) return std::nullopt;
  return fmt::format("{} at {}: {:g} and {:g}", what, first_index(unequal),
                     a.masked_select(unequal)[0].item<double>(), b.masked_select(unequal)[0].item<double>());
}

}  // namespace

std::optional<QuantizedTensor> unpack_plainly(const Checkpoint& checkpoint, const Linear& linear,
                                              const Scheme& scheme) {
  if (scheme.has_values()) return std::nullopt;
  return PlainLinear(checkpoint, linear, scheme).read();
}

std::optional<std::string> difference(const QuantizedTensor& a, const QuantizedTensor& b) {
  std::vector<std::tuple<const char*, at::Tensor, at::Tensor>> parts = {
      {"codes", a.codes, b.codes},
      {"scales", a.scales, b.scales},
      {"zero points", a.zero_points, b.zero_points},
      {"groups of columns", a.group_index, b.group_index},
      {"the tensor's scale", a.global_scale, b.global_scale}};
  if (a.outliers && b.outliers) {
    parts.emplace_back("outliers' row offsets", a.outliers->row_offsets, b.outliers->row_offsets);
    parts.emplace_back("outliers' columns", a.outliers->columns, b.outliers->columns);
    parts.emplace_back("outliers' values", a.outliers->values, b.outliers->values);
  }
  for (const auto& [what, left, right] : parts) {
    if (auto text = first_difference(what, left, right)) return text;
  }
  if (a.outliers.has_value() != b.outliers.has_value()) return "outliers: one has them";
  return std::nullopt;
}

}  // namespace lathe
