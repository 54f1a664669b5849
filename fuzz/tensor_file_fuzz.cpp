// safetensors: whatever the bytes, the reader gives tensors that lie in them, or an Error.
#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/io/tensor_header.h"

namespace lieq {
namespace {

/// Every byte of the data belongs to exactly one tensor, names differ, shapes fill their bytes.
void CheckPromises(const TensorHeader& header, const std::string& file) {
  const auto* const begin = reinterpret_cast<const std::byte*>(file.data());
  const std::byte* covered = nullptr;
  std::set<std::string> names;
  unsigned sum = 0;
  for (const TensorRef& tensor : header.tensors) {
    Require(names.insert(tensor.name).second, "names are unique");
    std::uint64_t bytes = ItemSize(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) {
      Require(extent >= 1, "extents are at least 1");
      bytes *= static_cast<std::uint64_t>(extent);
    }
    Require(bytes == tensor.bytes.size(), "bytes fill the shape");
    Require(tensor.bytes.data() >= begin && tensor.bytes.data() + bytes <= begin + file.size(),
            "bytes lie in the file");
    Require(covered == nullptr || tensor.bytes.data() == covered, "no overlap and no hole");
    covered = tensor.bytes.data() + bytes;
    sum += std::to_integer<unsigned>(tensor.bytes.front()) +
           std::to_integer<unsigned>(tensor.bytes.back());
  }
  Require(header.tensors.empty() || covered == begin + file.size(), "data reach the end");
  [[maybe_unused]] static volatile unsigned sink = 0;  // the reads above must not be optimized away
  sink = sum;
}

/// A file that is right except for what the input wants to be wrong.
std::string Assemble(FuzzInput& input) {
  constexpr std::array<const char*, 7> kTypes{"F32", "BF16", "I64", "U8", "BOOL", "F8_E4M3", ""};
  constexpr std::array<std::uint64_t, 7> kSizes{4, 2, 8, 1, 1, 1, 1};
  constexpr std::array<const char*, 4> kNames{"a", "b", "__metadata__", "a\\u0000\\\"b"};
  std::string json = "{";
  if (input.Rarely()) json += R"("__metadata__":{"format":"pt"},)";
  std::uint64_t offset = 0;
  const std::uint32_t count = input.Below(6);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t type = input.Rarely() ? input.Below(7) : input.Below(5);
    std::uint64_t bytes = kSizes[type];
    std::string shape;
    for (std::uint32_t extent = 0; extent < 3; ++extent) {
      const std::uint64_t value = input.Rarely() ? input.Number() : 1 + input.Below(5);
      if (!shape.empty()) shape += ',';
      shape += std::to_string(value);
      bytes *= value;
    }
    const std::uint64_t begin = input.Rarely() ? input.Number() : offset;
    offset += bytes;
    const std::uint64_t end = input.Rarely() ? input.Number() : offset;
    const std::string name =
        input.Rarely() ? kNames[input.Below(kNames.size())] : "t" + std::to_string(i);
    if (i > 0) json += ',';
    json += "\"" + name + "\":{\"dtype\":\"" + kTypes[type] + "\",\"shape\":[" + shape +
            "],\"data_offsets\":[" + std::to_string(begin) + ',' + std::to_string(end) + "]}";
  }
  json += '}';
  const char padding = input.Rarely() ? '\0' : ' ';
  json.append(input.Below(8), padding);
  const std::uint64_t length = input.Rarely() ? input.Number() : json.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  file += json;
  const std::uint64_t data = input.Rarely() ? input.Below(256) : offset;
  file.append(static_cast<std::size_t>(std::min<std::uint64_t>(data, 4096)), 'x');
  return file;
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  const bool raw = input.Byte() % 2 == 0;
  const std::string file = raw ? std::string(input.Text()) : lieq::Assemble(input);
  try {
    const auto bytes = std::as_bytes(std::span(file));
    lieq::CheckPromises(lieq::ParseTensorHeader(bytes, "fuzz"), file);
  } catch (const lieq::Error&) {
  }
  return 0;
}
