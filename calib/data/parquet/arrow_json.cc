#include "calib/data/parquet/arrow_json.h"

#include <arrow/array/array_binary.h>
#include <arrow/array/array_dict.h>
#include <arrow/array/array_nested.h>
#include <arrow/array/array_primitive.h>
#include <arrow/type.h>

#include <stdexcept>

namespace lathe::parquet_module {
namespace {

using nlohmann::ordered_json;

template <class ArrayType>
ordered_json value_of(const arrow::Array& array, int64_t index) {
  return static_cast<const ArrayType&>(array).Value(index);
}

template <class ArrayType>
ordered_json text_of(const arrow::Array& array, int64_t index) {
  return std::string(static_cast<const ArrayType&>(array).GetView(index));
}

template <class ArrayType>
ordered_json list_of(const arrow::Array& array, int64_t index) {
  const auto& list = static_cast<const ArrayType&>(array);
  ordered_json items = ordered_json::array();
  const int64_t begin = list.value_offset(index), end = begin + list.value_length(index);
  for (int64_t i = begin; i < end; ++i) items.push_back(json_of(*list.values(), i));
  return items;
}

ordered_json struct_of(const arrow::Array& array, int64_t index) {
  const auto& fields = static_cast<const arrow::StructArray&>(array);
  ordered_json object = ordered_json::object();
  for (int i = 0; i < fields.num_fields(); ++i) {
    object[fields.struct_type()->field(i)->name()] = json_of(*fields.field(i), index);
  }
  return object;
}

ordered_json dictionary_value(const arrow::Array& array, int64_t index) {
  const auto& dictionary = static_cast<const arrow::DictionaryArray&>(array);
  return json_of(*dictionary.dictionary(), dictionary.GetValueIndex(index));
}

}  // namespace

ordered_json json_of(const arrow::Array& array, int64_t index) {
  if (array.IsNull(index)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::BOOL:
      return value_of<arrow::BooleanArray>(array, index);
    case arrow::Type::INT8:
      return value_of<arrow::Int8Array>(array, index);
    case arrow::Type::UINT8:
      return value_of<arrow::UInt8Array>(array, index);
    case arrow::Type::INT16:
      return value_of<arrow::Int16Array>(array, index);
    case arrow::Type::UINT16:
      return value_of<arrow::UInt16Array>(array, index);
    case arrow::Type::INT32:
      return value_of<arrow::Int32Array>(array, index);
    case arrow::Type::UINT32:
      return value_of<arrow::UInt32Array>(array, index);
    case arrow::Type::INT64:
      return value_of<arrow::Int64Array>(array, index);
    case arrow::Type::UINT64:
      return value_of<arrow::UInt64Array>(array, index);
    case arrow::Type::FLOAT:
      return value_of<arrow::FloatArray>(array, index);
    case arrow::Type::DOUBLE:
      return value_of<arrow::DoubleArray>(array, index);
    case arrow::Type::STRING:
    case arrow::Type::BINARY:
      return text_of<arrow::BinaryArray>(array, index);
    case arrow::Type::LARGE_STRING:
    case arrow::Type::LARGE_BINARY:
      return text_of<arrow::LargeBinaryArray>(array, index);
    case arrow::Type::STRING_VIEW:
    case arrow::Type::BINARY_VIEW:
      return text_of<arrow::BinaryViewArray>(array, index);
    case arrow::Type::LIST:
      return list_of<arrow::ListArray>(array, index);
    case arrow::Type::LARGE_LIST:
      return list_of<arrow::LargeListArray>(array, index);
    case arrow::Type::FIXED_SIZE_LIST:
      return list_of<arrow::FixedSizeListArray>(array, index);
    case arrow::Type::STRUCT:
      return struct_of(array, index);
    case arrow::Type::DICTIONARY:
      return dictionary_value(array, index);
    default:
      throw std::runtime_error("values of type " + array.type()->ToString() +
                               " can't be read as text or ids");
  }
}

}  // namespace lathe::parquet_module
