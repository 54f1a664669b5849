// A GGUF file with one key more.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/support/raw_gguf.h"

namespace lieq {

/// The bytes of a file whose data are aligned to 32 with the key in front of its others; a second
/// key pads it, so that the data stay aligned.
[[nodiscard]] inline std::string WithKey(const std::string& file, const RawGguf::Key& key) {
  const auto entry = [](const RawGguf::Key& each) {
    return RawGguf::String(each.name) + RawGguf::Number(each.type) + each.value;
  };
  std::string added = entry(key);
  const RawGguf::Key empty{"test.pad", 8, RawGguf::String("")};
  const std::size_t missing = (32 - (added.size() + entry(empty).size()) % 32) % 32;
  added += entry({"test.pad", 8, RawGguf::String(std::string(missing, 'x'))});
  std::uint64_t count = 0;
  constexpr std::size_t kCountAt = 16, kKeysAt = 24;
  std::memcpy(&count, file.data() + kCountAt, sizeof(count));
  return file.substr(0, kCountAt) + RawGguf::Number(count + 2) + added + file.substr(kKeysAt);
}

}  // namespace lieq
