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
  out.resize(stream.total_out);
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
  return JoinRows(rows, {.fields = fields}, "rows.jsonl").text;
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
  EXPECT_NE(JoinError(first + "{\"text\": 7}").find("rows.jsonl:3: /text"), std::string::npos);
  EXPECT_NE(JoinError(first + "{\"text\": \"\xFF\"}").find("rows.jsonl:3"), std::string::npos);
  EXPECT_NE(JoinError(first, {"body"}).find("rows.jsonl:1, where body is missing"),
            std::string::npos);
}

TEST(JoinRows, SaysWhichKeysThereAreWhereNoneIsKnown) {
  const std::string error = JoinError("{\"prompt\": \"a\", \"body\\u001b\": \"b\"}");
  EXPECT_NE(error.find("rows.jsonl:1"), std::string::npos) << error;
  EXPECT_NE(error.find("prompt"), std::string::npos) << error;
  EXPECT_NE(error.find("--text-field"), std::string::npos) << error;
  EXPECT_EQ(error.find('\x1b'), std::string::npos) << "a file must not drive the terminal";
}

TEST(JoinRows, LeavesOutRowsWithoutTextAndCountsThem) {
  const FileText joined = JoinRows(
      "{\"text\": null}\n{\"text\": \"b\"}\n{\"id\": 3}\n{\"text\": \"\"}\n{\"text\": \"c\"}\n", {},
      "folder/rows.jsonl");

  EXPECT_EQ(joined.text, "b\n\nc");
  ASSERT_EQ(joined.notes.size(), 1);
  EXPECT_EQ(
      joined.notes[0].text,
      "rows.jsonl: 3 of 5 rows without text are left out (the first: rows.jsonl:1, where text "
      "is null)");
  EXPECT_TRUE(joined.notes[0].warning);
}

TEST(JoinRows, ReadsARowWithoutTheFieldsThatItLacks) {
  const FileText joined = JoinRows(R"({"instruction": "I", "context": "C", "response": "R"})"
                                   "\n"
                                   R"({"instruction": "J", "context": null, "response": "S"})",
                                   {}, "rows.jsonl");

  EXPECT_EQ(joined.text, "I\nC\nR\n\nJ\nS");
  ASSERT_EQ(joined.notes.size(), 1);
  EXPECT_NE(joined.notes[0].text.find("1 of 2 rows lack a field"), std::string::npos);
  EXPECT_NE(joined.notes[0].text.find("rows.jsonl:2, where context is null"), std::string::npos);
}

TEST(JoinRows, TranslatesLineEndsWithinTexts) {
  const std::string rows = "{\"text\": \"a\\r\\nb\\rc\"}\r\n{\"text\": \"d\"}\r\n";
  const FileText joined = JoinRows(rows, {}, "rows.jsonl");
  EXPECT_EQ(joined.text, "a\nb\nc\n\nd");
  ASSERT_EQ(joined.notes.size(), 1);
  EXPECT_EQ(joined.notes[0].text,
            "rows.jsonl: 2 line ends of CRLF or CR are read as LF (--line-ends keep leaves them)");

  const FileText kept = JoinRows(rows, {.line_ends = LineEnds::kKeep}, "rows.jsonl");
  EXPECT_EQ(kept.text, "a\r\nb\rc\n\nd");
  ASSERT_EQ(kept.notes.size(), 1);
  EXPECT_EQ(kept.notes[0].text,
            "rows.jsonl: 2 line ends of CRLF or CR are kept (--line-ends lf reads them as LF)");
}

TEST(JoinRows, SaysHowChatsBecomeTexts) {
  const std::string turns = R"([{"role": "user", "content": "hi"}])";
  const std::string shared = R"([{"from": "human", "value": "hi"}])";
  for (const auto& [key, chat] : std::vector<std::pair<std::string, std::string>>{
           {"messages", turns}, {"conversations", shared}, {"chosen", turns}}) {
    const Problem problem =
        ProblemOf([&] { return Join("{\"id\": 1, \"" + key + "\": " + chat + "}\n"); });
    EXPECT_NE(problem.what.find("chat"), std::string::npos) << key;
    EXPECT_NE(problem.found.find(key), std::string::npos) << problem.found;
    EXPECT_NE(problem.hint.find("apply_chat_template"), std::string::npos) << problem.hint;
    EXPECT_NE(problem.hint.find("json.loads(r)['" + key + "']"), std::string::npos);
    EXPECT_EQ(problem.hint.find("'gpt'") != std::string::npos, chat == shared);
  }
  EXPECT_NE(
      ProblemOf([&] { return Join("{\"m\": " + turns + "}", {"m"}); }).hint.find("apply_chat"),
      std::string::npos)
      << "named by the user";
  EXPECT_EQ(Join("{\"text\": \"T\", \"messages\": " + turns + "}"), "T");
}

