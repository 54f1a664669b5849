#include "lieq/evaluate/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tokenizer WithBos() {
  Json document = TinyTokenizer();
  document["added_tokens"].push_back(AddedTokenJson(258, "<s>"));
  document["post_processor"] = ParseJson(
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
          {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens":
          {"<s>": {"id": "<s>", "ids": [258], "tokens": ["<s>"]}}})",
      "template");
  return ParseTokenizer(document);
}

TEST(EncodePair, GivesWhiteSpaceAtTheEndToTheContinuation) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  const ScoredSequence pair = EncodePair(tokenizer, "ab  ", " c", 0);
  EXPECT_THAT(pair.ids, ElementsAre('a', 'b', ' ', ' ', ' ', 'c'));
  EXPECT_EQ(pair.first, 2);
}

TEST(EncodePair, TakesTokensOfBothBehindAsManyAsTheContextHas) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());  // 256: th, 257: the
  // "t" alone is one token, and so is "the": nothing is left to score.
  EXPECT_THAT(ErrorOf([&] { (void)EncodePair(tokenizer, "t", "he", 0); }), HasSubstr("no tokens"));
  const ScoredSequence pair = EncodePair(tokenizer, "at", "he cat", 0);  // a the _ c a t
  EXPECT_THAT(pair.ids, ElementsAre('a', 't', ' ', 'c', 'a', 't'));
  EXPECT_EQ(pair.first, 2);
}

TEST(EncodePair, BeginsWithSpecialTokensOnce) {
  const Tokenizer tokenizer = WithBos();
  EXPECT_THAT(EncodePair(tokenizer, "a", " b", 0).ids, ElementsAre(258, 'a', ' ', 'b'));
  EXPECT_THAT(EncodePair(tokenizer, "<s>a", " b", 0).ids, ElementsAre(258, 'a', ' ', 'b'));
  const ScoredSequence empty = EncodePair(tokenizer, "", "b", 0);
  EXPECT_THAT(empty.ids, ElementsAre(258, 'b'));
  EXPECT_EQ(empty.first, 1);
  const Tokenizer bare = ParseTokenizer(TinyTokenizer());
  EXPECT_THAT(ErrorOf([&] { (void)EncodePair(bare, " ", "b", 0); }), HasSubstr("BOS"));
}

TEST(EncodePair, CutsTheBeginningOfWhatIsTooLong) {
  const Tokenizer tokenizer = ParseTokenizer(TinyTokenizer());
  const ScoredSequence cut = EncodePair(tokenizer, "abcd", "ef", 4);
  EXPECT_THAT(cut.ids, ElementsAre('b', 'c', 'd', 'e', 'f'));
  EXPECT_EQ(cut.first, 3);
  const ScoredSequence most = EncodePair(tokenizer, "a", "bcdef", 2);
  EXPECT_THAT(most.ids, ElementsAre('d', 'e', 'f'));
  EXPECT_EQ(most.first, 1);
  EXPECT_EQ(EncodePair(tokenizer, "abcd", "ef", 5).ids.size(), 6);
}

TEST(Accuracy, HasTheStandardErrorOfTheSample) {
  const Accuracy accuracy = AccuracyOf({true, false, true, true});
  EXPECT_DOUBLE_EQ(accuracy.mean, 0.75);
  // deviation sqrt((3 * .25² + .75²) / 3) = .5, over sqrt(4)
  EXPECT_NEAR(accuracy.error, 0.25, 1e-12);
  EXPECT_EQ(AccuracyOf({true}).error, 0);
}

TEST(Accuracy, OfSubjectsIsPooled) {
  const Accuracy a = AccuracyOf({true, false, true, true}), b = AccuracyOf({false, true});
  const Accuracy both = Pooled({a, b}, {4, 2});
  EXPECT_NEAR(both.mean, 4.0 / 6, 1e-12);
  // variances .25 and .5: (3 * .25 + 1 * .5) / (6 - 2) / 6
  EXPECT_NEAR(both.error, std::sqrt(1.25 / 4 / 6), 1e-12);
  EXPECT_NEAR(Pooled({a}, {4}).error, a.error, 1e-12);
}

