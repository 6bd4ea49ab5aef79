// A Jinja template, parsed: the seam between chat templates and the engine that runs them.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace lathe::text {

class JinjaProgram {
 public:
  virtual ~JinjaProgram() = default;
  /// The text that the template makes of `variables` (an object). strftime_now() answers 26 July 2024, noon.
  /// Throws std::exception whose what() is the engine's reason, which may have several lines.
  virtual std::string run(const nlohmann::ordered_json& variables) const = 0;
};

/// Throws std::exception as run() where `source` is not Jinja; UserError in a build without an engine.
std::unique_ptr<JinjaProgram> parse_jinja(const std::string& source);

}  // namespace lathe::text
