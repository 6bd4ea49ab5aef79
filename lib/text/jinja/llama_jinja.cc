// llama.cpp's engine (common/jinja).
#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>

#include <ctime>

#include "lib/text/jinja/engine.h"

namespace lathe::text {
namespace {

/// Noon of 26 July 2024, the date that Llama 3's template falls back to, in whatever time zone the engine's
/// localtime() uses.
std::time_t fixed_time() {
  std::tm noon{};
  noon.tm_year = 2024 - 1900;
  noon.tm_mon = 6;
  noon.tm_mday = 26;
  noon.tm_hour = 12;
  noon.tm_isdst = -1;
  return std::mktime(&noon);
}

class LlamaJinja : public JinjaProgram {
 public:
  explicit LlamaJinja(const std::string& source)
      : source_(source), program_(jinja::parse_from_tokens(jinja::lexer().tokenize(source))) {}

  std::string run(const nlohmann::ordered_json& variables) const override {
    static const std::time_t now = fixed_time();
    jinja::context context(source_);
    context.current_time = now;
    jinja::global_from_json(context, variables, /*mark_input=*/false);
    jinja::runtime runtime(context);
    return jinja::runtime::gather_string_parts(runtime.execute(program_))->as_string().str();
  }

 private:
  std::string source_;
  jinja::program program_;
};

}  // namespace

std::unique_ptr<JinjaProgram> parse_jinja(const std::string& source) {
  return std::make_unique<LlamaJinja>(source);
}

}  // namespace lathe::text
