// A quantized model whose numbers move: scales of groups, minima, d and dmin of super-blocks, of
// embedding and head too where they are quantized; norms and biases; and codes, where that is asked
// for.
//
// Each number is start + unit * u, rounded to what files hold. u is what training moves: with the
// start as the unit of scales, a step of u is a share of each. A code is its u, rounded to a whole
// number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/model/grids.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/dtype.h"

namespace lieq {

/// What a row of numbers is, by what it is rounded to.
enum class TunedKind : std::uint8_t {
  kScale,         // of a group: RoundScale
  kMinimum,       // of a group: RoundMinimum
  kSuper,         // d of a super-block: f16
  kSuperMinimum,  // dmin: f16
  kVector,        // norms and biases: the model's float type
  kCode,          // of a weight: a whole number of its grid
};

/// Numbers of one matrix or vector that move.
struct TunedNumbers {
  std::string name;  // "layer 3, down: scale"
  TunedKind kind{};
  std::vector<float> start;     // as the model came; of codes empty
  std::vector<float> unit;      // of u; of codes empty, their unit is 1
  std::vector<float> u;         // 0 at first; of codes within half a step of them
  std::vector<float> gradient;  // with respect to u, added up

  /// What the model holds of number i, which is no code.
  [[nodiscard]] float Value(std::size_t i, DType floats) const noexcept;
};

struct TunedParts {
  bool codes = false;  // beside scales and vectors
  /// The float model whose weights codes were rounded from; null: codes begin in the middle of
  /// their steps. Where weights are between two codes, less of a push moves them: u begins at
  /// `towards` of the way from a code to its weight, as far as the code stays the nearest.
  const Weights* reference = nullptr;
  float towards = 0.5f;
  /// Gradients of what matrices have are added up elsewhere: there is no room for them here.
  bool on_device = false;
  ThreadPool* pool = nullptr;  // places codes by its threads; what is placed does not depend on it
};

/// An array of a state, where it lies.
struct TunedArray {
  std::string name;
  DType type = DType::kF32;
  std::span<std::byte> bytes;
};

/// Where the numbers of a quantized matrix are among all.
struct TunedMatrix {
  static constexpr std::size_t kNone = ~std::size_t{0};
  Index layer = 0;  // with `site` a linear, where it is no end
  Site site{};
  std::optional<End> end = {};
  std::shared_ptr<const QMatrix> matrix;  // of TunedModel::weights
  std::size_t scale = kNone, minimum = kNone, code = kNone;
};

/// Matrices that are not quantized stay as they are.
class TunedModel {
 public:
  /// source: quantized; copies are made of what moves. floats: the type that its norms have in
  /// files.
  TunedModel(const Weights& source, DType floats, const TunedParts& parts = {});

  /// The model as its numbers are at the last Apply.
  [[nodiscard]] const Weights& weights() const noexcept { return weights_; }
  [[nodiscard]] std::span<TunedNumbers> numbers() noexcept { return numbers_; }
  [[nodiscard]] std::size_t count() const noexcept;  // of all numbers
  /// As of TunedParts.
  [[nodiscard]] bool on_device() const noexcept { return on_device_; }

  /// Those of the layers, then those of the ends.
  [[nodiscard]] std::vector<TunedMatrix> Matrices() const;
  /// Whose numbers move where this end is read: a tied model's embedding for both. None: floats.
  [[nodiscard]] std::optional<End> Trained(End end) const noexcept;

  /// Rounds norms and biases into the weights.
  void ApplyVectors();
  /// Rounds all of them into the weights. The u of codes is brought back to their grid.
  void Apply(ThreadPool& pool);

  /// Keeps the state of the last Apply, in place of what was kept before; brings it back.
  void Keep();
  void Restore(ThreadPool& pool);
  /// Where a device puts what it kept, by number of `numbers()`: u, or of codes the words.
  [[nodiscard]] std::span<float> KeptNumbers(std::size_t number) { return kept_[number]; }
  [[nodiscard]] std::span<std::uint32_t> KeptWords(const TunedMatrix& matrix);
  /// Where u lies and what was kept, to be written to a file or read from one. After Keep.
  [[nodiscard]] std::vector<TunedArray> Arrays();
  /// Codes that are others than at first; and all of them.
  [[nodiscard]] std::int64_t moved_codes(ThreadPool& pool) const;
  [[nodiscard]] std::int64_t codes() const noexcept;

  /// dw [out, in]: the gradient of a linear's weights, added to those of its numbers.
  void AddMatrixGradient(Index layer, Site site, View<const float, 2> dw, ThreadPool& pool);
  /// The same of an end that is trained: dw [vocabulary, hidden].
  void AddEndGradient(End end, View<const float, 2> dw, ThreadPool& pool);
  void AddBiasGradient(Index layer, Site site, std::span<const double> db);
  void AddVectorGradient(Index layer, LayerVector which, std::span<const double> dw);
  /// dw: of the norm as it is placed.
  void AddFinalNormGradient(std::span<const double> dw);
  /// Whether a linear has a bias.
  [[nodiscard]] bool HasBias(Index layer, Site site) const;

 private:
  static constexpr std::size_t kNone = TunedMatrix::kNone;
  struct MatrixPlace {  // where the numbers of a linear or an end are
    std::shared_ptr<QMatrix> matrix;
    std::shared_ptr<const QMatrix> source;
    std::size_t scale = kNone, minimum = kNone, bias = kNone, code = kNone;
    std::vector<std::uint32_t> kept;  // words
  };
  std::size_t Add(std::string name, TunedKind kind, std::vector<float> start,
                  std::vector<float> unit, bool gradient = true);
  std::size_t AddVector(std::string name, std::span<const float> values);
  void AddMatrix(const std::string& name, const AnyMatrix& matrix, const AnyMatrix* reference,
                 const TunedParts& parts, MatrixPlace& place);
  void AddEnds(const Weights& source, const TunedParts& parts);
  void AddCodes(const std::string& name, const AnyMatrix* reference, const TunedParts& parts,
                MatrixPlace& place);
  /// Calls for the places of all matrices that are quantized, in the order of Matrices.
  template <class Self, class Call>
  static void ForPlaces(Self& self, const Call& call);
  template <class Self>
  [[nodiscard]] static auto& PlaceOf(Self& self, const TunedMatrix& matrix);
  void Apply(const MatrixPlace& place, Index first, Index rows);
  void ApplyMatrix(const MatrixPlace& place, Index first, Index rows) const;
  void ApplyCodes(const MatrixPlace& place, Index first, Index rows);
  void AddGradient(const MatrixPlace& place, View<const float, 2> dw, ThreadPool& pool);
  void ApplyVector(std::size_t at, std::vector<float>& to) const;
  void AddVectorTo(std::size_t at, std::span<const double> gradient);

  DType floats_;
  bool on_device_;
  Weights weights_;
  std::vector<TunedNumbers> numbers_;
  std::vector<std::array<MatrixPlace, kSites>> matrices_;        // [layers]
  std::array<MatrixPlace, kMostEnds> ends_;                      // of a tied model the embedding's
  std::vector<std::array<std::size_t, kLayerVectors>> vectors_;  // [layers]
  std::size_t final_norm_ = kNone;
  std::vector<std::vector<float>> kept_;  // u, but of codes
};

}  // namespace lieq
