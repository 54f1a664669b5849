#include "lieq/container/imatrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "lieq/base/files.h"
#include "lieq/io/gguf_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::ElementsAre;

const ModelConfig kConfig{.architecture = "LlamaForCausalLM", .layers = 2};

/// Of two channels; layer, unit and channel can be told from each value. 8 tokens in two windows.
Importance Numbered() {
  Importance importance{.tokens = 8, .squares = {}};
  for (int layer = 0; layer < 2; ++layer) {
    auto& units = importance.squares.emplace_back();
    for (int unit = 0; unit < kUnits; ++unit) {
      units[Size(unit)] = {16.0 + 8 * unit + 64 * layer, 0};
    }
  }
  return importance;
}

const ImatrixText kText{.files = {"a.txt", "b.txt"}, .windows = 2, .length = 4};

std::vector<float> Floats(const GgufTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

TEST(Imatrix, HasSumsAndCountsInGguf) {
  const TempFolder folder;
  WriteImatrix(Numbered(), kConfig, kText, folder / "i.gguf");
  const GgufFile file = GgufFile::Open(folder / "i.gguf");

  EXPECT_EQ(file.keys().String("general.type"), "imatrix");
  EXPECT_THAT(file.keys().Strings("imatrix.datasets"), ElementsAre("a.txt", "b.txt"));
  EXPECT_EQ(file.keys().Integer("imatrix.chunk_count"), 2);
  EXPECT_EQ(file.keys().Integer("imatrix.chunk_size"), 4);
  ASSERT_EQ(file.tensors().size(), 2u * 2 * kSites);
  std::map<std::string, std::vector<float>> values;
  for (const GgufTensor& tensor : file.tensors()) values[tensor.name] = Floats(tensor);
  EXPECT_THAT(values.at("blk.0.attn_v.weight.in_sum2"), ElementsAre(16, 0));
  EXPECT_THAT(values.at("blk.0.attn_v.weight.counts"), ElementsAre(8));
  EXPECT_THAT(values.at("blk.1.attn_output.weight.in_sum2"), ElementsAre(88, 0));
  EXPECT_THAT(values.at("blk.1.ffn_gate.weight.in_sum2"), ElementsAre(96, 0));
  EXPECT_THAT(values.at("blk.1.ffn_up.weight.in_sum2"), ElementsAre(96, 0));
  EXPECT_THAT(values.at("blk.0.ffn_down.weight.in_sum2"), ElementsAre(40, 0));
}

/// Reads the older form as common/imatrix-loader.cpp of llama.cpp does.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : bytes_(ReadText(path)) {}

  std::int32_t Number() {
    std::int32_t value = 0;
    std::memcpy(&value, Take(sizeof(value)).data(), sizeof(value));
    return value;
  }
  std::string Take(std::size_t count) {
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  [[nodiscard]] bool AtEnd() const { return at_ == bytes_.size(); }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

TEST(Imatrix, HasMeansTimesWindowsInTheOlderForm) {
  const TempFolder folder;
  WriteImatrix(Numbered(), kConfig, kText, folder / "i.dat");
  Reader reader(folder / "i.dat");

  std::vector<std::string> names;
  std::map<std::string, std::vector<float>> means;
  const std::int32_t entries = reader.Number();
  ASSERT_EQ(entries, 2 * kSites);
  for (int i = 0; i < entries; ++i) {
    names.push_back(reader.Take(Size(reader.Number())));
    const std::int32_t calls = reader.Number();
    EXPECT_EQ(calls, 2);
    std::vector<float> values(Size(reader.Number()));
    std::memcpy(values.data(), reader.Take(values.size() * 4).data(), values.size() * 4);
    for (float& value : values) value /= static_cast<float>(calls);
    means[names.back()] = values;
  }
  EXPECT_TRUE(std::ranges::is_sorted(names));
  EXPECT_THAT(means.at("blk.0.attn_k.weight"), ElementsAre(2, 0));
  EXPECT_THAT(means.at("blk.1.attn_output.weight"), ElementsAre(11, 0));
  EXPECT_THAT(means.at("blk.1.ffn_down.weight"), ElementsAre(13, 0));
  EXPECT_EQ(reader.Number(), 2);
  EXPECT_EQ(reader.Take(Size(reader.Number())), "a.txt, b.txt");
  EXPECT_TRUE(reader.AtEnd());
}

TEST(Imatrix, SaysWhereItCannotWrite) {
  const TempFolder folder;
  for (const char* name : {"i.dat", "i.gguf"}) {
    EXPECT_THAT(ErrorOf([&] { WriteImatrix(Numbered(), kConfig, kText, folder / "no" / name); }),
                testing::HasSubstr(name));
  }
}

}  // namespace
}  // namespace lieq
