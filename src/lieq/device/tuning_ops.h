// The part of a device that training the numbers of quantized matrices needs beyond gradients: so
// that what moves, its gradients and its moments never leave the device. Without it the host does
// the same (tune/tuned_model.h, which says what the numbers are).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "lieq/device/device.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// One step of AdamW without decay (Loshchilov and Hutter, arXiv:1711.05101), of all numbers of a
/// kind: u -= rate m / (sqrt(v / second_share) + tiny).
struct AdamStep {
  float first = 0, second = 0;  // decays of the moments
  float tiny = 0;
  float rate = 0;          // over the share of the first moment that is there
  float second_share = 1;  // of the second
  float factor = 1;        // of gradients
};

/// Numbers of one matrix, on the host. Empty: left out.
template <class Float, class Word>
struct TrainedArrays {
  struct Numbers {
    std::span<Float> u, first, second, kept;  // u, its moments, and u as it was kept
  };
  Numbers scale, minimum;  // [rows * groups]
  Numbers code;            // [rows * cols]; kept: empty, the words say it
  std::span<Word> kept_words;
};

/// A matrix whose numbers will move; not of a K-quant.
struct TrainedStart {
  std::shared_ptr<const QMatrix> matrix;
  bool codes = false;  // move too, beside scales and minima
};

/// Quantized matrices and the numbers behind them. Units are those of TunedModel: of a scale its
/// first value, of a minimum the first magnitude of its scale, of a code 1. All u and moments are 0
/// until they are written. They die before the device.
class TrainedMatrices {
 public:
  virtual ~TrainedMatrices() = default;
  /// What products read: the matrix as it was rounded last.
  [[nodiscard]] virtual const Prepared& matrix(Index i) const = 0;
  /// dw [rows, cols]: adds what is the gradient with respect to its numbers.
  virtual void AddGradient(Index i, const PlacedSums<float>& dw) = 0;
  /// The sum of the squares of all gradients. Waits, as Sync does.
  [[nodiscard]] virtual double GradientSquares() = 0;
  virtual void ClearGradients() = 0;
  /// Moves all numbers, rounds them into the matrices, and clears gradients.
  virtual void Step(const AdamStep& numbers, const AdamStep& codes) = 0;
  /// Rounds them where they are.
  virtual void Round() = 0;
  /// Keeps u of scales and minima and the words of codes, in place of what was kept before.
  virtual void Keep() = 0;
  /// Waits, as Sync does.
  virtual void Read(Index i, const TrainedArrays<float, std::uint32_t>& to) = 0;
  virtual void Write(Index i, const TrainedArrays<const float, const std::uint32_t>& from) = 0;
};

class TuningOps {
 public:
  virtual ~TuningOps() = default;

  /// From now on the device's Prepare gives what training rounds for these matrices, as long as the
  /// result lives.
  [[nodiscard]] virtual std::unique_ptr<TrainedMatrices> Train(
      std::span<const TrainedStart> matrices) = 0;
  /// Prepares a matrix that will be asked for often: Prepare gives this one again, as long as
  /// somebody holds it.
  [[nodiscard]] virtual Prepared Hold(const AnyMatrix& matrix) = 0;
  /// Bytes of the device's memory that may still be taken, about. Waits, as Sync does.
  [[nodiscard]] virtual Index free_memory() = 0;
  /// sums[c] += the sum over rows of dy x / sqrt(mean(x²) + eps), rows in a fixed order. x, dy
  /// [n, cols].
  virtual void NormSums(DeviceView<const float> x, DeviceView<const float> dy, double eps,
                        std::span<double> sums) = 0;
  /// sums[c] += the sum over rows of dy [n, cols].
  virtual void ColumnSums(DeviceView<const float> dy, std::span<double> sums) = 0;
  /// to[rows[i]] += factor x[i], rows of x in order: the gradient of a table whose rows were looked
  /// up. x [n, cols], rows [n] below those of `to` [any, cols].
  virtual void AddRows(DeviceView<const float> x, std::span<const TokenId> rows, float factor,
                       PlacedSums<float>& to) = 0;
};

/// Of a device whose gradients have it; else null, and numbers lie with the host.
[[nodiscard]] TuningOps* TuningOf(Device& device) noexcept;

}  // namespace lieq
