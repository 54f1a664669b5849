// From values to a place between 0 and 1, with the ticks and number texts that go with it.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace lieq {

struct Tick {
  double value = 0;
  std::string label;
};

/// Linear where the values are of one size, logarithmic where positive values differ much, and
/// linear near 0 but logarithmic beyond (asinh) where such values have both signs: one layer whose
/// removal destroys a model must not flatten the others.
class Axis {
 public:
  enum class Kind { kLinear, kLog, kSignedLog };

  /// Over finite `values` (others are passed over; 0 to 1 where there is none), each end
  /// `margin` of the length beyond the outermost value.
  explicit Axis(std::span<const double> values, double margin = 0);
  /// Linear, with ticks at whole numbers: layers.
  static Axis OfWhole(double first, double last, double margin);

  /// 0 at the least value, 1 at the largest; beyond them clamped. `value` must be finite.
  [[nodiscard]] double Share(double value) const;
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] std::vector<Tick> Ticks() const;
  /// The outermost values themselves.
  [[nodiscard]] double least() const noexcept { return least_; }
  [[nodiscard]] double largest() const noexcept { return largest_; }

 private:
  Axis() = default;
  [[nodiscard]] double Place(double value) const;
  [[nodiscard]] double Inverse(double place) const;

  Kind kind_ = Kind::kLinear;
  bool whole_ = false;
  double least_ = 0, largest_ = 1;
  double threshold_ = 1;         // of kSignedLog: where linear ends
  double first_ = 0, last_ = 1;  // ends, as places
};

/// Four significant digits: "0.4477", "3824", "1.2e-05".
[[nodiscard]] std::string NumberText(double value, int digits = 4);
/// "4.27 MB", decimal.
[[nodiscard]] std::string BytesText(double bytes);
/// "33 s", "4 min 10 s", "2 h 5 min".
[[nodiscard]] std::string SecondsText(double seconds);

}  // namespace lieq
