// What a training step does to each number beside its matrix products, in one pass over memory.
// Single-threaded: for a lane that has one processor core to itself.
#pragma once

#include <cstddef>
#include <cstdint>

namespace modelwright {

struct Bfloat16 {
  std::uint16_t bits;
};

template <class Number>
struct PointwiseLoops {
  // Turns rows of logits z into `scale` * (softmax(z) - onehot(target)) and returns the summed
  // surprise at the targets. A row whose target is negative does not count and becomes zeros, and
  // so do the columns from `n_vocab` on. A logit that is no finite number makes the sum one that is
  // none either, save for -infinity beside finite ones: that is a chance of nothing.
  //
  // Targets are below `n_vocab`; `scratch` has room for `n_vocab` numbers.
  double (*softmax_slope)(Number* logits, const std::int64_t* targets, std::size_t n_rows,
                          std::size_t n_columns, std::size_t n_vocab, float scale, float* scratch);
  // The tanh form of GELU and its slope at each of `n` numbers; `slope` may be null.
  void (*gelu)(const Number* x, Number* value, Number* slope, std::size_t n);
  // silu(gate) * up and its slopes in both; these may be null, both or neither.
  void (*swiglu)(const Number* gate, const Number* up, Number* value, Number* gate_slope,
                 Number* up_slope, std::size_t n);
};

struct PointwiseKernels {
  PointwiseLoops<float> fp32;
  PointwiseLoops<Bfloat16> bf16;
};

extern const PointwiseKernels kPortablePointwise;
#if defined(__x86_64__)
extern const PointwiseKernels kAvx2Pointwise;
extern const PointwiseKernels kAvx512Pointwise;
#endif

// The best of them that this processor runs and MODELWRIGHT_SIMD allows.
const PointwiseKernels& pointwise();
template <class Number>
const PointwiseLoops<Number>& pointwise_loops();

}  // namespace modelwright
