// Checkpoints in the shapes of real models with random weights: for tests of memory, time and
// resume, where the size of a model matters and what it says does not.
//
// Every tensor is its own stream of independent normal values (std 0.02, rounded to BF16) that
// depends on the seed and its name alone: fewer layers leave the others' bytes as they are.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr double kStd = 0.02;
constexpr std::uint64_t kShardBytes = 5'000'000'000;

enum class Family { kLlama, kQwen2, kQwen3 };

/// One row for each model, the values of its config.json.
struct Shape {
  std::string_view name;
  Family family;
  Index layers, hidden, intermediate, heads, kv_heads;
  Index head_dim;  // 0: hidden / heads, and config.json does not say it
  Index vocab;
  bool tied;
  Index max_positions;
  double rope_theta;
  double llama3_factor;  // 0: no rope scaling
  double rms_eps;
  TokenId bos, eos;
};

using enum Family;
constexpr std::array kShapes{
    Shape{"Qwen3-0.6B", kQwen3, 28, 1024, 3072, 16, 8, 128, 151936, true, 40960, 1e6, 0, 1e-6,
          151643, 151645},
    Shape{"Qwen3-1.7B", kQwen3, 28, 2048, 6144, 16, 8, 128, 151936, true, 40960, 1e6, 0, 1e-6,
          151643, 151645},
    Shape{"Qwen3-4B", kQwen3, 36, 2560, 9728, 32, 8, 128, 151936, true, 40960, 1e6, 0, 1e-6, 151643,
          151645},
    Shape{"Qwen3-8B", kQwen3, 36, 4096, 12288, 32, 8, 128, 151936, false, 40960, 1e6, 0, 1e-6,
          151643, 151645},
    Shape{"Qwen2.5-0.5B", kQwen2, 24, 896, 4864, 14, 2, 0, 151936, true, 32768, 1e6, 0, 1e-6,
          151643, 151643},
    Shape{"Qwen2.5-1.5B", kQwen2, 28, 1536, 8960, 12, 2, 0, 151936, true, 131072, 1e6, 0, 1e-6,
          151643, 151643},
    Shape{"Qwen2.5-3B", kQwen2, 36, 2048, 11008, 16, 2, 0, 151936, true, 32768, 1e6, 0, 1e-6,
          151643, 151643},
    Shape{"Qwen2.5-7B", kQwen2, 28, 3584, 18944, 28, 4, 0, 152064, false, 131072, 1e6, 0, 1e-6,
          151643, 151643},
    Shape{"Llama-3.2-1B", kLlama, 16, 2048, 8192, 32, 8, 64, 128256, true, 131072, 5e5, 32, 1e-5,
          128000, 128001},
    Shape{"Llama-3.2-3B", kLlama, 28, 3072, 8192, 24, 8, 128, 128256, true, 131072, 5e5, 32, 1e-5,
          128000, 128001},
    Shape{"Llama-3.1-8B", kLlama, 32, 4096, 14336, 32, 8, 0, 128256, false, 131072, 5e5, 8, 1e-5,
          128000, 128001},
    Shape{"SmolLM2-135M", kLlama, 30, 576, 1536, 9, 3, 0, 49152, true, 8192, 1e5, 0, 1e-5, 0, 0},
    Shape{"SmolLM2-360M", kLlama, 32, 960, 2560, 15, 5, 0, 49152, true, 8192, 1e5, 0, 1e-5, 0, 0},
    Shape{"SmolLM2-1.7B", kLlama, 24, 2048, 8192, 32, 32, 0, 49152, true, 8192, 1.3e5, 0, 1e-5, 0,
          0},
    // No real models: small enough for a test.
    Shape{"Tiny-Qwen3", kQwen3, 4, 128, 384, 4, 2, 64, 512, true, 4096, 1e6, 0, 1e-6, 256, 256},
    Shape{"Tiny-Qwen2", kQwen2, 4, 128, 384, 4, 2, 0, 512, true, 4096, 1e6, 0, 1e-6, 256, 256},
    Shape{"Tiny-Llama", kLlama, 4, 128, 384, 4, 2, 0, 512, false, 4096, 5e5, 8, 1e-5, 256, 256},
};

Index HeadDim(const Shape& shape) {
  return shape.head_dim != 0 ? shape.head_dim : shape.hidden / shape.heads;
}

