// An outcome comes back bit for bit, whatever stands in it; bytes that are none are refused.
#include "apps/quantize/journal/outcome_record.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apps/quantize/journal/outcome_fields.h"
#include "lib/base/error.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

/// Puts something into every field, another value each time.
class Fill {
 public:
  explicit Fill(const Block& block) : block_(block) {}
  template <class... Fields>
  void operator()(Fields&... fields) {
    (fill(fields), ...);
  }

 private:
  template <class T>
  void fill(T& value) {
    ++count_;
    if constexpr (std::is_same_v<T, bool>) {
      value = true;
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(1);
    } else if constexpr (std::is_arithmetic_v<T>) {
      value = static_cast<T>(count_ % 100) + static_cast<T>(0.25);
    } else {
      visit_fields(value, *this);
    }
  }
  void fill(std::string& text) { text = fmt::format("text {}", ++count_); }
  template <class T>
  void fill(std::optional<T>& value) {
    fill(value.emplace());
  }
  template <class T>
  void fill(std::vector<T>& values) {
    for (int i = 0; i < 2; ++i) fill(values.emplace_back());
  }
  void fill(std::map<std::string, at::Tensor>& tensors) {
    for (int i = 0; i < 2; ++i) fill(tensors[fmt::format("tensor {}", i)]);
  }
  void fill(const Linear*& linear) { linear = &block_.linears[static_cast<size_t>(++count_ % 2)]; }
  void fill(const ScaleEdge*& edge) { edge = &block_.edges[static_cast<size_t>(++count_ % 2)]; }
  void fill(at::Tensor& tensor) {
    const std::vector<at::Tensor> kinds = {
        at::randint(-8, 8, {3, 300}, at::kChar),        // 4 bits in a row of its own
        at::randint(-3, 4, {5, 7}, at::kChar),          // 3 bits in one row
        at::randint(0, 256, {4, 9}, at::kByte),         // all 8
        at::randint(-128, 128, {2, 257}, at::kChar),    //
        at::full({6}, -5, at::kChar),                   // none
        at::empty({0, 4}, at::kChar),                   //
        at::randn({3, 5}).t(),                          // strides of its own
        at::randn({}),                                  // a scalar
        at::randint(0, 1000, {11}, at::kInt),           //
        at::randn({2, 2}, at::kDouble),                 //
        at::randn({2, 3}).to(at::kHalf).expand({2, 3})  //
    };
    tensor = kinds[static_cast<size_t>(++count_) % kinds.size()];
  }

  const Block& block_;
  int count_ = 0;
};

/// Changes one of the fields, the `which`th of those that it comes to, and leaves the others.
class Change {
 public:
  Change(const Block& block, int which) : block_(block), left_(which) {}
  template <class... Fields>
  void operator()(Fields&... fields) {
    (change(fields), ...);
  }
  bool done() const { return left_ < 0; }

 private:
  bool mine() { return left_-- == 0; }

  template <class T>
  void change(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      if (mine()) value = !value;
    } else if constexpr (std::is_enum_v<T>) {
      if (mine()) value = static_cast<T>(0);
    } else if constexpr (std::is_arithmetic_v<T>) {
      if (mine()) value = value + 1;
    } else {
      visit_fields(value, *this);
    }
  }
  void change(std::string& text) {
    if (mine()) text += "!";
  }
  template <class T>
  void change(std::optional<T>& value) {
    if (mine()) return value.reset();
    change(*value);
  }
  template <class T>
  void change(std::vector<T>& values) {
    if (mine()) return values.pop_back();
    for (T& value : values) change(value);
  }
  void change(std::map<std::string, at::Tensor>& tensors) {
    if (mine()) tensors.erase(tensors.begin());
    for (auto& [name, tensor] : tensors) change(tensor);
  }
  void change(const Linear*& linear) { move(linear, block_.linears); }
  void change(const ScaleEdge*& edge) { move(edge, block_.edges); }
  template <class T>
  void move(const T*& element, const std::vector<T>& all) {
    if (mine()) element = &all[(static_cast<size_t>(element - all.data()) + 1) % all.size()];
  }
  void change(at::Tensor& tensor) {
    if (mine()) {
      tensor.reset();
    } else if (mine()) {
      tensor = tensor.unsqueeze(0);
    } else if (tensor.numel() > 0 && mine()) {
      tensor = tensor.contiguous().clone();
      at::Tensor last = tensor.view({-1})[-1];
      tensor.is_floating_point() ? last.neg_() : last.bitwise_xor_(1);
    }
  }

  const Block& block_;
  int left_;
};

