#include "lieq/text/clean_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/text/foreign.h"
#include "lieq/text/utf8.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Cleaned {
  std::string text;
  std::vector<TextNote> notes;
};

Cleaned Clean(std::string bytes) {
  Cleaned cleaned;
  cleaned.text = CleanText(std::move(bytes), "folder/t.txt", cleaned.notes);
  return cleaned;
}
Problem Refusal(const std::string& bytes) {
  return ProblemOf([&] { return Clean(bytes).text; });
}

/// A text of some kilobytes with letters beyond ASCII.
std::string Prose() {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "Zwölf Boxkämpfer jagen Viktor, said the 東京 fox.\n";
  return text;
}

/// UTF-16 or UTF-32 of a text.
std::string Wide(std::string_view text, int bytes, bool little, bool mark) {
  std::string out;
  const auto unit = [&](char32_t value) {
    for (int i = 0; i < bytes; ++i) {
      out += static_cast<char>(value >> (8 * (little ? i : bytes - 1 - i)) & 0xFF);
    }
  };
  if (mark) unit(0xFEFF);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = CodePointAt(text, at);
    at += point.bytes;
    unit(point.value);  // none beyond U+FFFF
  }
  return out;
}

TEST(CleanText, LeavesUtf8AsItIsWithoutAWord) {
  for (const std::string& text : {""s, "a"s, Prose(), "\xEF\xBF\xBD"s, "line\r\nends\r"s}) {
    const Cleaned cleaned = Clean(text);
    EXPECT_EQ(cleaned.text, text);
    EXPECT_THAT(cleaned.notes, IsEmpty());
  }
}

TEST(CleanText, DropsAByteOrderMarkWithAWord) {
  const Cleaned cleaned = Clean("\xEF\xBB\xBF" + Prose());

  EXPECT_EQ(cleaned.text, Prose());
  ASSERT_EQ(cleaned.notes.size(), 1);
  EXPECT_THAT(cleaned.notes[0].text, StartsWith("t.txt: the byte order mark"));
  EXPECT_FALSE(cleaned.notes[0].warning);
}

TEST(CleanText, RepairsAFewBytesOfALargeTextAndSaysWhere) {
  std::string bytes = Prose();
  bytes[bytes.find("Viktor", 200)] = '\xFF';
  std::string expected = bytes;
  expected.replace(expected.find('\xFF'), 1, "\xEF\xBF\xBD");

  const Cleaned cleaned = Clean(bytes);

  EXPECT_EQ(cleaned.text, expected);
  ASSERT_EQ(cleaned.notes.size(), 1);
  EXPECT_TRUE(cleaned.notes[0].warning);
  EXPECT_THAT(cleaned.notes[0].text, HasSubstr("1 byte that is no UTF-8"));
  EXPECT_THAT(cleaned.notes[0].text, HasSubstr(" % of it"));
  EXPECT_THAT(cleaned.notes[0].text, HasSubstr("(FF), in line 5"));
}

TEST(CleanText, TakesACharacterThatTheEndCutsOffForNoMoreThanThat) {
  const std::string short_text = "Zwölf 東\xE4\xBA";
  const Cleaned cleaned = Clean(short_text);
  EXPECT_EQ(cleaned.text, "Zwölf 東\xEF\xBF\xBD");
  ASSERT_EQ(cleaned.notes.size(), 1);
  EXPECT_TRUE(cleaned.notes[0].warning);
}

TEST(CleanText, KeepsAFewZerosAndWarns) {
  std::string bytes = Prose();
  bytes[bytes.find("said")] = '\0';
  const Cleaned cleaned = Clean(bytes);
  EXPECT_EQ(cleaned.text, bytes);
  ASSERT_EQ(cleaned.notes.size(), 1);
  EXPECT_THAT(cleaned.notes[0].text, HasSubstr("1 zero byte"));
  EXPECT_TRUE(cleaned.notes[0].warning);
}

TEST(CleanText, RefusesMoreThanAFewWithTheFirstPlace) {
  std::string latin1;
  for (int i = 0; i < 50; ++i)
    latin1 += "caf\xE9 au lait, na\xEFve and d\xE9j\xE0 vu all day long\n";
  const Problem problem = Refusal(latin1);
  EXPECT_EQ(problem.what, "not UTF-8 text");
  EXPECT_EQ(problem.where, "folder/t.txt");
  EXPECT_THAT(problem.found, HasSubstr("Windows-1252 or Latin-1"));
  EXPECT_THAT(problem.found, HasSubstr("byte 3 (E9), in line 1"));
  EXPECT_THAT(problem.hint, StartsWith("iconv -f WINDOWS-1252 -t UTF-8 folder/t.txt"));

  const std::string cyrillic =
      "\xCF\xF0\xE8\xE2\xE5\xF2, \xEC\xE8\xF0! \xCA\xE0\xEA \xE4\xE5\xEB\xE0?\n";
  EXPECT_THAT(Refusal(cyrillic).found, HasSubstr("another encoding"));
  std::string zeros = Prose();
  for (std::size_t i = 0; i < zeros.size(); i += 97) zeros[i] = '\0';
  EXPECT_NE(Refusal(zeros).what, "");
}