/// config.json as its authors publish it, keys in their order.
Record Config(const Shape& shape, Index layers) {
  const bool llama = shape.family == kLlama;
  const bool qwen2 = shape.family == kQwen2;
  Record config;
  config["architectures"] = {llama   ? "LlamaForCausalLM"
                             : qwen2 ? "Qwen2ForCausalLM"
                                     : "Qwen3ForCausalLM"};
  if (!qwen2) config["attention_bias"] = false;
  config["attention_dropout"] = 0.0;
  config["bos_token_id"] = shape.bos;
  config["eos_token_id"] = shape.eos;
  if (shape.head_dim != 0) config["head_dim"] = shape.head_dim;
  config["hidden_act"] = "silu";
  config["hidden_size"] = shape.hidden;
  config["initializer_range"] = kStd;
  config["intermediate_size"] = shape.intermediate;
  config["max_position_embeddings"] = shape.max_positions;
  if (!llama) config["max_window_layers"] = shape.layers;
  if (llama) config["mlp_bias"] = false;
  config["model_type"] = llama ? "llama" : qwen2 ? "qwen2" : "qwen3";
  config["num_attention_heads"] = shape.heads;
  config["num_hidden_layers"] = layers;
  config["num_key_value_heads"] = shape.kv_heads;
  if (llama) config["pretraining_tp"] = 1;
  config["rms_norm_eps"] = shape.rms_eps;
  if (shape.llama3_factor != 0) {
    config["rope_scaling"] = {{"factor", shape.llama3_factor},
                              {"high_freq_factor", 4.0},
                              {"low_freq_factor", 1.0},
                              {"original_max_position_embeddings", 8192},
                              {"rope_type", "llama3"}};
  } else if (!qwen2) {
    config["rope_scaling"] = nullptr;
  }
  config["rope_theta"] = shape.rope_theta;
  if (qwen2) config["sliding_window"] = shape.max_positions;
  if (shape.family == kQwen3) config["sliding_window"] = nullptr;
  config["tie_word_embeddings"] = shape.tied;
  config["torch_dtype"] = "bfloat16";
  config["use_cache"] = true;
  if (!llama) config["use_sliding_window"] = false;
  config["vocab_size"] = shape.vocab;
  return config;
}

/// All tensors in the order of the forward pass.
std::vector<TensorSpec> Tensors(const Shape& shape, Index layers) {
  std::vector<TensorSpec> specs;
  const auto add = [&](std::string name, std::vector<std::int64_t> extents) {
    specs.push_back({.name = std::move(name), .dtype = DType::kBF16, .shape = std::move(extents)});
  };
  const Index q = shape.heads * HeadDim(shape);
  const Index kv = shape.kv_heads * HeadDim(shape);
  add("model.embed_tokens.weight", {shape.vocab, shape.hidden});
  for (Index i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {shape.hidden});
    add(layer + "self_attn.q_proj.weight", {q, shape.hidden});
    add(layer + "self_attn.k_proj.weight", {kv, shape.hidden});
    add(layer + "self_attn.v_proj.weight", {kv, shape.hidden});
    if (shape.family == kQwen2) {
      add(layer + "self_attn.q_proj.bias", {q});
      add(layer + "self_attn.k_proj.bias", {kv});
      add(layer + "self_attn.v_proj.bias", {kv});
    }
    if (shape.family == kQwen3) {
      add(layer + "self_attn.q_norm.weight", {HeadDim(shape)});
      add(layer + "self_attn.k_norm.weight", {HeadDim(shape)});
    }
    add(layer + "self_attn.o_proj.weight", {shape.hidden, q});
    add(layer + "post_attention_layernorm.weight", {shape.hidden});
    add(layer + "mlp.gate_proj.weight", {shape.intermediate, shape.hidden});
    add(layer + "mlp.up_proj.weight", {shape.intermediate, shape.hidden});
    add(layer + "mlp.down_proj.weight", {shape.hidden, shape.intermediate});
  }
  add("model.norm.weight", {shape.hidden});
  if (!shape.tied) add("lm_head.weight", {shape.vocab, shape.hidden});
  return specs;
}

std::uint64_t Elements(const TensorSpec& spec) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : spec.shape) count *= static_cast<std::uint64_t>(extent);
  return count;
}

