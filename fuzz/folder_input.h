// Folders of a small quantized model, right but for what an input wants otherwise.
#pragma once

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is POSIX, not in <cstdlib>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/memory_file.h"
#include "fuzz/model_promises.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"

namespace lieq {

/// A folder whose two files lie in memory.
class MemoryFolder {
 public:
  MemoryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "lieq-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
    std::filesystem::create_symlink(config_.path(), path_ / "config.json");
    std::filesystem::create_symlink(tensors_.path(), path_ / "model.safetensors");
  }
  ~MemoryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;

  void Set(std::string_view config, std::string_view tensors) {
    config_.Set(config);
    tensors_.Set(tensors);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  MemoryFile config_, tensors_;
  std::filesystem::path path_;
};

/// A tensor as its fields say, however wrong they are.
struct FolderTensor {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

/// A llama of one layer or two, whose linears are still to be added.
struct FolderInput {
  std::uint64_t hidden = 0, queries = 0, keys = 0, intermediate = 0, layers = 1, vocab = 2;
  bool tied = true;
  Record config;
  std::vector<FolderTensor> tensors;

  /// Random bytes that are finite as F16, BF16 and F32, or a constant.
  static std::string Bytes(std::uint64_t count, FuzzInput& input) {
    if (input.Below(2) == 0) return std::string(count, static_cast<char>(input.Byte()));
    std::string bytes(count, '\0');
    Rng rng(input.Byte());
    for (char& byte : bytes) byte = static_cast<char>(rng.Below(256) & 0xBFu);
    return bytes;
  }

  void Add(const std::string& name, const std::string& dtype, std::vector<std::uint64_t> shape,
           std::string bytes) {
    tensors.push_back({name, dtype, std::move(shape), std::move(bytes)});
  }

  /// step: of all extents, so that codes of any width fill whole words.
  FolderInput(FuzzInput& input, std::uint64_t step) {
    hidden = step * (1 + input.Below(2));
    const std::uint64_t heads = 1 + input.Below(2);
    queries = step * heads;
    keys = step;
    intermediate = step * (1 + input.Below(3));
    layers = 1 + input.Below(2);
    tied = input.Below(2) == 0;
    vocab = tied ? 2 : step;
    config = {{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"hidden_size", hidden},
              {"intermediate_size", intermediate},
              {"num_hidden_layers", layers},
              {"num_attention_heads", heads},
              {"num_key_value_heads", 1},
              {"head_dim", step},
              {"vocab_size", vocab},
              {"tie_word_embeddings", tied}};
    const auto floats = [&](const std::string& name, std::vector<std::uint64_t> shape) {
      std::uint64_t bytes = 2;
      for (const std::uint64_t extent : shape) bytes *= extent;
      Add(name, "BF16", std::move(shape), Bytes(bytes, input));
    };
    floats("model.embed_tokens.weight", {vocab, hidden});
    floats("model.norm.weight", {hidden});
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer);
      floats(prefix + ".input_layernorm.weight", {hidden});
      floats(prefix + ".post_attention_layernorm.weight", {hidden});
    }
    if (!tied) floats("lm_head.weight", {vocab, hidden});
  }

  /// Calls add(module, rows, cols) for every linear.
  template <class F>
  void ForEachLinear(const F& add) const {
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
      for (const Site site : kAllSites) {
        const bool in_mlp = site == Site::kGate || site == Site::kUp;
        const std::uint64_t rows = site == Site::kQ                       ? queries
                                   : site == Site::kK || site == Site::kV ? keys
                                   : in_mlp                               ? intermediate
                                                                          : hidden;
        const std::uint64_t cols = site == Site::kO      ? queries
                                   : site == Site::kDown ? intermediate
                                                         : hidden;
        add(ModuleName(static_cast<Index>(layer), site), rows, cols);
      }
    }
  }

  /// metadata: of strings; null: there is none. The data begin at a multiple of `step`.
  [[nodiscard]] std::string RenderTensors(const Record& metadata = {}, std::size_t step = 1) const {
    std::string header = "{", data;
    if (!metadata.is_null()) header += "\"__metadata__\":" + metadata.dump();
    for (const FolderTensor& tensor : tensors) {
      if (header.size() > 1) header += ',';
      header += Json(tensor.name).dump(-1, ' ', false, Json::error_handler_t::replace) +
                ":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":" + Json(tensor.shape).dump() +
                ",\"data_offsets\":[" + std::to_string(data.size()) + ',';
      data += tensor.bytes;
      header += std::to_string(data.size()) + "]}";
    }
    header += '}';
    while ((sizeof(std::uint64_t) + header.size()) % step != 0) header += ' ';
    const std::uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
  }
};

