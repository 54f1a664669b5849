#include "lieq/text/text_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/text/gzip.h"
#include "tests/support/error_of.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

/// One gzip member.
std::string Zip(std::string_view text) {
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::runtime_error("deflateInit2");
  }
  std::string out(deflateBound(&stream, static_cast<uLong>(text.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  if (code != Z_STREAM_END) throw std::runtime_error("deflate");
  return out;
}

/// What has no repetitions to compress.
std::string Noise(std::size_t size) {
  std::string text(size, '\0');
  std::uint32_t state = 1;
  for (char& byte : text) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return text;
}

std::string Join(std::string_view rows, const std::vector<std::string>& fields = {}) {
  return JoinRows(rows, fields, "rows.jsonl");
}
std::string JoinError(std::string_view rows, const std::vector<std::string>& fields = {}) {
  return ErrorOf([&] { return Join(rows, fields); });
}

TEST(JoinRows, AreTheTextsWithABlankLineBetween) {
  EXPECT_EQ(Join(R"({"text": "one", "id": 1})"
                 "\n"
                 R"({"id": 2, "text": "two\nlines"})"
                 "\n"),
            "one\n\ntwo\nlines");
  EXPECT_EQ(Join(R"({"text": "no newline at the end"})"), "no newline at the end");
}

TEST(JoinRows, TakesTheFieldsThatAreNamedInThatOrder) {
  const std::string row = R"({"a": "A", "b": "B", "text": "T"})";
  EXPECT_EQ(Join(row, {"b", "a"}), "B\nA");
  EXPECT_EQ(Join(row), "T") << "text where the row has it";
}

TEST(JoinRows, KnowsTheLayoutsOfDollyAndHhRlhf) {
  EXPECT_EQ(Join(R"({"response": "R", "context": "C", "instruction": "I"})"), "I\nC\nR");
  EXPECT_EQ(Join(R"({"instruction": "I", "context": "", "response": "R"})"), "I\nR")
      << "an empty context leaves no empty line, which would part documents";
  EXPECT_EQ(Join(R"({"chosen": "good", "rejected": "bad"})"), "good");
}

TEST(JoinRows, PassesOverEmptyLinesCarriageReturnsAndAByteOrderMark) {
  EXPECT_EQ(Join("\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n\n  \t\n{\"text\": \"b\"}\r\n"), "a\n\nb");
  EXPECT_EQ(Join("{\"text\": \"\"}\n{\"text\": \"b\"}\n{\"text\": \"\"}"), "b")
      << "a row without text is no document";
}

TEST(JoinRows, NamesFileLineAndKey) {
  const std::string first = "{\"text\": \"a\"}\n\n";
  EXPECT_NE(JoinError(first + "{\"text\": \"b\"").find("rows.jsonl:3"), std::string::npos);
  EXPECT_NE(JoinError(first + "[1]").find("rows.jsonl:3"), std::string::npos);
  EXPECT_NE(JoinError(first + "{\"texts\": \"b\"}").find("rows.jsonl:3: /text"), std::string::npos);
  EXPECT_NE(JoinError(first + "{\"text\": 7}").find("rows.jsonl:3: /text"), std::string::npos);
  EXPECT_NE(JoinError(first + "{\"text\": null}").find("rows.jsonl:3: /text"), std::string::npos);
  EXPECT_NE(JoinError(first + "{\"text\": \"\xFF\"}").find("rows.jsonl:3"), std::string::npos);
  EXPECT_NE(JoinError(first, {"body"}).find("rows.jsonl:1: /body"), std::string::npos);
}

TEST(JoinRows, SaysWhichKeysThereAreWhereNoneIsKnown) {
  const std::string error = JoinError("{\"prompt\": \"a\", \"body\\u001b\": \"b\"}");
  EXPECT_NE(error.find("rows.jsonl:1"), std::string::npos) << error;
  EXPECT_NE(error.find("prompt"), std::string::npos) << error;
  EXPECT_NE(error.find("--text-field"), std::string::npos) << error;
  EXPECT_EQ(error.find('\x1b'), std::string::npos) << "a file must not drive the terminal";
}

TEST(JoinRows, RefusesAFileWithoutText) {
  for (const char* rows : {"", "\n \r\n", "{\"text\": \"\"}\n"}) {
    EXPECT_NE(JoinError(rows).find("no row holds any text"), std::string::npos) << rows;
  }
}

TEST(Gunzip, GivesBackWhatWasPacked) {
  for (const std::size_t size : {0u, 1u, 65535u, 65536u, 65537u, 300000u}) {
    const std::string noise = Noise(size);
    EXPECT_TRUE(IsGzip(Zip(noise)));
    EXPECT_EQ(Gunzip(Zip(noise), size, "x.gz"), noise) << size;
    EXPECT_EQ(Gunzip(Zip(std::string(size, 'a')), size, "x.gz"), std::string(size, 'a')) << size;
  }
}

TEST(Gunzip, ReadsMembersOneAfterAnotherAndPaddingBehindThem) {
  EXPECT_EQ(Gunzip(Zip("one ") + Zip("") + Zip("two") + std::string(512, '\0'), 100, "x.gz"),
            "one two");
}

TEST(Gunzip, RefusesWhatIsCutOffAtAnyByte) {
  const std::string packed = Zip(Noise(200));
  for (std::size_t size = 0; size < packed.size(); ++size) {
    EXPECT_NE(ErrorOf([&] { return Gunzip(packed.substr(0, size), 1000, "x.gz"); }).find("x.gz"),
              std::string::npos)
        << size;
  }
}

TEST(Gunzip, RefusesDamageAndWhatStandsBehind) {
  const std::string packed = Zip("a text that is packed");
  std::string damaged = packed;
  damaged[packed.size() - 6] = static_cast<char>(damaged[packed.size() - 6] ^ 1);  // check sum
  EXPECT_NE(ErrorOf([&] { return Gunzip(damaged, 1000, "x.gz"); }).find("damaged"),
            std::string::npos);
  EXPECT_NE(ErrorOf([&] { return Gunzip(packed + "more", 1000, "x.gz"); }).find("not gzip"),
            std::string::npos);
}

TEST(Gunzip, StopsABombAtItsLimit) {
  const std::string bomb = Zip(std::string(std::size_t{1} << 24, 'a'));
  ASSERT_LT(bomb.size(), 20000u);
  const std::string error = ErrorOf([&] { return Gunzip(bomb, 1 << 20, "bomb.gz"); });
  EXPECT_NE(error.find("at most 1048576 bytes"), std::string::npos) << error;
  EXPECT_EQ(Gunzip(Zip("exactly"), 7, "x.gz"), "exactly");
  EXPECT_NE(ErrorOf([&] { return Gunzip(Zip("exactly"), 6, "x.gz"); }), "");
}

TEST(ReadTextFile, TellsRowsByNameAndCompressionByContent) {
  const TempFolder folder;
  const std::string row = "{\"text\": \"words\"}\n";
  const std::vector<std::pair<std::string, std::string>> expected{
      {"a.txt", row},          {"a.txt.gz", row},     {"a.jsonl", "words"},
      {"a.jsonl.gz", "words"}, {"a.ndjson", "words"}, {"a.raw", row}};
  for (const auto& [name, text] : expected) {
    WriteText(folder / name, name.ends_with(".gz") ? Zip(row) : row);
    EXPECT_EQ(ReadTextFile(folder / name), text) << name;
  }
  WriteText(folder / "unpacked.jsonl.gz", row);
  EXPECT_EQ(ReadTextFile(folder / "unpacked.jsonl.gz"), "words") << "some tools unpack on the way";
}

TEST(ReadTextFile, ReadsTheSamplesAsTheyAre) {
  const std::filesystem::path data = std::string(LIEQ_SOURCE_DIR) + "/../shared/data";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << data << " is not there";

  const std::string dolly = ReadTextFile(data / "dolly.sample.jsonl");
  const std::string hh = ReadTextFile(data / "hh-rlhf.sample.jsonl.gz");

  EXPECT_TRUE(dolly.starts_with("Why is Citizen Kane considered the Best Film?\nThe American"));
  EXPECT_TRUE(hh.starts_with("\n\nHuman: what are some pranks with a pen i can do?"));
  for (const char* name : {"wikitext2.test.raw", "wikitext2.valid.tokens", "ptb.test.txt"}) {
    EXPECT_EQ(ReadTextFile(data / name), ReadText(data / name)) << name;
  }
}

}  // namespace
}  // namespace lieq