/// 65,536 equally likely values of a normal distribution in BF16: a random 16-bit number becomes a
/// weight by one look-up. The quantiles come from Newton's method on the distribution function,
/// each begun at the one before.
std::vector<std::uint16_t> NormalTable() {
  constexpr int kValues = 1 << 16;
  std::vector<std::uint16_t> table(kValues);
  double x = -4.2;  // left of the first quantile, -4.17
  for (int i = 0; i < kValues / 2; ++i) {
    const double wanted = (i + 0.5) / kValues;
    for (int step = 0; step < 8; ++step) {
      const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
      x -= (std::erfc(-x / std::numbers::sqrt2) / 2 - wanted) / density;
    }
    table[Size(i)] = ToBf16(static_cast<float>(kStd * x)).bits;
    table[Size(kValues - 1 - i)] = static_cast<std::uint16_t>(table[Size(i)] ^ 0x8000);
  }
  return table;
}

/// FNV-1a: the stream of a tensor is its name's.
std::uint64_t StreamOf(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

void WriteTensor(TensorWriter& writer, const TensorSpec& spec, std::uint64_t seed,
                 std::span<const std::uint16_t> table) {
  constexpr std::uint64_t kBlock = std::uint64_t{1} << 21;  // elements: 4 MiB at a time
  const bool norm = spec.name.find("norm") != std::string::npos;
  Rng rng(seed, StreamOf(spec.name));
  std::vector<std::uint16_t> block;
  for (std::uint64_t left = Elements(spec); left > 0; left -= block.size()) {
    block.assign(std::min(left, kBlock), 0x3F80);  // 1
    for (std::size_t i = 0; !norm && i < block.size(); i += 4) {
      std::uint64_t bits = rng.Bits();
      for (std::size_t j = i; j < std::min(i + 4, block.size()); ++j, bits >>= 16) {
        block[j] = table[bits & 0xFFFF];
      }
    }
    writer.Write(spec.name, std::as_bytes(std::span(block)));
  }
}

std::string ShardName(std::size_t shard, std::size_t shards) {
  if (shards == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
}

/// One file, or shards of at most kShardBytes of data with their index. Returns the bytes of data.
std::uint64_t WriteWeights(const fs::path& folder, const std::vector<TensorSpec>& specs,
                           std::uint64_t seed) {
  std::vector<std::vector<TensorSpec>> shards(1);
  std::uint64_t in_shard = 0, total = 0;
  for (const TensorSpec& spec : specs) {
    const std::uint64_t bytes = 2 * Elements(spec);
    if (in_shard + bytes > kShardBytes && !shards.back().empty()) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(spec);
    in_shard += bytes;
    total += bytes;
  }

  const std::vector<std::uint16_t> table = NormalTable();
  Json weight_map;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string file = ShardName(i, shards.size());
    TensorWriter writer(folder / file, shards[i], {{"format", "pt"}});
    for (const TensorSpec& spec : shards[i]) {
      WriteTensor(writer, spec, seed, table);
      weight_map[spec.name] = file;
    }
    writer.Commit();
  }
  if (shards.size() > 1) {
    const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    WriteFileAtomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  }
  return total;
}

/// UTF-8 of the character that stands for a byte in byte-level BPE (GPT-2's table).
std::string ByteCharacter(int byte) {
  int code = byte;
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// A byte-level BPE of 256 bytes, a few merges, and three special tokens.
Record SmallTokenizer() {
  constexpr std::array<std::array<std::string_view, 2>, 40> kMerges{
      {{" ", "t"},  {"h", "e"},  {" ", "a"},  {"i", "n"},  {"r", "e"},  {"o", "n"}, {" t", "he"},
       {"e", "r"},  {" ", "s"},  {"a", "t"},  {" ", "w"},  {" ", "o"},  {"e", "n"}, {" ", "c"},
       {"i", "t"},  {"i", "s"},  {"a", "n"},  {"o", "r"},  {"e", "s"},  {" ", "b"}, {"e", "d"},
       {" ", "f"},  {"in", "g"}, {" ", "p"},  {"o", "u"},  {" a", "n"}, {"a", "l"}, {"a", "r"},
       {" t", "o"}, {" ", "m"},  {" o", "f"}, {" ", "in"}, {" ", "d"},  {" ", "h"}, {" an", "d"},
       {"i", "c"},  {"a", "s"},  {"l", "e"},  {" t", "h"}, {"i", "on"}}};
  const auto spelt = [](std::string_view bytes) {
    std::string characters;
    for (const char c : bytes) characters += ByteCharacter(static_cast<unsigned char>(c));
    return characters;
  };

  Record vocab = Record::object();
  Record merges = Record::array();
  TokenId next = 0;
  for (int byte = 0; byte < 256; ++byte) vocab[ByteCharacter(byte)] = next++;
  for (const auto& [left, right] : kMerges) {
    vocab[spelt(left) + spelt(right)] = next++;
    merges.push_back({spelt(left), spelt(right)});
  }
  Record added = Record::array();
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", next++},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Record byte_level{{"type", "ByteLevel"},
                          {"add_prefix_space", false},
                          {"trim_offsets", true},
                          {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
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
            {"vocab", vocab},
            {"merges", merges}}}};
}

