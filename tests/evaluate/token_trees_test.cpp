#include "lieq/evaluate/token_trees.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

std::vector<TokenId> Ids(std::initializer_list<std::vector<TokenId>> parts) {
  std::vector<TokenId> ids;
  for (const auto& part : parts) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

std::vector<TokenId> Sequence(Index length, int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<TokenId> ids;
  for (Index i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>(random() % 251));
  return ids;
}

/// The tokens that a row sees, itself last, and how many spans ended in it.
std::vector<TokenId> Seen(const TokenTrees& batch, Index row) {
  for (const AttentionSpan& span : batch.spans) {
    if (row < span.begin || row >= span.begin + span.length) continue;
    EXPECT_EQ(span.keys, span.begin);
    std::vector<TokenId> seen;
    for (Index i = 0; i < span.past; ++i) seen.push_back(batch.ids[Size(span.past_keys + i)]);
    for (Index r = span.begin; r <= row; ++r) seen.push_back(batch.ids[Size(r)]);
    return seen;
  }
  ADD_FAILURE() << "row " << row << " lies in no span";
  return {};
}

/// What is scored is scored behind its own sequence's tokens, once.
void ExpectFaithful(const std::vector<ScoredSequence>& sequences, Index most) {
  std::vector<Index> scored(sequences.size());
  for (const TokenTrees& batch : PackTrees(sequences, most)) {
    Index rows = 0;
    for (const AttentionSpan& span : batch.spans) {
      EXPECT_EQ(span.begin, rows);
      rows += span.length;
    }
    EXPECT_EQ(rows, static_cast<Index>(batch.ids.size()));
    Index last = 0;
    for (std::size_t i = 0; i < batch.picks.size(); ++i) {
      const TokenPick& pick = batch.picks[i];
      EXPECT_LE(last, pick.row);
      last = pick.row;
      const ScoredSequence& sequence = sequences[Size(batch.sequences[i])];
      const std::vector<TokenId> seen = Seen(batch, pick.row);
      ASSERT_LT(seen.size(), sequence.ids.size());
      EXPECT_GE(static_cast<Index>(seen.size()), sequence.first);
      EXPECT_TRUE(std::ranges::equal(seen, std::span(sequence.ids).first(seen.size())));
      EXPECT_EQ(pick.token, sequence.ids[seen.size()]);
      ++scored[Size(batch.sequences[i])];
    }
  }
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    EXPECT_EQ(scored[s], static_cast<Index>(sequences[s].ids.size()) - sequences[s].first) << s;
  }
}

Index Rows(const std::vector<ScoredSequence>& sequences, Index most = 8192) {
  Index rows = 0;
  for (const TokenTrees& batch : PackTrees(sequences, most)) {
    rows += static_cast<Index>(batch.ids.size());
  }
  return rows;
}

TEST(PackTrees, RunsAQuestionOnceForItsChoices) {
  const auto question = Sequence(20, 1);
  const std::vector<ScoredSequence> choices{{Ids({question, {1, 2, 3}}), 20},
                                            {Ids({question, {4}}), 20},
                                            {Ids({question, {5, 6, 7, 8}}), 20},
                                            {Ids({question, {1, 2, 9, 9}}), 20}};
  // Behind the question: 1 2, nothing, 5 6 7, 1 2 9.
  EXPECT_EQ(Rows(choices), 20 + 2 + 3 + 3);
  ExpectFaithful(choices, 8192);
}

TEST(PackTrees, ChoicesOfOneTokenNeedNoRowsOfTheirOwn) {
  const auto question = Sequence(20, 1);
  std::vector<ScoredSequence> choices;
  for (TokenId token = 0; token < 4; ++token) choices.push_back({Ids({question, {token}}), 20});
  EXPECT_EQ(Rows(choices), 20);
  const std::vector<TokenTrees> batches = PackTrees(choices, 8192);
  ASSERT_EQ(batches.size(), 1);
  EXPECT_EQ(batches[0].spans.size(), 1);
  for (const TokenPick& pick : batches[0].picks) EXPECT_EQ(pick.row, 19);
  ExpectFaithful(choices, 8192);
}

