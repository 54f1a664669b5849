// How far a model is from another one, its reference, on the scored tokens of a text.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/base/context.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/io/tensor_file.h"
#include "lieq/model/forward.h"

namespace lieq {

struct DivergenceResult {
  PerplexityResult model, reference;
  /// KL(reference || model) of the distributions of the next token, nats; its standard error over
  /// windows.
  double mean_kl = 0, kl_error = 0, median_kl = 0, kl_99 = 0, largest_kl = 0;
  double same_top = 0, same_top_error = 0;  // share of tokens with the same likeliest one
  double flips = 0;                         // share where one likeliest is right and the other not
  /// Perplexity over the reference's, and its standard error: of the paired difference of losses,
  /// over windows.
  double ratio = 0, ratio_error = 0;
};

/// The residual stream of a reference behind its last layer, at the scored tokens of a text: kept
/// in a file, since logits, which the head makes of it again, are hundreds of times as large.
class ReferenceStates {
 public:
  /// Opens `file` where it holds those of `hash` (of model, text, windows and arithmetic), else
  /// runs the reference and writes it. Throws Error.
  static ReferenceStates Make(const Weights& reference, Device& device, const ScoredText& text,
                              const std::string& hash, const std::filesystem::path& file,
                              Context& context);

  /// [scored, hidden] of a window, mapped.
  [[nodiscard]] View<const float, 2> Window(Index window) const;

 private:
  explicit ReferenceStates(TensorFile file) : file_(std::move(file)) {}

  TensorFile file_;
};

/// Both models have one vocabulary (throws Error). Deterministic for any number of threads.
[[nodiscard]] DivergenceResult MeasureDivergence(const Weights& weights, const Weights& reference,
                                                 const ReferenceStates& states, Device& device,
                                                 const ScoredText& text, Context& context);

}  // namespace lieq
