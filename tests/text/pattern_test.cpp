#include "lieq/text/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> MatchesOf(std::string_view pattern, std::string_view text) {
  const Pattern compiled(pattern, "test");
  Matcher matcher(compiled);
  std::vector<std::string> matches;
  std::size_t from = 0;
  while (const auto match = matcher.Find(text, from)) {
    matches.emplace_back(text.substr(match->begin, match->end - match->begin));
    from = match->end;
  }
  return matches;
}

TEST(Pattern, FindsMatchesFromLeftToRight) {
  EXPECT_THAT(MatchesOf(R"(\p{L}+|\s+(?!\S)|\s+)", "ab  1c é"),
              ElementsAre("ab", " ", " ", "c", " ", "é"));
}

TEST(Pattern, IgnoresCaseAsOnigurumaDoes) {
  EXPECT_THAT(MatchesOf("(?i:'s|'ll)", "'s'S'lL'ſ's"), ElementsAre("'s", "'S", "'lL", "'ſ", "'s"));
}

class CommonConstruct : public testing::TestWithParam<const char*> {};

TEST_P(CommonConstruct, IsAccepted) {
  EXPECT_EQ(ErrorOf([] { return Pattern(GetParam(), "test"); }), "");
}
INSTANTIATE_TEST_SUITE_P(
    Patterns, CommonConstruct,
    testing::Values(
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\P{L})",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)",
        "[一-龥぀-ゟ゠-ヿ]+", "a{2}|b{2,}|c{2,3}", "(ab)+?", "[-a]|[a-]|[^-]",
        R"(\d\D\s\S\.\|)"));

class OtherConstruct : public testing::TestWithParam<const char*> {};

TEST_P(OtherConstruct, IsRefusedByName) {
  EXPECT_THAT(ErrorOf([] { return Pattern(GetParam(), "test"); }), HasSubstr("not supported"));
}
INSTANTIATE_TEST_SUITE_P(Patterns, OtherConstruct,
                         testing::Values(R"(\h)", R"(\w)", R"(\bx)", R"(x\Z)", R"(\X)", R"(\Qx)",
                                         R"(\<x)", R"(\u0041)", "\\", "^x", "x$", "x.", "x]", "x}",
                                         "[]x]", "[[:alpha:]]", "[a&&b]", "[a[b]]", R"([a-\d])",
                                         R"([\d-a])", "[a-c-e]", "[a", "(?<=x)y", "(?<n>x)",
                                         "(?i)x", "(?m:x)", "(*UTF)x", "x)", "x{2}+", "x{2}?",
                                         "x{,2}", "x{", "x{a}", "x**", "x+*", "x???", R"(\p{Han})",
                                         R"(\pL)", R"(\p{^L})", R"(\p{L)", "(?i:ss)", "(?i:ﬁ)",
                                         "(?i:St)", R"((?i:\p{Lu}))", "(?i:[^a])"));

TEST(Pattern, SaysWhereItIsBroken) {
  EXPECT_THAT(ErrorOf([] { return Pattern("a|(b", "test"); }),
              HasSubstr("not a regular expression"));
  EXPECT_THAT(ErrorOf([] { return Pattern("[b-a]", "test"); }),
              HasSubstr("not a regular expression"));
}

TEST(Pattern, MustNotMatchNothing) {
  EXPECT_THAT(ErrorOf([] { return Pattern("a*|b", "test"); }), HasSubstr("match nothing"));
  EXPECT_THAT(ErrorOf([] { return Pattern("", "test"); }), HasSubstr("match nothing"));
  EXPECT_THAT(ErrorOf([] { return Pattern("(?!a)", "test"); }), HasSubstr("match nothing"));
}

// A repeated group takes a frame for each round: more than the stack that machine code has.
TEST(Matcher, TakesARepeatedGroupOverALongText) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += i % 2 == 0 ? "ab" : "cd";

  EXPECT_THAT(MatchesOf("(?:ab|cd)+", text + "x"), ElementsAre(text));
}

TEST(Matcher, GivesUpWithAnErrorWhereStepsExplode) {
  EXPECT_THAT(ErrorOf([] { return MatchesOf("(?:a|aa)+[bc]", std::string(64, 'a')); }),
              HasSubstr("gave up"));
}

}  // namespace
}  // namespace lieq