inline void SpoilTensor(std::vector<FolderTensor>& tensors, FuzzInput& input) {
  constexpr std::array<const char*, 9> kTypes{"I32", "U32", "F16", "F32",    "BF16",
                                              "I64", "U8",  "I8",  "F8_E4M3"};
  const std::size_t at = input.Byte() % tensors.size();
  FolderTensor& tensor = tensors[at];
  const std::size_t extent = input.Byte() % std::max<std::size_t>(tensor.shape.size(), 1);
  switch (input.Below(12)) {
    case 0:
      tensor.dtype = kTypes[input.Below(kTypes.size())];
      break;
    case 1:
      if (!tensor.shape.empty()) tensor.shape[extent] = input.Number();
      break;
    case 2:
      if (!tensor.shape.empty()) tensor.shape[extent] = 0;
      tensor.bytes.clear();
      break;
    case 3:
      tensor.shape.push_back(1);
      break;
    case 4:  // the same items, another shape
      if (!tensor.shape.empty()) std::swap(tensor.shape.front(), tensor.shape.back());
      break;
    case 5:
      tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    case 6:
      tensor.name = tensors[0].name;
      break;
    case 7:
      tensor.name.clear();
      break;
    case 8:
      tensor.bytes.resize(input.Byte());
      break;
    case 9:
      tensor.bytes.assign(tensor.bytes.size(), static_cast<char>(input.Byte()));
      break;
    case 10:
      if (!tensor.bytes.empty()) {
        tensor.bytes[input.Byte() % tensor.bytes.size()] = static_cast<char>(input.Byte());
      }
      break;
    default:  // what lies behind it is not aligned
      tensors.insert(tensors.begin(), {"odd", "U8", {1}, "\1"});
      break;
  }
}

/// A value of config.json that is not what readers expect.
inline Record OddValue(FuzzInput& input) {
  switch (input.Below(9)) {
    case 0:
      return nullptr;
    case 1:
      return input.Below(2) == 0;
    case 2:
      return input.Number();
    case 3:
      return -1;
    case 4:
      return 0.5;
    case 5:
      return "text";
    case 6:
      return Record::array({input.Byte()});
    case 7:
      return Record::object();
    default:
      return input.Below(17);
  }
}

inline void SpoilRecord(Record& record, FuzzInput& input) {
  Record* at = &record;
  while (true) {  // anywhere in the tree
    if (!at->is_structured() || at->empty()) {
      *at = OddValue(input);
      return;
    }
    auto inner = at->begin();
    std::advance(inner, input.Byte() % at->size());
    const bool deeper = inner->is_structured() && input.Below(4) != 0;
    if (!deeper && at->is_object() && input.Below(4) == 0) {
      at->erase(inner.key());
      return;
    }
    at = &*inner;
    if (!deeper) {
      *at = OddValue(input);
      return;
    }
  }
}

/// Makes the folder of an input, opens it and checks what comes out. A raw input is config.json, a
/// NUL and the bytes of model.safetensors.
///
/// assemble(input): a folder, as decided by it. What of the quantization is spoilt lies in
/// config[key].
template <class F>
void FuzzFolder(const std::uint8_t* data, std::size_t size, std::string_view key,
                const F& assemble) {
  static MemoryFolder folder;
  FuzzInput input(data, size);
  if (input.Byte() % 2 == 0) {
    const std::string_view text = input.Text();
    const std::size_t end = std::min(text.find('\0'), text.size());
    folder.Set(text.substr(0, end), text.substr(std::min(end + 1, text.size())));
  } else {
    const std::uint32_t faults = input.Below(4);
    std::array<std::uint8_t, 6> bytes{};  // first, so that a seed can ask for any of them
    for (std::uint8_t& byte : bytes) byte = input.Byte();
    FuzzInput first(bytes.data(), bytes.size());
    FolderInput made = assemble(input);
    for (std::uint32_t i = 0; i < faults; ++i) {
      FuzzInput& from = i == 0 ? first : input;
      const std::uint32_t kind = from.Below(8);
      if (kind < 4) {
        SpoilTensor(made.tensors, from);
      } else {
        SpoilRecord(kind == 4 ? made.config : made.config[std::string(key)], from);
      }
    }
    folder.Set(made.config.dump(), made.RenderTensors());
  }
  try {
    CheckModel(OpenModel(folder.path()));
  } catch (const Error& error) {
    CheckRefusal(error);
  }
}

}  // namespace lieq
