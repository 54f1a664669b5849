// Columns of a matrix in another order: out_proj of the gated delta rule in GGUF files.
#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/gguf_names.h"

namespace lieq {
namespace {

using Packed = std::shared_ptr<const QMatrix>;

/// Where group g of the result lies; nothing where some group would be torn apart.
std::vector<Index> GroupOrder(const std::vector<Index>& order, Index columns) {
  std::vector<Index> groups;
  for (std::size_t first = 0; first < order.size(); first += Size(columns)) {
    if (order[first] % columns != 0) return {};
    for (std::size_t i = 0; i < Size(columns); ++i) {
      if (order[first + i] != order[first] + static_cast<Index>(i)) return {};
    }
    groups.push_back(order[first] / columns);
  }
  return groups;
}

QMatrix MovedCodes(const QMatrix& matrix, const std::vector<Index>& order,
                   const std::string& place) {
  const bool one = matrix.groups() == 1 && matrix.supers() == 0;
  const std::vector<Index> groups =
      one ? std::vector<Index>{0}
          : GroupOrder(order, matrix.supers() > 0 ? kSuperColumns : matrix.group_columns());
  if (groups.empty()) {
    throw Error({.what = "groups of codes that reach over heads which lie apart in the file",
                 .where = place,
                 .expected = "groups that divide a value head, or one a row",
                 .found = matrix.supers() > 0
                              ? "super-blocks of 256 columns"
                              : "groups of " + std::to_string(matrix.group_columns())});
  }
  QMatrix moved(matrix.rows(), matrix.cols(), matrix.grid());
  std::vector<std::uint8_t> codes(Size(matrix.cols())), placed(codes.size());
  for (Index row = 0; row < matrix.rows(); ++row) {
    matrix.GetRow(row, codes);
    for (std::size_t c = 0; c < order.size(); ++c) placed[c] = codes[Size(order[c])];
    moved.SetRow(row, placed);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto to = static_cast<Index>(g), from = groups[g];
      if (matrix.supers() > 0) {
        moved.SetSuper(row, to, matrix.Super(row, from));
        continue;
      }
      moved.scales()(row, to) = matrix.scales()(row, from);
      if (moved.zeros().size() > 0) moved.zeros()(row, to) = matrix.zeros()(row, from);
      if (moved.minima().size() > 0) moved.minima()(row, to) = matrix.minima()(row, from);
    }
  }
  return moved;
}

}  // namespace

AnyMatrix MovedColumns(const AnyMatrix& matrix, const std::vector<Index>& order,
                       const std::string& place, std::vector<std::shared_ptr<const void>>& owners) {
  return std::visit(
      [&](const auto& held) -> AnyMatrix {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, Packed>) {
          return std::make_shared<const QMatrix>(MovedCodes(*held, order, place));
        } else if constexpr (requires { held->rows(); }) {
          LIEQ_ASSERT(false);  // no linear of experts has columns that move
          return matrix;
        } else {
          using T = std::remove_const_t<std::remove_pointer_t<decltype(held.data())>>;
          auto moved = std::make_shared<Matrix<T>>(held.rows(), held.cols());
          for (Index row = 0; row < held.rows(); ++row) {
            for (std::size_t c = 0; c < order.size(); ++c) {
              (*moved)(row, static_cast<Index>(c)) = held(row, order[c]);
            }
          }
          owners.push_back(moved);
          return View<const T, 2>(std::as_const(*moved).view());
        }
      },
      matrix);
}

std::vector<Index> Undone(const std::vector<Index>& order) {
  std::vector<Index> back(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) back[Size(order[i])] = static_cast<Index>(i);
  return back;
}

}  // namespace lieq
