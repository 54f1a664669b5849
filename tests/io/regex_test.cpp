#include "lieq/io/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Outcome = RegexSearch::Outcome;

constexpr std::uint64_t kSteps = 1000;

TEST(Regex, SaysWhereAPatternIsBroken) {
  EXPECT_THAT(ErrorOf([] { return Regex("a|(b", {}, "file: /key"); }),
              AllOf(HasSubstr("not a regular expression"), HasSubstr("file: /key"),
                    HasSubstr("'a|(b', byte 4")));
  EXPECT_THAT(ErrorOf([] { return Regex("(?:(?:ab){1000}){1000}", {}, "x"); }),
              HasSubstr("too large"));
}

TEST(Regex, KnowsWhetherItCanMatchNothing) {
  EXPECT_TRUE(Regex("a*", {}, "x").MatchesNothing());
  EXPECT_FALSE(Regex("a+", {}, "x").MatchesNothing());
}

TEST(Regex, TakesMemoryByWhatItGrowsTo) {
  EXPECT_GT(Regex("(?:ab){500}", {}, "x").bytes(), 10 * Regex("(?:ab)", {}, "x").bytes());
}

class RegexEngine : public testing::TestWithParam<bool> {};  // machine code

TEST_P(RegexEngine, FindsTheFirstMatchFromAPlaceOn) {
  const Regex regex("b+", {.machine_code = GetParam()}, "x");
  RegexSearch search(regex);

  ASSERT_EQ(search.Find("abbab", 0, kSteps), Outcome::kFound);
  EXPECT_EQ(search.begin(), 1u);
  EXPECT_EQ(search.end(), 3u);
  ASSERT_EQ(search.Find("abbab", 3, kSteps), Outcome::kFound);
  EXPECT_EQ(search.begin(), 4u);
  EXPECT_EQ(search.Find("abba", 3, kSteps), Outcome::kNone);
}

TEST_P(RegexEngine, BeginsWhereTheSearchDoesIfAnchored) {
  const Regex regex("b", {.anchored = true, .machine_code = GetParam()}, "x");
  RegexSearch search(regex);

  EXPECT_EQ(search.Find("ab", 0, kSteps), Outcome::kNone);
  EXPECT_EQ(search.Find("ab", 1, kSteps), Outcome::kFound);
}

TEST_P(RegexEngine, ReadsCharactersOrBytes) {
  const std::string text = "\u00e9";
  for (const bool unicode : {true, false}) {
    const Regex regex("^.$", {.unicode = unicode, .machine_code = GetParam()}, "x");
    RegexSearch search(regex);
    EXPECT_EQ(search.Find(text, 0, kSteps), unicode ? Outcome::kFound : Outcome::kNone);
  }
}

TEST_P(RegexEngine, GivesUpWithAReasonAndGoesOnAfterIt) {
  const Regex regex("(?:a|aa)+[bc]", {.machine_code = GetParam()}, "x");
  RegexSearch search(regex);

  EXPECT_EQ(search.Find(std::string(64, 'a'), 0, kSteps), Outcome::kGaveUp);
  EXPECT_THAT(search.reason(), HasSubstr("limit"));
  EXPECT_EQ(search.Find("aac", 0, kSteps), Outcome::kFound);
}

TEST_P(RegexEngine, CountsTheItemsThatASearchComesBy) {
  const Regex regex("(?:.?){500}", {.anchored = true, .machine_code = GetParam(), .counted = true},
                    "x");
  RegexSearch search(regex);

  EXPECT_EQ(search.Find("ab", 0, 5000), Outcome::kFound);
  const std::uint64_t steps = search.steps();
  EXPECT_GE(steps, 500u);
  EXPECT_EQ(search.Find("ab", 0, steps), Outcome::kFound);
  EXPECT_EQ(search.Find("ab", 0, steps - 1), Outcome::kGaveUp);
  EXPECT_EQ(search.steps(), steps - 1);
  EXPECT_THAT(search.reason(), HasSubstr("step limit"));
}

INSTANTIATE_TEST_SUITE_P(Both, RegexEngine, testing::Bool());

}  // namespace
}  // namespace lieq
