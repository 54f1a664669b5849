#include "lieq/text/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<TokenId> Counting(std::size_t count) {
  std::vector<TokenId> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(Windows, AreCutFromTheStartAndThePartialOneIsDropped) {
  const Windows windows = CutWindows(Counting(11), 4, 0, "text");

  EXPECT_EQ(windows.count, 2);
  EXPECT_EQ(windows.length, 4);
  EXPECT_EQ(windows.tokens_in_text, 11);
  EXPECT_THAT(windows.tokens, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(windows.view()(1, 2), 6);
}

TEST(Windows, AreLimited) {
  EXPECT_EQ(CutWindows(Counting(11), 4, 1, "text").count, 1);
  EXPECT_EQ(CutWindows(Counting(11), 4, 1, "text").tokens.size(), 4u);
  EXPECT_EQ(CutWindows(Counting(11), 4, 9, "text").count, 2);
}

TEST(Windows, NeedATextOfAtLeastOne) {
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(3), 4, 0, "wiki.txt"); }),
              HasSubstr("wiki.txt: text is shorter than one window"));
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(3), 4, 0, "wiki.txt", "--damage-context"); }),
              HasSubstr("try:      --damage-context 3 or less, or a longer text"));
  EXPECT_THAT(ErrorOf([] { return CutWindows({}, 4, 0, "wiki.txt"); }), HasSubstr("found:    0"));
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(1), 4, 0, "wiki.txt"); }),
              HasSubstr("try:      a longer text"));
  EXPECT_EQ(ErrorOf([] { return CutWindows(Counting(4), 4, 0, "wiki.txt"); }), "");
}

TEST(Windows, PredictSomething) {
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(4), 1, 0, "--context"); }),
              HasSubstr("at least 2"));
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(4), -2, 0, "--context"); }),
              HasSubstr("found:    -2"));
  EXPECT_THAT(ErrorOf([] { return CutWindows(Counting(4), 2, -1, "--windows"); }),
              HasSubstr("negative"));
}

}  // namespace
}  // namespace lieq
