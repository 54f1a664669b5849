// Windows held out of training: how many, of which texts, and apart from those that are trained on.
#include "lieq/pipeline/held_out.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

std::vector<std::size_t> Texts(const std::vector<Index>& sizes) {
  std::vector<std::size_t> of;
  for (std::size_t t = 0; t < sizes.size(); ++t) of.insert(of.end(), Size(sizes[t]), t);
  return of;
}

std::vector<Index> HeldOutOf(const std::vector<Index>& sizes) {
  const std::vector<std::size_t> of = Texts(sizes);
  std::vector<Index> each(sizes.size());
  for (const Index w : WindowsHeldOut(of)) ++each[of[Size(w)]];
  return each;
}

TEST(HeldOut, IsAnEighthOfEachTextAndEightAtMost) {
  EXPECT_EQ(WindowsHeldOut(Texts({2})), (std::vector<Index>{1}));
  EXPECT_EQ(WindowsHeldOut(Texts({16})), (std::vector<Index>{4, 12}));
  EXPECT_EQ(WindowsHeldOut(Texts({800})).size(), 8u);
  EXPECT_EQ(HeldOutOf({32, 32}), (std::vector<Index>{4, 4}));
  EXPECT_EQ(HeldOutOf({300, 100}), (std::vector<Index>{6, 2}));
  EXPECT_EQ(HeldOutOf({1000, 10}), (std::vector<Index>{7, 1})) << "a small one is judged too";
  EXPECT_EQ(HeldOutOf({6, 6}), (std::vector<Index>{1, 1})) << "rather than one of one of them";
  EXPECT_EQ(HeldOutOf({100, 1}), (std::vector<Index>{8, 0})) << "one window alone is trained on";
}

TEST(HeldOut, IsSpreadOverATextAndOverMoreTextsThanAreJudged) {
  const std::vector<Index> of_one = WindowsHeldOut(Texts({80}));
  EXPECT_EQ(of_one, (std::vector<Index>{5, 15, 25, 35, 45, 55, 65, 75}));
  EXPECT_EQ(WindowsHeldOut(Texts(std::vector<Index>(20, 4))), of_one);
}

TEST(HeldOut, IsDistinctAndLeavesWindowsForAnyTexts) {
  Rng rng(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<Index> sizes(1 + rng.Below(12));
    for (Index& size : sizes) size = static_cast<Index>(rng.Below(30));
    const std::vector<std::size_t> of = Texts(sizes);
    const std::vector<Index> held_out = WindowsHeldOut(of);

    EXPECT_TRUE(std::ranges::is_sorted(held_out));
    EXPECT_EQ(std::set<Index>(held_out.begin(), held_out.end()).size(), held_out.size());
    if (of.size() < 2) continue;
    EXPECT_GE(held_out.size(), 1u);
    EXPECT_LE(held_out.size(), std::max<std::size_t>(1, of.size() / 2));
    for (const Index w : held_out) EXPECT_LT(Size(w), of.size());
  }
}

/// Text t has tokens 1000 t, 1000 t + 1, ...
EncodedText Joined(const std::vector<Index>& tokens) {
  EncodedText text{.where = "texts"};
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    text.names.push_back("text " + std::to_string(t));
    text.parts.push_back({static_cast<Index>(text.ids.size()), t});
    for (Index i = 0; i < tokens[t]; ++i) {
      text.ids.push_back(static_cast<TokenId>(1000 * static_cast<Index>(t) + i));
    }
  }
  return text;
}

TEST(HeldOut, WindowsAreOfTheTextOfTheirMiddleAndShareNoTokenWithTraining) {
  const EncodedText text = Joined({95, 46, 79});
  const Windows windows = CutWindows(text.ids, 10, 0, text.where);

  const std::vector<std::size_t> of = TextOfWindows(text, windows);
  const TuneWindows split = SplitWindows(text, windows);

  EXPECT_EQ(of, Texts({9, 5, 8}));  // window 9 begins in the first and has its middle in the second
  EXPECT_EQ(split.training.rows() + split.held_out.rows(), windows.count);
  EXPECT_EQ(split.repeated, 0);
  std::set<TokenId> trained(split.training.data(), split.training.data() + split.training.size());
  std::set<std::size_t> judged;
  for (Index i = 0; i < split.held_out.size(); ++i) {
    EXPECT_FALSE(trained.contains(split.held_out.data()[i]));
  }
  for (const Index w : split.held_out_at) judged.insert(of[Size(w)]);
  EXPECT_EQ(judged.size(), 3u);
}

TEST(HeldOut, TextsGivenTwiceAreNotTrainedOnWhereTheyAreJudged) {
  EncodedText text = Joined({100, 60});
  text.ids.insert(text.ids.end(), text.ids.begin(), text.ids.begin() + 100);
  text.parts.clear();
  const Windows windows = CutWindows(text.ids, 10, 0, text.where);

  const TuneWindows split = SplitWindows(text, windows);

  EXPECT_EQ(split.held_out_at, (std::vector<Index>{4, 13, 21}));
  EXPECT_EQ(split.repeated, 2) << "20 is 4 again, and 21 is 5 again";
  EXPECT_EQ(split.training.rows(), 26 - 3 - 2);
  for (Index t = 0; t < split.training.rows(); ++t) {
    for (Index h = 0; h < split.held_out.rows(); ++h) {
      EXPECT_FALSE(std::ranges::equal(split.training.view().Row(t), split.held_out.view().Row(h)));
    }
  }
  EncodedText same{.ids = std::vector<TokenId>(100, 7), .where = "sevens"};
  EXPECT_THROW((void)SplitWindows(same, CutWindows(same.ids, 10, 0, same.where)), Error);
}

}  // namespace
}  // namespace lieq
