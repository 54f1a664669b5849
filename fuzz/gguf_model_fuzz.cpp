// Whole models in GGUF: keys, tensors and blocks of every type that are a model, or an Error.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/memory_file.h"
#include "fuzz/model_promises.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/io/gguf_file.h"
#include "tests/support/raw_gguf.h"

namespace lieq {
namespace {

enum ValueType : std::uint32_t { kU32 = 4, kI32, kF32, kBool, kString, kArray };

constexpr std::array<std::string_view, 7> kLinears{"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down"};

/// A small model of any architecture and of any types that go with its shape.
class Model {
 public:
  explicit Model(FuzzInput& input) : input_(input) {
    constexpr std::array<const char*, 3> kArchitectures{"llama", "qwen2", "qwen3"};
    constexpr std::array<std::uint32_t, 8> kHidden{32, 2, 64, 32, 2, 64, 32, 256};
    name_ = kArchitectures[input.Below(3)];
    hidden_ = kHidden[input.Below(8)];
    heads_ = 1 + input.Below(2);
    head_dim_ = 2 * (1 + input.Below(16));
    intermediate_ = input.Below(2) == 0 ? 32 : 1 + input.Below(64);
    layers_ = 1 + input.Below(2);
    rows_ = 1 + input.Below(4);
    AddKeys();
    AddTokenizer();
    AddTensors();
  }

  RawGguf& file() { return file_; }

 private:
  void U32(const std::string& key, std::uint32_t value) {
    file_.keys.push_back({key, kU32, RawGguf::Number(value)});
  }
  void F32(const std::string& key, float value) {
    file_.keys.push_back({key, kF32, RawGguf::Number(value)});
  }

  void AddKeys() {
    file_.keys.push_back({"general.architecture", kString, RawGguf::String(name_)});
    U32(name_ + ".block_count", layers_);
    U32(name_ + ".context_length", 64);
    U32(name_ + ".embedding_length", hidden_);
    U32(name_ + ".feed_forward_length", intermediate_);
    U32(name_ + ".attention.head_count", heads_);
    U32(name_ + ".attention.head_count_kv", 1);
    U32(name_ + ".attention.key_length", head_dim_);
    F32(name_ + ".attention.layer_norm_rms_epsilon", 1e-5f);
    if (input_.Below(4) == 0) F32(name_ + ".rope.freq_base", 500000);
  }

  void AddTokenizer() {
    constexpr std::array<const char*, 5> kPre{"llama-bpe", "qwen2", "smollm", "gpt-2", "other"};
    const std::uint32_t pre = input_.Below(6);
    if (pre == kPre.size()) return;
    std::string tokens, types, merges;
    const std::uint32_t count = input_.Below(8);
    for (std::uint32_t i = 0; i < count; ++i) {
      tokens += RawGguf::String(std::string(1, static_cast<char>('a' + input_.Below(8))));
      types += RawGguf::Number(static_cast<std::int32_t>(1 + input_.Below(6)));
    }
    const std::uint32_t pairs = input_.Below(3);
    for (std::uint32_t i = 0; i < pairs; ++i) merges += RawGguf::String("a b");
    file_.keys.push_back({"tokenizer.ggml.model", kString, RawGguf::String("gpt2")});
    file_.keys.push_back({"tokenizer.ggml.pre", kString, RawGguf::String(kPre[pre])});
    const auto array = [&](const char* key, std::uint32_t type, std::uint64_t items,
                           const std::string& bytes) {
      file_.keys.push_back({key, kArray, RawGguf::Array(type, items, bytes)});
    };
    array("tokenizer.ggml.tokens", kString, count, tokens);
    array("tokenizer.ggml.token_type", kI32, count, types);
    array("tokenizer.ggml.merges", kString, pairs, merges);
    U32("tokenizer.ggml.bos_token_id", input_.Below(8));
    if (input_.Below(2) == 0) {
      file_.keys.push_back({"tokenizer.ggml.add_bos_token", kBool, std::string(1, '\1')});
    }
  }

  /// Bytes that are finite as F16, F32 and BF16, save where the input does not want it.
  std::string Bytes(std::uint64_t count) {
    const std::uint32_t kind = input_.Below(4);
    if (kind == 0) return std::string(count, static_cast<char>(input_.Byte()));
    std::string bytes(count, '\0');
    Rng rng(input_.Byte());
    for (char& byte : bytes) byte = static_cast<char>(rng.Below(256) & (kind == 1 ? 255u : 0xBFu));
    return bytes;
  }

  void Add(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    const GgmlType* type = FindGgmlType("F32");
    if (rows > 0) {
      const auto types = BlockTypes();
      const BlockType& each = types[input_.Below(static_cast<std::uint32_t>(types.size()))];
      if (cols % each.type().columns == 0) type = &each.type();
    }
    if (input_.Rarely()) type = &GgmlTypes()[input_.Byte() % GgmlTypes().size()];
    const std::uint64_t bytes = std::max<std::uint64_t>(rows, 1) * type->bytes *
                                ((cols + type->columns - 1) / type->columns);
    RawGguf::Tensor tensor{
        .name = name, .extents = {cols}, .type = type->id, .offset = file_.data.size()};
    if (rows > 0) tensor.extents.push_back(rows);
    file_.tensors.push_back(std::move(tensor));
    file_.data += Bytes(bytes);
    file_.data.resize((file_.data.size() + 31) / 32 * 32);
  }

