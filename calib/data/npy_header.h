// The header of NumPy's .npy format, versions 1.0 to 3.0.
// Spec: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
//
//   \x93NUMPY, u8 major, u8 minor, u16 (1.0) or u32 (2.0, 3.0) header length, a Python dict with the keys
//   descr, fortran_order and shape, padded with spaces and a line break; then the array's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lathe {

struct NpyHeader {
  std::string descr;  // "<i4"
  bool fortran_order = false;
  std::vector<int64_t> shape;
  size_t data_begin = 0;  // bytes before the array
};

/// UserError naming `path` for anything malformed, structured dtypes included; nothing is allocated on the
/// word of the file, and the data's size is not looked at.
NpyHeader parse_npy_header(std::span<const std::byte> file, const std::string& path);

/// Everything that precedes the bytes of a C-ordered int64 array, as numpy.save writes it (version 1.0).
std::string format_npy_header(const std::vector<int64_t>& shape);

}  // namespace lathe
