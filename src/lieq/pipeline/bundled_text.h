// The text that is calibrated on where a user names none.
#pragma once

#include <string_view>

namespace lieq {

/// models/texts/calibration.txt, which travels inside the program.
[[nodiscard]] std::string_view BundledCalibration() noexcept;

}  // namespace lieq