TEST(CleanText, TellsUtf16AndUtf32WithAndWithoutAMark) {
  for (const int bytes : {2, 4}) {
    for (const bool little : {true, false}) {
      for (const bool mark : {true, false}) {
        const Problem problem = Refusal(Wide(Prose(), bytes, little, mark));
        const std::string name = bytes == 2 ? "UTF-16" : "UTF-32";
        EXPECT_THAT(problem.found, StartsWith(name)) << little << mark;
        EXPECT_THAT(problem.hint, StartsWith("iconv -f " + name +
                                             (mark     ? " "
                                              : little ? "LE "
                                                       : "BE ")));
      }
    }
  }
}

TEST(CleanText, NamesFilesOfOtherFormatsByWhatTheyBeginWith) {
  const std::vector<std::pair<std::string, std::string>> files{
      {"PK\x03\x04", "zip"},
      {"7z\xBC\xAF\x27\x1C", "7z"},
      {"\xFD"
       "7zXZ\0"s,
       "xz"},
      {"\x28\xB5\x2F\xFD", "Zstandard"},
      {"BZh91AY&SY", "bzip2"},
      {"\x04\x22\x4D\x18", "LZ4"},
      {"\x1F\x8B\x08", "gzip"},
      {"PAR1", "Parquet"},
      {"ARROW1\0\0"s, "Arrow"},
      {"\xFF\xFF\xFF\xFF\x88\x01\0\0"s, "Arrow"},
      {"SQLite format 3\0"s, "SQLite"},
      {"\x80\x04\x95", "pickle"},
      {"\x93NUMPY\x01", "NumPy"},
      {"GGUF\x03\0\0\0"s, "GGUF"},
      {"\x30\0\0\0\0\0\0\0{\"a\":{}}"s, "safetensors"},
      {"\xD0\xCF\x11\xE0", "Office"},
      {"\x89PNG\r\n", "PNG"},
      {std::string(257, 'a') + "ustar\0"s, "tar"}};
  for (const auto& [head, name] : files) {
    // Such files may hold text in the main, so that their share of other bytes says nothing.
    const Problem problem = Refusal(head + "\xFF\0"s + Prose());
    EXPECT_EQ(problem.what, "not UTF-8 text") << name;
    EXPECT_THAT(problem.found, HasSubstr(name));
    EXPECT_NE(problem.hint, "") << name;
  }
  for (const auto& [text, name] : std::vector<std::pair<std::string, std::string>>{
           {"%PDF-1.7\nall of it ASCII", "PDF"},
           {"{\\rtf1\\ansi", "RTF"},
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"}}) {
    EXPECT_THAT(Refusal(text).found, HasSubstr(name));
  }
  for (const std::string text : {"PAR1 is a rule", "GGUF files hold weights", "BZh", "ORC"}) {
    EXPECT_EQ(Clean(text).text, text) << "prose that begins like one";
  }
}

TEST(CleanText, QuotesThePathInTheCommandThatItGives) {
  std::vector<TextNote> notes;
  const Problem problem = ProblemOf([&] {
    return CleanText(
        "\xFF\xFE"
        "a\0"s,
        "a b's.txt", notes);
  });
  EXPECT_THAT(problem.hint, HasSubstr("'a b'\\''s.txt'"));
}

TEST(CleanText, GivesTheTextOfTheTokenizerOrRefusesForAnyBytes) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed, 1);
    std::string bytes(static_cast<std::size_t>(3000 * rng.Uniform()), 'a');
    const double share = 0.004 * rng.Uniform();
    std::size_t strange = 0;
    for (char& byte : bytes) {
      if (rng.Uniform() >= share) continue;
      byte = static_cast<char>(0x80 + static_cast<int>(128 * rng.Uniform()));
      ++strange;
    }
    Cleaned cleaned;
    const bool refused = ErrorOf([&] { return (cleaned = Clean(bytes)).text; }) != "";
    if (refused) {
      EXPECT_GT(strange * kBytesPerFault, bytes.size()) << "seed " << seed;
      continue;
    }
    std::string repaired;
    EXPECT_EQ(cleaned.text, ToValidUtf8(bytes, repaired)) << "seed " << seed;
    EXPECT_EQ(cleaned.notes.empty(), FindFaults(bytes).bytes == 0) << "seed " << seed;
  }
}

/// As Python's io.IncrementalNewlineDecoder does it, one character at a time.
std::string Universal(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && i > 0 && text[i - 1] == '\r') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  return out;
}

TEST(ToLf, IsPythonsUniversalNewlines) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed, 2);
    std::string text(static_cast<std::size_t>(12 * rng.Uniform()), 'a');
    for (char& c : text) c = "ab\r\r\n"[static_cast<int>(5 * rng.Uniform())];
    std::string changed = text;

    const std::size_t count = ToLf(changed);

    EXPECT_EQ(changed, Universal(text)) << "seed " << seed;
    EXPECT_EQ(count, static_cast<std::size_t>(std::ranges::count(text, '\r'))) << "seed " << seed;
    EXPECT_EQ(ToLf(changed), 0) << "seed " << seed;
  }
}

TEST(Grouped, PutsCommasBetweenThousands) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(6108), "6,108");
  EXPECT_EQ(Grouped(1234567), "1,234,567");
}

}  // namespace
}  // namespace lieq
