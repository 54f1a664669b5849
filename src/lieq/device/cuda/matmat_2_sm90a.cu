// Products of tiles of packed codes, of 2 bits.
#include "lieq/device/cuda/matmat_launch.cuh"

namespace lieq::cuda {

template bool LaunchMatMat<2>(const MatMatArguments&, int, bool, int, cudaStream_t);
template bool HasMatMatOf<2>();

}  // namespace lieq::cuda
