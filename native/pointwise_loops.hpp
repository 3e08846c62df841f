// The loops of pointwise.hpp, written once and compiled for each instruction set: a file that
// includes this one gets vectors as wide as its compiler options allow.
//
// Everything is without a name outside the file, and nothing comes from the standard library's
// inline functions: a function shared between files could be taken from the one for a newer
// processor. No rule of arithmetic is relaxed except that a * b + c may be rounded once.
#pragma once

#include "pointwise.hpp"

namespace modelwright {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kWidth = 16;
#elif defined(__AVX2__)
constexpr std::size_t kWidth = 8;
#else
constexpr std::size_t kWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * kWidth)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * kWidth)));

constexpr float kInfinity = __builtin_inff();

inline Floats all(float x) { return Floats{} + x; }

inline Floats widen(Halves halves) {
  const Bits bits = __builtin_convertvector(halves, Bits) << 16U;
  Floats x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// To the nearest, ties to even. What is no number stays none: it came from a bfloat16, or was made
// by the processor, so that its low half is empty and nothing carries into the sign.
inline Halves narrow(Floats x) {
  Bits bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffU + (bits >> 16U & 1U)) >> 16U;
  return __builtin_convertvector(bits, Halves);
}

inline Floats load(const float* from) {
  Floats x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
inline Floats load(const Bfloat16* from) {
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  return widen(halves);
}
inline void store(float* to, Floats x) { __builtin_memcpy(to, &x, sizeof x); }
inline void store(Bfloat16* to, Floats x) {
  const Halves halves = narrow(x);
  __builtin_memcpy(to, &halves, sizeof halves);
}

// The same for the last, fewer than kWidth; the places behind them read as `fill`.
inline Floats load(const float* from, std::size_t n, float fill) {
  Floats x = all(fill);
  __builtin_memcpy(&x, from, n * sizeof *from);
  return x;
}
inline Floats load(const Bfloat16* from, std::size_t n, float fill) {
  Halves halves = narrow(all(fill));
  __builtin_memcpy(&halves, from, n * sizeof *from);
  return widen(halves);
}
inline void store(float* to, Floats x, std::size_t n) {
  __builtin_memcpy(to, &x, n * sizeof *to);
}
inline void store(Bfloat16* to, Floats x, std::size_t n) {
  const Halves halves = narrow(x);
  __builtin_memcpy(to, &halves, n * sizeof *to);
}

inline float get(const float* from) { return *from; }
inline float get(const Bfloat16* from) { return load(from, 1, 0)[0]; }
inline void put(float* to, float x) { *to = x; }
inline void put(Bfloat16* to, float x) { store(to, all(x), 1); }

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// Below this, exp(x) counts as nothing; so far above nothing, it would not fit.
constexpr float kExpLimit = 87.0F;

// exp(x), to a unit or so in the last place, for x up to kExpLimit; whatever is no number stays so.
// exp(x) = 2^k exp(r) with k whole and |r| at most half of log 2; the polynomial is Cephes' expf.
inline Floats exponential(Floats x) {
  // Added to a small number, it leaves no bits for the fraction, and the whole part lies lowest.
  constexpr float kRounder = 12582912.0F;
  const Floats shifted = x * 1.44269504F + kRounder;
  const Floats k = shifted - kRounder;
  Floats r = x - k * 0.693359375F;
  r = r + k * 2.12194440e-4F;
  Floats p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  Bits bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23U) + 0x3f800000U;  // 2^k
  Floats power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return x < -kExpLimit ? Floats{} : p * power;
}

template <class Number>
float largest(const Number* row, std::size_t n) {
  constexpr std::size_t kChains = 4;  // a comparison waits for the one before
  Floats most[kChains];
  for (Floats& one : most) one = all(-kInfinity);
  std::size_t i = 0;
  for (; i + kChains * kWidth <= n; i += kChains * kWidth) {
    for (std::size_t chain = 0; chain < kChains; ++chain) {
      most[chain] = larger(load(row + i + chain * kWidth), most[chain]);
    }
  }
  for (; i + kWidth <= n; i += kWidth) most[0] = larger(load(row + i), most[0]);
  if (i < n) most[0] = larger(load(row + i, n - i, -kInfinity), most[0]);
  const Floats both = larger(larger(most[0], most[1]), larger(most[2], most[3]));
  float result = both[0];
  for (std::size_t lane = 1; lane < kWidth; ++lane) {
    result = both[lane] > result ? both[lane] : result;
  }
  return result;
}

// Writes exp(z - highest) for each logit z of a row and returns their sum.
template <class Number>
double exponentials(const Number* row, float* powers, std::size_t n, float highest) {
  Floats sum{};
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Floats power = exponential(load(row + i) - highest);
    store(powers + i, power);
    sum += power;
  }
  if (i < n) {
    const Floats power = exponential(load(row + i, n - i, -kInfinity) - highest);
    store(powers + i, power, n - i);
    // The places behind the last are exp(-infinity), except where even that is no number.
    sum += power;
  }
  double result = 0;
  for (std::size_t lane = 0; lane < kWidth; ++lane) result += sum[lane];
  return result;
}