class OutcomeRecordTest : public ::testing::Test {
 protected:
  OutcomeRecordTest() {
    at::manual_seed(5);
    Fill fill(graph_.blocks[1]);
    fill(outcome_);
    outcome_.index = 1;
  }
  std::vector<std::byte> bytes_of(const BlockOutcome& outcome) const {
    std::vector<std::byte> bytes;
    write_outcome(outcome, graph_, [&](std::span<const std::byte> piece) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    });
    EXPECT_EQ(bytes.size(), outcome_bytes(outcome, graph_));
    return bytes;
  }

  const ModelGraph graph_ = testing::tiny_graph();
  BlockOutcome outcome_;
};

void expect_same(const at::Tensor& found, const at::Tensor& expected) {
  ASSERT_EQ(found.defined(), expected.defined());
  if (!expected.defined()) return;
  EXPECT_EQ(found.scalar_type(), expected.scalar_type());
  EXPECT_TRUE(at::equal(found, expected));
}

TEST_F(OutcomeRecordTest, EverythingComesBack) {
  const std::vector<std::byte> bytes = bytes_of(outcome_);
  const BlockOutcome back = read_outcome(bytes, graph_);
  EXPECT_EQ(bytes_of(back), bytes);
  ASSERT_EQ(back.linears.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const LinearOutcome &found = back.linears[i], &expected = outcome_.linears[i];
    EXPECT_EQ(found.linear, expected.linear);
    EXPECT_EQ(found.quantized.scheme, expected.quantized.scheme);
    expect_same(found.quantized.codes, expected.quantized.codes);
    expect_same(found.quantized.scales, expected.quantized.scales);
    expect_same(found.quantized.second_level->zero_zeros, expected.quantized.second_level->zero_zeros);
    expect_same(found.quantized.outliers->values, expected.quantized.outliers->values);
    expect_same(found.given->weight, expected.given->weight);
    EXPECT_EQ(found.events, expected.events);
    EXPECT_EQ(found.seconds, expected.seconds);
    EXPECT_EQ(found.distortion.output_relative_error, expected.distortion.output_relative_error);
    EXPECT_EQ(back.folds[i].edge, outcome_.folds[i].edge);
    EXPECT_EQ(back.inputs[i].input, outcome_.inputs[i].input);
  }
  expect_same(back.changed.at("tensor 1"), outcome_.changed.at("tensor 1"));
  EXPECT_EQ(back.kv_cache->v_scales, outcome_.kv_cache->v_scales);
}

TEST_F(OutcomeRecordTest, NothingOptionalComesBackEmpty) {
  BlockOutcome plain;
  plain.linears.push_back(
      {.linear = &graph_.blocks[0].linears[3], .quantized = {}, .distortion = {}, .events = {}});
  const std::vector<std::byte> bytes = bytes_of(plain);
  const BlockOutcome back = read_outcome(bytes, graph_);
  EXPECT_EQ(bytes_of(back), bytes);
  EXPECT_EQ(back.linears[0].linear, &graph_.blocks[0].linears[3]);
  EXPECT_FALSE(back.linears[0].quantized.codes.defined());
  EXPECT_FALSE(back.kv_cache || back.linears[0].given || back.linears[0].quantized.input);
}