  void AddTensors() {
    const std::uint64_t queries = heads_ * head_dim_;
    Add("token_embd.weight", rows_, hidden_);
    if (input_.Below(2) == 1) Add("output.weight", rows_, hidden_);
    Add("output_norm.weight", 0, hidden_);
    if (input_.Below(8) == 1) Add("rope_freqs.weight", 0, head_dim_ / 2);
    const bool biases = name_ == "qwen2";
    const std::array<std::array<std::uint64_t, 2>, 7> shapes{{{queries, hidden_},
                                                              {head_dim_, hidden_},
                                                              {head_dim_, hidden_},
                                                              {hidden_, queries},
                                                              {intermediate_, hidden_},
                                                              {intermediate_, hidden_},
                                                              {hidden_, intermediate_}}};
    for (std::uint32_t layer = 0; layer < layers_; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      Add(prefix + "attn_norm.weight", 0, hidden_);
      Add(prefix + "ffn_norm.weight", 0, hidden_);
      if (name_ == "qwen3") {
        Add(prefix + "attn_q_norm.weight", 0, head_dim_);
        Add(prefix + "attn_k_norm.weight", 0, head_dim_);
      }
      for (std::size_t i = 0; i < kLinears.size(); ++i) {
        const std::string module = prefix + std::string(kLinears[i]);
        Add(module + ".weight", shapes[i][0], shapes[i][1]);
        if (biases && i < 3) Add(module + ".bias", 0, shapes[i][0]);
      }
    }
  }

  FuzzInput& input_;
  RawGguf file_;
  std::string name_;
  std::uint32_t hidden_, heads_, head_dim_, intermediate_, layers_, rows_;
};

void SpoilKey(RawGguf& file, FuzzInput& input) {
  RawGguf::Key& key = file.keys[input.Byte() % file.keys.size()];
  switch (input.Below(9)) {
    case 0:
      key.name.clear();
      break;
    case 1:
      key.name = file.keys[0].name;
      break;
    case 2:
      key.type = input.Below(14);
      break;
    case 3:
      key = {key.name, kArray, RawGguf::Array(input.Below(14), input.Number(), key.value)};
      break;
    case 4:  // any integer
      key = {key.name, 10, RawGguf::Number(input.Number())};
      break;
    case 5:  // any real
      key = {key.name, 12, RawGguf::Number(input.Number())};
      break;
    case 6:
      key = {"general.alignment", kU32,
             RawGguf::Number(static_cast<std::uint32_t>(input.Number()))};
      break;
    case 7:
      if (!key.value.empty()) key.value[input.Byte() % key.value.size()] = static_cast<char>(255);
      break;
    default:
      key.name += "?";  // so that it is missing
      break;
  }
}

void SpoilTensor(RawGguf& file, FuzzInput& input) {
  RawGguf::Tensor& tensor = file.tensors[input.Byte() % file.tensors.size()];
  const std::size_t extent = input.Byte() % std::max<std::size_t>(tensor.extents.size(), 1);
  switch (input.Below(9)) {
    case 0:
      tensor.name.clear();
      break;
    case 1:
      tensor.name = file.tensors[0].name;
      break;
    case 2:
      tensor.name += "?";
      break;
    case 3:
      tensor.type = input.Below(64);
      break;
    case 4:
      if (!tensor.extents.empty()) tensor.extents[extent] = input.Number();
      break;
    case 5:
      if (!tensor.extents.empty()) tensor.extents[extent] = 0;
      break;
    case 6:
      tensor.extents.push_back(1);
      break;
    case 7:
      tensor.extents.resize(input.Below(2));
      break;
    default:
      tensor.offset = input.Number();
      break;
  }
}

std::string Assemble(FuzzInput& input) {
  const std::uint32_t faults = input.Below(4);  // first, so that a seed can ask for any of them
  std::array<std::uint8_t, 5> first{};
  for (std::uint8_t& byte : first) byte = input.Byte();
  FuzzInput fault(first.data(), first.size());
  Model model(input);
  RawGguf& file = model.file();
  for (std::uint32_t i = 0; i < faults; ++i) {
    FuzzInput& from = i == 0 ? fault : input;
    switch (from.Below(4)) {
      case 0:
      case 1:
        SpoilKey(file, from);
        break;
      case 2:
        SpoilTensor(file, from);
        break;
      default:
        file.more_keys = from.Byte() % 2 == 0 ? 0 : from.Number();
        file.more_tensors = file.more_keys == 0 ? from.Number() : 0;
        break;
    }
  }
  if (input.Rarely()) file.data.resize(file.data.size() * input.Byte() / 256);
  return file.Render();
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lieq;  // NOLINT(google-build-using-namespace): the whole of this function
  static MemoryFile file;
  FuzzInput input(data, size);
  const bool raw = input.Byte() % 2 == 0;
  file.Set(raw ? std::string(input.Text()) : Assemble(input));
  try {
    CheckModel(OpenModel(file.path()));
  } catch (const Error& error) {
    CheckRefusal(error);
  }
  return 0;
}
