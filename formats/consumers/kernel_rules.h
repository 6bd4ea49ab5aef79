// What kernels of the consumers take, row by row with the place where it was read; and readers that have no
// rules on schemes and shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lathe {

/// What one kernel of a consumer takes.
struct KernelRule {
  std::string consumer, kernel;
  std::vector<std::string> methods;  // config.json's quant_method; "awq-gemv" is a method of its own
  // Integers: bits, groups (-1: one a row). Unless `schemes` says otherwise.
  std::vector<int> symmetric_bits = {}, asymmetric_bits = {};
  std::vector<int64_t> group_sizes = {};
  int64_t in_multiple = 1, out_multiple = 1;  // of what one GPU gets; 1: any size, or padded by the loader
  int64_t part_multiple = 1;  // output features of each of the linears that are stacked, of one GPU
  std::vector<std::string> inputs = {};   // of integers: how inputs are quantised; none: not at all
  std::vector<std::string> schemes = {};  // on floating-point grids, as with_input() describes them
  bool experts = false;                   // for a router's experts; else for all other linears
  bool parallel = true;                   // does the consumer split and stack linears?
  bool group_index = false;               // does it take groups in an order of their own (desc_act)?
  std::string source;
};
const std::vector<KernelRule>& kernel_rules();

struct Reader {
  const char *consumer, *method, *through, *source;  // through: null where it doesn't read the method
  const char* no_experts = nullptr;                  // why it reads no experts; null where it does
  const char* no_zero_points = nullptr;              // ... no asymmetric weights
  const char* no_byte_experts = nullptr;             // ... no experts with INT8 inputs (a code a byte)
};
const std::vector<Reader>& readers();

}  // namespace lathe
