#include <algorithm>

#include "formats/layouts/awq_gemv.h"
#include "formats/layouts/exllama.h"
#include "formats/layouts/layout.h"
#include "formats/layouts/machete.h"
#include "formats/layouts/marlin.h"
#include "formats/layouts/scale_tiles.h"
#include "formats/layouts/trtllm.h"

namespace lathe {

const std::vector<KernelLayout>& kernel_layouts() {
  using namespace layouts;
  static const std::vector<KernelLayout> rows = {
      marlin_layout(),  machete_layout(),  trtllm_layout(80),      trtllm_layout(90),   trtllm_layout(100),
      exllama_layout(), awq_gemv_layout(), awq_gemv_fast_layout(), scale_tiles_layout()};
  return rows;
}

const KernelLayout* find_kernel_layout(const std::string& name) {
  const auto row = std::ranges::find(kernel_layouts(), name, &KernelLayout::name);
  return row == kernel_layouts().end() ? nullptr : &*row;
}

}  // namespace lathe
