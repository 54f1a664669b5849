#include "lieq/io/printable.h"

#include <gtest/gtest.h>

#include <string>

namespace lieq {
namespace {

TEST(Printable, LeavesCharactersAndWritesTheRestAsBytes) {
  EXPECT_EQ(Printable("blk.0 \u00e9 \u4e2d \U0001f600"), "blk.0 \u00e9 \u4e2d \U0001f600");
  EXPECT_EQ(Printable(std::string("a\0b\x1b[m\x7f", 7)), "a\\x00b\\x1b[m\\x7f");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b");  // C1: begins a sequence for terminals
}

TEST(Printable, WritesWhatIsNoUtf8AsBytes) {
  EXPECT_EQ(Printable("W\xf8\x03"), "W\\xf8\\x03");
  EXPECT_EQ(Printable("\xc3"), "\\xc3");                             // cut short
  EXPECT_EQ(Printable("\xc3("), "\\xc3(");                           // no continuation
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(Printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
}

TEST(Printable, CutsBehindAWholeCharacter) {
  EXPECT_EQ(Printable("abcdef", 3), "abc...");
  EXPECT_EQ(Printable("ab\u00e9f", 3), "ab\u00e9...");
  EXPECT_EQ(Printable("abc", 3), "abc");
}

}  // namespace
}  // namespace lieq
