// One pass of a model over the scored windows of a text, layer by layer.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device_team.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Floats of residual stream that go through a layer before the next one is read: 128 MiB.
inline constexpr Index kResidualFloats = Index{1} << 25;

/// Windows of one shape, behind the last layer.
struct ScoredBatch {
  Index begin = 0;  // of its windows among the text's
  ScoredWindow shape;
  View<const TokenId, 2> tokens;
  const Hidden& hidden;
  Index member = 0;  // of the devices, which ran it
  Forward& forward;  // by which
};

/// Windows that go through a layer together: begin .. end - 1 of the text's, of one shape. A
/// function of text and model alone, so that what is computed apart is computed alike.
struct WindowRange {
  Index begin = 0, end = 0;
};
/// All windows in order: as many at once as fit in 128 MiB of residual stream, and no more than
/// 16,384 tokens, beyond which products gain nothing. hidden: of the model.
[[nodiscard]] std::vector<WindowRange> BatchesOf(const ScoredText& text, Index hidden);
/// Those that hold any of the windows [windows].
[[nodiscard]] std::vector<WindowRange> BatchesOf(const ScoredText& text, Index hidden,
                                                 const std::vector<bool>& windows);

/// Runs every layer on a batch before the next one, so that the weights of a model larger than
/// memory are read once for each and given back layer by layer. Batches are shared among devices.
/// see: called for each batch, in order where there is one device, else by several threads at once;
/// what it returns is shown with the progress. Throws Error for tokens the model lacks.
void RunScored(const Weights& weights, const DeviceTeam& team, const ScoredText& text,
               const std::vector<WindowRange>& batches, std::string_view stage, Context& context,
               const std::function<std::string(const ScoredBatch&)>& see);

/// What is said of the scored tokens of a window: some numbers of each, [columns][scored tokens].
using WindowScores = std::vector<std::vector<double>>;

/// The scores of a text's windows, [windows], as pieces (base/work_pieces.h): batches.
class ScoredPieces {
 public:
  /// Takes what is known. Throws Error for a piece that has another form. context outlives this.
  ScoredPieces(const ScoredText& text, Index hidden, std::size_t columns, Context& context);

  /// What is to be computed here.
  [[nodiscard]] const std::vector<WindowRange>& batches() const noexcept { return batches_; }
  /// [windows]: whether one is in those.
  [[nodiscard]] std::vector<bool> windows() const;
  /// Windows of a batch that was computed, from batch.begin on. By one thread at a time.
  void Keep(const WindowRange& batch, std::vector<WindowScores> scores);
  /// Of all windows; of those that are another's nothing.
  [[nodiscard]] const std::vector<WindowScores>& scores() const noexcept { return scores_; }

 private:
  [[nodiscard]] std::string Key(const WindowRange& batch) const;

  Context& context_;
  std::vector<WindowRange> batches_;
  std::vector<WindowScores> scores_;
};

}  // namespace lieq
