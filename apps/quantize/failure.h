// Exceptions as what a person and a shell see: one line and an exit code.
#pragma once

#include <exception>
#include <string>

#include "lib/base/error.h"

namespace lathe {

struct Failure {
  ExitCode code = ExitCode::internal;
  std::string line;  // "quantize: error: ...", without a line break
};

/// UserError 2, CheckFailed 3, Interrupted 130, too little memory or a refusing file system 2, anything else
/// 70 (our bug).
Failure describe_failure(const std::exception_ptr& error);

}  // namespace lathe
