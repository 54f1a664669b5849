#include "lieq/pipeline/mixed_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"

namespace lieq {
namespace {

constexpr Index kLength = 5;

/// `windows` windows and a rest, of ids that tell text and position.
EncodedText Text(TokenId first, Index windows, const std::string& name) {
  EncodedText text{.names = {name}, .where = name};
  for (Index i = 0; i < windows * kLength + 2; ++i) {
    text.ids.push_back(first + static_cast<TokenId>(i));
  }
  return text;
}

std::vector<std::size_t> Sources(const EncodedText& mixed) {
  std::vector<std::size_t> sources;
  for (std::size_t i = 0; i < mixed.ids.size(); i += kLength) {
    sources.push_back(Size(mixed.ids[i]) / 10'000);
  }
  return sources;
}

class MixedTextProperty : public testing::TestWithParam<std::uint64_t> {};

TEST_P(MixedTextProperty, EveryPrefixHasEachTextByItsWeight) {
  Rng random(GetParam());
  std::vector<EncodedText> texts;
  std::vector<double> weights;
  double sum = 0;
  for (std::size_t i = 0; i < 2 + GetParam() % 3; ++i) {
    texts.push_back(Text(static_cast<TokenId>(10'000 * i), 20 + static_cast<Index>(GetParam()),
                         std::to_string(i)));
    weights.push_back(0.2 + 3 * random.Uniform());
    sum += weights.back();
  }

  const EncodedText mixed = MixTexts(texts, weights, kLength);

  std::vector<Index> taken(texts.size());
  const std::vector<std::size_t> sources = Sources(mixed);
  ASSERT_GE(sources.size(), 20u);
  for (std::size_t n = 0; n < sources.size(); ++n) {
    const std::size_t from = sources[n];
    for (Index i = 0; i < kLength; ++i) {  // each text's windows in order, whole
      ASSERT_EQ(mixed.ids[n * kLength + Size(i)], texts[from].ids[Size(taken[from] * kLength + i)]);
    }
    ++taken[from];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const double share = weights[i] / sum * static_cast<double>(n + 1);
      EXPECT_LT(std::fabs(static_cast<double>(taken[i]) - share),
                static_cast<double>(texts.size()) - 1);
    }
  }
  // It ends because a text is used up.
  EXPECT_TRUE(std::ranges::any_of(
      taken, [&](Index t) { return t == 20 + static_cast<Index>(GetParam()); }));
}
INSTANTIATE_TEST_SUITE_P(Seeds, MixedTextProperty, testing::Range<std::uint64_t>(0, 12));

TEST(MixedText, TwoToOneIsTwoToOne) {
  const std::vector<EncodedText> texts{Text(0, 6, "a"), Text(10'000, 9, "b")};
  const EncodedText mixed = MixTexts(texts, std::vector<double>{2, 1}, kLength);
  EXPECT_EQ(Sources(mixed), (std::vector<std::size_t>{0, 0, 1, 0, 0, 1, 0, 0, 1}));
  EXPECT_EQ(mixed.names, (std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(mixed.notes.size(), 2u);
  EXPECT_EQ(mixed.notes[1], "b: 3 of 9 windows of 5 tokens, for its weight 1");
}

TEST(MixedText, KeepsWhatIsAnAnswer) {
  std::vector<EncodedText> texts{Text(0, 2, "plain"), Text(10'000, 2, "chats")};
  texts[1].answer.assign(texts[1].ids.size(), 1);
  const EncodedText mixed = MixTexts(texts, std::vector<double>{1, 1}, kLength);
  ASSERT_EQ(mixed.answer.size(), mixed.ids.size());
  for (std::size_t i = 0; i < mixed.ids.size(); ++i) {
    EXPECT_EQ(mixed.answer[i] == 1, mixed.ids[i] >= 10'000);
  }
}

TEST(MixedText, NamesATextThatIsTooShort) {
  const std::vector<EncodedText> texts{Text(0, 6, "a"), Text(10'000, 0, "short.txt")};
  try {
    (void)MixTexts(texts, std::vector<double>{1, 1}, kLength);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("short.txt"));
  }
}

}  // namespace
}  // namespace lieq
