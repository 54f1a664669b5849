#include "lieq/container/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::HasSubstr;

bool Match(std::string_view pattern, std::string_view name) {
  return NamePattern(pattern, "x").Matches(name);
}
std::string PatternError(std::string_view pattern) {
  return ErrorOf([&] { return NamePattern(pattern, "config.json: /targets"); });
}

struct Case {
  std::string_view pattern, name;
  bool match;  // of Python's re.match
};

class PythonSemantics : public testing::TestWithParam<Case> {};

TEST_P(PythonSemantics, AreKept) {
  EXPECT_EQ(Match(GetParam().pattern, GetParam().name), GetParam().match)
      << GetParam().pattern << " on " << GetParam().name;
}
INSTANTIATE_TEST_SUITE_P(
    Table, PythonSemantics,
    testing::Values(
        // what writers of checkpoints use
        Case{".*q_proj", "model.layers.0.self_attn.q_proj", true},
        Case{".*(gate|up)_proj$", "model.layers.0.mlp.down_proj", false},
        Case{"model\\.layers\\.[0-9]+\\.mlp\\..*", "model.layers.10.mlp.up_proj", true},
        Case{"^model\\.layers\\.(?:[2-9]|1[0-9])\\.", "model.layers.1.mlp.up_proj", false},
        Case{"^model\\.layers\\.(?:[2-9]|1[0-9])\\.", "model.layers.12.mlp.up_proj", true},
        Case{"(?!.*lm_head).*", "lm_head", false}, Case{"(?!.*lm_head).*", "model.x", true},
        Case{"(?=.*self_attn).*o_proj$", "model.layers.3.self_attn.o_proj", true},
        Case{"model[.]layers[.]\\d{1,2}[.](?P<part>mlp|self_attn)", "model.layers.23.mlp.x", true},
        // anchored at the start, not at the end
        Case{"layers", "model.layers", false}, Case{"model", "model.layers", true},
        Case{"", "anything", true}, Case{"", "", true}, Case{"model$", "model.layers", false},
        // the parts of the syntax
        Case{"a+b*c?$", "aabb", true}, Case{"a{2,3}$", "aaaa", false}, Case{"a{,2}b", "aab", true},
        Case{"a{2,}b", "ab", false}, Case{"a{2}b", "aab", true}, Case{"[^.]+$", "a.b", false},
        Case{"[]a]+$", "]a", true}, Case{"[a-]+$", "-a", true}, Case{"[\\w.]+$", "a.b_1", true},
        Case{"\\bproj\\b", "proj.x", true}, Case{"q\\B_proj", "q_proj", true},
        Case{"\\Aq\\Z", "q", true}, Case{"(a|ab)(c|bcd)$", "abcd", true},
        Case{"(?:(?:)*)*x", "x", true}, Case{"(?=a(?!b)).c", "ac", true}, Case{".", "\n", false},
        Case{".*?x", "aax", true}, Case{"(?:a|b|)+c", "abac", true}));

TEST(NamePattern, RefusesWhatItDoesNotKnowByPlace) {
  EXPECT_THAT(PatternError("(a)\\1"), HasSubstr("escape is not supported"));
  EXPECT_THAT(PatternError("(?<=a)b"), HasSubstr("group of this kind"));
  EXPECT_THAT(PatternError("(?i)a"), HasSubstr("group of this kind"));
  EXPECT_THAT(PatternError("a**"), HasSubstr("repeat of a repeat"));
  EXPECT_THAT(PatternError("*a"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(PatternError("(a"), HasSubstr("unbalanced '('"));
  EXPECT_THAT(PatternError("a)"), HasSubstr("unbalanced ')'"));
  EXPECT_THAT(PatternError("[a"), HasSubstr("unbalanced '['"));
  EXPECT_THAT(PatternError("[z-a]"), HasSubstr("not a valid range"));
  EXPECT_THAT(PatternError("a{2,1}"), HasSubstr("not a valid repeat count"));
  EXPECT_THAT(PatternError("a\\"), HasSubstr("ends in a backslash"));
  EXPECT_THAT(PatternError("\xC3\xA4"), HasSubstr("not ASCII"));
  EXPECT_THAT(PatternError("a)"), HasSubstr("config.json: /targets"));
}

TEST(NamePattern, RefusesPatternsThatWouldTakeTooLong) {
  EXPECT_THAT(PatternError(std::string(4097, 'a')), HasSubstr("too long"));
  EXPECT_THAT(PatternError(std::string(33, '(') + std::string(33, ')')), HasSubstr("too deeply"));
  EXPECT_THAT(PatternError("a{1001}"), HasSubstr("too large"));
  EXPECT_THAT(PatternError("(?:a{1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(PatternError("(?:(?:(?:){1000}){1000}){1000}"), HasSubstr("too large"));
  std::string looks;
  for (int i = 0; i < 17; ++i) looks += "(?=a)";
  EXPECT_THAT(PatternError(looks), HasSubstr("too many look-aheads"));
}

TEST(NamePattern, TakesPolynomialTimeWhereBacktrackingWouldNot) {
  const std::string name(60, 'a');
  EXPECT_FALSE(Match("(?:(?:a*)*)*b", name));
  EXPECT_FALSE(Match("(?:a|a|aa)+$b", name));
  std::string nested;
  for (int i = 0; i < 16; ++i) nested += "(?=.*";
  EXPECT_TRUE(Match(nested + "a" + std::string(16, ')'), name));
  EXPECT_FALSE(Match(nested + "b" + std::string(16, ')'), name));
}

}  // namespace
}  // namespace lieq
