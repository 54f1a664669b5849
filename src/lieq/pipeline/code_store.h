// A folder of codes: every candidate grid of every layer, quantized on the inputs of the float
// model. Any choice of one candidate for each unit is a model put together without quantizing.
//
//   settings.json                  what the codes depend on, the grids left out
//   layer-00012-2-64.safetensors   packed tensors of layer 12 at 2 bits, groups of 64, and reports
//                                  in its metadata; units whose rows the groups divide
//
// Files appear whole, by one rename; what is there is used again, so that grids can be added later
// and an interrupted run goes on.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/session.h"
#include "lieq/plan/sensitivities.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/options.h"

namespace lieq {

/// Packed tensors of a layer's linears, those that are there, and the reports in the metadata.
void WriteLayerCodes(const std::filesystem::path& file, Index layer, const QuantizedLayer& codes,
                     DType scale_type);

class CodeStore {
 public:
  /// Writes nothing yet. `settings`: CodeSettings. Throws Error naming the first setting in which
  /// the codes that are there differ. `model` outlives this.
  CodeStore(std::filesystem::path folder, const ModelFolder& model, const Record& settings);

  /// Makes the codes that are missing, and the folder. windows: calibration, may be empty for a
  /// method without.
  void Make(std::span<const Grid> candidates, const QuantOptions& options, const Windows& windows,
            Session& session) const;
  /// The same of some layers. Other processes may work on the folder, even on the same layers:
  /// files of one name are alike.
  void Make(std::span<const Grid> candidates, const QuantOptions& options, const Windows& windows,
            std::span<const Index> layers, Session& session) const;

  /// Whether all are there, of every layer.
  [[nodiscard]] bool Has(std::span<const Grid> candidates) const;

  /// The same for embedding and head; of some of their candidates.
  void MakeEnds(std::span<const EndCandidates> ends, const QuantOptions& options,
                const Windows& windows, Session& session) const;
  void MakeEnds(std::span<const std::pair<const EndCandidates*, std::size_t>> ends,
                const QuantOptions& options, const Windows& windows, Session& session) const;

  [[nodiscard]] std::filesystem::path File(Index layer, const Grid& grid) const;
  [[nodiscard]] std::filesystem::path EndFile(End end, const Grid& grid) const;
  /// The names of these files in their folder.
  [[nodiscard]] static std::string FileName(Index layer, const Grid& grid);
  [[nodiscard]] static std::string EndFileName(End end, const Grid& grid);
  /// Reports of a layer by Site; those of linears that the grid does not fit are empty.
  [[nodiscard]] std::array<LinearReport, kSites> Reports(Index layer, const Grid& grid) const;
  /// The layer with the linears of some units replaced: grids by Unit, null to leave one in float.
  [[nodiscard]] LayerWeights Layer(Index layer, const std::array<const Grid*, kUnits>& grids) const;
  /// The model with one end replaced, which a tied one has twice.
  [[nodiscard]] Weights WithEnd(End end, const Grid& grid) const;
  /// The whole model with its layers and ends at these grids; layers are read by the pool's
  /// threads.
  [[nodiscard]] Weights Mix(const ModelGrids& grids, ThreadPool& pool) const;

 private:
  /// Makes the folder, with what says what its codes depend on.
  void Begin() const;
  void ReplaceEnd(End end, const Grid& grid, Weights& weights) const;

  std::filesystem::path folder_;
  const ModelFolder* model_;
  Record settings_;
};

}  // namespace lieq
