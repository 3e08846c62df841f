#include "order.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace modelwright {
namespace {

constexpr std::size_t kRounds = 6;

// The finaliser of splitmix64 with the constants that David Stafford calls Mix13.
std::uint64_t scramble(std::uint64_t number) {
  number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9;
  number = (number ^ (number >> 27)) * 0x94D049BB133111EB;
  return number ^ (number >> 31);
}

}  // namespace

void permute(std::int64_t* numbers, std::size_t n_numbers, std::uint64_t n, std::uint64_t key) {
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::array<std::uint64_t, kRounds> round_keys;
  for (std::size_t turn = 0; turn < kRounds; ++turn) {
    round_keys[turn] = key + turn * 0x9E3779B97F4A7C15;
  }
  for (std::size_t i = 0; i < n_numbers; ++i) {
    auto number = static_cast<std::uint64_t>(numbers[i]);
    do {
      std::uint64_t left = number >> half_bits;
      std::uint64_t right = number & mask;
      for (const std::uint64_t round_key : round_keys) {
        const std::uint64_t next = left ^ (scramble(right ^ round_key) & mask);
        left = right;
        right = next;
      }
      number = left << half_bits | right;
    } while (number >= n);
    numbers[i] = static_cast<std::int64_t>(number);
  }
}

}  // namespace modelwright
