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

TEST(Windows, OfOneChatEachHoldTheirBeginnings) {
  const std::vector<Index> begins{0, 2, 2, 9, 12};  // of 2, 0, 7, 3 and 1 tokens
  const Windows windows = CutChats(Counting(13), begins, 4, 0, "chats");

  EXPECT_EQ(windows.count, 4);
  EXPECT_EQ(windows.length, 4);
  EXPECT_THAT(windows.tokens, ElementsAre(0, 1, kNoToken, kNoToken, 2, 3, 4, 5, 9, 10, 11, kNoToken,
                                          12, kNoToken, kNoToken, kNoToken));
  EXPECT_EQ(windows.cut, 1);
  EXPECT_EQ(windows.tokens_held, 2 + 4 + 3 + 1);
  EXPECT_EQ(windows.end, 13);
  EXPECT_EQ(windows.tokens_in_text, 13);
}

TEST(Windows, OfOneChatEachAreNoLongerThanTheLongestThatIsTaken) {
  const std::vector<Index> begins{0, 2, 9};
  const Windows windows = CutChats(Counting(13), begins, 100, 1, "chats");

  EXPECT_EQ(windows.count, 1);
  EXPECT_EQ(windows.length, 2);
  EXPECT_EQ(windows.end, 2);
  EXPECT_EQ(CutChats(Counting(13), begins, 100, 0, "chats").length, 7);
  EXPECT_EQ(CutChats(Counting(13), begins, 7, 0, "chats").cut, 0);
  EXPECT_THAT(ErrorOf([&] { return CutChats(Counting(13), begins, 1, 0, "chats"); }),
              HasSubstr("at least 2 tokens"));
  EXPECT_THAT(ErrorOf([&] { return CutChats({}, {}, 8, 0, "chats"); }), HasSubstr("no chat"));
}

}  // namespace
}  // namespace lieq
