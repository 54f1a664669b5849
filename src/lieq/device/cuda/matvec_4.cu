// Products of few rows with codes of 4 bits.
#include "lieq/device/cuda/matvec_one.cuh"

namespace lieq::cuda {

template void LaunchMatVec<4>(MatVecPlan&, int, bool, int, cudaStream_t);

}  // namespace lieq::cuda
