// In a build that found no Jinja engine.
#include "lib/base/error.h"
#include "lib/text/jinja/engine.h"

namespace lathe::text {

std::unique_ptr<JinjaProgram> parse_jinja(const std::string&) {
  user_error(
      "this build of Lathe has no Jinja engine for chat templates (run `make deps` before the build); give "
      "the conversations as text");
}

}  // namespace lathe::text
