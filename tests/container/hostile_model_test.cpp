// Faults that broke readers elsewhere (integer overflows, zero extents, wrong types, doubled
// names), one by one in a whole model: what is refused says what, where, what was expected and
// found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "lieq/container/exporters.h"
#include "lieq/container/gguf_open.h"
#include "lieq/io/gguf_file.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/raw_gguf.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::HasSubstr;

/// Parts of the message; "" where any will do.
struct Message {
  std::string what, where, expected, found;
};

void ExpectRefused(const std::filesystem::path& model, const Message& message,
                   const std::string& label) {
  const Problem problem = ProblemOf([&] { return OpenModel(model); });
  const auto check = [&](const std::string& field, const std::string& part) {
    EXPECT_THAT(field, HasSubstr(part)) << label << ": " << problem.what;
    EXPECT_NE(field, "") << label << ": " << problem.what;
  };
  check(problem.what, message.what);
  check(problem.where, message.where);
  check(problem.expected, message.expected);
  check(problem.found, message.found);
}

// ---- GGUF ---------------------------------------------------------------------------------------

enum ValueType : std::uint32_t { kU32 = 4, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

/// A file taken apart, to be put together with a fault.
RawGguf TakeApart(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::Open(path);
  RawGguf raw;
  for (const auto& [name, value] : file.keys().values()) {
    const std::string bytes(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
    const auto type = static_cast<std::uint32_t>(value.type);
    raw.keys.push_back(value.array
                           ? RawGguf::Key{name, kArray, RawGguf::Array(type, value.count, bytes)}
                           : RawGguf::Key{name, type, bytes});
  }
  for (const GgufTensor& tensor : file.tensors()) {
    RawGguf::Tensor part{.name = tensor.name, .type = tensor.type->id, .offset = raw.data.size()};
    part.extents.assign(tensor.shape.rbegin(), tensor.shape.rend());
    raw.tensors.push_back(std::move(part));
    raw.data.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    raw.data.resize((raw.data.size() + 31) / 32 * 32);
  }
  return raw;
}

RawGguf::Key& Key(RawGguf& raw, const std::string& name) {
  return *std::ranges::find(raw.keys, name, &RawGguf::Key::name);
}
RawGguf::Tensor& Tensor(RawGguf& raw, const std::string& name) {
  return *std::ranges::find(raw.tensors, name, &RawGguf::Tensor::name);
}
template <class T>
void SetKey(RawGguf& raw, const std::string& name, std::uint32_t type, T value) {
  Key(raw, name) = {name, type, RawGguf::Number(value)};
}

struct GgufFault {
  const char* label;
  void (*change)(RawGguf&);
  Message message;
};

const std::vector<GgufFault>& GgufFaults() {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 62;
  static const std::vector<GgufFault> faults{
      {"sum of sizes overflows",
       [](RawGguf& raw) {
         Tensor(raw, "blk.0.ffn_up.weight").extents = {64, (std::uint64_t{1} << 58) - 1};
       },
       {"reaches past the end", "tensor 'blk.0.ffn_up.weight'", "bytes at", "bytes of data"}},
      {"product of extents overflows",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").extents = {kHuge, 16}; },
       {"larger than any file", "tensor 'blk.0.ffn_up.weight'", "less than 2^64 bytes", "more"}},
      {"extent of zero",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").extents[1] = 0; },
       {"extent out of range", "tensor 'blk.0.ffn_up.weight'", "1 to 9223372036854775807", "0"}},
      {"more data than the shape",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").extents[1] -= 1; },
       {"does not lie behind the one before it", "tensor '", "offset ", ""}},
      {"embedding length of zero",
       [](RawGguf& raw) { SetKey(raw, "llama.embedding_length", kU32, 0u); },
       {"out of range", "hidden_size", "1 to", "0"}},
      {"head count of zero",
       [](RawGguf& raw) { SetKey(raw, "llama.attention.head_count", kU32, 0u); },
       {"out of range", "num_attention_heads", "1 to", "0"}},
      {"layers by the thousand million",
       [](RawGguf& raw) { SetKey(raw, "llama.block_count", kU32, ~0u); },
       {"out of range", "num_hidden_layers", "1 to", "4294967295"}},
      {"more layers than there are",
       [](RawGguf& raw) { SetKey(raw, "llama.block_count", kU32, 3u); },
       {"tensor is missing", "m.gguf", "blk.1.attn_norm.weight", "none"}},
      {"negative length",
       [](RawGguf& raw) { SetKey(raw, "llama.feed_forward_length", kI64, std::int64_t{-1}); },
       {"out of range", "intermediate_size", "1 to", "-1"}},
      {"integer above 2^63",
       [](RawGguf& raw) { SetKey(raw, "llama.context_length", kU64, ~std::uint64_t{0}); },
       {"out of range", "key 'llama.context_length'", "below 2^63", "larger"}},
      {"integer that is a text",
       [](RawGguf& raw) {
         Key(raw, "llama.block_count") = {"llama.block_count", kString, RawGguf::String("1")};
       },
       {"wrong type of value", "key 'llama.block_count'", "an integer", "str"}},
      {"epsilon that is not a number",
       [](RawGguf& raw) {
         SetKey(raw, "llama.attention.layer_norm_rms_epsilon", kF32,
                std::numeric_limits<float>::quiet_NaN());
       },
       {"value is not finite", "key 'llama.attention.layer_norm_rms_epsilon'", "a finite number",
        "nan"}},
      {"rope base that is infinite",
       [](RawGguf& raw) {
         SetKey(raw, "llama.rope.freq_base", kF64, std::numeric_limits<double>::infinity());
       },
       {"value is not finite", "key 'llama.rope.freq_base'", "a finite number", "inf"}},
      {"alignment of zero",
       [](RawGguf& raw) { raw.keys.push_back({"general.alignment", kU32, RawGguf::Number(0u)}); },
       {"alignment is not possible", "key 'general.alignment'", "a power of two", "u32"}},
      {"alignment without bound",
       [](RawGguf& raw) {
         raw.keys.push_back({"general.alignment", kU32, RawGguf::Number(1u << 31)});
       },
       {"alignment is not possible", "key 'general.alignment'", "at most 65536", "2147483648"}},
      {"alignment of another type",
       [](RawGguf& raw) {
         raw.keys.push_back({"general.alignment", kU64, RawGguf::Number(std::uint64_t{32})});
       },
       {"alignment is not possible", "key 'general.alignment'", "u32", "u64"}},
      {"key twice",
       [](RawGguf& raw) { raw.keys.push_back(Key(raw, "llama.block_count")); },
       {"key is given twice", "key 'llama.block_count'", "once", "twice"}},
      {"empty key",
       [](RawGguf& raw) { Key(raw, "llama.vocab_size").name.clear(); },
       {"key is empty", "key ", "1 to 65535 bytes", "0"}},
      {"empty name",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").name.clear(); },
       {"name of a tensor is empty", "tensor ", "1 to 63 bytes", "0"}},
      {"name twice",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").name = "blk.0.ffn_gate.weight"; },
       {"two tensors have one name", "tensor 'blk.0.ffn_gate.weight'", "one", "two"}},
      {"type that is not known",
       [](RawGguf& raw) { Tensor(raw, "blk.0.ffn_up.weight").type = 255; },
       {"type of tensor is not known", "tensor 'blk.0.ffn_up.weight'", "a type of ggml", "255"}},
      {"type that is not read",
       [](RawGguf& raw) { Tensor(raw, "blk.0.attn_norm.weight").type = 26; },
       {"type is not supported here", "tensor 'blk.0.attn_norm.weight'", "F32, F16 or BF16",
        "I32"}},
      {"scale that is not finite",
       [](RawGguf& raw) {
         const std::size_t at = Tensor(raw, "blk.0.ffn_up.weight").offset;
         raw.data[at] = 0;
         raw.data[at + 1] = 0x7C;
       },
       {"scale or minimum is not finite", "tensor 'blk.0.ffn_up.weight'", "finite numbers",
        "row 0"}},
      {"norm of another length",
       [](RawGguf& raw) { SetKey(raw, "llama.attention.key_length", kU32, 16u); },
       {"option is not supported", "llama.", "16", "32"}},
  };
  return faults;
}

TEST(HostileGgufModel, IsRefusedWithWhatWhereExpectedAndFound) {
  const TempFolder folder;
  const ModelFolder source = RandomQuantizedModel(
      folder / "model", {.architecture = "LlamaForCausalLM", .layers = 1}, {.group_size = 64});
  FindExporter("gguf").write(source, folder / "m.gguf", {});
  const RawGguf good = TakeApart(folder / "m.gguf");
  WriteText(folder / "m.gguf", good.Render());
  ASSERT_EQ(ErrorOf([&] { return OpenModel(folder / "m.gguf"); }), "");
  for (const GgufFault& fault : GgufFaults()) {
    RawGguf bad = good;
    fault.change(bad);
    WriteText(folder / "m.gguf", bad.Render());
    ExpectRefused(folder / "m.gguf", fault.message, fault.label);
  }
}

/// Arrays of another type, for which readers of others took them and read past their end.
TEST(HostileGgufModel, HasNoTokenizerWhereItsArraysAreNotWhatTheySay) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.architecture = "LlamaForCausalLM", .layers = 1});
  FindExporter("gguf").write(OpenModel(folder / "model"), folder / "m.gguf", {});
  const RawGguf good = TakeApart(folder / "m.gguf");
  EXPECT_NE(OpenModel(folder / "m.gguf").tokenizer, "");
  const auto tokenizer_with = [&](const std::string& key, std::uint32_t type, std::uint64_t count,
                                  const std::string& items) {
    RawGguf raw = good;
    Key(raw, key) = {key, kArray, RawGguf::Array(type, count, items)};
    WriteText(folder / "m.gguf", raw.Render());
    return OpenModel(folder / "m.gguf").tokenizer;
  };
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.tokens", 0, 3, "abc"), "");
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.token_type", 0, 3, "abc"), "");
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.token_type", kF32, 2, std::string(8, '\0')), "");
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.token_type", kI32, 2, std::string(8, '\1')), "");
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.merges", 0, 3, "abc"), "");
  EXPECT_EQ(tokenizer_with("tokenizer.ggml.merges", kString, 1, RawGguf::String("ab")), "");
}

