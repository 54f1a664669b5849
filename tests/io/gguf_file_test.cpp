#include "lieq/io/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "lieq/base/rng.h"
#include "lieq/base/types.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_gguf.h"
#include "tests/support/raw_tensor_file.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOfFile(const std::string& file) {
  return ErrorOf([&] { return ParseGguf(Bytes(file), "m.gguf"); });
}

TEST(ParseGguf, GivesKeysAndTensorsInOrderOfData) {
  RawGguf raw;
  raw.keys = {{"general.architecture", 8, RawGguf::String("llama")},
              {"llama.block_count", 4, RawGguf::Number(std::uint32_t{7})},
              {"a.numbers", 9, RawGguf::Array(5, 2, RawGguf::Number(-3) + RawGguf::Number(4))},
              {"a.texts", 9, RawGguf::Array(8, 2, RawGguf::String("x") + RawGguf::String(""))},
              {"a.real", 6, RawGguf::Number(0.5f)},
              {"a.truth", 7, std::string(1, '\1')},
              {"somebody.else", 0, std::string(1, '\7')}};
  raw.tensors = {{.name = "z", .extents = {32, 2}, .type = 8},
                 {.name = "a", .extents = {3}, .type = 0, .offset = 96}};
  raw.data_bytes = 128;
  const std::string file = raw.Render();

  const GgufHeader header = ParseGguf(Bytes(file), "m.gguf");

  EXPECT_EQ(header.keys.String("general.architecture"), "llama");
  EXPECT_EQ(header.keys.Integer("llama.block_count"), 7);
  EXPECT_THAT(header.keys.Integers("a.numbers"), ElementsAre(-3, 4));
  EXPECT_THAT(header.keys.Strings("a.texts"), ElementsAre("x", ""));
  EXPECT_EQ(header.keys.Number("a.real"), 0.5);
  EXPECT_EQ(header.keys.Number("llama.block_count"), 7);
  EXPECT_TRUE(header.keys.Boolean("a.truth"));
  EXPECT_EQ(header.keys.Integer("somebody.else"), 7);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "z");
  EXPECT_EQ(header.tensors[0].type->name, "Q8_0");
  EXPECT_THAT(header.tensors[0].shape, ElementsAre(2, 32));
  EXPECT_EQ(header.tensors[0].bytes.size(), 68u);
  EXPECT_EQ(header.tensors[1].bytes[0], std::byte{96});
}

TEST(GgufKeys, NameTheKeyThatIsMissingOrOfAnotherType) {
  RawGguf raw;
  raw.keys = {{"text", 8, RawGguf::String("t")},
              {"bytes", 9, RawGguf::Array(0, 4, "abcd")},
              {"real", 6, RawGguf::Number(1.0f)},
              {"huge", 10, RawGguf::Number(~std::uint64_t{0})},
              {"one", 4, RawGguf::Number(std::uint32_t{1})}};
  const std::string file = raw.Render();
  const GgufKeys keys = ParseGguf(Bytes(file), "m.gguf").keys;

  EXPECT_THAT(ErrorOf([&] { return keys.String("none"); }),
              HasSubstr("m.gguf: key 'none': key is missing"));
  // What readers of others took for something else, and read past its end.
  EXPECT_THAT(ErrorOf([&] { return keys.Strings("bytes"); }), HasSubstr("array of 4 u8"));
  EXPECT_THAT(ErrorOf([&] { return keys.Strings("text"); }), HasSubstr("found:    str"));
  EXPECT_THAT(ErrorOf([&] { return keys.Integers("one"); }), HasSubstr("an array of integers"));
  EXPECT_THAT(ErrorOf([&] { return keys.Integer("bytes"); }), HasSubstr("array of 4 u8"));
  EXPECT_THAT(ErrorOf([&] { return keys.Integer("real"); }), HasSubstr("f32"));
  EXPECT_THAT(ErrorOf([&] { return keys.Integer("huge"); }), HasSubstr("below 2^63"));
  EXPECT_THAT(ErrorOf([&] { return keys.Boolean("one"); }), HasSubstr("a truth value"));
  EXPECT_THAT(ErrorOf([&] { return keys.Number("text"); }), HasSubstr("a number"));
}

