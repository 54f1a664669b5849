#include "lieq/io/tensor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_tensor_file.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A shard with one U8 tensor of four bytes.
void WriteShard(const std::filesystem::path& path, const std::string& name) {
  WriteText(path, RawTensorFile(
                      "{\"" + name + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
}

class WriterProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(WriterProperty, WhatIsWrittenIsReadAgainByteForByte) {
  constexpr std::array kTypes{DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                              DType::kI32, DType::kI16, DType::kI8,  DType::kU64,  DType::kU32,
                              DType::kU16, DType::kU8,  DType::kBool};
  Rng rng(GetParam());
  std::vector<TensorSpec> specs;
  std::vector<std::vector<std::byte>> contents;
  const std::uint32_t count = rng.Below(12);
  for (std::uint32_t i = 0; i < count; ++i) {
    TensorSpec spec{.name = "t" + std::to_string(i) + (i == 3 ? " \"quoted\" \xC3\xA4" : ""),
                    .dtype = kTypes[rng.Below(kTypes.size())]};
    std::size_t bytes = ItemSize(spec.dtype);
    for (std::uint32_t extent = 0; extent < rng.Below(4); ++extent) {
      spec.shape.push_back(1 + rng.Below(9));
      bytes *= static_cast<std::size_t>(spec.shape.back());
    }
    std::vector<std::byte>& content = contents.emplace_back(bytes);
    for (std::byte& byte : content) byte = static_cast<std::byte>(rng.Below(256));
    specs.push_back(std::move(spec));
  }
  const std::map<std::string, std::string> metadata{{"lieq", "a \"b\""}};
  const TempFolder folder;
  const auto path = folder / "x.safetensors";

  TensorWriter writer(path, specs, metadata);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const std::size_t half = contents[i].size() / 2;  // in two parts
    if (half > 0) writer.Write(specs[i].name, std::span(contents[i]).first(half));
    writer.Write(specs[i].name, std::span(contents[i]).subspan(half));
  }
  writer.Commit();

  const TensorFile file = TensorFile::Open(path);
  ASSERT_EQ(file.tensors().size(), specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorRef& tensor = file.At(specs[i].name);
    EXPECT_EQ(tensor.dtype, specs[i].dtype);
    EXPECT_EQ(tensor.shape, specs[i].shape);
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, contents[i]));
  }
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("lieq"), "a \"b\"");
  const std::uint64_t size = std::filesystem::file_size(path);
  EXPECT_EQ(TensorWriter::FileBytes(specs, metadata), size);
  std::uint64_t header = 0;
  std::memcpy(&header, file.maps()[0]->bytes().data(), sizeof(header));
  EXPECT_EQ(header % 8, 0u);
}
INSTANTIATE_TEST_SUITE_P(Seeds, WriterProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{40}));

TEST(TensorWriter, GathersSmallPartsAndPassesLargeOnesOn) {
  const TempFolder folder;
  const auto path = folder / "x.safetensors";
  std::vector<std::byte> content(3'000'001);
  Rng rng(7);
  for (std::byte& byte : content) byte = static_cast<std::byte>(rng.Bits());

  TensorWriter writer(path, {{"a", DType::kU8, {3'000'001}}}, {});
  std::span<const std::byte> rest(content);
  for (const std::size_t part : {1u, 700'000u, 700'000u, 1'500'000u, 100'000u}) {
    writer.Write("a", rest.first(part));
    rest = rest.subspan(part);
  }
  writer.Commit();

  EXPECT_TRUE(std::ranges::equal(TensorFile::Open(path).At("a").bytes, content));
}

TEST(TensorWriter, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  {
    TensorWriter writer(folder / "x.safetensors", {{"a", DType::kU8, {4}}}, {});
    writer.Write("a", std::array<std::byte, 2>{});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TensorWriter, SaysWhereItCannotWrite) {
  EXPECT_THAT(ErrorOf([] { return TensorWriter("/no/such/folder/x.safetensors", {}, {}); }),
              HasSubstr("/no/such/folder/x.safetensors"));
}

TEST(TensorFileOpen, RefusesAFileCutAtAnyOf64Places) {
  const TempFolder folder;
  const std::string whole =
      RawTensorFile(R"({"a":{"dtype":"F32","shape":[5,7],"data_offsets":[0,140]},)"
                    R"("b":{"dtype":"BF16","shape":[33],"data_offsets":[140,206]}}  )",
                    206);
  const auto path = folder / "cut.safetensors";
  WriteText(path, whole);
  EXPECT_THAT(ErrorOf([&] { return TensorFile::Open(path); }), IsEmpty());
  for (std::size_t part = 64; part-- > 0;) {
    std::filesystem::resize_file(path, whole.size() * part / 64);
    EXPECT_THAT(ErrorOf([&] { return TensorFile::Open(path); }), HasSubstr("cut.safetensors"))
        << part;
  }
}

TEST(TensorFileOpen, NamesAMissingTensorAndTheFile) {
  const TempFolder folder;
  WriteShard(folder / "x.safetensors", "a");
  const TensorFile file = TensorFile::Open(folder / "x.safetensors");

  EXPECT_TRUE(file.Has("a"));
  EXPECT_FALSE(file.Has("b"));
  EXPECT_THAT(ErrorOf([&] { return file.At("b"); }),
              AllOf(HasSubstr("x.safetensors"), HasSubstr("'b'")));
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    WriteShard(folder_ / "m-1.safetensors", "a");
    WriteShard(folder_ / "m-2.safetensors", "b");
  }
  std::string ErrorWithIndex(std::string_view json) {
    WriteText(folder_ / "model.safetensors.index.json", json);
    return ErrorOf([&] { return TensorFile::OpenFolder(folder_.path()); });
  }
  TempFolder folder_;
};

TEST_F(Shards, AreOneSetOfTensors) {
  EXPECT_THAT(ErrorWithIndex(R"({"metadata": {"total_size": 8},
                                 "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})"),
              IsEmpty());
  const TensorFile file = TensorFile::OpenFolder(folder_.path());
  EXPECT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.maps().size(), 2u);
  EXPECT_EQ(file.At("b").file.filename(), "m-2.safetensors");
}

