// One object of a config: typed reads, and an error for each key that nobody asked about.
#pragma once

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <vector>

namespace lathe {

/// Every refusal is a UserError "<where>.<key>: expected ..., found ...". Keeps a reference to the object.
class StrictObject {
 public:
  StrictObject(const nlohmann::json& object, std::string where);

  const std::string& where() const { return where_; }

  /// Null where the key is not there.
  const nlohmann::json* find(const std::string& key);
  const nlohmann::json& need(const std::string& key, const char* expected);
  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const;

  std::string word(const std::string& key, const std::vector<std::string>& choices);
  /// Absent, null (then "" is given), or one of `choices`.
  std::string optional_word(const std::string& key, const std::vector<std::string>& choices);
  bool truth(const std::string& key);
  int integer(const std::string& key, int low, int high);
  std::vector<std::string> words(const std::string& key, bool required);
  /// Absent, null (then `otherwise` is given), or one between the two.
  int optional_integer(const std::string& key, int low, int high, int otherwise);
  /// Absent, null, or an empty object or list: a feature that is not used.
  void unused(const std::string& key, const std::string& feature);
  /// Keys that change nothing about what the tensors mean.
  void informational(std::initializer_list<const char*> keys);
  void no_other_keys() const;

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

}  // namespace lathe
