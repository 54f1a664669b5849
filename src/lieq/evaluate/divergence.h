// How far a model is from another one, its reference, on the scored tokens of a text.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/evaluate/scored_pass.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Of so many of the likeliest tokens it is counted how many both models have among theirs; of all
/// where a vocabulary has fewer.
inline constexpr Index kTopTokens = 5;

struct DivergenceResult {
  PerplexityResult model, reference;
  /// KL(reference || model) of the distributions of the next token, nats: its mean over scored
  /// tokens with the standard error over windows, and quantiles of all of them, exact: linear
  /// between the two tokens that are nearest (Quantile).
  double mean_kl = 0, kl_error = 0;
  double median_kl = 0, kl_90 = 0, kl_99 = 0, kl_999 = 0, largest_kl = 0;
  double same_top = 0, same_top_error = 0;  // share of tokens with the same likeliest one
  /// Mean share of the reference's kTopTokens likeliest that are among the model's; of equally
  /// likely tokens the lower ids count.
  double top_overlap = 0, top_overlap_error = 0;
  double flips = 0;  // share where one likeliest is right and the other not
  /// Mean KL of the tokens that an answer begins with; none where answers are not known, or none
  /// begins behind a scored token.
  std::optional<double> first_kl;
  Index first_tokens = 0;
  /// Perplexity over the reference's, and its standard error: of the paired difference of losses,
  /// over windows.
  double ratio = 0, ratio_error = 0;
};

/// The residual stream of a reference behind its last layer, at the scored tokens of a text: kept
/// in a file, since logits, which the head makes of it again, are hundreds of times as large.
class ReferenceStates {
 public:
  /// Opens `file` where it holds those of `hash` (of model, text, windows and arithmetic), else
  /// runs the reference and writes it. windows [windows]: which are wanted. Throws Error.
  static ReferenceStates Make(const Weights& reference, const DeviceTeam& team,
                              const ScoredText& text, const std::vector<bool>& windows,
                              const std::string& hash, const std::filesystem::path& file,
                              Context& context);

  /// [scored, hidden] of a window that was wanted, mapped.
  [[nodiscard]] View<const float, 2> Window(Index window) const;

 private:
  explicit ReferenceStates(TensorFile file) : file_(std::move(file)) {}

  TensorFile file_;
};

/// What a divergence is made of, so far as it is known.
class DivergencePieces : public ScoredPieces {
 public:
  DivergencePieces(const Weights& weights, const ScoredText& text, Context& context);
};

/// Both models have one vocabulary (throws Error). states: of the windows that the pieces leave to
/// be computed here; null where there are none. The same for any number of threads and devices. A
/// result that is not whole is empty.
[[nodiscard]] DivergenceResult MeasureDivergence(const Weights& weights, const Weights& reference,
                                                 const ReferenceStates* states,
                                                 DivergencePieces& pieces, const DeviceTeam& team,
                                                 const ScoredText& text, Context& context);
/// The same with the states of all windows.
[[nodiscard]] DivergenceResult MeasureDivergence(const Weights& weights, const Weights& reference,
                                                 const ReferenceStates& states,
                                                 const DeviceTeam& team, const ScoredText& text,
                                                 Context& context);

}  // namespace lieq
