// Matrices to a device and back, and whether two are the same to the byte.
#pragma once

#include <cstring>

#include "lieq/device/device.h"
#include "lieq/tensor/view.h"

namespace lieq {

[[nodiscard]] inline DeviceMatrix Uploaded(Device& device, const Matrix<float>& host) {
  DeviceMatrix matrix = device.Alloc(host.rows(), host.cols());
  device.Upload(host.view(), matrix.view());
  return matrix;
}

[[nodiscard]] inline Matrix<float> Downloaded(Device& device, const DeviceMatrix& matrix) {
  Matrix<float> host(matrix.rows(), matrix.cols());
  device.Download(matrix.view(), host.view());
  return host;
}

[[nodiscard]] inline bool SameBytes(const Matrix<float>& a, const Matrix<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), Size(a.size()) * sizeof(float)) == 0;
}

}  // namespace lieq
