// Products of few rows with codes of 2 bits.
#include "lieq/device/cuda/matvec_one.cuh"

namespace lieq::cuda {

template void LaunchMatVec<2>(MatVecPlan&, int, bool, int, cudaStream_t);

}  // namespace lieq::cuda
