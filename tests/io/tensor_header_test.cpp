#include "lieq/io/tensor_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_tensor_file.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string ErrorOfFile(const std::string& file) {
  return ErrorOf([&] { return ParseTensorHeader(Bytes(file), "m.safetensors"); });
}
std::string ErrorOfHeader(std::string_view header, std::size_t data_bytes) {
  return ErrorOfFile(RawTensorFile(header, data_bytes));
}

TEST(ParseTensorHeader, GivesNameTypeShapeBytesAndMetadataInOrderOfData) {
  const std::string file = RawTensorFile(
      R"({"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},"__metadata__":{"format":"pt"},)"
      R"("a":{"data_offsets":[0,8],"shape":[],"dtype":"I64"}}   )",
      12);

  const TensorHeader header = ParseTensorHeader(Bytes(file), "m.safetensors");

  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].dtype, DType::kI64);
  EXPECT_THAT(header.tensors[0].shape, IsEmpty());
  EXPECT_EQ(header.tensors[1].name, "b");
  EXPECT_THAT(header.tensors[1].shape, ElementsAre(2, 1));
  EXPECT_EQ(header.tensors[1].bytes.size(), 4u);
  EXPECT_EQ(header.tensors[1].bytes[0], std::byte{8});
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(ParseTensorHeader, SaysWhatDoesNotFitWithBothSizes) {
  const std::string message = ErrorOfHeader(
      R"({"model.up":{"dtype":"BF16","shape":[3072,3072],"data_offsets":[1024,18875390]}})", 16);

  EXPECT_EQ(message,
            "m.safetensors: tensor 'model.up': data does not fill the shape\n"
            "  expected: 18874368 bytes (BF16 [3072, 3072])\n"
            "  found:    18874366 bytes (offsets 1024 .. 18875390)");
}

struct HostileHeader {
  std::string_view label;
  std::string_view header;
  std::size_t data_bytes;
  std::string_view part;  // of the message
};

const HostileHeader kHostileHeaders[] = {
    {"Empty", "", 0, "does not begin with '{'"},
    {"Array", "[]", 0, "does not begin with '{'"},
    {"LeadingSpace", " {}", 0, "does not begin with '{'"},
    {"BrokenJson", R"({"a":{"dtype":"U8")", 0, "header is not valid JSON"},
    {"TrailingGarbage", "{} x", 0, "header is not valid JSON"},
    {"NotUtf8", "{\"\xC3\x28\":{}}", 0, "UTF-8"},
    {"TensorIsNumber", R"({"a":1})", 0, "wrong type of value in the header"},
    {"TensorIsNull", R"({"a":null})", 0, "wrong type of value in the header"},
    {"TensorIsEmpty", R"({"a":{}})", 0, "incomplete description"},
    {"NoShape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "no shape"},
    {"UnknownKey", R"({"a":{"dtype":"U8","strides":[1]}})", 1, "strides"},
    {"DtypeUnknown", R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1, "F8_E4M3"},
    {"DtypeNumber", R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype: a string"},
    {"ShapeString", R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1, "shape: an"},
    {"ShapeFloat", R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "1.0"},
    {"ShapeNegative", R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "-1"},
    {"ShapeNested", R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "an array"},
    {"ShapeZero", R"({"a":{"dtype":"U8","shape":[4,0],"data_offsets":[0,0]}})", 0,
     "extent of zero"},
    {"ShapeManyExtents", R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
     1, "too many extents"},
    {"ShapeOverflow",
     R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
     "shape is too large"},
    {"ShapeBeyondSigned",
     R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}})",
     0, "shape is too large"},
    {"ShapeBeyond64Bits",
     R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,1]}})", 1,
     "wrong type of value"},
    {"OffsetsOne", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}})", 1, "1 numbers"},
    {"OffsetsThree", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1,
     "data_offsets: [begin, end]"},
    {"OffsetsReversed", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
     "ends before it begins"},
    {"OffsetsOutside", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3,
     "data lies outside the file"},
    {"OffsetsHuge",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}})",
     4, "data lies outside the file"},
    {"Hole",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
     3, "unused bytes before the data"},
    {"HoleInFront", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
     "unused bytes before the data"},
    {"Overlap",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
     3, "overlaps another tensor's"},
    {"SameRange",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
     2, "overlaps another tensor's"},
    {"RestAfterTheLast", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2,
     "unused bytes after the last tensor"},
    {"RestWithoutTensors", "{}", 1, "unused bytes after the last tensor"},
    {"NameTwice",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "the name is given twice"},
    {"KeyTwice", R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1,
     "the key is given twice"},
    {"MetadataTwice", R"({"__metadata__":{},"__metadata__":{}})", 0, "the name is given twice"},
    {"MetadataKeyTwice", R"({"__metadata__":{"a":"1","a":"2"}})", 0, "the key is given twice"},
    {"MetadataNumber", R"({"__metadata__":{"a":1}})", 0, "__metadata__: an object of strings"},
    {"MetadataArray", R"({"__metadata__":[]})", 0, "__metadata__: an object of strings"},
};

