// The keys of a GGUF file as a reader wants them: of the right kind and within bounds, or refused by name.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

#include "formats/gguf/gguf_file.h"

namespace lathe {

/// All errors: UserError naming file and key.
class GgufKeys {
 public:
  explicit GgufKeys(const GgufFile& file);

  const std::string& architecture() const { return architecture_; }
  bool has(const std::string& tensor) const { return file_.tensor(tensor) != nullptr; }
  const GgufFile& file() const { return file_; }

  std::optional<std::string> text(const std::string& key) const;
  /// Of <architecture>.<key>, in [1, 2^40].
  std::optional<int64_t> count(const std::string& key) const;
  int64_t required_count(const std::string& key) const;
  /// Of <architecture>.<key>, finite: the number as people wrote it, 1e-05 where a float's exact value is
  /// 9.99999974...e-06.
  std::optional<double> real(const std::string& key) const;
  double required_real(const std::string& key) const;

  [[noreturn]] void refuse(const std::string& key, std::string_view expected, const GgufValue* found) const;

 private:
  const GgufFile& file_;
  std::string architecture_;
};

/// Puts "rope_parameters" into what is known of config.json otherwise (head_dim, where the family turns a
/// part of it).
void add_rope_config(const GgufKeys& keys, nlohmann::json& config);

}  // namespace lathe