void WriteJson(const fs::path& path, const Record& record) {
  WriteFileAtomically(path, record.dump(2) + "\n");
}

/// Throws Error where `out` is there and may not be replaced, or the disk is too small.
void CheckOut(const fs::path& out, bool force, std::uint64_t bytes) {
  if (fs::exists(out)) {
    if (!force) {
      throw Error(
          {.what = "it is there already", .where = out.string(), .hint = "--force replaces it"});
    }
    if (!fs::is_directory(out) || (!fs::is_empty(out) && !fs::exists(out / "config.json"))) {
      throw Error({.what = "--force replaces model folders only",
                   .where = out.string(),
                   .expected = "a folder with config.json"});
    }
  }
  const std::uint64_t free = fs::space(out.has_parent_path() ? out.parent_path() : ".").available;
  if (free < bytes) {
    throw Error({.what = "not enough room on the disk",
                 .where = out.string(),
                 .expected = std::to_string(bytes) + " bytes",
                 .found = std::to_string(free) + " bytes free"});
  }
}

void MakeCheckpoint(const Shape& shape, Index layers, std::uint64_t seed, fs::path out,
                    bool force) {
  out = fs::absolute(out).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();  // a slash at the end
  fs::create_directories(out.parent_path());
  const std::vector<TensorSpec> specs = Tensors(shape, layers);
  std::uint64_t bytes = std::uint64_t{1} << 20;  // headers and the small files
  for (const TensorSpec& spec : specs) bytes += 2 * Elements(spec);
  CheckOut(out, force, bytes);

  const fs::path partial = out.string() + ".partial";
  fs::remove_all(partial);  // of a run that was killed
  fs::create_directory(partial);
  try {
    const std::uint64_t data = WriteWeights(partial, specs, seed);
    WriteJson(partial / "config.json", Config(shape, layers));
    WriteJson(partial / "generation_config.json",
              {{"bos_token_id", shape.bos}, {"eos_token_id", shape.eos}});
    WriteJson(partial / "tokenizer.json", SmallTokenizer());
    WriteJson(partial / "tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                                  {"model_max_length", shape.max_positions},
                                                  {"eos_token", "<|endoftext|>"}});
    WriteFileAtomically(partial / "README.md",
                        "Random weights in the shape of " + std::string(shape.name) + ", " +
                            std::to_string(layers) + " layers, seed " + std::to_string(seed) +
                            ". Made by tools/make_checkpoint for tests; it says nothing.\n");
    fs::remove_all(out);
    fs::rename(partial, out);
    SyncFolder(out.parent_path());
    std::printf("%s: %zu tensors, %llu bytes\n", out.c_str(), specs.size(),
                static_cast<unsigned long long>(data));
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    fs::remove_all(partial, ignored);
    throw;
  }
}

int Main(int argc, char** argv) {
  std::string name, out, names;
  Index layers = 0;
  std::uint64_t seed = 0;
  bool force = false;
  for (const Shape& shape : kShapes) names += "\n  " + std::string(shape.name);
  CLI::App app("Writes a checkpoint of random weights in a real model's shape.", "make_checkpoint");
  app.footer("Shapes:" + names);
  app.add_option("--shape", name, "which model's shape")->required();
  app.add_option("--layers", layers, "keep the first N layers (all)")->check(CLI::PositiveNumber);
  app.add_option("--seed", seed, "of the random numbers (0)");
  app.add_option("-o", out, "the folder to write")->required()->type_name("DIR");
  app.add_flag("--force", force, "replace a model folder that is there");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  for (const Shape& shape : kShapes) {
    if (shape.name != name) continue;
    MakeCheckpoint(shape, layers == 0 ? shape.layers : layers, seed, out, force);
    return 0;
  }
  std::fprintf(stderr, "make_checkpoint: no shape '%s'; there are:%s\n", name.c_str(),
               names.c_str());
  return 2;
}

}  // namespace
}  // namespace lieq

int main(int argc, char** argv) {
  try {
    return lieq::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_checkpoint: %s\n", error.what());
    return 3;
  }
}