// ---- folders ------------------------------------------------------------------------------------

/// A change of the entry of one tensor in the header of model.safetensors.
struct TensorFault {
  const char* label;
  const char* field;  // of the entry; "" is its name
  const char* value;  // JSON
  Message message;    // where: the tensor is added
};

const std::vector<TensorFault>& TensorFaults() {
  static const std::vector<TensorFault> faults{
      {"extent of zero",
       "shape",
       "[0, 128]",
       {"extent of zero", "tensor '", "every extent at least 1", "0"}},
      {"negative extent", "shape", "[-8, 128]", {"", "tensor '", "", ""}},
      {"product of extents overflows",
       "shape",
       "[4611686018427387904, 16]",
       {"shape is too large", "tensor '", "", ""}},
      {"extent above 2^64", "shape", "[1e30, 1]", {"", "tensor '", "", ""}},
      {"bytes overflow",
       "shape",
       "[2305843009213693952, 2]",
       {"shape is too large", "tensor '", "", ""}},
      {"shape larger than its data",
       "shape",
       "[4096, 4096]",
       {"data does not fill the shape", "tensor '", "", ""}},
      {"another type", "dtype", "\"F64\"", {"", "tensor '", "", ""}},
      {"type that does not exist", "dtype", "\"I33\"", {"", "tensor '", "", "I33"}},
      {"type that is a number", "dtype", "7", {"", "tensor '", "", ""}},
      {"data that ends before it begins", "data_offsets", "[8, 4]", {"", "tensor '", "", ""}},
      {"data past the end", "data_offsets", "[0, 9223372036854775807]", {"", "tensor '", "", ""}},
  };
  return faults;
}

