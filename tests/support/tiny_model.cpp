#include "tests/support/tiny_model.h"

#include <array>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

constexpr double kDeviation = 0.05;

struct Tensor {
  TensorSpec spec;
  double mean = 0;
};

struct LinearRow {
  std::string_view module;
  Index out, in;
  bool bias;
};

std::array<LinearRow, 7> Linears(const TinyModelOptions& options) {
  const Index queries = options.heads * options.head_dim;
  const Index keys = options.kv_heads * options.head_dim;
  const bool qkv = options.attention_bias || options.architecture == "Qwen2ForCausalLM";
  return {{{"self_attn.q_proj", queries, options.hidden, qkv},
           {"self_attn.k_proj", keys, options.hidden, qkv},
           {"self_attn.v_proj", keys, options.hidden, qkv},
           {"self_attn.o_proj", options.hidden, queries, options.attention_bias},
           {"mlp.gate_proj", options.intermediate, options.hidden, options.mlp_bias},
           {"mlp.up_proj", options.intermediate, options.hidden, options.mlp_bias},
           {"mlp.down_proj", options.hidden, options.intermediate, options.mlp_bias}}};
}

std::vector<Tensor> Tensors(const TinyModelOptions& options) {
  std::vector<Tensor> tensors;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape, double mean) {
    tensors.push_back({{name, options.dtype, std::move(shape)}, mean});
  };
  if (!options.tied) add("lm_head.weight", {options.vocab, options.hidden}, 0);
  add("model.embed_tokens.weight", {options.vocab, options.hidden}, 0);
  for (Index layer = 0; layer < options.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {options.hidden}, 1);
    add(prefix + "post_attention_layernorm.weight", {options.hidden}, 1);
    const bool hunyuan = options.architecture == "HunYuanDenseV1ForCausalLM";
    if (hunyuan || options.architecture == "Qwen3ForCausalLM") {
      add(prefix + (hunyuan ? "self_attn.query_layernorm.weight" : "self_attn.q_norm.weight"),
          {options.head_dim}, 1);
      add(prefix + (hunyuan ? "self_attn.key_layernorm.weight" : "self_attn.k_norm.weight"),
          {options.head_dim}, 1);
    }
    for (const LinearRow& row : Linears(options)) {
      const std::string module = prefix + std::string(row.module);
      add(module + ".weight", {row.out, row.in}, 0);
      if (row.bias) add(module + ".bias", {row.out}, 0);
    }
  }
  add("model.norm.weight", {options.hidden}, 1);
  return tensors;
}

/// Normal values around the mean, in the model's type.
std::vector<std::byte> RandomBytes(const Tensor& tensor, std::uint64_t seed, std::uint64_t stream) {
  Rng rng(seed, stream);
  std::size_t count = 1;
  for (const std::int64_t extent : tensor.spec.shape) count *= Size(extent);
  std::vector<std::byte> bytes;
  bytes.reserve(count * ItemSize(tensor.spec.dtype));
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(tensor.mean + kDeviation * rng.Normal());
    const auto append = [&](const auto& item) {
      const auto part = std::as_bytes(std::span(&item, 1));
      bytes.insert(bytes.end(), part.begin(), part.end());
    };
    switch (tensor.spec.dtype) {
      case DType::kBF16:
        append(ToBf16(value));
        break;
      case DType::kF16:
        append(ToF16(value));
        break;
      default:
        append(value);
        break;
    }
  }
  return bytes;
}

void WriteWeights(const std::filesystem::path& folder, const TinyModelOptions& options) {
  const std::vector<Tensor> tensors = Tensors(options);
  const auto shards = static_cast<std::size_t>(options.shards);
  Record map = Record::object();
  for (std::size_t shard = 0; shard < shards; ++shard) {
    const std::size_t begin = tensors.size() * shard / shards;
    const std::size_t end = tensors.size() * (shard + 1) / shards;
    const std::string name = shards == 1 ? "model.safetensors"
                                         : "model-0000" + std::to_string(shard + 1) + "-of-0000" +
                                               std::to_string(shards) + ".safetensors";
    std::vector<TensorSpec> specs;
    for (std::size_t i = begin; i < end; ++i) specs.push_back(tensors[i].spec);
    TensorWriter writer(folder / name, specs, {});
    for (std::size_t i = begin; i < end; ++i) {
      writer.Write(tensors[i].spec.name, RandomBytes(tensors[i], options.seed, i));
      map[tensors[i].spec.name] = name;
    }
    writer.Commit();
  }
  if (shards == 1) return;
  const Record index{{"metadata", Record::object()}, {"weight_map", std::move(map)}};
  WriteFileAtomically(folder / "model.safetensors.index.json", index.dump(2));
}

