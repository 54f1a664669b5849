// GGUF: whatever the bytes, the reader gives keys and tensors that lie in them, or an Error.
#include <array>
#include <cstdint>
#include <set>
#include <string>

#include "fuzz/fuzz_input.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/io/gguf_file.h"
#include "tests/support/raw_gguf.h"

namespace lieq {
namespace {

/// Every value can be asked for as anything; an Error is an answer.
void AskForAll(const GgufKeys& keys) {
  const auto ask = [](auto&& call) {
    try {
      (void)call();
    } catch (const Error&) {
    }
  };
  for (const auto& [key, value] : keys.values()) {
    Require(!key.empty(), "keys are not empty");
    Touch(value.bytes);
    ask([&] { return keys.Integer(key); });
    ask([&] { return keys.Number(key); });
    ask([&] { return keys.Boolean(key); });
    ask([&] { return keys.String(key); });
    ask([&] { return keys.Integers(key); });
    ask([&] {
      for (const std::string_view text : keys.Strings(key)) {
        Touch(std::as_bytes(std::span(text)));
      }
      return 0;
    });
  }
}

void CheckPromises(const GgufHeader& header, const std::string& file) {
  const auto* const begin = reinterpret_cast<const std::byte*>(file.data());
  const std::byte* covered = begin;
  std::set<std::string> names;
  for (const GgufTensor& tensor : header.tensors) {
    Require(!tensor.name.empty() && names.insert(tensor.name).second, "names are unique");
    std::uint64_t bytes = tensor.type->bytes;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      Require(tensor.shape[i] >= 1, "extents are at least 1");
      const bool last = i + 1 == tensor.shape.size();
      const auto extent = static_cast<std::uint64_t>(tensor.shape[i]);
      Require(!last || extent % tensor.type->columns == 0, "rows are whole blocks");
      bytes *= last ? extent / tensor.type->columns : extent;
    }
    Require(bytes == tensor.bytes.size(), "bytes fill the shape");
    Require(tensor.bytes.data() >= covered, "tensors do not overlap");
    covered = tensor.bytes.data() + bytes;
    Require(covered <= begin + file.size(), "bytes lie in the file");
    Touch(tensor.bytes);
  }
}

/// A file that is right except for what the input wants to be wrong.
std::string Assemble(FuzzInput& input) {
  constexpr std::array<std::uint32_t, 13> kSizes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  RawGguf raw;
  if (input.Rarely()) raw.version = static_cast<std::uint32_t>(input.Number());
  const auto item = [&](std::uint32_t type) {
    if (type != 8) return std::string(type < kSizes.size() ? kSizes[type] : 0, '\1');
    std::string text = RawGguf::String("text");
    if (input.Rarely()) text = RawGguf::Number(input.Number()) + "text";
    return text;
  };
  const std::uint32_t keys = input.Below(5);
  for (std::uint32_t i = 0; i < keys; ++i) {
    RawGguf::Key key{.name = input.Rarely() ? "k0" : "k" + std::to_string(i),
                     .type = input.Below(14)};
    if (input.Rarely()) {
      key = {"general.alignment", 4, RawGguf::Number(1u << input.Below(20))};
    } else if (key.type == 9) {
      const std::uint32_t type = input.Below(14), count = input.Below(4);
      std::string items;
      for (std::uint32_t n = 0; n < count; ++n) items += item(type);
      key.value = RawGguf::Array(type, input.Rarely() ? input.Number() : count, items);
    } else {
      key.value = item(key.type);
    }
    raw.keys.push_back(std::move(key));
  }
  std::uint64_t offset = 0;
  const std::uint32_t tensors = input.Below(5);
  for (std::uint32_t i = 0; i < tensors; ++i) {
    const GgmlType& type = GgmlTypes()[input.Below(static_cast<std::uint32_t>(GgmlTypes().size()))];
    RawGguf::Tensor tensor{.name = input.Rarely() ? "t0" : "t" + std::to_string(i),
                           .type = input.Rarely() ? input.Below(64) : type.id,
                           .offset = input.Rarely() ? input.Number() : offset};
    std::uint64_t bytes = type.bytes;
    tensor.extents.clear();
    const std::uint32_t extents = input.Rarely() ? input.Below(7) : 1 + input.Below(2);
    for (std::uint32_t e = 0; e < extents; ++e) {
      std::uint64_t extent = 1 + input.Below(3);
      bytes *= extent;
      if (e == 0) extent *= type.columns;
      tensor.extents.push_back(input.Rarely() ? input.Number() : extent);
    }
    offset += (bytes + 31) / 32 * 32;
    raw.tensors.push_back(std::move(tensor));
  }
  if (input.Rarely()) raw.more_keys = input.Number();
  if (input.Rarely()) raw.more_tensors = input.Number();
  raw.data_bytes = input.Rarely() ? input.Below(256) : offset;
  return raw.Render();
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  const bool raw = input.Byte() % 2 == 0;
  const std::string file = raw ? std::string(input.Text()) : lieq::Assemble(input);
  try {
    const lieq::GgufHeader header = lieq::ParseGguf(std::as_bytes(std::span(file)), "fuzz");
    lieq::CheckPromises(header, file);
    lieq::AskForAll(header.keys);
  } catch (const lieq::Error&) {
  }
  return 0;
}