TEST_F(Shards, AreNamedWhereOneIsMissing) {
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": "m-1.safetensors", "b": "m-3.safetensors"}})"),
              AllOf(HasSubstr("a shard is missing"), HasSubstr("m-3.safetensors")));
}

TEST_F(Shards, MustAgreeWithTheIndex) {
  constexpr std::string_view kDisagree = "index and shards disagree";
  // in another shard than listed
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors"}})"),
              AllOf(HasSubstr(std::string(kDisagree)), HasSubstr("tensor 'a'")));
  // listed, in no shard
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": "m-1.safetensors", "c": "m-1.safetensors"}})"),
              AllOf(HasSubstr(std::string(kDisagree)), HasSubstr("tensor 'c'")));
  // in a shard, not listed
  WriteText(folder_ / "m-2.safetensors",
            RawTensorFile(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                          R"("c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                          2));
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})"),
              AllOf(HasSubstr(std::string(kDisagree)), HasSubstr("tensor 'c'")));
}

TEST_F(Shards, MustNotHoldATensorTwice) {
  WriteShard(folder_ / "m-2.safetensors", "a");
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})"),
              HasSubstr("two shards hold the same tensor"));
}

TEST_F(Shards, MustLieInTheFolder) {
  for (const char* name : {"../m-1.safetensors", "/etc/passwd", "x/m-1.safetensors", "..", "",
                           "m-1.bin", "a\\\\b.safetensors", "m\\u0000.safetensors"}) {
    EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": ")" + std::string(name) + "\"}}"),
                HasSubstr("not the name of a shard"))
        << name;
  }
}

TEST_F(Shards, NeedAnIndexOfTheRightForm) {
  EXPECT_THAT(ErrorWithIndex("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorWithIndex("{}"), HasSubstr("/weight_map: key is missing"));
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {}})"), HasSubstr("lists no tensor"));
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": {"a": 1}})"), HasSubstr("tensor 'a'"));
  EXPECT_THAT(ErrorWithIndex(R"({"weight_map": []})"), HasSubstr("not a JSON object"));
}

TEST(OpenFolder, SaysHowToConvertPickles) {
  for (const char* name : {"pytorch_model-00001-of-00002.bin", "consolidated.00.pth"}) {
    const TempFolder folder;
    WriteText(folder / name, "x");
    EXPECT_THAT(ErrorOf([&] { return TensorFile::OpenFolder(folder.path()); }),
                AllOf(HasSubstr("pickle"), HasSubstr(name), HasSubstr("save_pretrained")));
  }
}

TEST(OpenFolder, SaysWhatItFoundInstead) {
  const TempFolder folder;
  const auto error = [&] { return ErrorOf([&] { return TensorFile::OpenFolder(folder.path()); }); };
  EXPECT_THAT(error(), AllOf(HasSubstr("no weights in the folder"), HasSubstr("neither")));

  WriteText(folder / "model-q4.gguf", "x");
  EXPECT_THAT(error(), HasSubstr("model-q4.gguf"));

  WriteText(folder / "adapter_model.safetensors", "x");
  EXPECT_THAT(error(), AllOf(HasSubstr("adapter_model.safetensors"), Not(HasSubstr("pickle"))));
}

TEST(Writer, MakesFilesWhoseSizeDoesNotDependOnTheOrderOfTensors) {
  Rng rng(11);
  for (int round = 0; round < 20; ++round) {
    std::vector<TensorSpec> specs;
    for (std::uint32_t i = 0; i < 2 + rng.Below(40); ++i) {  // offsets of one digit up to seven
      specs.push_back({"layer." + std::to_string(i), DType::kU8, {1 + rng.Below(1u << (i % 18))}});
    }
    const std::uint64_t bytes = TensorWriter::FileBytes(specs, {});
    std::ranges::sort(specs, {}, [](const TensorSpec& spec) { return spec.shape[0]; });
    EXPECT_EQ(TensorWriter::FileBytes(specs, {}), bytes) << round;
    std::ranges::reverse(specs);
    EXPECT_EQ(TensorWriter::FileBytes(specs, {}), bytes) << round;
  }
}

TEST(Describe, WritesTypeAndShape) {
  EXPECT_EQ(Describe(DType::kF32, std::vector<std::int64_t>{3072, 1024}), "F32 [3072, 1024]");
  EXPECT_EQ(Describe(DType::kI64, std::vector<std::int64_t>{}), "I64 []");
}

}  // namespace
}  // namespace lieq
