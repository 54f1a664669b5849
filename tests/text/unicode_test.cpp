// UTF-8 repair, normalization and the tables of the reference's Unicode. Golden ids over every code
// point are in tokenizer_golden_test.cpp; these are the rules by themselves.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>

#include "lieq/text/normalizer.h"
#include "lieq/text/reference_unicode.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

using namespace std::string_view_literals;

std::string Repaired(std::string_view text) {
  std::string storage;
  return std::string(ToValidUtf8(text, storage));
}

std::string Nfc(std::string_view text) {
  std::string storage;
  return std::string(ToNfc(text, storage));
}

std::string StoodIn(std::string_view text) {
  std::string storage;
  return std::string(WithStandIns(text, storage));
}

TEST(Utf8, LeavesValidTextInPlace) {
  std::string storage;
  for (const std::string_view text : {""sv, "eight bytes and more of ASCII"sv, "é中\U0001F600"sv,
                                      "\0a\0"sv, "\uFFFF\U0010FFFF"sv, "\uD7FF\uE000"sv}) {
    EXPECT_EQ(ToValidUtf8(text, storage).data(), text.data());
  }
}

// The examples of Unicode 15, section 3.9, and of the WHATWG decoder.
TEST(Utf8, ReplacesEachMaximalPartOfACharacter) {
  EXPECT_EQ(Repaired("a\x80z"), "a\uFFFDz");
  EXPECT_EQ(Repaired("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(Repaired("\xE0\x9F\xBF"), "\uFFFD\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(Repaired("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(Repaired("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  EXPECT_EQ(Repaired("\xE4\xB8"), "\uFFFD");                            // cut off
  EXPECT_EQ(Repaired("\xF0\x9F\x98x"), "\uFFFDx");                      // cut off
  EXPECT_EQ(Repaired("\xF1\x80\x80\xE1\x80\xC2\x62"),
            "\uFFFD\uFFFD\uFFFD"
            "b");
  EXPECT_EQ(Repaired("valid, valid \xFF and valid again"), "valid, valid \uFFFD and valid again");
}

TEST(Utf8, ReadsWhatItWrites) {
  for (char32_t c = 0; c < 0x110000; c = c == 0xD7FF ? 0xE000 : c + 1) {
    std::string text;
    AppendUtf8(text, c);
    const CodePoint read = CodePointAt(text, 0);
    ASSERT_EQ(read.value, c);
    ASSERT_EQ(read.bytes, text.size());
  }
}

TEST(Nfc, LeavesTextInThatFormInPlace) {
  std::string storage;
  for (const std::string_view text :
       {""sv, "plain"sv, "é ÀÉ"sv, "中文 かな"sv, "한국어"sv, "русский"sv, "\U0001F600"sv}) {
    EXPECT_EQ(ToNfc(text, storage).data(), text.data());
  }
}

TEST(Nfc, ComposesOrdersAndReplaces) {
  EXPECT_EQ(Nfc("cafe\u0301 e\u0301"), "café é");
  EXPECT_EQ(Nfc("e\u0301\u0327"), "\u0229\u0301");  // the cedilla comes first, and composes
  EXPECT_EQ(Nfc("\u212B \u2126"), "Å Ω");           // one character for another
  EXPECT_EQ(Nfc("\uF900"), "\u8C48");               // a compatibility ideograph
  EXPECT_EQ(Nfc("\u0958"), "\u0915\u093C");         // excluded from composition
  EXPECT_EQ(Nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(Nfc("\uD558\u11AB"), "한");  // a syllable takes a final
  EXPECT_EQ(Nfc("\u0301a"), "\u0301a");  // nothing before it
  EXPECT_EQ(Nfc("ế\u0323"), "ệ\u0301");
  EXPECT_EQ(Nfc("x\u0344y"), "ẍ\u0301y");
}

TEST(Nfc, LeavesAloneWhatTheReferenceDoesNotKnow) {
  EXPECT_EQ(Nfc("a\u08D3\u0327"), "a\u08D3\u0327");                    // Unicode 11
  EXPECT_EQ(Nfc("\U00011935\U00011930"), "\U00011935\U00011930");      // Unicode 13
  EXPECT_EQ(Nfc("\u0897\u0301\u0327e\u0301"), "\u0897\u0327\u0301é");  // Unicode 16
}

TEST(Nfc, SortsAMegabyteOfMarksInTime) {
  std::string text = "a";
  while (text.size() < 1 << 20) text += "\u0315\u0327";
  const auto begin = std::chrono::steady_clock::now();

  const std::string normalized = Nfc(text);

  EXPECT_EQ(normalized.size(), text.size());
  EXPECT_EQ(normalized.substr(0, 5), "a\u0327\u0327");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(StandIns, KeepOffsetsAndTouchNothingElse) {
  std::string storage;
  const std::string_view plain = "plain, é, 中, \U0001F600";
  EXPECT_EQ(WithStandIns(plain, storage).data(), plain.data());

  const std::string_view young = "a\u180Eb \U0001FAE8 \U00011DE0 \U00010D40!";
  const std::string replaced = StoodIn(young);
  EXPECT_EQ(replaced.size(), young.size());
  EXPECT_EQ(replaced.substr(0, 5), "a\u200Bb");
  EXPECT_EQ(replaced.back(), '!');
  EXPECT_EQ(StoodIn(replaced), replaced);  // a stand-in needs none
}

TEST(WithoutSpace, TakesAwayWhatPythonDoes) {
  // " a\u00a0b" between characters of str.isspace()
  const std::string text = "\u3000\t\x1c\u2009 a\u00a0b\u0085\u2028\n\u00a0";
  EXPECT_EQ(WithoutSpaceAround(text), "a\u00a0b");
  EXPECT_EQ(WithoutSpaceBehind(text), "\u3000\t\x1c\u2009 a\u00a0b");
  EXPECT_EQ(WithoutSpaceAround(" \u2003\n"), "");
  EXPECT_EQ(WithoutSpaceBehind("a\u200b"), "a\u200b");  // no white space to Python
  EXPECT_EQ(WithoutSpaceAround(""), "");
}

}  // namespace
}  // namespace lieq