std::string Utf8(unsigned code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

/// GPT-2's printable stand-ins for the 256 bytes, in its order.
std::vector<std::string> ByteTokens() {
  std::vector<std::string> tokens, others;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    if (printable) tokens.push_back(Utf8(byte));
    if (!printable) others.push_back(Utf8(256 + static_cast<unsigned>(others.size())));
  }
  tokens.insert(tokens.end(), others.begin(), others.end());
  return tokens;
}

void WriteTokenizer(const std::filesystem::path& folder) {
  using Pair = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Pair, 10> kMerges{{{"\u0120", "t"},
                                          {"h", "e"},
                                          {"\u0120", "a"},
                                          {"i", "n"},
                                          {"r", "e"},
                                          {"o", "n"},
                                          {"\u0120t", "he"},
                                          {"e", "r"},
                                          {"\u0120", "s"},
                                          {"a", "t"}}};
  Record vocab = Record::object(), merges = Record::array();
  for (const std::string& token : ByteTokens()) vocab[token] = vocab.size();
  for (const auto& [left, right] : kMerges) {
    vocab[std::string(left) + std::string(right)] = vocab.size();
    merges.push_back(Record::array({left, right}));
  }
  const Record special{
      {"id", vocab.size()}, {"content", "<|endoftext|>"}, {"single_word", false}, {"lstrip", false},
      {"rstrip", false},    {"normalized", false},        {"special", true}};
  const Record byte_level{{"type", "ByteLevel"},
                          {"add_prefix_space", false},
                          {"trim_offsets", true},
                          {"use_regex", true}};
  const Record tokenizer{{"version", "1.0"},
                         {"truncation", nullptr},
                         {"padding", nullptr},
                         {"added_tokens", Record::array({special})},
                         {"normalizer", nullptr},
                         {"pre_tokenizer", byte_level},
                         {"post_processor", byte_level},
                         {"decoder", byte_level},
                         {"model",
                          {{"type", "BPE"},
                           {"dropout", nullptr},
                           {"unk_token", nullptr},
                           {"continuing_subword_prefix", nullptr},
                           {"end_of_word_suffix", nullptr},
                           {"fuse_unk", false},
                           {"byte_fallback", false},
                           {"ignore_merges", false},
                           {"vocab", std::move(vocab)},
                           {"merges", std::move(merges)}}}};
  WriteFileAtomically(folder / "tokenizer.json", tokenizer.dump(2));
}

std::string ModelType(const std::string& architecture) {
  const Architecture* row = FindArchitecture(architecture);
  if (row == nullptr) throw std::invalid_argument(architecture);
  return std::string(row->model_type);
}

}  // namespace

Record TinyModelConfig(const TinyModelOptions& options) {
  Record config;
  config["architectures"] = Record::array({options.architecture});
  config["model_type"] = ModelType(options.architecture);
  config["num_hidden_layers"] = options.layers;
  config["hidden_size"] = options.hidden;
  config["intermediate_size"] = options.intermediate;
  config["num_attention_heads"] = options.heads;
  config["num_key_value_heads"] = options.kv_heads;
  config["head_dim"] = options.head_dim;
  config["vocab_size"] = options.vocab;
  config["max_position_embeddings"] = 2048;
  config["rms_norm_eps"] = 1e-6;
  config["hidden_act"] = "silu";
  config["tie_word_embeddings"] = options.tied;
  if (options.architecture != "Qwen2ForCausalLM") {
    config["attention_bias"] = options.attention_bias;
  }
  if (options.architecture == "LlamaForCausalLM") config["mlp_bias"] = options.mlp_bias;
  if (options.architecture == "GraniteForCausalLM") {
    config["embedding_multiplier"] = 1.5;
    config["attention_multiplier"] = 0.3;
    config["residual_multiplier"] = 0.6;
    config["logits_scaling"] = 2.0;
  }
  if (options.window > 0) config["sliding_window"] = options.window;
  Record scaling;
  if (options.llama3_rope) {
    scaling = {{"rope_type", "llama3"},
               {"factor", 8.0},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 256}};
  }
  if (options.old_rope_keys) {
    config["rope_theta"] = 10000.0;
    config["rope_scaling"] = scaling;
  } else {
    if (scaling.is_null()) scaling["rope_type"] = "default";
    scaling["rope_theta"] = 10000.0;
    config["rope_parameters"] = scaling;
  }
  config["torch_dtype"] = options.dtype == DType::kBF16  ? "bfloat16"
                          : options.dtype == DType::kF16 ? "float16"
                                                         : "float32";
  return config;
}

void MakeTinyModel(const std::filesystem::path& folder, const TinyModelOptions& options) {
  std::filesystem::create_directories(folder);
  WriteFileAtomically(folder / "config.json", TinyModelConfig(options).dump(2));
  WriteWeights(folder, options);
  WriteTokenizer(folder);
}

}  // namespace lieq
