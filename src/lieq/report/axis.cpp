#include "lieq/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr double kHuge = 1e300;         // differences of clamped values stay finite
constexpr double kOneSize = 30;         // largest over least that a linear axis shows well
constexpr std::size_t kMostTicks = 12;  // whatever rounding does to a tiny step

/// 1, 2 or 5 times a power of ten, so that `length` has about `count` steps.
double NiceStep(double length, double count) {
  const double rough = std::max(length / count, 1e-300);  // below, powers of ten lose their digits
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::string PowerText(int exponent) {
  if (exponent >= -3 && exponent <= 4) return fmt::format("{:g}", std::pow(10.0, exponent));
  constexpr std::string_view kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = exponent < 0 ? "10⁻" : "10";
  for (const char digit : std::to_string(std::abs(exponent))) text += kDigits[digit - '0'];
  return text;
}

std::string LinearLabel(double value, double step) {
  if (std::fabs(value) < step / 2) return "0";
  const double size = std::fabs(value);
  if (size >= 1e6 || size < 1e-4) return fmt::format("{:.3g}", value);
  const double power = std::floor(std::log10(step) + 1e-9);
  return fmt::format("{:.{}f}", value, static_cast<int>(std::clamp(-power, 0.0, 8.0)));
}

}  // namespace

Axis::Axis(std::span<const double> values, double margin) {
  std::vector<double> sizes;
  bool any = false, positive = true;
  for (double value : values) {
    if (!std::isfinite(value)) continue;
    value = std::clamp(value, -kHuge, kHuge);
    least_ = any ? std::min(least_, value) : value;
    largest_ = any ? std::max(largest_, value) : value;
    any = true;
    positive = positive && value > 0;
    if (value != 0) sizes.push_back(std::fabs(value));
  }
  if (!any) return;
  if (!sizes.empty()) {
    const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
    std::nth_element(sizes.begin(), middle, sizes.end());
    const double median = *middle, largest = std::ranges::max(sizes);
    if (positive && largest / least_ > kOneSize) {
      kind_ = Kind::kLog;
    } else if (!positive && median < largest / kOneSize) {
      kind_ = Kind::kSignedLog;
      threshold_ = std::pow(10.0, std::floor(std::log10(median)));
    }
  }
  first_ = Place(least_);
  last_ = Place(largest_);
  if (!(last_ > first_)) {  // one value: in the middle
    const double around = std::max(std::fabs(first_) * 0.1, first_ == 0 ? 1.0 : 1e-300);
    first_ -= around;
    last_ += around;
  } else {
    const double beyond = margin * (last_ - first_);
    first_ -= beyond;
    last_ += beyond;
  }
}

Axis Axis::OfWhole(double first, double last, double margin) {
  Axis axis;
  axis.whole_ = true;
  axis.least_ = first;
  axis.largest_ = last;
  axis.first_ = first - margin;
  axis.last_ = last + margin;
  return axis;
}

double Axis::Place(double value) const {
  if (kind_ == Kind::kLog) return std::log10(value);
  if (kind_ == Kind::kSignedLog) return std::asinh(value / threshold_);
  return value;
}

double Axis::Inverse(double place) const {
  if (kind_ == Kind::kLog) return std::pow(10.0, place);
  if (kind_ == Kind::kSignedLog) return std::sinh(place) * threshold_;
  return place;
}

double Axis::Share(double value) const {
  LIEQ_ASSERT(std::isfinite(value));
  value = std::clamp(value, -kHuge, kHuge);
  if (kind_ == Kind::kLog && value <= 0) return 0;
  const double share = (Place(value) - first_) / (last_ - first_);
  return std::clamp(share, 0.0, 1.0);
}

std::vector<Tick> Axis::Ticks() const {
  std::vector<Tick> ticks;
  const auto add = [&](double value, std::string label) {
    const double place = Place(value);
    const double slack = 1e-9 * (last_ - first_);
    if (ticks.size() < kMostTicks && place >= first_ - slack && place <= last_ + slack) {
      ticks.push_back({.value = value, .label = std::move(label)});
    }
  };
  if (kind_ == Kind::kLinear) {
    double step = NiceStep(last_ - first_, whole_ ? 8 : 5);
    if (whole_) step = std::max(step, 1.0);
    const double begin = std::ceil(first_ / step);
    for (std::size_t i = 0; i <= kMostTicks; ++i) {
      const double value = (begin + static_cast<double>(i)) * step;
      if (value > last_) break;
      add(value, LinearLabel(value, step));
    }
    return ticks;
  }
  // The margin may lie beyond what a double holds.
  const double most =
      std::min(1e308, std::max(std::fabs(Inverse(first_)), std::fabs(Inverse(last_))));
  const int high = static_cast<int>(std::floor(std::log10(most) + 1e-9));
  const int low = static_cast<int>(kind_ == Kind::kLog ? std::ceil(first_ - 1e-9)
                                                       : std::floor(std::log10(threshold_) + 0.5));
  const int each = std::max(1, (high - low + 5) / 5);
  if (kind_ == Kind::kLog) {
    const bool few = high - low < 2;  // one or two powers of ten say little
    for (int power = few ? low - 1 : low; power <= high; power += each) {
      const double value = std::pow(10.0, power);
      add(value, PowerText(power));
      if (!few) continue;
      for (const double factor : {2.0, 5.0}) add(factor * value, NumberText(factor * value));
    }
    return ticks;
  }
  for (int power = high; power >= low; power -= each) {
    add(-std::pow(10.0, power), "-" + PowerText(power));
  }
  add(0, "0");
  for (int power = low + (high - low) % each; power <= high; power += each) {
    add(std::pow(10.0, power), PowerText(power));
  }
  return ticks;
}

std::string NumberText(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size >= 1e3 && size < 1e7) return fmt::format("{:.0f}", value);
  return fmt::format("{:.{}g}", value, digits);
}

std::string BytesText(double bytes) {
  constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (std::fabs(bytes) >= 999.5 && unit + 1 < std::size(kUnits)) {
    bytes /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g} {}", bytes, kUnits[unit]);
}

std::string SecondsText(double seconds) {
  if (seconds < 10) return fmt::format("{:.2g} s", seconds);
  if (seconds < 119.5 || seconds > 1e12) return fmt::format("{:.0f} s", seconds);
  const double whole = std::floor(seconds + 0.5);
  if (whole < 7200) {
    return fmt::format("{:.0f} min {:.0f} s", std::floor(whole / 60), std::fmod(whole, 60));
  }
  return fmt::format("{:.0f} h {:.0f} min", std::floor(whole / 3600),
                     std::floor(std::fmod(whole, 3600) / 60));
}

}  // namespace lieq
