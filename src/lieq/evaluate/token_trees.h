// Log-likelihoods of many short sequences, packed without padding; what neighbours begin with alike
// (the question before its choices, the examples before questions) runs once.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Tokens ids[first ..] are scored, each behind all tokens before it. 1 <= first < ids.size().
struct ScoredSequence {
  std::vector<TokenId> ids;
  Index first = 1;
};

/// Sequences as rows of one batch. A tree is a trunk, which all of its sequences begin with, and
/// branches that see the trunk and themselves.
struct TokenTrees {
  std::vector<TokenId> ids;          // [rows]
  std::vector<AttentionSpan> spans;  // fill the rows in order
  std::vector<TokenPick> picks;      // what is scored, rows rising
  std::vector<Index> sequences;      // [picks]: whose it is, among all
};

/// Batches in the order of the sequences, of `most_rows` rows at most but for a sequence that is
/// longer by itself. A function of the arguments alone.
[[nodiscard]] std::vector<TokenTrees> PackTrees(std::span<const ScoredSequence> sequences,
                                                Index most_rows);

struct SequenceScores {
  std::vector<double> log_likelihoods;  // [sequences], nats
  Index tokens = 0;                     // of all sequences, each on its own
  Index rows = 0;                       // that ran
  Index head_rows = 0;                  // that the head ran on
};

/// Layer by layer on as many batches as fit in 128 MiB of residual stream, so that a model larger
/// than memory is read once for each such lot, which devices share. The same for any number of
/// threads and devices. WorkPieces are batches; scores that are not whole are 0. Throws Error for
/// tokens the model lacks and for output that is not finite.
[[nodiscard]] SequenceScores ScoreSequences(const Weights& weights, const DeviceTeam& team,
                                            std::span<const ScoredSequence> sequences,
                                            std::string_view stage, Context& context);

}  // namespace lieq