class HostileHeaderTest : public testing::TestWithParam<HostileHeader> {};

TEST_P(HostileHeaderTest, IsAnErrorThatSaysWhy) {
  const HostileHeader& hostile = GetParam();

  EXPECT_THAT(ErrorOfHeader(hostile.header, hostile.data_bytes),
              AllOf(HasSubstr("m.safetensors"), HasSubstr(std::string(hostile.part))));
}
INSTANTIATE_TEST_SUITE_P(All, HostileHeaderTest, testing::ValuesIn(kHostileHeaders),
                         [](const auto& each) { return std::string(each.param.label); });

TEST(ParseTensorHeader, RefusesWhatFollowsANulByteInTheHeader) {
  EXPECT_THAT(ErrorOfHeader(std::string_view("{}\0{}", 5), 0), HasSubstr("NUL byte"));
}

TEST(ParseTensorHeader, RefusesHeaderLengthsBeyondTheFileAndBeyondTheCap) {
  std::string file = RawTensorFile("{}", 0);

  const std::uint64_t beyond_file = 3;
  std::memcpy(file.data(), &beyond_file, 8);
  EXPECT_THAT(ErrorOfFile(file), AllOf(HasSubstr("header does not fit"), HasSubstr("3 bytes")));

  for (const std::uint64_t beyond_cap : {std::uint64_t{100'000'001}, ~std::uint64_t{0}}) {
    std::memcpy(file.data(), &beyond_cap, 8);
    EXPECT_THAT(ErrorOfFile(file), HasSubstr("not a safetensors file"));
  }
}

TEST(ParseTensorHeader, RefusesFilesShorterThanALength) {
  for (std::size_t size = 0; size < 8; ++size) {
    EXPECT_THAT(ErrorOfFile(std::string(size, '\0')), HasSubstr("not a safetensors file"));
  }
}

TEST(ParseTensorHeader, TellsAGitLfsPointer) {
  EXPECT_THAT(ErrorOfFile("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
              HasSubstr("git lfs pull"));
}

TEST(ParseTensorHeader, DoesNotLetNamesDriveTheTerminal) {
  EXPECT_THAT(ErrorOfHeader(R"({"a\u001b[2J":{"dtype":"X","shape":[1],"data_offsets":[0,1]}})", 1),
              AllOf(HasSubstr("a\\x1b[2J"), Not(HasSubstr("\x1B"))));
}

TEST(ParseTensorHeader, AcceptsAFileWithoutTensors) {
  EXPECT_THAT(ParseTensorHeader(Bytes(RawTensorFile("{}", 0)), "x").tensors, IsEmpty());
  EXPECT_THAT(ParseTensorHeader(Bytes(RawTensorFile(R"({"__metadata__":null})", 0)), "x").metadata,
              IsEmpty());
}

class MutatedHeader : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(MutatedHeader, IsReadOrRefusedAndNeverMore) {
  const std::string good = RawTensorFile(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})",
      32);
  Rng rng(GetParam());
  for (int round = 0; round < 200; ++round) {
    std::string file = good;
    for (std::uint32_t i = 0; i <= rng.Below(3); ++i) {
      const std::size_t at = rng.Below(static_cast<std::uint32_t>(file.size()));
      file[at] = static_cast<char>(rng.Below(2) == 0 ? rng.Below(256) : '0' + rng.Below(10));
    }
    try {
      const TensorHeader header = ParseTensorHeader(Bytes(file), "x");
      std::size_t covered = 0;
      for (const TensorRef& tensor : header.tensors) covered += tensor.bytes.size();
      EXPECT_LE(covered, file.size());
    } catch (const Error& error) {
      EXPECT_STRNE(error.what(), "");
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, MutatedHeader, testing::Range(std::uint64_t{0}, std::uint64_t{20}));

}  // namespace
}  // namespace lieq
