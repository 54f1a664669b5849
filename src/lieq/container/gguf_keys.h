// What the keys of a GGUF file mean here: a table of rows, one for each key of llama.cpp's loader.
//
// llama.cpp reads some two hundred keys for all its architectures together. Of those that belong to
// a model, each is read, must have a value under which it changes nothing, or changes nothing
// whatever it says. Sources: llama-arch.cpp, llama-model.cpp and models/{llama,qwen2,qwen3}.cpp of
// llama.cpp. To add one: a row here, and a line in docs/formats.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/gguf_file.h"

namespace lieq {

enum class GgufKeyUse : std::uint8_t {
  kRead,      // where the configuration is made
  kNeutral,   // must have a value that changes nothing, for it is not applied
  kHarmless,  // changes nothing of these architectures, whatever it says
};

/// What the values of some keys are measured by.
struct GgufShape {
  double hidden = 0;
  double head_dim = 0;
  double context = 0;
};

struct GgufKeyRow {
  std::string_view name;  // behind "llama."; one that ends in '.' stands for all that begin so
  GgufKeyUse use = GgufKeyUse::kHarmless;
  std::string_view says;  // kNeutral: the values that are taken; else what it is
  bool (*accepts)(double value, const GgufShape&) = nullptr;  // kNeutral, each number of the value
  std::array<std::string_view, 2> texts{};                    // kNeutral, of a string
  bool whole = false;             // the name is the whole key: "general.type"
  std::string_view read_by = {};  // architectures that read it, "granite phi3": for them kRead
};

[[nodiscard]] std::span<const GgufKeyRow> GgufKeyRows() noexcept;

/// Throws Error naming the first key that is not applied and would change what is computed. Gives
/// a note for each key of the architecture that no row has.
[[nodiscard]] std::vector<std::string> CheckGgufKeys(const GgufKeys& keys,
                                                     std::string_view architecture,
                                                     const GgufShape& shape);

}  // namespace lieq