struct HostileGguf {
  std::string_view label;
  void (*change)(RawGguf&);  // of a file with one key and the tensors 't' (F32 [4]) and 'u'
  std::string_view part;     // of the message
};

constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;

const HostileGguf kHostileGgufs[] = {
    {"Empty", [](RawGguf& f) { f = RawGguf{.magic = ""}; }, "not a GGUF file"},
    {"Magic", [](RawGguf& f) { f.magic = "GGML"; }, "not a GGUF file"},
    {"VersionOne", [](RawGguf& f) { f.version = 1; }, "version is not read"},
    {"VersionFour", [](RawGguf& f) { f.version = 4; }, "version is not read"},
    {"BigEndian", [](RawGguf& f) { f.version = 3u << 24; }, "file is big-endian"},
    {"KeyCount", [](RawGguf& f) { f.more_keys = kHuge; }, "more keys and tensors than the file"},
    {"KeyCountOverflows", [](RawGguf& f) { f.more_keys = ~std::uint64_t{0} - 1; }, "more keys"},
    {"TensorCount", [](RawGguf& f) { f.more_tensors = ~std::uint64_t{0} - 2; }, "more keys"},
    {"OneKeyMore", [](RawGguf& f) { f.more_keys = 1; }, ""},
    {"OneTensorMore", [](RawGguf& f) { f.more_tensors = 1; }, ""},
    {"KeyEmpty", [](RawGguf& f) { f.keys[0].name = ""; }, "key is empty"},
    {"KeyLong", [](RawGguf& f) { f.keys[0].name.assign(65536, 'k'); }, "key is too long"},
    {"KeyTwice", [](RawGguf& f) { f.keys.push_back(f.keys[0]); }, "key 'k': key is given twice"},
    {"KeyType", [](RawGguf& f) { f.keys[0].type = 13; }, "type of value is not known"},
    {"BoolIsTwo", [](RawGguf& f) { f.keys[0] = {"k", 7, "\2"}; }, "not a truth value"},
    {"StringLength", [](RawGguf& f) { f.keys[0] = {"k", 8, RawGguf::Number(~std::uint64_t{0})}; },
     "file ends inside its header"},
    {"ArrayOfArrays", [](RawGguf& f) { f.keys[0] = {"k", 9, RawGguf::Array(9, 1, "")}; },
     "an array of arrays"},
    {"ArrayType", [](RawGguf& f) { f.keys[0] = {"k", 9, RawGguf::Array(99, 1, "")}; },
     "type of value is not known"},
    {"ArrayOverflows", [](RawGguf& f) { f.keys[0] = {"k", 9, RawGguf::Array(4, kHuge, "")}; },
     "array is larger than any file"},
    {"ArrayLong", [](RawGguf& f) { f.keys[0] = {"k", 9, RawGguf::Array(4, 1 << 20, "")}; },
     "file ends inside its header"},
    {"ArrayOfStringsLong", [](RawGguf& f) { f.keys[0] = {"k", 9, RawGguf::Array(8, kHuge, "")}; },
     "file ends inside its header"},
    {"AlignmentZero", [](RawGguf& f) { f.keys[0].name = "general.alignment"; },
     "alignment is not possible"},
    {"AlignmentOdd", [](RawGguf& f) { f.keys[0] = {"general.alignment", 4, RawGguf::Number(48u)}; },
     "alignment is not possible"},
    {"AlignmentHuge",
     [](RawGguf& f) { f.keys[0] = {"general.alignment", 4, RawGguf::Number(1u << 31)}; },
     "alignment is not possible"},
    {"AlignmentWide",
     [](RawGguf& f) { f.keys[0] = {"general.alignment", 10, RawGguf::Number(std::uint64_t{32})}; },
     "alignment is not possible"},
    {"NameEmpty", [](RawGguf& f) { f.tensors[0].name = ""; }, "name of a tensor is empty"},
    {"NameLong", [](RawGguf& f) { f.tensors[0].name.assign(64, 'n'); }, "too long"},
    {"NameTwice", [](RawGguf& f) { f.tensors[1].name = "t"; }, "two tensors have one name"},
    {"NoExtent", [](RawGguf& f) { f.tensors[0].extents = {}; }, "number of extents"},
    {"FiveExtents", [](RawGguf& f) { f.tensors[0].extents = {4, 1, 1, 1, 1}; },
     "number of extents"},
    {"ExtentZero", [](RawGguf& f) { f.tensors[0].extents = {0}; }, "extent out of range"},
    {"RowsZero", [](RawGguf& f) { f.tensors[0].extents = {4, 0}; }, "extent out of range"},
    {"ExtentNegative", [](RawGguf& f) { f.tensors[0].extents = {kHuge}; }, "extent out of range"},
    {"ProductOverflows",
     [](RawGguf& f) { f.tensors[0].extents = {std::uint64_t{1} << 32, std::uint64_t{1} << 32}; },
     "larger than any file"},
    {"BytesOverflow", [](RawGguf& f) { f.tensors[0].extents = {4, std::uint64_t{1} << 60}; },
     "larger than any file"},
    {"SumOverflows",
     [](RawGguf& f) {
       f.tensors[0].extents = {4, (std::uint64_t{1} << 60) - 1};
       f.tensors[1].offset = 0;
     },
     "reaches past the end"},
    {"TypeUnknown", [](RawGguf& f) { f.tensors[0].type = 4; }, "type of tensor is not known"},
    {"TypeHuge", [](RawGguf& f) { f.tensors[0].type = ~0u; }, "type of tensor is not known"},
    {"HalfABlock", [](RawGguf& f) { f.tensors[0].type = 2; }, "Q4_0 in blocks of 32"},
    {"OffsetFirst", [](RawGguf& f) { f.tensors[0].offset = 32; }, "does not lie behind"},
    {"OffsetOverlaps", [](RawGguf& f) { f.tensors[1].offset = 0; }, "does not lie behind"},
    {"OffsetHole", [](RawGguf& f) { f.tensors[1].offset = 64; }, "does not lie behind"},
    {"OffsetUnaligned", [](RawGguf& f) { f.tensors[1].offset = 16; }, "does not lie behind"},
    {"OffsetHuge", [](RawGguf& f) { f.tensors[1].offset = ~std::uint64_t{31}; }, "does not lie"},
    {"DataMissing", [](RawGguf& f) { f.data_bytes = 0; }, "reaches past the end"},
    {"DataShort", [](RawGguf& f) { f.data_bytes = 47; }, "reaches past the end"},
    {"DataBehind", [](RawGguf& f) { f.data_bytes = 65; }, "bytes behind the last tensor"},
};

