// What a quantization run is told, and what it reports for each linear.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "lieq/model/config.h"
#include "lieq/tensor/qmatrix.h"

namespace lieq {

/// Order in which GPTQ rounds columns, and when it fits the scales of a group.
enum class ActOrder : std::uint8_t {
  kNone,  // left to right; a group's scales are fitted when it is reached, on the fed-back weights
  kStatic,  // by falling H_jj; scales fitted before the pass, so any order is free at run time
  kGroup,   // whole groups by falling largest H_jj, inside a group by falling H_jj (GAR,
            // arXiv:2505.14638); scales fitted when the group is reached
};

/// Where the outermost level of a group lies.
enum class Clip : std::uint8_t {
  kNone,    // at the group's extreme weight
  kSearch,  // where the squared error is least, down to 0.3 of the extreme
};

[[nodiscard]] std::string_view Name(ActOrder order) noexcept;  // "none", "static", "group"
[[nodiscard]] std::string_view Name(Clip clip) noexcept;       // "none", "search"
/// Throw Error naming the option and what it takes.
[[nodiscard]] ActOrder ParseActOrder(std::string_view text);
[[nodiscard]] Clip ParseClip(std::string_view text);
[[nodiscard]] Offset ParseOffset(std::string_view text);

struct QuantOptions {
  std::string method = "gptq";  // a row of Quantizers()
  ActOrder act_order = ActOrder::kStatic;
  Clip clip = Clip::kSearch;
  double damping = 0.01;  // times the mean of diag(H), added to it
};

/// How one linear fared. Errors are sums over the calibration tokens of squared output errors.
struct LinearReport {
  double error = 0;        // trace(E (H + damping) Eᵀ), E = W - Q; for RTN ||E||²
  double signal = 0;       // the same of W itself, so that error / signal is a relative error
  double damping = 0;      // lambda that was used, relative to the mean of diag(H); 0 for RTN
  int retries = 0;         // times the factorisation failed and damping was raised tenfold
  bool fell_back = false;  // rounded to nearest, because no damping helped
  Index dead_columns = 0;  // inputs that were 0 on every calibration token
  double clamped = 0;      // share of weights that feedback pushed beyond the outermost level
};

/// Throws Error where group_size does not divide the input size of some linear of the model; the
/// message lists the sizes that do.
void CheckGroupSize(const ModelConfig& config, Index group_size);

}  // namespace lieq
