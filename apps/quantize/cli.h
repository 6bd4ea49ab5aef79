// The command line: argv in, a request out. No file is opened here.
#pragma once

#include <string>

#include "apps/quantize/requests.h"

namespace lathe {

/// UserError for anything that is not a valid command line, with the nearest flag or command.
/// --help and --version come back as PrintRequest.
Command parse_command_line(int argc, const char* const* argv);

}  // namespace lathe
