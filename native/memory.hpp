// Large pages for large memory.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace modelwright {

inline constexpr std::size_t kHugePage = std::size_t{1} << 21;

// Asks for large pages, of which far fewer have to be set up and found; before the memory is used.
inline void use_huge_pages(void* memory, std::size_t n_bytes) {
#if defined(__linux__)
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (address + n_bytes) / kHugePage * kHugePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  static_cast<void>(memory);
  static_cast<void>(n_bytes);
#endif
}

}  // namespace modelwright