TEST(PackTrees, RunsExamplesOnceForTheQuestionsBehindThem) {
  const auto examples = Sequence(100, 1);
  std::vector<ScoredSequence> sequences;
  for (int q = 0; q < 10; ++q) {
    for (TokenId token = 0; token < 4; ++token) {
      sequences.push_back({Ids({examples, Sequence(12, 2 + q), {token}}), 112});
    }
  }
  EXPECT_EQ(Rows(sequences), 100 + 10 * 12);
  ExpectFaithful(sequences, 8192);
  // Where they do not fit in a batch, the examples run again.
  EXPECT_EQ(Rows(sequences, 150), 10 / 4 * (100 + 4 * 12) + 100 + 2 * 12);
  ExpectFaithful(sequences, 150);
}

TEST(PackTrees, LeavesASharedWordAlone) {
  std::vector<ScoredSequence> sequences;
  for (int q = 0; q < 5; ++q) sequences.push_back({Ids({{7}, Sequence(30, q), {1}}), 31});
  const std::vector<TokenTrees> batches = PackTrees(sequences, 8192);
  ASSERT_EQ(batches.size(), 1);
  EXPECT_EQ(batches[0].spans.size(), 5);
  EXPECT_EQ(Rows(sequences), 5 * 31);
  ExpectFaithful(sequences, 8192);
}

TEST(PackTrees, IsFaithfulForRandomSequencesOfFewTokens) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<ScoredSequence> sequences;
    for (int s = 0; s < 30; ++s) {
      std::vector<TokenId> ids;
      const auto length = static_cast<Index>(2 + random() % 9);
      for (Index i = 0; i < length; ++i) ids.push_back(static_cast<TokenId>(random() % 2));
      const auto first = 1 + static_cast<Index>(random() % static_cast<unsigned>(length - 1));
      sequences.push_back({ids, first});
    }
    ExpectFaithful(sequences, 1 + static_cast<Index>(random() % 60));
  }
}

class ScoringSequences : public testing::Test {
 protected:
  ScoringSequences() {
    MakeTinyModel(folder / "model", {.layers = 2});
    model = OpenModel(folder / "model");
    const auto question = Sequence(30, 1), other = Sequence(9, 2);
    sequences = {{Ids({question, Sequence(3, 3)}), 30},
                 {Ids({question, Sequence(1, 4)}), 30},
                 {Ids({other, Sequence(4, 5)}), 7},
                 {Ids({other, Sequence(4, 6)}), 9},
                 {Sequence(2, 7), 1},
                 {Ids({question, Sequence(12, 8)}), 31}};
  }
  SequenceScores Score(int threads) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return ScoreSequences(model.weights, *device, sequences, "scoring", test.context);
  }
  TempFolder folder;
  ModelFolder model;
  std::vector<ScoredSequence> sequences;
};

TEST_F(ScoringSequences, AgreesWithEachSequenceRunByItself) {
  const SequenceScores scores = Score(2);
  TestContext test(2);
  const auto device = MakeCpuDevice(test.pool);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const auto length = static_cast<Index>(sequences[s].ids.size());
    const View<const TokenId, 2> tokens(sequences[s].ids.data(), 1, length);
    Forward forward(model.weights, *device, length);
    Hidden hidden = forward.Embed(tokens);
    for (Index layer = 0; layer < 2; ++layer) forward.Layer(layer, hidden);
    Matrix<double> nll(1, length - sequences[s].first);
    forward.Nll(hidden, tokens, nll.view(), sequences[s].first - 1);
    double sum = 0;
    for (const double value : nll.view().Row(0)) sum -= value;
    EXPECT_NEAR(scores.log_likelihoods[s], sum, 1e-4) << s;
  }
  EXPECT_EQ(scores.tokens, 32 + 30 + 12 + 12 + 1 + 41);
  EXPECT_LT(scores.rows, scores.tokens);
}

TEST_F(ScoringSequences, IsTheSameForAnyNumberOfThreads) {
  EXPECT_EQ(Score(1).log_likelihoods, Score(5).log_likelihoods);
}

TEST_F(ScoringSequences, RefusesTokensThatTheModelLacks) {
  sequences[1].ids[3] = 100000;
  EXPECT_THAT(ErrorOf([&] { (void)Score(1); }), testing::HasSubstr("vocabulary"));
}

}  // namespace
}  // namespace lieq
