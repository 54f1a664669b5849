// Packed tensors of compressed-tensors, and the bit stream below them.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/memory_file.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"

namespace lieq {
namespace {

void CheckStream(FuzzInput& input) {
  const int bits = 1 + static_cast<int>(input.Below(8));
  std::vector<std::uint8_t> codes(input.Rest().begin(), input.Rest().end());
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code & ((1 << bits) - 1));
  std::vector<std::uint32_t> words(Size(CeilDiv(static_cast<Index>(codes.size()) * bits, 32)));
  PackCodes(codes, bits, words);
  std::vector<std::uint8_t> again(codes.size());
  UnpackCodes(words, bits, again);
  Require(codes == again, "codes survive the stream");
  for (std::size_t i = 0; i < codes.size() * static_cast<std::size_t>(bits); ++i) {
    const std::size_t code = i / static_cast<std::size_t>(bits);
    const std::size_t bit = i % static_cast<std::size_t>(bits);
    Require((words[i / 32] >> (i % 32) & 1u) == (codes[code] >> bit & 1u), "bit i is bit i");
  }
}

/// One module whose tensors fit its grid, save for what the input wants otherwise.
std::string Assemble(FuzzInput& input, const Grid& grid) {
  const Index group = grid.group_size == 0 ? 1 + input.Below(80) : grid.group_size;
  const Index groups = grid.group_size == 0 ? 1 : 1 + input.Below(3);
  const Index rows = 1 + input.Below(40), cols = group * groups;
  std::string data, json = "{";
  const auto add = [&](const char* name, const char* type, Index item, std::vector<Index> shape,
                       auto&& fill) {
    const std::string dtype = input.Rarely() ? "U8" : type;
    if (input.Rarely()) shape.push_back(1);
    if (input.Rarely()) shape[0] = 1 + input.Below(20);
    Index count = dtype == type ? item : 1;
    std::string extents;
    for (const Index extent : shape) {
      extents += (extents.empty() ? "" : ",") + std::to_string(extent);
      count *= extent;
    }
    if (json.size() > 1) json += ',';
    json += std::string("\"m.") + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + extents +
            "],\"data_offsets\":[" + std::to_string(data.size()) + ',';
    std::string bytes = fill();
    bytes.resize(Size(count));
    data += bytes;
    json += std::to_string(data.size()) + "]}";
  };
  const auto zeros = [] { return std::string(); };
  if (input.Rarely()) add("odd", "U8", 1, {1}, zeros);  // the others lie unaligned
  add("weight_shape", "I64", 8, {2}, [&] {
    std::array<std::uint64_t, 2> shape{static_cast<std::uint64_t>(rows),
                                       static_cast<std::uint64_t>(cols)};
    if (input.Rarely()) shape[input.Below(2)] = input.Number();
    return std::string(reinterpret_cast<const char*>(shape.data()), sizeof(shape));
  });
  if (grid.offset == Offset::kInteger) {
    add("weight_zero_point", "I32", 4, {CeilDiv(rows * grid.bits, 32), groups},
        [&] { return std::string(64, static_cast<char>(input.Rarely() ? 0xFF : 0)); });
  }
  constexpr std::array<const char*, 3> kScaleTypes{"BF16", "F16", "F32"};
  const std::uint32_t scale = input.Below(3);
  add("weight_scale", kScaleTypes[scale], scale == 2 ? 4 : 2, {rows, groups},
      [&] { return std::string(512, static_cast<char>(input.Rarely() ? input.Byte() : 0x33)); });
  if (grid.offset == Offset::kFloat) {
    const std::uint32_t type = input.Below(3);
    add("weight_minimum", kScaleTypes[type], type == 2 ? 4 : 2, {rows, groups},
        [&] { return std::string(512, static_cast<char>(input.Rarely() ? input.Byte() : 0xB3)); });
  }
  add("weight_packed", "I32", 4, {rows, CeilDiv(cols * grid.bits, 32)},
      [&] { return std::string(input.Text()); });
  json += '}';
  const std::uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + json + data;
}

void CheckPacked(FuzzInput& input) {
  constexpr std::array<int, 4> kBits{2, 3, 4, 8};
  constexpr std::array<Index, 4> kGroups{0, 32, 64, 7};
  const Grid grid{.bits = kBits[input.Below(4)],
                  .group_size = kGroups[input.Below(4)],
                  .offset = kAllOffsets[input.Below(4)]};
  static MemoryFile file;
  file.Set(Assemble(input, grid));
  const TensorFile tensors = TensorFile::Open(file.path());
  CheckMatrix(ReadPacked(tensors, "m", grid));
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  if (input.Byte() % 4 == 0) {
    lieq::CheckStream(input);
    return 0;
  }
  try {
    lieq::CheckPacked(input);
  } catch (const lieq::Error&) {
  }
  return 0;
}
