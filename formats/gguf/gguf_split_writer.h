// Writes a GGUF model into one file, or into as many as keep each below a size.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/gguf/gguf_writer.h"

namespace lathe {

/// One thread at a time.
class GgufSplitWriter {
 public:
  /// folder/<name>.gguf; or, where the tensors take more than `part_bytes` (0: no limit), parts of at most
  /// that much of them each, named by split_name(). A larger tensor has a part of its own. Created with their
  /// whole length reserved. Errors as GgufWriter's; UserError where there would be more than 65535 parts.
  GgufSplitWriter(const std::filesystem::path& folder, const std::string& name, const GgufMetadata& metadata,
                  const std::vector<GgufPlan>& tensors, uint64_t part_bytes);

  /// As GgufWriter::write() and finish().
  void write(const std::string& tensor, std::span<const std::byte> bytes, uint64_t begin = 0);
  void finish();

  /// The first, which stands for all.
  const std::filesystem::path& path() const { return parts_.front()->path(); }

 private:
  std::vector<std::unique_ptr<GgufWriter>> parts_;
  std::map<std::string, GgufWriter*> places_;  // by tensor
};

}  // namespace lathe
