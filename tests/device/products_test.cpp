// Products of few rows, straight from what weights are held in.
#include "lieq/device/cpu/products.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

struct Form {
  std::string name;
  AnyMatrix matrix;
};

std::string NameOf(const Grid& grid) {
  return std::to_string(grid.bits) + " bits, groups of " + std::to_string(grid.group_size) + ", " +
         std::string(Name(grid.offset)) + (grid.k_quant ? ", k-quant" : "");
}

/// Every kind of codes that a row of `in` columns can be held in.
std::vector<Form> PackedForms(Index out, Index in) {
  std::vector<Form> forms;
  std::uint64_t seed = 0;
  const auto add = [&](const Grid& grid) {
    if (in % RowStep(grid, in) != 0) return;
    forms.push_back(
        {NameOf(grid), std::make_shared<const QMatrix>(RandomQMatrix(out, in, grid, ++seed))});
  };
  for (const int bits : {1, 2, 3, 4, 5, 8}) {  // 1 and 5 have no kernel of their own
    for (const Offset offset : kAllOffsets) {
      for (const Index group : {0, 5, 8, 16, 32, 48, 64, 128}) {
        add({.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
  for (const KQuant& kind : KQuants()) add(kind.grid);
  return forms;
}

/// Sums of k products of float: k * 2^-24 of the sum of magnitudes bounds any order of adding.
void ExpectProduct(const Matrix<float>& y, const Matrix<float>& x, const Matrix<float>& w,
                   const Matrix<float>& bias, const Matrix<float>* start) {
  for (Index r = 0; r < x.rows(); ++r) {
    for (Index o = 0; o < w.rows(); ++o) {
      double sum = static_cast<double>(bias(0, o)), size = std::fabs(sum);
      if (start != nullptr) {
        sum += static_cast<double>((*start)(r, o));
        size += std::fabs(static_cast<double>((*start)(r, o)));
      }
      for (Index i = 0; i < x.cols(); ++i) {
        const double term = static_cast<double>(x(r, i)) * static_cast<double>(w(o, i));
        sum += term;
        size += std::fabs(term);
      }
      ASSERT_NEAR(y(r, o), sum, size * static_cast<double>(x.cols() + 3) * 0x1p-24)
          << r << ' ' << o;
    }
  }
}

std::vector<std::string> KernelNames() {
  std::vector<std::string> names;
  for (const KernelSet* row : KernelSets()) {
    if (row->supported()) names.emplace_back(row->name);
  }
  return names;
}

Matrix<float> Multiplied(const std::string& kernels, int threads, const AnyMatrix& w,
                         const Matrix<float>& x, const Matrix<float>& bias,
                         const Matrix<float>& start, bool add) {
  ThreadPool pool(threads);
  const auto device = MakeCpuDevice(pool, {.kernels = kernels});
  const DeviceMatrix y = Uploaded(*device, start), to = Uploaded(*device, x);
  device->Matmul(to.view(), *device->Prepare(w), Uploaded(*device, bias).view(), y.view(), add);
  return Downloaded(*device, y);
}

class ProductsOf : public testing::TestWithParam<Index> {};

TEST_P(ProductsOf, RowsAndEveryGridAgreeWithTheDefinitionAndAreTheSameInEveryKernelRow) {
  const Index rows = GetParam();
  for (const Index in : {Index{5}, Index{37}, Index{48}, Index{96}, Index{256}, Index{1280}}) {
    const Index out = in == 1280 ? 61 : 9;  // several tiles, and outputs that fill no block
    const Matrix<float> x = RandomMatrix(rows, in, 1), bias = RandomMatrix(1, out, 2);
    const Matrix<float> start = RandomMatrix(rows, out, 3);
    for (const Form& form : PackedForms(out, in)) {
      SCOPED_TRACE(form.name + ", " + std::to_string(in) + " columns");
      Matrix<float> wide(out, in);
      WidenRows(form.matrix, 0, wide.view());
      const bool add = in % 2 == 0;
      const Matrix<float> first = Multiplied("", 2, form.matrix, x, bias, start, add);
      ExpectProduct(first, x, wide, bias, add ? &start : nullptr);
      for (const std::string& kernels : KernelNames()) {
        EXPECT_TRUE(SameBytes(Multiplied(kernels, 3, form.matrix, x, bias, start, add), first))
            << kernels;
      }
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST_P(ProductsOf, RowsAndFloatsAgreeWithTheDefinitionAndAreTheSameInEveryKernelRow) {
  const Index rows = GetParam();
  for (const auto& [in, out] : {std::pair<Index, Index>{1, 1}, {17, 5}, {64, 130}, {1031, 67}}) {
    const Matrix<float> x = RandomMatrix(rows, in, 1), bias = RandomMatrix(1, out, 2);
    const Matrix<float> start = RandomMatrix(rows, out, 3), w = RandomMatrix(out, in, 4);
    Matrix<Bf16> bf16(out, in);
    Matrix<F16> f16(out, in);
    for (Index i = 0; i < w.size(); ++i) {
      bf16.data()[i] = ToBf16(w.data()[i]);
      f16.data()[i] = ToF16(w.data()[i]);
    }
    for (const AnyMatrix& form : {AnyMatrix(w.view()), AnyMatrix(std::as_const(bf16).view()),
                                  AnyMatrix(std::as_const(f16).view())}) {
      Matrix<float> wide(out, in);
      WidenRows(form, 0, wide.view());
      for (const bool add : {false, true}) {
        const Matrix<float> first = Multiplied("", 2, form, x, bias, start, add);
        ExpectProduct(first, x, wide, bias, add ? &start : nullptr);
        for (const std::string& kernels : KernelNames()) {
          EXPECT_TRUE(SameBytes(Multiplied(kernels, 3, form, x, bias, start, add), first))
              << kernels;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, ProductsOf, testing::Values(1, 2, 3, 4, 5, 7, 8, 15, 16, 17));

TEST(Products, OfARowDoNotDependOnTheRowsBesideIt) {
  const Matrix<float> x = RandomMatrix(kFewRows, 96, 1), bias = RandomMatrix(1, 41, 2);
  for (const Form& form : PackedForms(41, 96)) {
    const Matrix<float> start(kFewRows, 41);
    const Matrix<float> all = Multiplied("", 2, form.matrix, x, bias, start, false);
    for (Index r = 0; r < kFewRows; ++r) {
      Matrix<float> row(1, 96);
      std::ranges::copy(x.view().Row(r), row.data());
      const Matrix<float> alone =
          Multiplied("", 1, form.matrix, row, bias, Matrix<float>(1, 41), false);
      for (Index o = 0; o < 41; ++o) ASSERT_EQ(alone(0, o), all(r, o)) << form.name;
    }
  }
}

TEST(Products, OfAUnitAreThoseOfItsMatricesAlone) {
  for (const Index rows : {Index{1}, kFewRows, kFewRows + 1, Index{600}}) {
    for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
      ThreadPool pool(2);
      std::unique_ptr<Device> device;
      try {
        device = MakeCpuDevice(pool, {.arithmetic = arithmetic});
      } catch (const Error&) {
        continue;  // no bf16 on this processor
      }
      const Matrix<float> x = RandomMatrix(rows, 64, 1), bias = RandomMatrix(1, 70, 2);
      const Matrix<float> w = RandomMatrix(33, 64, 3);
      const auto packed =
          std::make_shared<const QMatrix>(RandomQMatrix(70, 64, {.bits = 3, .group_size = 16}, 4));
      const DeviceMatrix in = Uploaded(*device, x), b = Uploaded(*device, bias);
      const Prepared first = device->Prepare(w.view()), second = device->Prepare(packed);
      const DeviceMatrix y1 = device->Alloc(rows, 33), y2 = device->Alloc(rows, 70);
      const DeviceMatrix z1 = device->Alloc(rows, 33), z2 = device->Alloc(rows, 70);

      device->Products(
          in.view(),
          std::array{Product{*first, {}, y1.view()}, Product{*second, b.view(), y2.view()}}, false);
      device->Matmul(in.view(), *first, {}, z1.view(), false);
      device->Matmul(in.view(), *second, b.view(), z2.view(), false);

      EXPECT_TRUE(SameBytes(Downloaded(*device, y1), Downloaded(*device, z1))) << rows;
      EXPECT_TRUE(SameBytes(Downloaded(*device, y2), Downloaded(*device, z2))) << rows;
    }
  }
}

/// A copy that ends where memory does: one byte more ends the process.
template <class T>
class AtTheEdge {
 public:
  explicit AtTheEdge(std::span<const T> values) {
    constexpr std::size_t kPage = 4096;
    const std::size_t bytes = values.size_bytes(), whole = (bytes + kPage - 1) / kPage * kPage;
    size_ = whole + kPage;
    pages_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(mprotect(pages_ + whole, kPage, PROT_NONE), 0);
    data_ = reinterpret_cast<T*>(pages_ + whole - bytes);
    std::ranges::copy(values, data_);
  }
  ~AtTheEdge() { munmap(pages_, size_); }
  AtTheEdge(const AtTheEdge&) = delete;
  AtTheEdge& operator=(const AtTheEdge&) = delete;
  [[nodiscard]] T* data() const noexcept { return data_; }

 private:
  std::byte* pages_;
  std::size_t size_;
  T* data_;
};

template <class T>
std::span<const std::remove_const_t<T>> All(View<T, 2> view) {
  return {view.data(), Size(view.size())};
}

TEST(Products, OfFewRowsReadAndWriteNothingBehindTheirArguments) {
  for (const KernelSet* kernels : KernelSets()) {
    if (!kernels->supported()) continue;
    for (const Index in : {Index{5}, Index{16}, Index{31}, Index{48}, Index{256}}) {
      for (const Index rows : {Index{1}, Index{3}, Index{6}}) {
        const Index out = 7;
        const Matrix<float> x = RandomMatrix(rows, in, 1), bias = RandomMatrix(1, out, 2);
        const Matrix<float> w = RandomMatrix(out, in, 3), start(rows, out);
        const AtTheEdge<float> from(All(x.view())), added(All(bias.view())), to(All(start.view()));
        const FewRows product{.x = from.data(),
                              .x_stride = in,
                              .rows = rows,
                              .in = in,
                              .outs = out,
                              .y = to.data(),
                              .y_stride = out,
                              .bias = added.data(),
                              .add = true};
        std::vector<std::uint16_t> bf16;
        for (const float value : All(w.view())) bf16.push_back(ToBf16(value).bits);
        kernels->multiply_float(product, AtTheEdge<float>(All(w.view())).data(), in);
        kernels->multiply_bf16(product, AtTheEdge<std::uint16_t>(bf16).data(), in);
        for (const Form& form : PackedForms(out, in)) {
          const QMatrix& q = *std::get<std::shared_ptr<const QMatrix>>(form.matrix);
          if (!HasFewRowsKernel(q)) continue;
          const AtTheEdge<std::uint32_t> words(q.words());
          const AtTheEdge<std::uint8_t> zeros(All(q.zeros()));
          const AtTheEdge<float> scales(All(q.scales())), minima(All(q.minima()));
          kernels->multiply_packed(product,
                                   {.words = words.data(),
                                    .scales = scales.data(),
                                    .zeros = q.zeros().size() > 0 ? zeros.data() : nullptr,
                                    .minima = q.minima().size() > 0 ? minima.data() : nullptr,
                                    .words_per_row = q.words_per_row(),
                                    .groups = q.groups(),
                                    .group_columns = q.group_columns(),
                                    .zero = q.grid().shared_zero(),
                                    .bits = q.grid().bits});
        }
      }
    }
  }
}

TEST(Products, OfOneRowHaveWorkForManyThreads) {
  // The linears of Qwen3-0.6B, out and in.
  for (const auto& [out, in] : {std::pair<Index, Index>{2048, 1024},
                                {1024, 1024},
                                {1024, 2048},
                                {3072, 1024},
                                {1024, 3072}}) {
    EXPECT_GE(CeilDiv(out, OutsOfTile(1, out, in)), 16) << out << " x " << in;
  }
}

}  // namespace
}  // namespace lieq