RawGguf GoodGguf() {
  RawGguf raw;
  raw.keys = {{.name = "k"}};
  raw.tensors = {{.name = "t"}, {.name = "u", .offset = 32}};
  raw.data_bytes = 64;
  return raw;
}

class Hostile : public testing::TestWithParam<HostileGguf> {};

TEST_P(Hostile, IsRefused) {
  RawGguf raw = GoodGguf();
  ASSERT_EQ(ErrorOfFile(raw.Render()), "");

  GetParam().change(raw);

  const std::string message = ErrorOfFile(raw.Render());
  EXPECT_THAT(message, HasSubstr("m.gguf"));
  EXPECT_THAT(message, HasSubstr(std::string(GetParam().part)));
}

INSTANTIATE_TEST_SUITE_P(Ggufs, Hostile, testing::ValuesIn(kHostileGgufs),
                         [](const auto& row) { return std::string(row.param.label); });

TEST(ParseGguf, CutAnywhereIsRefusedSaveForThePaddingAtItsEnd) {
  const std::string whole = GoodGguf().Render();
  for (std::size_t size = 0; size < whole.size() - 16; ++size) {
    EXPECT_NE(ErrorOfFile(whole.substr(0, size)), "") << size;
  }
  EXPECT_EQ(ErrorOfFile(whole.substr(0, whole.size() - 16)), "");
}

