// Compiled with AVX2 and FMA switched on; see pointwise_loops.hpp for what that asks of it.
#include "pointwise_loops.hpp"

namespace modelwright {

const PointwiseKernels kAvx2Pointwise = kEdition;

}  // namespace modelwright
