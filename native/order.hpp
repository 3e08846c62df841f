// A keyed permutation of 0 … n - 1 that is computed, not stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace modelwright {

// Replaces each of `numbers`, which are below `n`, by where the permutation of `key` sends it.
void permute(std::int64_t* numbers, std::size_t n_numbers, std::uint64_t n, std::uint64_t key);

}  // namespace modelwright