struct Container {
  const char* name;
  const char* codes;  // the tensor of a module that holds them
};

class HostileFolder : public testing::TestWithParam<Container> {
 protected:
  HostileFolder() {
    const ModelFolder source = RandomQuantizedModel(
        folder_ / "model", {.architecture = "LlamaForCausalLM", .layers = 1}, {.group_size = 64});
    std::filesystem::create_directory(out());
    FindExporter(GetParam().name).write(source, out(), {});
    const std::string file = ReadText(out() / "model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    header_ = file.substr(sizeof(length), length);
    data_ = file.substr(sizeof(length) + length);
  }

  std::filesystem::path out() const { return folder_ / "out"; }
  void Write(const std::string& header) {
    WriteText(out() / "model.safetensors",
              RawGguf::Number(std::uint64_t{header.size()}) + header + data_);
  }

  TempFolder folder_;
  std::string header_, data_;
};

TEST_P(HostileFolder, IsRefusedByTheNameOfItsTensor) {
  const std::string tensor = std::string("model.layers.0.self_attn.q_proj.") + GetParam().codes;
  const Record good = ParseRecord(header_, "header");
  Write(good.dump());
  ASSERT_EQ(ErrorOf([&] { return OpenModel(out()); }), "");
  for (const TensorFault& fault : TensorFaults()) {
    Record header = good;
    header[tensor][fault.field] = Record::parse(fault.value);
    Write(header.dump());
    const Problem problem = ProblemOf([&] { return OpenModel(out()); });
    EXPECT_THAT(problem.what, HasSubstr(fault.message.what)) << fault.label;
    EXPECT_NE(problem.what, "") << fault.label;
    EXPECT_THAT(problem.where, HasSubstr("model.safetensors: tensor '" + tensor + "'"))
        << fault.label << ": " << problem.what;
    EXPECT_THAT(problem.expected, HasSubstr(fault.message.expected)) << fault.label;
    EXPECT_THAT(problem.found, HasSubstr(fault.message.found)) << fault.label;
    EXPECT_NE(problem.expected + problem.found, "") << fault.label << ": " << problem.what;
  }
}

TEST_P(HostileFolder, IsRefusedWhereNamesAreDoubledOrEmpty) {
  const std::string codes =
      std::string("\"model.layers.0.self_attn.q_proj.") + GetParam().codes + "\"";
  const auto renamed = [&](const std::string& name) {
    std::string header = header_;
    header.replace(header.find(codes), codes.size(), name);
    Write(header);
    return ProblemOf([&] { return OpenModel(out()); });
  };
  EXPECT_THAT(renamed("\"model.norm.weight\"").what, HasSubstr("given twice"));
  EXPECT_THAT(renamed("\"model.norm.weight\"").where, HasSubstr("model.norm.weight"));
  EXPECT_NE(renamed("\"\"").what, "");
  EXPECT_NE(renamed("\"\"").where, "");
}

INSTANTIATE_TEST_SUITE_P(Containers, HostileFolder,
                         testing::Values(Container{"gptq", "qweight"}, Container{"mlx", "weight"},
                                         Container{"compressed-tensors", "weight_packed"}),
                         [](const auto& row) {
                           std::string name = row.param.codes;
                           return name;
                         });

}  // namespace
}  // namespace lieq
