// Compiled with AVX-512 switched on; see pointwise_loops.hpp for what that asks of it.
#include "pointwise_loops.hpp"

namespace modelwright {

const PointwiseKernels kAvx512Pointwise = kEdition;

}  // namespace modelwright