TEST_F(OutcomeRecordTest, NoFieldIsForgotten) {
  const std::vector<std::byte> bytes = bytes_of(outcome_);
  int fields = 0;
  for (int which = 1;; ++which) {  // the first is the block's number, which others hang on
    BlockOutcome changed = outcome_;
    Change change(graph_.blocks[1], which);
    change(changed);
    if (!change.done()) break;
    ++fields;
    const std::vector<std::byte> other = bytes_of(changed);
    EXPECT_NE(other, bytes) << "field " << which;
    EXPECT_EQ(bytes_of(read_outcome(other, graph_)), other) << "field " << which;
  }
  EXPECT_GT(fields, 200);
}

TEST_F(OutcomeRecordTest, CodesTakeTheirBits) {
  BlockOutcome outcome;
  LinearOutcome& linear = outcome.linears.emplace_back();
  linear.linear = &graph_.blocks[0].linears[0];
  for (const int bits : {2, 3, 4, 8}) {
    const int64_t half = int64_t{1} << (bits - 1);
    linear.quantized.codes = at::randint(-half, half, {64, 1024}, at::kChar);
    EXPECT_LT(outcome_bytes(outcome, graph_), 64 * 1024 * bits / 8 + 1000) << bits;
  }
}

TEST_F(OutcomeRecordTest, WeightsOfACheckpointTakeTheirBytesOnce) {
  BlockOutcome outcome;
  LinearOutcome& linear = outcome.linears.emplace_back();
  linear.linear = &graph_.blocks[0].linears[0];
  const int64_t count = 128 * 64;
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    linear.quantized.values = at::randn({128, 64}).to(type).to(at::kFloat);
    linear.given = GivenWeight{linear.quantized.values, at::rand({64}), 10};
    EXPECT_NEAR(static_cast<double>(outcome_bytes(outcome, graph_)), 2 * count, 1500) << type;
    const BlockOutcome back = read_outcome(bytes_of(outcome), graph_);
    EXPECT_TRUE(back.linears[0].quantized.values.equal(linear.quantized.values));
    EXPECT_TRUE(back.linears[0].given->weight.equal(linear.quantized.values));
  }
  linear.given->weight = linear.quantized.values * 1.001;
  linear.quantized.values[0][0] = -0.0;
  const BlockOutcome back = read_outcome(bytes_of(outcome), graph_);
  EXPECT_TRUE(back.linears[0].given->weight.equal(linear.given->weight)) << "of its own, in four bytes";
  EXPECT_TRUE(std::signbit(back.linears[0].quantized.values[0][0].item<float>()));
  EXPECT_NEAR(static_cast<double>(outcome_bytes(outcome, graph_)), 6 * count, 1500);
}

TEST_F(OutcomeRecordTest, OfTheHeadComesBack) {
  BlockOutcome head;
  head.index = graph_.blocks.size();
  head.linears.push_back({.linear = &graph_.lm_head(), .quantized = {}, .distortion = {}, .events = {}});
  const std::vector<std::byte> bytes = bytes_of(head);
  EXPECT_EQ(read_outcome(bytes, graph_).linears[0].linear, &graph_.lm_head());
}

TEST_F(OutcomeRecordTest, OfAnotherBlockIsABug) {
  BlockOutcome outcome = outcome_;
  outcome.index = 0;
  EXPECT_THROW(bytes_of(outcome), InternalError);
}

TEST_F(OutcomeRecordTest, BytesThatAreNoOutcomeAreRefused) {
  const std::vector<std::byte> bytes = bytes_of(outcome_);
  for (size_t end = 0; end < bytes.size(); end += end < 4000 ? 1 : 97)
    EXPECT_THROW(read_outcome(std::span(bytes).first(end), graph_), UserError) << end;
  std::vector<std::byte> longer = bytes;
  longer.push_back({});
  EXPECT_THROW(read_outcome(longer, graph_), UserError);
}

TEST_F(OutcomeRecordTest, AnyBytesAreReadOrRefused) {
  const std::vector<std::byte> bytes = bytes_of(outcome_);
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint8_t value : {0x00, 0xff, 0x80, 0x07}) {
      std::vector<std::byte> broken = bytes;
      broken[at] = std::byte{value};
      try {
        read_outcome(broken, graph_);
      } catch (const UserError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace lathe
