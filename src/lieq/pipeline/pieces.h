// The pieces that runs are made of, timed on this machine in the shapes of one model: a layer's
// forward pass, Gram matrices, the rounding of some rows, spectra, reads and writes. Seconds are
// what each takes by the clock of a machine with nothing else to do.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/diagnose/layer_spectra.h"
#include "lieq/pipeline/machine.h"
#include "lieq/pipeline/session.h"
#include "lieq/quantize/options.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

class Pieces {
 public:
  /// All outlive this.
  Pieces(const ModelFolder& model, Machine& machine, Session& session);

  /// One layer on `rows` tokens in windows of `length`; packed: its linears have codes of that
  /// grid.
  [[nodiscard]] double Layer(Index rows, Index length, const Grid* packed);
  /// Logits of `rows` positions, and how far they are from others.
  [[nodiscard]] double Logits(Index rows);
  /// xᵀx of `rows` vectors of `columns`, half of it; and aᵀb.
  [[nodiscard]] double Gram(Index rows, Index columns);
  [[nodiscard]] double Cross(Index rows, Index a_columns, Index b_columns);
  /// What linears of one input share: factors of its Gram matrix.
  [[nodiscard]] double Prepare(Index columns, const Grid& grid, const QuantOptions& options);
  /// Rounding a matrix of a layer, judged on so many tokens that are held out.
  [[nodiscard]] double Quantize(Site site, const Grid& grid, const QuantOptions& options,
                                Index held_out);
  /// The same of any matrix; adds: to the residual stream.
  [[nodiscard]] double QuantizeMatrix(Index rows, Index columns, bool adds, const Grid& grid,
                                      const QuantOptions& options, Index held_out);
  /// Rounding a matrix to nearest.
  [[nodiscard]] double Round(Index rows, Index columns, const Grid& grid, Clip clip);
  /// Compactness of a layer.
  [[nodiscard]] double Spectra(const DiagnoseOptions& options);
  /// Codes of a layer to its file, and back.
  [[nodiscard]] double WriteCodes(const Grid& grid);
  [[nodiscard]] double ReadCodes(const Grid& grid);
  /// Files of so many bytes in all, flushed to the disk.
  [[nodiscard]] double Write(std::int64_t bytes, Index files);
  [[nodiscard]] double Read(std::int64_t bytes);

 private:
  [[nodiscard]] std::string Shape() const;
  [[nodiscard]] double Threads() const;
  /// Tasks of some rows each, as many at a time as there are threads.
  [[nodiscard]] double InTasks(double each, Index rows) const;

  const ModelFolder& model_;
  Machine& machine_;
  Session& session_;
};

}  // namespace lieq