template <class Number>
void multiply(const float* x, float factor, Number* out, std::size_t n) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(out + i, load(x + i) * factor);
  if (i < n) store(out + i, load(x + i, n - i, 0) * factor, n - i);
}

inline float* place_for_powers(float* row, float*) { return row; }
inline float* place_for_powers(Bfloat16*, float* scratch) { return scratch; }

// The target is kept apart from the rest of the row, so that a chance near one, and the little it
// lacks, are as exact as a chance near nothing.
template <class Number>
double row_slope(Number* row, std::size_t target, std::size_t n_vocab, float scale,
                 float* scratch) {
  const float at_target = get(row + target);
  put(row + target, -kInfinity);
  const float other = largest(row, n_vocab);
  const float highest = at_target > other ? at_target : other;
  float* const powers = place_for_powers(row, scratch);
  const double rest = exponentials(row, powers, n_vocab, highest);
  const double here = exponential(all(at_target - highest))[0];
  const double sum = rest + here;
  multiply(powers, static_cast<float>(scale / sum), row, n_vocab);
  put(row + target, static_cast<float>(-scale * (rest / sum)));
  const double lacking = static_cast<double>(highest) - at_target;
  return lacking + (here == 1.0 ? __builtin_log1p(rest) : __builtin_log(sum));
}

template <class Number>
double softmax_slope(Number* logits, const std::int64_t* targets, std::size_t n_rows,
                     std::size_t n_columns, std::size_t n_vocab, float scale, float* scratch) {
  double sum = 0;
  for (std::size_t i = 0; i < n_rows; ++i) {
    Number* const row = logits + i * n_columns;
    std::size_t n_done = 0;
    if (targets[i] >= 0) {
      sum += row_slope(row, static_cast<std::size_t>(targets[i]), n_vocab, scale, scratch);
      n_done = n_vocab;
    }
    __builtin_memset(static_cast<void*>(row + n_done), 0, (n_columns - n_done) * sizeof *row);
  }
  return sum;
}

// 1 / (1 + exp(x)), which is 1 - sigmoid(x).
inline Floats falling_sigmoid(Floats x) {
  return x > kExpLimit ? Floats{} : 1.0F / (1.0F + exponential(x));
}

struct Curve {
  Floats value;
  Floats slope;
};

// x (1 + tanh(c (x + a x^3))) / 2 = x sigmoid(2 c (x + a x^3)), where c is the root of 2 / pi.
inline Curve gelu_curve(Floats x) {
  constexpr float kTwoC = 1.5957691216F;
  constexpr float kA = 0.044715F;
  const Floats square = x * x;
  const Floats share = falling_sigmoid(-kTwoC * x * (1.0F + kA * square));
  const Floats value = x * share;
  return {value, share + value * (1.0F - share) * (kTwoC * (1.0F + 3.0F * kA * square))};
}

inline Curve silu_curve(Floats x) {
  const Floats share = falling_sigmoid(-x);
  const Floats value = x * share;
  return {value, share + value * (1.0F - share)};
}

template <class Number>
void gelu(const Number* x, Number* value, Number* slope, std::size_t n) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Curve at = gelu_curve(load(x + i));
    store(value + i, at.value);
    if (slope != nullptr) store(slope + i, at.slope);
  }
  if (i == n) return;
  const Curve at = gelu_curve(load(x + i, n - i, 0));
  store(value + i, at.value, n - i);
  if (slope != nullptr) store(slope + i, at.slope, n - i);
}

template <class Number>
void swiglu(const Number* gate, const Number* up, Number* value, Number* gate_slope,
            Number* up_slope, std::size_t n) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Curve at = silu_curve(load(gate + i));
    const Floats factor = load(up + i);
    store(value + i, at.value * factor);
    if (gate_slope == nullptr) continue;
    store(gate_slope + i, at.slope * factor);
    store(up_slope + i, at.value);
  }
  if (i == n) return;
  const Curve at = silu_curve(load(gate + i, n - i, 0));
  const Floats factor = load(up + i, n - i, 0);
  store(value + i, at.value * factor, n - i);
  if (gate_slope == nullptr) return;
  store(gate_slope + i, at.slope * factor, n - i);
  store(up_slope + i, at.value, n - i);
}

constexpr PointwiseKernels kEdition{
    {softmax_slope<float>, gelu<float>, swiglu<float>},
    {softmax_slope<Bfloat16>, gelu<Bfloat16>, swiglu<Bfloat16>},
};

}  // namespace
}  // namespace modelwright