FileText Array(std::string_view content, const TextOptions& options = {}) {
  return JoinArray(content, options, "folder/texts.json");
}

TEST(JoinArray, ReadsTextsAndObjects) {
  EXPECT_EQ(Array(R"(["one", "two"])").text, "one\n\ntwo");
  EXPECT_EQ(Array("[\n {\"text\": \"one\"},\n {\"text\": \"two\"}\n]\n").text, "one\n\ntwo");
  EXPECT_EQ(Array(R"([{"a": "A", "b": "B"}])", {.fields = {"b", "a"}}).text, "B\nA");
  const FileText joined = Array(R"(["one\r\n", null, "", "two"])");
  EXPECT_EQ(joined.text, "one\n\n\ntwo");
  ASSERT_EQ(joined.notes.size(), 2);
  EXPECT_EQ(joined.notes[0].text,
            "texts.json: 2 of 4 rows without text are left out (the first: texts.json: /1, where "
            "null stands)");
}

TEST(JoinArray, ReadsRowsOneALineAsSuchWithAWord) {
  const FileText joined = Array("{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
  EXPECT_EQ(joined.text, "one\n\ntwo");
  ASSERT_EQ(joined.notes.size(), 1);
  EXPECT_NE(joined.notes[0].text.find("rows of JSON, one a line"), std::string::npos);
}

TEST(JoinArray, RefusesWhatSaysNotWhatItsTextIs) {
  const Problem object =
      ProblemOf([&] { return Array(R"({"version": 1, "data": [{"text": "a"}]})"); });
  EXPECT_EQ(object.where, "folder/texts.json");
  EXPECT_NE(object.found.find("data, version"), std::string::npos) << object.found;
  EXPECT_NE(object.hint.find("jq -c '.data[]' folder/texts.json"), std::string::npos);
  EXPECT_NE(ProblemOf([&] { return Array(R"({"text": "a"})"); }).what, "");
  EXPECT_NE(ProblemOf([&] { return Array("\"a\""); }).what.find("not an array"), std::string::npos);
  EXPECT_NE(ErrorOf([&] { return Array("[1, 2]"); }).find("texts.json: /0"), std::string::npos);
  EXPECT_NE(ErrorOf([&] { return Array("[\"a\", "); }).find("not valid JSON"), std::string::npos);
  EXPECT_NE(ErrorOf([&] {
              return Array(R"([[{"role": "user", "content": "hi"}]])");
            }).find("apply_chat_template"),
            std::string::npos);
  const Problem turn = ProblemOf([&] { return Array(R"([{"role": "user", "content": "hi"}])"); });
  EXPECT_NE(turn.expected.find("messages"), std::string::npos) << turn.expected;
  for (const char* empty : {"", " \n", "[]", "[null]", "[\"\"]"}) {
    EXPECT_NE(ErrorOf([&] { return Array(empty); }).find("no row holds any text"),
              std::string::npos)
        << empty;
  }
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
      {"a.txt", row},        {"a.txt.gz", row}, {"a.jsonl", "words"}, {"a.jsonl.gz", "words"},
      {"a.ndjson", "words"}, {"a.raw", row},    {"a.json", "words"},  {"a.json.gz", "words"}};
  for (const auto& [name, text] : expected) {
    const std::string content =
        name.find(".json") != std::string::npos && name.find(".jsonl") == std::string::npos
            ? "[" + row + "]"
            : row;
    WriteText(folder / name, name.ends_with(".gz") ? Zip(content) : content);
    EXPECT_EQ(ReadTextFile(folder / name).text, text) << name;
  }
  WriteText(folder / "unpacked.jsonl.gz", row);
  EXPECT_EQ(ReadTextFile(folder / "unpacked.jsonl.gz").text, "words")
      << "some tools unpack on the way";
}

