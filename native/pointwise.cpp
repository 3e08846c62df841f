#include "pointwise.hpp"

#include <string_view>

#include "kernels.hpp"
#include "pointwise_loops.hpp"

namespace modelwright {
namespace {

const PointwiseKernels& choose() {
#if defined(__x86_64__)
  const std::string_view name = kernels().name;
  if (name == "avx512") return kAvx512Pointwise;
  if (name == "avx2" && __builtin_cpu_supports("fma")) return kAvx2Pointwise;
#endif
  return kPortablePointwise;
}

}  // namespace

const PointwiseKernels kPortablePointwise = kEdition;

const PointwiseKernels& pointwise() {
  static const PointwiseKernels& chosen = choose();
  return chosen;
}

template <>
const PointwiseLoops<float>& pointwise_loops() {
  return pointwise().fp32;
}

template <>
const PointwiseLoops<Bfloat16>& pointwise_loops() {
  return pointwise().bf16;
}

}  // namespace modelwright
