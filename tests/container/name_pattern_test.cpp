#include "lieq/container/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

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
        Case{".*?x", "aax", true}, Case{"(?:a|b|)+c", "abac", true},
        // what PCRE2 reads otherwise, or could
        Case{"[[]x$", "[x", true}, Case{"[[:alpha:]]$", "a]", true},
        Case{"[[:alpha:]]$", "a", false}, Case{"\\v$", "\v", true}, Case{"\\v$", "\n", false},
        Case{"a\\Z", "a\n", false}, Case{"a$", "a\n", true}, Case{"a{,}$", "aaa", true},
        Case{"[a&&b]+$", "a&b", true}, Case{"[\\]-]+$", "]-", true}, Case{"[\\d-]+$", "1-2", true},
        Case{"[a\\-z]+$", "b", false}, Case{"a\\_b\\.c$", "a_b.c", true},
        Case{"\\-\\/\\#\\ x$", "-/# x", true}, Case{"#a b$", "#a b", true},
        Case{"\\<q\\>$", "<q>", true}, Case{"a{0}b", "b", true}, Case{"(a{2}){2}$", "aaaa", true},
        Case{"[^]a]+$", "b]", false}, Case{"(?P<a1>q)_(?P<b>k)$", "q_k", true},
        Case{"(?=a)*b", "b", true}, Case{"q(?!_norm)", "q_norm", false}, Case{"\\Bq", "q", false}));

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
  EXPECT_THAT(PatternError("a{}"), HasSubstr("not a valid repeat count"));
  EXPECT_THAT(PatternError("a{x}"), HasSubstr("not a valid repeat count"));
  EXPECT_THAT(PatternError("a*+"), HasSubstr("repeat of a repeat"));
  EXPECT_THAT(PatternError("(*UTF)a"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(PatternError("a|*"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(PatternError("^*"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(PatternError("\\Qa"), HasSubstr("escape is not supported"));
  EXPECT_THAT(PatternError("[\\h]"), HasSubstr("escape is not supported"));
  EXPECT_THAT(PatternError("a\\"), HasSubstr("ends in a backslash"));
  EXPECT_THAT(PatternError("\xC3\xA4"), HasSubstr("not ASCII"));
  EXPECT_THAT(PatternError("a)"), HasSubstr("config.json: /targets"));
}

TEST(NamePattern, RefusesPatternsThatWouldTakeTooLong) {
  EXPECT_THAT(PatternError(std::string(4097, 'a')), HasSubstr("too long"));
  EXPECT_THAT(PatternError(std::string(33, '(') + std::string(33, ')')), HasSubstr("too deeply"));
  EXPECT_THAT(PatternError("a{1001}"), HasSubstr("too large"));
  EXPECT_THAT(PatternError("(?:(?:ab){1000}){1000}"), HasSubstr("too large"));
  EXPECT_THAT(PatternError("(?:(?:(?:){1000}){1000}){1000}"), HasSubstr("too large"));
  std::string looks;
  for (int i = 0; i < 17; ++i) looks += "(?=a)";
  EXPECT_THAT(PatternError(looks), HasSubstr("too many look-aheads"));
}

// Backtracking would take years: 2^60 ways and more.
TEST(NamePattern, GivesUpWhereTheWaysToMatchExplode) {
  const std::string name(60, 'a');
  std::string nested;
  for (int i = 0; i < 16; ++i) nested += "(?=.*";
  for (const std::string& pattern :
       {std::string("(?:(?:a*)*)*[bc]"), std::string("(?:a|a|aa)+$[bc]"),
        nested + "b" + std::string(16, ')')}) {
    EXPECT_THAT(ErrorOf([&] { return Match(pattern, name); }),
                HasSubstr("pattern takes too many steps"))
        << pattern;
  }
  // Where one way is enough, or a character is not there, they do not.
  EXPECT_TRUE(Match(nested + "a" + std::string(16, ')'), name));
  EXPECT_TRUE(Match("(?:(?:a*)*)*a", name));
  EXPECT_FALSE(Match("(?:(?:a*)*)*b", name));
}

TEST(PatternBudget, IsOneOfAllPatternsAndNames) {
  PatternBudget budget(3, 1000);
  std::vector<NamePattern> patterns;
  for (int i = 0; i < 3; ++i) patterns.push_back(budget.Compile("(?:.?){5}b", "x"));
  int matched = 0;

  const std::string error = ErrorOf([&] {
    for (int name = 0; name < 100; ++name) {
      for (const NamePattern& pattern : patterns) matched += pattern.Matches("ab") ? 1 : 0;
    }
    return matched;
  });

  EXPECT_THAT(error, HasSubstr("too many patterns"));
  EXPECT_THAT(error, HasSubstr("at most 1000 steps in all for 3 names"));
  EXPECT_GT(matched, 3);
}

TEST(PatternBudget, HasABoundOnMemory) {
  PatternBudget budget(1);

  EXPECT_THAT(ErrorOf([&] {
                for (int i = 0; i < 1000; ++i) (void)budget.Compile("(?:(?:a?b?){30}){40}", "x");
                return 0;
              }),
              HasSubstr("bytes of memory in all"));
}

}  // namespace
}  // namespace lieq