TEST(ReadTextFile, TranslatesLineEndsUnlessTheyAreKept) {
  const TempFolder folder;
  WriteText(folder / "t.txt", "a\r\nb\rc\nd");
  const FileText read = ReadTextFile(folder / "t.txt");
  EXPECT_EQ(read.text, "a\nb\nc\nd");
  ASSERT_EQ(read.notes.size(), 1);
  EXPECT_TRUE(read.notes[0].text.starts_with("t.txt: 2 line ends of CRLF or CR"));
  const FileText kept = ReadTextFile(folder / "t.txt", {.line_ends = LineEnds::kKeep});
  EXPECT_EQ(kept.text, "a\r\nb\rc\nd");
  ASSERT_EQ(kept.notes.size(), 1);
  EXPECT_TRUE(kept.notes[0].text.starts_with("t.txt: 2 line ends of CRLF or CR are kept"));
}

TEST(ReadTextFile, RefusesFilesWithoutTextByName) {
  const TempFolder folder;
  const std::vector<std::pair<std::string, std::string>> files{
      {"a.txt", ""},    {"b.txt", " \n\t\r\n"}, {"c.txt", "\xEF\xBB\xBF"},
      {"d.jsonl", ""},  {"e.json", "[]"},       {"f.jsonl", "{\"text\": \" \"}"},
      {"g.gz", Zip("")}};
  for (const auto& [name, content] : files) {
    WriteText(folder / name, content);
    const std::string error = ErrorOf([&] { return ReadTextFile(folder / name); });
    EXPECT_NE(error.find(name), std::string::npos) << name;
    EXPECT_NE(error.find("text"), std::string::npos) << name << error;
  }
  EXPECT_EQ(ReadPlainText(folder / "a.txt").text, "") << "a prompt may be empty";
}

TEST(ReadTextFile, LooksAtTheBytesOfEveryKindOfFile) {
  const TempFolder folder;
  const std::string wide = std::string("\xFF\xFE") + std::string("h\0i\0\n\0", 6);
  for (const std::string name : {"a.txt", "a.jsonl", "a.json", "a.txt.gz", "a.jsonl.gz"}) {
    WriteText(folder / name, name.ends_with(".gz") ? Zip(wide) : wide);
    const std::string error = ErrorOf([&] { return ReadTextFile(folder / name); });
    EXPECT_NE(error.find("UTF-16"), std::string::npos) << name << error;
    EXPECT_NE(ErrorOf([&] { return ReadPlainText(folder / name); }).find("UTF-16"),
              std::string::npos);
  }
  WriteText(folder / "twice.gz", Zip(Zip("text")));
  EXPECT_NE(ErrorOf([&] { return ReadTextFile(folder / "twice.gz"); }).find("gzip within gzip"),
            std::string::npos);
  std::string rows;
  for (int i = 0; i < 200; ++i) rows += "{\"text\": \"a row like the others\"}\n";
  rows += "{\"text\": \"b\xFF\"}\n";
  WriteText(folder / "few.jsonl", rows);
  const FileText repaired = ReadTextFile(folder / "few.jsonl");
  EXPECT_TRUE(repaired.text.ends_with("b\xEF\xBF\xBD"));
  ASSERT_EQ(repaired.notes.size(), 1);
  EXPECT_NE(repaired.notes[0].text.find("in line 201"), std::string::npos);
}

TEST(ReadTextFile, ReadsTheSamplesAsTheyAre) {
  const std::filesystem::path data = std::string(LIEQ_SOURCE_DIR) + "/../shared/data";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << data << " is not there";

  const std::string dolly = ReadTextFile(data / "dolly.sample.jsonl").text;
  const std::string hh = ReadTextFile(data / "hh-rlhf.sample.jsonl.gz").text;

  EXPECT_TRUE(dolly.starts_with("Why is Citizen Kane considered the Best Film?\nThe American"));
  EXPECT_TRUE(hh.starts_with("\n\nHuman: what are some pranks with a pen i can do?"));
  for (const char* name : {"wikitext2.test.raw", "wikitext2.valid.tokens", "ptb.test.txt"}) {
    EXPECT_EQ(ReadTextFile(data / name).text, ReadText(data / name)) << name;
  }
}

}  // namespace
}  // namespace lieq
