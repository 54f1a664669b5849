#include "lieq/evaluate/answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/decoder.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using Ids = std::vector<TokenId>;

/// By the words of the definition: some end of at least 32 tokens and three periods is periodic.
bool RepeatsByDefinition(const Ids& ids) {
  for (std::size_t period = 1; period <= ids.size(); ++period) {
    for (std::size_t begin = 0; begin < ids.size(); ++begin) {
      const std::size_t length = ids.size() - begin;
      if (length < 32 || length < 3 * period) continue;
      bool periodic = true;
      for (std::size_t i = begin; i + period < ids.size(); ++i) {
        periodic = periodic && ids[i] == ids[i + period];
      }
      if (periodic) return true;
    }
  }
  return false;
}

Ids Repeated(const Ids& before, const Ids& run, std::size_t tokens) {
  Ids ids = before;
  for (std::size_t i = 0; i < tokens; ++i) ids.push_back(run[i % run.size()]);
  return ids;
}

TEST(EndsInRepetition, IsARunOverAndOverUpToTheEnd) {
  EXPECT_TRUE(EndsInRepetition(Repeated({}, {7}, 32)));
  EXPECT_FALSE(EndsInRepetition(Repeated({1}, {7}, 31)));
  EXPECT_TRUE(EndsInRepetition(Repeated({1, 2, 3}, {7, 8, 7, 9}, 33)));  // cut in the ninth run
  const Ids twelve{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  EXPECT_TRUE(EndsInRepetition(Repeated({}, twelve, 36)));
  EXPECT_FALSE(EndsInRepetition(Repeated({}, twelve, 35)));  // 32 tokens, but not three times
  EXPECT_FALSE(EndsInRepetition(Repeated(Repeated({}, {7}, 50), {3}, 1))) << "it went on";
  EXPECT_FALSE(EndsInRepetition({}));
}

TEST(EndsInRepetition, AgreesWithItsDefinition) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed);
    Ids ids, run;
    for (std::uint32_t i = rng.Below(20); i > 0; --i) {
      ids.push_back(static_cast<TokenId>(rng.Below(3)));
    }
    for (std::uint32_t i = rng.Below(20) + 1; i > 0; --i) {
      run.push_back(static_cast<TokenId>(rng.Below(2)));
    }
    ids = Repeated(ids, run, rng.Below(70));
    if (seed % 3 == 0 && !ids.empty()) ids[rng.Below(static_cast<std::uint32_t>(ids.size()))] = 9;

    EXPECT_EQ(EndsInRepetition(ids), RepeatsByDefinition(ids)) << "seed " << seed;
  }
}

TEST(Judge, CountsWhatIsWrong) {
  const std::vector<Answer> answers{{{}, true},                      // empty
                                    {{1, 2}, true},                  // good
                                    {Repeated({}, {7}, 40), false},  // repeats, does not end
                                    {Repeated({}, {7}, 40), true},   // ended after all
                                    {{1, 2, 3}, false}};             // does not end
  const std::vector<Answer> reference{
      {{5}, true}, {{1, 2}, true}, {{5}, true}, {{5}, true}, {{1, 2, 3}, false}};

  const AnswerCounts alone = Judge(answers), paired = Judge(answers, reference);

  EXPECT_EQ(alone.empty, 1);
  EXPECT_EQ(alone.repeating, 1);
  EXPECT_EQ(alone.cut, 2);
  EXPECT_EQ(alone.missed_end, 0) << "nothing says that it should have ended";
  EXPECT_EQ(paired.missed_end, 1);
  EXPECT_EQ(paired.same, 2);
}

class AnswerPromptsTest : public testing::Test {
 protected:
  std::vector<Answer> Answers(const Ids& ends, int threads = 2) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return AnswerPrompts(model.weights, *device, prompts, 60, ends, 9, test.context);
  }
  /// Token by token from a decoder of its own.
  Ids Alone(const Ids& prompt, std::size_t count) {
    TestContext test(2);
    const auto device = MakeCpuDevice(test.pool);
    Decoder decoder(model.weights, *device, 1, 32);
    Matrix<float> logits(1, model.weights.config.vocab);
    decoder.Append({prompt.data(), 1, static_cast<Index>(prompt.size())}, logits.view());
    Ids ids;
    while (ids.size() < count) {
      const auto row = logits.view().Row(0).first(60);
      ids.push_back(static_cast<TokenId>(std::ranges::max_element(row) - row.begin()));
      decoder.Append({&ids.back(), 1, 1}, logits.view());
    }
    return ids;
  }

  TempFolder folder;
  ModelFolder model = [&] {
    MakeTinyModel(folder / "model", {.layers = 2});
    return OpenModel(folder / "model");
  }();
  std::vector<Ids> prompts{{1, 2, 3}, {40}, {5, 4, 3, 2, 1, 6, 7}, {1, 2, 3}};
};

TEST_F(AnswerPromptsTest, AreThoseOfEachPromptOnItsOwn) {
  const std::vector<Answer> answers = Answers({});

  ASSERT_EQ(answers.size(), 4u);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(answers[i].ids, Alone(prompts[i], 9)) << i;
    EXPECT_FALSE(answers[i].ended);
  }
  EXPECT_EQ(Answers({}, 1)[2].ids, answers[2].ids);
}

TEST_F(AnswerPromptsTest, EndAtTheFirstEndToken) {
  const Ids whole = Alone(prompts[2], 9);
  const TokenId end = whole[4];
  const auto before = std::ranges::find(whole, end) - whole.begin();

  Ids ends{end, 61};
  std::ranges::sort(ends);
  const Answer answer = Answers(ends)[2];

  EXPECT_TRUE(answer.ended);
  EXPECT_EQ(answer.ids, Ids(whole.begin(), whole.begin() + before));
  EXPECT_THAT(Answers({Alone(prompts[1], 1)[0]})[1].ids, testing::IsEmpty());
}

}  // namespace
}  // namespace lieq
