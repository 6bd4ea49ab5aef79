// Reads the linears of an FP8 checkpoint whose quant_method is "fp8": DeepSeek-V3's and Qwen3-FP8's blocks,
// and AutoFP8's scale for a tensor (Mixtral-FP8). For a linear m with W[out, in]:
//   m.weight            F8_E4M3 [out, in]
//   m.weight_scale_inv  T [ceil(out / r), ceil(in / c)], weight_block_size [r, c]: what a block's numbers are
//                       multiplied by (the inverse of what they were multiplied by before rounding); the last
//                       blocks may be smaller. T: F32, BF16, F16, or F8_E8M0 (scale_fmt ue8m0)
//   m.weight_scale      T [] or [1] without weight_block_size (transformers: weight_scale_inv), and with
//   m.input_scale       T [] or [1] activation_scheme static (transformers: activation_scale)
// Dynamic inputs are rounded as engines do it: in groups of c channels of a token with blocks, else token by
// token. Inputs that c doesn't divide, which no engine takes, stay as they are.
// Source: vllm 0.32, quantization/fp8.py; transformers 5.17, quantizer_finegrained_fp8.py and
// integrations/finegrained_fp8.py.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/targets/layout_reader.h"

namespace lathe {

class Fp8Reader final : public LayoutReader {
 public:
  /// A linear is packed where its weight is F8_E4M3. UserError naming file, tensor or key, also where a scale
  /// stands beside a weight of another type, and where the configuration leaves an FP8 weight in floating
  /// point. Reads nothing but headers.
  Fp8Reader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  std::map<std::string, ActivationScheme> activations() const override;
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override;
  /// UserError for a scale that is not finite and positive, and a code that is NaN.
  QuantizedTensor read(const std::string& linear) const override;

 private:
  struct Config {
    std::optional<std::array<int64_t, 2>> block;  // none: one scale for the tensor
    bool dynamic = true;                          // are inputs' scales found when the model runs?
    std::vector<std::string> not_converted = {};
  };
  static Config parse_config(const nlohmann::json& value, const std::string& where);
  bool leaves_out(const std::string& linear) const;
  void add_linear(const Linear& linear);
  void check_no_scales(const Linear& linear, const TensorInfo& weight) const;
  Scheme scheme() const;
  std::optional<ActivationScheme> input_scheme(int64_t in) const;
  std::string scale_name(const std::string& linear) const;
  std::string input_scale_name(const std::string& linear) const;
  PlannedTensor stored_scalar(const std::string& name) const;
  PlannedTensor stored_scales(const Linear& linear) const;

  Config config_;
};

}  // namespace lathe
