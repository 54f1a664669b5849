// Numbers of a piece of work as the JSON that it is kept in, exactly.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// Rows of numbers. What is not finite is kept as null, and read as NaN.
[[nodiscard]] std::string PieceOfNumbers(std::span<const std::vector<double>> rows);
/// The same rows, of these lengths. Throws Error naming the piece where it has another form.
[[nodiscard]] std::vector<std::vector<double>> NumbersOfPiece(std::string_view piece,
                                                              std::span<const std::size_t> lengths,
                                                              const std::string& key);

}  // namespace lieq