TEST(ParseGguf, TakesVersionTwoAndAnAlignmentOfTheFilesOwn) {
  RawGguf raw{.version = 2};
  raw.keys = {{"general.alignment", 4, RawGguf::Number(64u)}};
  raw.tensors = {{.name = "t"}, {.name = "u", .offset = 64}};
  raw.alignment = 64;
  raw.data_bytes = 128;
  const std::string file = raw.Render();

  const GgufHeader header = ParseGguf(Bytes(file), "m.gguf");

  EXPECT_EQ(header.tensors[1].bytes[0], std::byte{64});
}

class GgufWriterProperty : public testing::TestWithParam<std::uint64_t> {};

TEST_P(GgufWriterProperty, WhatIsWrittenIsReadAgainByteForByte) {
  Rng rng(GetParam());
  const TempFolder folder;
  GgufKeyWriter keys;
  keys.String("general.architecture", "llama");
  keys.U32("u", 7);
  keys.F32("f", 0.1f);
  keys.Bool("b", true);
  const std::vector<std::string> texts{"", "\xC4\xA0x", std::string(300, 'y')};
  keys.Strings("s", texts);
  const std::vector<std::int32_t> numbers{1, -2, 3};
  keys.I32s("i", numbers);
  std::vector<GgufSpec> specs;
  std::vector<std::string> contents;
  const auto count = rng.Below(6);
  for (std::uint32_t t = 0; t < count; ++t) {
    const GgmlType& type = GgmlTypes()[rng.Below(static_cast<std::uint32_t>(GgmlTypes().size()))];
    GgufSpec spec{.name = "t" + std::to_string(t), .type = &type};
    if (rng.Below(2) == 0) spec.shape.push_back(1 + rng.Below(5));
    spec.shape.push_back(Index{type.columns} * (1 + rng.Below(4)));
    contents.emplace_back(spec.DataBytes(), static_cast<char>('a' + t));
    specs.push_back(std::move(spec));
  }

  GgufWriter writer(folder / "m.gguf", keys, specs);
  for (std::uint32_t t = 0; t < count; ++t) {
    const std::size_t cut = rng.Below(static_cast<std::uint32_t>(contents[t].size()));
    const auto bytes = Bytes(contents[t]);
    if (cut > 0) writer.Write(specs[t].name, bytes.first(cut));
    writer.Write(specs[t].name, bytes.subspan(cut));
  }
  writer.Commit();
  const GgufFile file = GgufFile::Open(folder / "m.gguf");

  EXPECT_EQ(file.map()->bytes().size(), GgufWriter::FileBytes(keys, specs));
  EXPECT_EQ(file.keys().values().size(), keys.count());
  EXPECT_EQ(file.keys().Number("f"), static_cast<double>(0.1f));
  EXPECT_TRUE(file.keys().Boolean("b"));
  EXPECT_THAT(file.keys().Strings("s"), testing::ElementsAreArray(texts));
  EXPECT_THAT(file.keys().Integers("i"), ElementsAre(1, -2, 3));
  ASSERT_EQ(file.tensors().size(), count);
  for (std::uint32_t t = 0; t < count; ++t) {
    const GgufTensor& tensor = file.tensors()[t];
    EXPECT_EQ(tensor.name, specs[t].name);
    EXPECT_EQ(tensor.type, specs[t].type);
    EXPECT_EQ(tensor.shape, specs[t].shape);
    ASSERT_EQ(tensor.bytes.size(), contents[t].size());
    EXPECT_EQ(std::memcmp(tensor.bytes.data(), contents[t].data(), contents[t].size()), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, GgufWriterProperty,
                         testing::Range(std::uint64_t{1}, std::uint64_t{21}));

TEST(GgufWriter, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  const std::vector<GgufSpec> specs{{.name = "t", .type = FindGgmlType("F32"), .shape = {4}}};
  {
    GgufWriter writer(folder / "m.gguf", {}, specs);
    writer.Write("t", Bytes("0123"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgmlTypes, HaveNumbersAndNamesOfTheirOwn) {
  for (const GgmlType& type : GgmlTypes()) {
    EXPECT_EQ(FindGgmlType(type.id), &type);
    EXPECT_EQ(FindGgmlType(type.name), &type);
  }
  EXPECT_EQ(FindGgmlType("q4_0"), nullptr);
}

}  // namespace
}  // namespace lieq
