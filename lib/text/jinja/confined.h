// Templates come with models that nobody vouches for, and are programs: they may loop, recurse and build
// texts without end, and the engine's parser and interpreter recurse with them. So each runs in a process of
// its own that has no open file, can't open any, and has only so much time and memory.
#pragma once

#include <memory>
#include <string>

#include "lib/text/jinja/engine.h"

namespace lathe::text {

/// Of reading the template, and of each rendering.
struct TemplateLimits {
  int seconds = 10;                    // of processor time
  uint64_t bytes = uint64_t{1} << 30;  // beside what the process begins with
};

/// parse_jinja()'s program, read and run in the other process: the text of variables is all that goes in,
/// text all that comes out. Throws as parse_jinja() and JinjaProgram::run(); likewise where the process takes
/// too much time or memory or crashes, of which nothing remains. Interrupted where that was asked for
/// meanwhile.
std::unique_ptr<JinjaProgram> parse_confined(const std::string& source, TemplateLimits limits = {});

}  // namespace lathe::text
