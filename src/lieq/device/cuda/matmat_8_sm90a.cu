// Products of tiles of packed codes, of 8 bits.
#include "lieq/device/cuda/matmat_launch.cuh"

namespace lieq::cuda {

template bool LaunchMatMat<8>(const MatMatArguments&, int, bool, int, cudaStream_t);
template bool HasMatMatOf<8>();

}  // namespace lieq::cuda
