// Refinement of rounded rows on a GPU, and what the rows miss of their outputs.
#pragma once

#include "lieq/device/cuda/cuda_products.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// Sums that say what outputs miss (quantize/target.h).
struct MissingSums {
  const PlacedSums<float>* drift;    // [n, n] or null
  const PlacedSums<float>* missing;  // [rows, n] or null
  double drift_strength, multiple;
};
/// to [n, rows] = (drift_strength W drift + multiple missing)ᵀ; weights [n, rows], room [n, rows].
void MissingByColumn(const MissingSums& sums, const float* weights, Index rows, float* room,
                     float* to, CudaProducts& products, Queue& queue);

struct MatrixToRefine {
  const RefineWork& work;
  double multiple;
  GptqGrid grid;
  Index n;
  const float* h;        // [n, n]
  const float* weights;  // [n, rows], as all below, by column
  const float* target;
  float* residual;  // room
  float* room;
  CodesOnDevice q;
};
/// Fills in what `result` has of refined and judged rows. It has run when this returns.
void RefineMatrix(const MatrixToRefine& matrix, const RoundingResult& result,
                  CudaProducts& products, Queue& queue);

}  // namespace lieq::cuda
