// Whether two models are the same, tensor by tensor, by what they mean and not by how they lie in
// their files.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/thread_pool.h"
#include "lieq/container/model_folder.h"

namespace lieq {

/// The first difference of a kind, and how many more there are.
struct Difference {
  std::string kind;        // "codes", "scales", "zero-points", "minima", "super-blocks" (where
                           // their d or dmin alone is another), "factors", "values", "rounding",
                           // "norms", "biases", "configuration"
  std::string tensor;      // module, tensor or key of the configuration
  Index row = -1;          // -1: there are none
  Index col = -1;          // of scales and the like: the group, of super-blocks: the block
  std::string expected;    // of the first model
  std::string found;       // of the second
  std::int64_t count = 0;  // of this kind in all
};

struct Comparison {
  std::vector<Difference> differences;  // one for each kind that there is, as they are found
  std::int64_t values = 0;              // weights that were compared: of linears and the ends
  Index linears = 0;
  /// Of "values" those that follow from other differences of their matrix, which are listed.
  std::int64_t explained = 0;
  Index same_grids =
      0;  // linears of which codes, scales and offsets were compared, not only values
  /// How many matrices are those of the first model rounded to a type of GGUF, by its name.
  std::map<std::string, Index, std::less<>> rounded;

  [[nodiscard]] bool equal() const noexcept { return differences.empty(); }
  [[nodiscard]] std::int64_t count() const noexcept;
  [[nodiscard]] std::int64_t CountOf(std::string_view kind) const noexcept;
};

/// Which matrices of the second model may be those of the first rounded to nearest, as `lieq
/// export` does where it is told to.
enum class RoundedMatrices : std::uint8_t { kNone, kEnds, kAll };

/// CompareModels part by part, for models of which not all is held at once.
class ModelComparer {
 public:
  /// pool: compares blocks of rows at once; the result does not depend on it.
  explicit ModelComparer(RoundedMatrices rounded = RoundedMatrices::kNone,
                         ThreadPool* pool = nullptr);
  ~ModelComparer();

  /// False where shapes differ: there is nothing more to lay side by side.
  bool Configuration(const ModelConfig& expected, const ModelConfig& found);
  /// Embedding, head and final norm.
  void Ends(const Weights& expected, const Weights& found);
  /// config: of both.
  void Layer(const ModelConfig& config, Index layer, const LayerWeights& expected,
             const LayerWeights& found);
  /// Of all parts so far; once.
  [[nodiscard]] Comparison Take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Compares configuration (in float32, as containers keep it), norms, biases, embedding, head and
/// linears. A matrix on the same grid in both is compared by its codes, scales and offsets, bit for
/// bit, and where they differ by its values too; others by their values in float32, which are equal
/// as numbers: 0 is -0, and bits that no value depends on (codes below a scale of 0) are not seen.
/// Where a matrix may be rounded it equals the nearest values that its type
/// has, bit for bit.
[[nodiscard]] Comparison CompareModels(const ModelFolder& expected, const ModelFolder& found,
                                       RoundedMatrices rounded = RoundedMatrices::kNone,
                                       ThreadPool* pool = nullptr);

/// ", row 3, column 17"; nothing where there is no such place.
[[nodiscard]] std::string PlaceOf(const Difference& difference);

}  // namespace lieq