class MeasuringTasks : public testing::Test {
 protected:
  MeasuringTasks() {
    MakeTinyModel(folder / "model", {.layers = 2});
    model = OpenModel(folder / "model");
    subjects = {
        {"one",
         {{{"the cat sat"}, {"on a", "the mat indeed", "é"}, {" on a", " the mat indeed", " é"}, 1},
          {{"a dog", "the dog"}, {"ran", "ran"}, {" ran", " ran"}, 0}}},
        {"two", {{{"x y z"}, {"1", "22"}, {" 1", " 22"}, 1}}}};
    task.name = "task";
    task.normalized = true;
  }
  TaskResult Measure(int threads) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return MeasureTask(model.weights, tokenizer, *device, task, subjects, test.context);
  }
  /// Of the text's end, from logits of one token after another.
  double LogLikelihood(const std::string& context, const std::string& continuation) {
    TestContext test(2);
    const auto device = MakeCpuDevice(test.pool);
    const std::vector<TokenId> ids = tokenizer.Encode(context + continuation);
    double sum = 0;
    for (auto t = static_cast<Index>(context.size()); t < static_cast<Index>(ids.size()); ++t) {
      Forward forward(model.weights, *device, t);
      Hidden hidden = forward.Embed({ids.data(), 1, t});
      for (Index layer = 0; layer < 2; ++layer) forward.Layer(layer, hidden);
      Matrix<float> logits(1, model.weights.config.vocab);
      forward.LastLogits(hidden, logits.view());
      double total = 0;
      for (const float logit : logits.view().Row(0)) total += std::exp(static_cast<double>(logit));
      sum += static_cast<double>(logits(0, ids[Size(t)])) - std::log(total);
    }
    return sum;
  }
  TempFolder folder;
  ModelFolder model;
  Tokenizer tokenizer = ParseTokenizer(TinyTokenizer({}));  // a token for each byte
  TaskDescription task;
  std::vector<TaskSubject> subjects;
};

TEST_F(MeasuringTasks, ScoresEachChoiceBehindItsContext) {
  const TaskResult result = Measure(2);
  ASSERT_EQ(result.subjects.size(), 2);
  EXPECT_EQ(result.items, 3);
  Index right = 0, right_normalized = 0;
  for (std::size_t s = 0; s < subjects.size(); ++s) {
    for (std::size_t i = 0; i < subjects[s].items.size(); ++i) {
      const TaskItem& item = subjects[s].items[i];
      const ItemAnswer& answer = result.subjects[s].answers[i];
      std::vector<double> sums, shares;
      for (std::size_t c = 0; c < item.choices.size(); ++c) {
        const std::string& context = item.contexts[item.contexts.size() == 1 ? 0 : c];
        sums.push_back(LogLikelihood(context, item.continuations[c]));
        // é is one character of two bytes
        const double characters = item.choices[c] == "é" ? 1 : double(item.choices[c].size());
        shares.push_back(sums.back() / characters);
        EXPECT_NEAR(answer.log_likelihoods[c], sums.back(), 1e-4);
        EXPECT_NEAR(answer.per_character[c], shares.back(), 1e-4);
      }
      EXPECT_EQ(answer.chosen, std::ranges::max_element(sums) - sums.begin());
      EXPECT_EQ(answer.chosen_per_character, std::ranges::max_element(shares) - shares.begin());
      right += answer.chosen == item.gold ? 1 : 0;
      right_normalized += answer.chosen_per_character == item.gold ? 1 : 0;
    }
  }
  EXPECT_DOUBLE_EQ(result.accuracy.mean, static_cast<double>(right) / 3);
  ASSERT_TRUE(result.normalized);
  EXPECT_DOUBLE_EQ(result.normalized->mean, static_cast<double>(right_normalized) / 3);
  EXPECT_LT(result.rows, result.tokens);
}

TEST_F(MeasuringTasks, IsTheSameForAnyNumberOfThreads) {
  const TaskResult one = Measure(1), four = Measure(4);
  for (std::size_t s = 0; s < subjects.size(); ++s) {
    for (std::size_t i = 0; i < subjects[s].items.size(); ++i) {
      EXPECT_EQ(one.subjects[s].answers[i].log_likelihoods,
                four.subjects[s].answers[i].log_likelihoods);
    }
  }
}

TEST_F(MeasuringTasks, CountsPerCharacterWhereTheTaskDoes) {
  task.normalized = false;
  EXPECT_FALSE(Measure(1).normalized);
}

}  // namespace
}  // namespace lieq
