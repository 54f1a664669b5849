// Products of tiles of packed codes, of 3 bits.
#include "lieq/device/cuda/matmat_launch.cuh"

namespace lieq::cuda {

template bool LaunchMatMat<3>(const MatMatArguments&, int, bool, int, cudaStream_t);
template bool HasMatMatOf<3>();

}  // namespace lieq::cuda
