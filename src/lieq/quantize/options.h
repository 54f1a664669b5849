// What a quantization run is told, and what it reports for each linear.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

/// How much of a correction is applied, 0 to 1. What 2 bits lose is so much that a full correction
/// moves weights far from where the float model has them, and texts other than the calibration's
/// suffer; wider codes can follow all of it (docs/quantizers.md has the measurement).
struct Strength {
  double narrow = 0;  // of linears at 2 bits
  double wide = 0;    // at 3 and more

  constexpr Strength(double both) : narrow(both), wide(both) {}  // NOLINT: a number is a strength
  constexpr Strength(double at_two, double above) : narrow(at_two), wide(above) {}
  [[nodiscard]] constexpr double At(int bits) const noexcept { return bits <= 2 ? narrow : wide; }
  [[nodiscard]] constexpr bool any() const noexcept { return narrow > 0 || wide > 0; }
  friend bool operator==(const Strength&, const Strength&) = default;
};

struct QuantOptions {
  std::string method = "best";  // a row of Quantizers()
  ActOrder act_order = ActOrder::kStatic;
  Clip clip = Clip::kSearch;
  double damping = 0.01;  // times the mean of diag(H), added to it
  // Steps around GPTQ; empty: what the method's row has (WithDefaults).
  std::optional<Strength> drift;     // of the correction for drifted inputs
  std::optional<Strength> residual;  // of that for the drifted residual stream, in o and down
  std::optional<int> rounds;         // of coordinate descent and grid refits after GPTQ
  std::optional<bool> search;        // refits try grids with new codes too
  bool half_scales = false;          // scales are for a container that stores them as f16

  /// True where the float model's activations are wanted beside the quantized one's. Once
  /// WithDefaults was applied.
  [[nodiscard]] bool corrects() const { return drift->any() || residual->any(); }
  /// True where windows are held out to judge what was fitted to the others. As above.
  [[nodiscard]] bool judges() const { return corrects() || *rounds > 0; }
};

/// How one linear fared. Errors are sums over the calibration tokens of squared output errors.
struct LinearReport {
  double error = 0;        // trace(E (H + damping) Eᵀ), E = W* - Q (target.h); for RTN ||E||²
  double signal = 0;       // the same of W* itself, so that error / signal is a relative error
  double damping = 0;      // lambda that was used, relative to the mean of diag(H); 0 for RTN
  int retries = 0;         // times the factorisation failed and damping was raised tenfold
  bool fell_back = false;  // rounded to nearest, because no damping helped
  Index dead_columns = 0;  // inputs that were 0 on every calibration token
  double clamped = 0;      // share of weights that feedback pushed beyond the outermost level
  /// Share of the squared weights that lie in groups whose scale f16 holds with few bits or not at
  /// all, where that is what scales are stored as; 0 where it is too small to matter.
  double coarse_scales = 0;
  double seconds = 0;
  // Of the steps after GPTQ, where there were some. `error` is that of the end.
  double start_error = 0;  // as `error`, before them
  Index moves = 0;         // codes that coordinate descent changed
  // Output error E|W x + r - (Q u + r_u)|² summed over the held-out tokens, less what no Q can
  // change (so it may be below 0).
  double held_out_start = 0, held_out = 0;
  double kept_rows = 0;  // share of rows that stayed as GPTQ had them, being better so held out
  /// Experts that fewer calibration tokens went to than they have inputs: average rows of their
  /// layer stand in for those that are missing.
  std::vector<Index> thin_experts;
};

/// Group sizes are multiples of the first up to the second, or a row: any that divides the rows
/// works everywhere here, and widths such as 576 and 896 have more divisors of use than powers of
/// two.
inline constexpr Index kGroupStep = 16, kLargestGroup = 256;

/// Throws Error where group_size does not divide the input size of some linear of the model; the
/// message lists the sizes that do.
void CheckGroupSize(const ModelConfig& config, Index group_size);
/// Throws Error where a linear's input size is not a multiple of a super-block's columns.
void CheckKQuant(const ModelConfig& config);

}  // namespace lieq
