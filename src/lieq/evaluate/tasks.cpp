#include "lieq/evaluate/tasks.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

/// Characters of valid UTF-8, at least one: what a score is divided by.
double Characters(std::string_view text) {
  const auto count = std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  return static_cast<double>(std::max<std::ptrdiff_t>(count, 1));
}

Index Largest(const std::vector<double>& values) {
  return std::ranges::max_element(values) - values.begin();
}

std::vector<ScoredSequence> Encode(const TaskItem& item, const Tokenizer& tokenizer,
                                   Index positions) {
  std::vector<ScoredSequence> sequences;
  for (std::size_t c = 0; c < item.choices.size(); ++c) {
    sequences.push_back(EncodePair(tokenizer, item.contexts[item.contexts.size() == 1 ? 0 : c],
                                   item.continuations[c], positions));
  }
  return sequences;
}

SubjectResult Summed(SubjectResult result, bool normalized) {
  std::vector<bool> right, right_per_character;
  for (const ItemAnswer& answer : result.answers) {
    right.push_back(answer.Right(false));
    right_per_character.push_back(answer.Right(true));
  }
  result.accuracy = AccuracyOf(right);
  if (normalized) result.normalized = AccuracyOf(right_per_character);
  return result;
}

}  // namespace

ScoredSequence EncodePair(const Tokenizer& tokenizer, std::string_view context,
                          std::string_view continuation, Index positions) {
  std::string storage;
  context = ToValidUtf8(context, storage);
  const std::size_t kept = WithoutSpaceBehind(context).size();
  const std::string text = std::string(context) + std::string(continuation);
  const std::optional<TokenId> bos = BosOf(tokenizer);
  ScoredSequence sequence;
  std::vector<TokenId> whole;
  if (kept == 0) {
    if (!bos) {
      throw Error({.what = "an empty prompt, and the tokenizer has no BOS to begin with",
                   .where = "a task's question"});
    }
    sequence.ids = {*bos};
    whole = tokenizer.Encode(text);
    whole.insert(whole.begin(), *bos);
  } else {
    const bool special = !bos || !text.starts_with(tokenizer.Bytes(*bos));
    sequence.ids = tokenizer.Encode(context.substr(0, kept), special);
    whole = tokenizer.Encode(text, special);
  }
  if (whole.size() <= sequence.ids.size()) {
    throw Error({.what = "a choice has no tokens of its own", .where = "a task's question"});
  }
  sequence.first = static_cast<Index>(sequence.ids.size());
  sequence.ids.insert(sequence.ids.end(), whole.begin() + sequence.first, whole.end());
  const Index more = static_cast<Index>(sequence.ids.size()) - (positions + 1);
  if (positions > 0 && more > 0) {
    sequence.ids.erase(sequence.ids.begin(), sequence.ids.begin() + more);
    sequence.first = std::max<Index>(1, sequence.first - more);
  }
  return sequence;
}

TaskResult MeasureTask(const Weights& weights, const Tokenizer& tokenizer, const DeviceTeam& team,
                       const TaskDescription& task, const std::vector<TaskSubject>& subjects,
                       Context& context) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<const TaskItem*> items;
  for (const TaskSubject& subject : subjects) {
    for (const TaskItem& item : subject.items) items.push_back(&item);
  }
  std::vector<std::vector<ScoredSequence>> encoded(items.size());
  context.pool.ParallelFor(static_cast<Index>(items.size()), [&](Index i, int) {
    encoded[Size(i)] = Encode(*items[Size(i)], tokenizer, weights.config.max_positions);
  });
  std::vector<ScoredSequence> sequences;
  for (std::vector<ScoredSequence>& choices : encoded) {
    std::ranges::move(choices, std::back_inserter(sequences));
  }
  const SequenceScores scores = ScoreSequences(weights, team, sequences, task.name, context);

  TaskResult result{.name = task.name,
                    .subjects = {},
                    .items = static_cast<Index>(items.size()),
                    .tokens = scores.tokens,
                    .rows = scores.rows,
                    .head_rows = scores.head_rows};
  std::vector<Accuracy> accuracies, normalized;
  std::vector<Index> counts;
  auto score = scores.log_likelihoods.begin();
  for (const TaskSubject& subject : subjects) {
    SubjectResult of_subject{.name = subject.name, .answers = {}};
    for (const TaskItem& item : subject.items) {
      ItemAnswer answer{.log_likelihoods = {}, .per_character = {}, .gold = item.gold};
      for (const std::string& choice : item.choices) {
        answer.log_likelihoods.push_back(*score);
        answer.per_character.push_back(*score++ / Characters(choice));
      }
      answer.chosen = Largest(answer.log_likelihoods);
      answer.chosen_per_character = Largest(answer.per_character);
      of_subject.answers.push_back(std::move(answer));
    }
    result.subjects.push_back(Summed(std::move(of_subject), task.normalized));
    accuracies.push_back(result.subjects.back().accuracy);
    if (task.normalized) normalized.push_back(*result.subjects.back().normalized);
    counts.push_back(static_cast<Index>(subject.items.size()));
  }
  result.accuracy = Pooled(accuracies, counts);
  if (task.normalized) result.normalized = Pooled(normalized, counts);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

Accuracy AccuracyOf(const std::vector<bool>& right) {
  const auto n = static_cast<double>(right.size());
  const double mean = static_cast<double>(std::ranges::count(right, true)) / n;
  return {mean, n > 1 ? std::sqrt(mean * (1 - mean) / (n - 1)) : 0.0};
}

Accuracy Pooled(const std::vector<Accuracy>& parts, const std::vector<Index>& items) {
  double total = 0, mean = 0, variance = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto n = static_cast<double>(items[i]);
    total += n;
    mean += n * parts[i].mean;
    variance += (n - 1) * parts[i].error * parts[i].error * n;
  }
  const double freedom = total - static_cast<double>(parts.size());
  return {mean / total, freedom > 0 ? std::sqrt(variance / freedom / total) : 0.0};
}

}  // namespace lieq
