#include "formats/targets/awq.h"
#include "formats/targets/compressed_tensors.h"
#include "formats/targets/gptq.h"
#include "formats/targets/hqq.h"
#include "formats/targets/modelopt.h"
#include "formats/targets/spqr.h"
#include "formats/targets/target.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {

const std::vector<Target>& targets() {
  static const std::vector<Target> rows = [] {
    std::vector<Target> all = {
        compressed_tensors_target(), gptq_target(),     gptq_v2_target(), awq_target(),
        awq_gemv_target(),           modelopt_target(), hqq_target(),     spqr_target()};
    for (Target& target : gguf_targets()) all.push_back(std::move(target));
    return all;
  }();
  return rows;
}

const Target& find_target(const std::string& name) {
  std::vector<std::string> known;
  for (const Target& target : targets()) {
    if (target.name == name) return target;
    known.push_back(target.name);
  }
  user_error("unknown output format '{}'; known: {}{}", name, join_words(known), did_you_mean(name, known));
}

}  // namespace lathe
