// Gradients of the products of a unit at once against those of one after another.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "lieq/device/device.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {

/// Of linears of `outs` outputs that share x [rows, in], the second of them codes and the third one
/// whose weights nobody asks a gradient of.
inline void ExpectUnitGradients(Device& device, Index rows, Index in, std::span<const Index> outs) {
  GradientOps& gradients = RequireGradients(device);
  CalibrationOps& sums = RequireCalibration(device);
  const Matrix<float> x = RandomMatrix(rows, in, 1), start = RandomMatrix(rows, in, 2);
  const DeviceMatrix on_x = Uploaded(device, x);
  std::vector<Matrix<float>> w, dy, before;
  std::vector<DeviceMatrix> on_dy;
  std::vector<Prepared> prepared;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    w.push_back(RandomMatrix(outs[i], in, 10 + i));
    dy.push_back(RandomMatrix(rows, outs[i], 20 + i));
    before.push_back(RandomMatrix(outs[i], in, 30 + i));
    on_dy.push_back(Uploaded(device, dy[i]));
  }
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Grid grid{.bits = 3, .group_size = 0, .offset = Offset::kFloat};
    prepared.push_back(device.Prepare(
        i == 1 ? AnyMatrix(std::make_shared<const QMatrix>(RandomQMatrix(outs[i], in, grid, 5)))
               : AnyMatrix(w[i].view())));
  }
  const auto asked = [&](std::size_t i) { return i != 2; };
  for (const bool add : {false, true}) {
    for (const bool add_sums : {false, true}) {
      const DeviceMatrix expected = Uploaded(device, start), found = Uploaded(device, start);
      std::vector<std::unique_ptr<PlacedSums<float>>> one_by_one, at_once;
      std::vector<ProductGradient> products;
      for (std::size_t i = 0; i < outs.size(); ++i) {
        for (auto* all : {&one_by_one, &at_once}) {
          all->push_back(sums.MakeCross(outs[i], in));
          if (add_sums || all == &at_once) all->back()->Set(before[i].view());
        }
        if (asked(i)) sums.CrossGramUpdate(on_dy[i].view(), on_x.view(), *one_by_one[i]);
        gradients.MatmulGradient(on_dy[i].view(), *prepared[i], expected.view(), add || i > 0);
        products.push_back({.w = *prepared[i], .dy = on_dy[i].view()});
        if (asked(i)) products.back().of_weights = {.to = at_once[i].get(), .add = add_sums};
      }

      gradients.ProductsGradient(on_x.view(), products, found.view(), add);

      EXPECT_TRUE(SameBytes(Downloaded(device, found), Downloaded(device, expected)))
          << rows << " rows of " << in;
      for (std::size_t i = 0; i < outs.size(); ++i) {
        const Matrix<float>&a = at_once[i]->Host(), &b = one_by_one[i]->Host();
        if (!asked(i)) {
          EXPECT_TRUE(SameBytes(a, before[i])) << "nobody asked";
        } else if (add_sums) {
          EXPECT_TRUE(SameBytes(a, b)) << rows << " rows of " << in;
        } else {  // written, and not added to zeros: maybe by another kernel
          for (Index r = 0; r < a.rows(); ++r) {
            for (Index c = 0; c < a.cols(); ++c) {
              double size = 0;
              for (Index n = 0; n < rows; ++n) {
                size += std::fabs(static_cast<double>(dy[i](n, r)) * static_cast<double>(x(n, c)));
              }
              ASSERT_NEAR(a(r, c), b(r, c), size * static_cast<double>(rows + 3) * 0x1p-22);
            }
          }
        }
      }
    }
  }
}

inline constexpr Index kUnitRows[] = {1, 5, 17, 100, 300};

/// Odd shapes and tails.
inline void ExpectUnitGradients(Device& device) {
  for (const Index rows : kUnitRows) {
    ExpectUnitGradients(device, rows, 33, std::vector<Index>{40, 7, 3});
    ExpectUnitGradients(device, rows, 64, std::vector<Index>{64, 130, 8});
    ExpectUnitGradients(device, rows, 96, std::vector<Index>{1});
  }
}

}  // namespace lieq
