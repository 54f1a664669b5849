// Products of tiles of packed codes, of 4 bits.
#include "lieq/device/cuda/matmat_launch.cuh"

namespace lieq::cuda {

template bool LaunchMatMat<4>(const MatMatArguments&, int, bool, int, cudaStream_t);
template bool HasMatMatOf<4>();

}  // namespace lieq::cuda
