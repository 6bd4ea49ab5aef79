// An artefact's folder that is broken place by place: each change is made, tried and taken back.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe::test {

using Json = nlohmann::json;

/// Values of every JSON type, few of which mean something anywhere.
inline const std::vector<Json>& wrong_values() {
  static const std::vector<Json> values = {
      nullptr,         -1,        0, 3, int64_t{1} << 40, 0.5, "x", "", true, Json::array(), Json::object(),
      {Json::array()}, {{"a", 1}}};
  return values;
}

/// Every place in a document, its root apart; of a list the first two.
inline void add_places(const Json& value, const Json::json_pointer& at,
                       std::vector<Json::json_pointer>& places) {
  const auto descend = [&](const Json::json_pointer& child, const Json& part) {
    places.push_back(child);
    add_places(part, child, places);
  };
  if (value.is_object()) {
    for (const auto& [key, part] : value.items()) descend(at / key, part);
  } else if (value.is_array()) {
    for (size_t i = 0; i < std::min<size_t>(2, value.size()); ++i) descend(at / i, value[i]);
  }
}
inline std::vector<Json::json_pointer> places_in(const Json& document) {
  std::vector<Json::json_pointer> places;
  add_places(document, Json::json_pointer(), places);
  return places;
}

inline Json without(Json document, const Json::json_pointer& place) {
  Json& parent = document[place.parent_pointer()];
  if (parent.is_array()) {
    parent.erase(static_cast<size_t>(std::stoul(place.back())));
  } else {
    parent.erase(place.back());
  }
  return document;
}
inline Json with(Json document, const Json::json_pointer& place, const Json& value) {
  document[place] = value;
  return document;
}

/// A safetensors file whose header can be replaced without moving its data.
class BreakableShard {
 public:
  explicit BreakableShard(std::filesystem::path path) : path_(std::move(path)) {
    const std::string bytes = read_text_file(path_, int64_t{1} << 30);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    header_ = Json::parse(bytes.substr(8, length));
    data_ = bytes.substr(8 + length);
    room_ = length + 512;
    std::ofstream(path_, std::ios::binary) << padded(header_.dump()) << data_;
  }

  const Json& header() const { return header_; }
  void put_header(const Json& header) const { overwrite(0, padded(header.dump())); }
  void put_back() const { put_header(header_); }

  /// Fills a tensor's bytes.
  void fill(const std::string& tensor, char value) const {
    const auto [begin, end] = range(tensor);
    overwrite(8 + room_ + begin, std::string(end - begin, value));
  }
  void refill(const std::string& tensor) const {
    const auto [begin, end] = range(tensor);
    overwrite(8 + room_ + begin, data_.substr(begin, end - begin));
  }

 private:
  std::pair<size_t, size_t> range(const std::string& tensor) const {
    const Json& offsets = header_.at(tensor).at("data_offsets");
    return {offsets[0], offsets[1]};
  }
  std::string padded(std::string text) const {
    LATHE_ASSERT(text.size() <= room_, "a header of {} bytes", text.size());
    text.resize(room_, ' ');
    const uint64_t length = room_;
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
  }
  void overwrite(size_t at, const std::string& bytes) const {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file << bytes;
  }

  std::filesystem::path path_;
  Json header_;
  std::string data_;
  size_t room_ = 0;
};

}  // namespace lathe::test
