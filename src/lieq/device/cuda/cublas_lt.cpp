#include "lieq/device/cuda/cublas_lt.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/device/cuda/libraries.h"

namespace lieq::cuda {
namespace {

// What of cuBLASLt's interface is used, from its documentation (docs.nvidia.com/cuda/cublas). It is
// the same in versions 12 and 13.
using Handle = void*;
using Descriptor = void*;
using Layout = void*;
using Preference = void*;
using Status = int;  // 0: success
struct Algorithm {
  std::uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace;
  Status status;
  float waves;
  int reserved[4];
};
constexpr int kCompute32F = 68;                // CUBLAS_COMPUTE_32F: float factors as they are
constexpr int kTypeFloat = 0, kTypeBf16 = 14;  // CUDA_R_32F, CUDA_R_16BF
constexpr int kDescriptorTransposeA = 3, kDescriptorTransposeB = 4;
constexpr int kPreferWorkspace = 1, kPreferAlignmentA = 5;  // those of B, C and D follow

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
constexpr std::array kNames{"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

/// Bytes that divide the pointer: an alignment that the library may rely on.
std::uint32_t AlignmentOf(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  std::uint32_t alignment = 256;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace

struct CublasLt::Functions {
  Handle handle = nullptr;
  std::size_t (*version)() = nullptr;
  Status (*create)(Handle*) = nullptr;
  Status (*destroy)(Handle) = nullptr;
  Status (*descriptor_create)(Descriptor*, int compute, int scale_type) = nullptr;
  Status (*descriptor_set)(Descriptor, int attribute, const void*, std::size_t) = nullptr;
  Status (*descriptor_destroy)(Descriptor) = nullptr;
  Status (*layout_create)(Layout*, int type, std::uint64_t rows, std::uint64_t cols,
                          std::int64_t stride) = nullptr;
  Status (*layout_destroy)(Layout) = nullptr;
  Status (*preference_create)(Preference*) = nullptr;
  Status (*preference_set)(Preference, int attribute, const void*, std::size_t) = nullptr;
  Status (*preference_destroy)(Preference) = nullptr;
  Status (*heuristic)(Handle, Descriptor, Layout a, Layout b, Layout c, Layout d, Preference,
                      int wanted, Heuristic*, int* found) = nullptr;
  Status (*multiply)(Handle, Descriptor, const void* alpha, const void* a, Layout, const void* b,
                     Layout, const void* beta, const void* c, Layout, void* d, Layout,
                     const Algorithm*, void* workspace, std::size_t workspace_bytes,
                     cudaStream_t) = nullptr;
};

struct CublasLt::Plans {
  struct Plan {
    Descriptor descriptor = nullptr;
    Layout a = nullptr, b = nullptr, y = nullptr;
    Algorithm algorithm{};
    bool found = false;
  };
  using Key = std::array<Index, 14>;
  std::map<Key, Plan> all;
};

std::unique_ptr<CublasLt> CublasLt::Find(Queue& queue) {
  (void)queue.stream();  // the handle is of the GPU that is the thread's
  const Library library(kNames);
  auto functions = std::make_unique<Functions>();
  bool all = true;
  const auto find = [&](auto& function, const char* name) {
    all = library.Find(name, function) && all;
  };
  find(functions->version, "cublasLtGetVersion");
  find(functions->create, "cublasLtCreate");
  find(functions->destroy, "cublasLtDestroy");
  find(functions->descriptor_create, "cublasLtMatmulDescCreate");
  find(functions->descriptor_set, "cublasLtMatmulDescSetAttribute");
  find(functions->descriptor_destroy, "cublasLtMatmulDescDestroy");
  find(functions->layout_create, "cublasLtMatrixLayoutCreate");
  find(functions->layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(functions->preference_create, "cublasLtMatmulPreferenceCreate");
  find(functions->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(functions->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(functions->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(functions->multiply, "cublasLtMatmul");
  if (!all || functions->create(&functions->handle) != 0) return nullptr;
  return std::unique_ptr<CublasLt>(new CublasLt(queue, std::move(functions)));
}

CublasLt::CublasLt(Queue& queue, std::unique_ptr<Functions> functions)
    : queue_(queue),
      functions_(std::move(functions)),
      plans_(std::make_unique<Plans>()),
      workspace_(queue) {}

CublasLt::~CublasLt() {
  for (const auto& [key, plan] : plans_->all) {
    for (const Layout layout : {plan.a, plan.b, plan.y}) (void)functions_->layout_destroy(layout);
    (void)functions_->descriptor_destroy(plan.descriptor);
  }
  (void)functions_->destroy(functions_->handle);
}

std::string CublasLt::description() const {
  const auto version = static_cast<unsigned>(functions_->version());
  // 130100 is 13.1.0; before 13, 120904 is 12.9.4.
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
         "." + std::to_string(version % 100);
}

bool CublasLt::Multiply(Element type, const Operand& a, const Operand& b, Block<float> y,
                        bool add) {
  // The library's matrices are column-major: a row-major [r, c] is its [c, r], and y = a b is
  // yᵀ = bᵀ aᵀ, so that b comes first, and each is transposed there where it is here.
  const Functions& call = *functions_;
  const cudaStream_t stream = queue_.stream();
  const Plans::Key key{static_cast<Index>(type),
                       a.rows,
                       a.cols,
                       a.stride,
                       a.transposed,
                       b.rows,
                       b.cols,
                       b.stride,
                       b.transposed,
                       y.stride,
                       add,
                       AlignmentOf(a.data),
                       AlignmentOf(b.data),
                       AlignmentOf(y.data)};
  const auto [at, made] = plans_->all.try_emplace(key);
  Plans::Plan& plan = at->second;
  const auto require = [](Status status) {
    if (status == 0) return;
    throw Error(
        {.what = "cuBLASLt failed",
         .where = "--device cuda",
         .found = "status " + std::to_string(status),
         .hint = std::string(kLibraryFolders) + "=" + kNoLibrary + " does without it, slower"});
  };
  if (made) {
    const int element = type == Element::kFloat ? kTypeFloat : kTypeBf16;
    const auto layout = [&](Layout& to, int of, Index rows, Index cols, Index stride) {
      require(call.layout_create(&to, of, Size(cols), Size(rows), stride));
    };
    require(call.descriptor_create(&plan.descriptor, kCompute32F, kTypeFloat));
    const auto transpose = [&](int attribute, bool transposed) {
      const std::int32_t operation = transposed ? 1 : 0;
      require(call.descriptor_set(plan.descriptor, attribute, &operation, sizeof operation));
    };
    transpose(kDescriptorTransposeA, b.transposed);
    transpose(kDescriptorTransposeB, a.transposed);
    layout(plan.a, element, b.rows, b.cols, b.stride);
    layout(plan.b, element, a.rows, a.cols, a.stride);
    layout(plan.y, kTypeFloat, y.rows, y.cols, y.stride);
    Preference preference = nullptr;
    require(call.preference_create(&preference));
    const std::uint64_t workspace = kWorkspaceBytes;
    require(call.preference_set(preference, kPreferWorkspace, &workspace, sizeof workspace));
    const void* const pointers[] = {b.data, a.data, y.data, y.data};
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t alignment = AlignmentOf(pointers[i]);
      require(call.preference_set(preference, kPreferAlignmentA + i, &alignment, sizeof alignment));
    }
    Heuristic heuristic{};
    int found = 0;
    const Status status = call.heuristic(call.handle, plan.descriptor, plan.a, plan.b, plan.y,
                                         plan.y, preference, 1, &heuristic, &found);
    (void)call.preference_destroy(preference);
    plan.found = status == 0 && found > 0 && heuristic.status == 0;
    plan.algorithm = heuristic.algorithm;
  }
  if (!plan.found) return false;
  const float one = 1, beta = add ? 1.0f : 0.0f;
  require(call.multiply(call.handle, plan.descriptor, &one, b.data, plan.a, a.data, plan.b, &beta,
                        y.data, plan.y, y.data, plan.y, &plan.algorithm,
                        workspace_.Get<std::byte>(kWorkspaceBytes), kWorkspaceBytes, stream));
  return true;
}

}  // namespace lieq::cuda
