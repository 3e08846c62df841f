#include "range.hpp"

#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace modelwright {

std::size_t read_at(int descriptor, std::uint64_t at, char* out, std::size_t n_bytes) {
  std::size_t n_read = 0;
  while (n_read < n_bytes) {
    const ssize_t n = pread(descriptor, out + n_read, n_bytes - n_read,
                            static_cast<off_t>(at + n_read));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw std::system_error(errno, std::generic_category());
    if (n == 0) break;
    n_read += static_cast<std::size_t>(n);
  }
  return n_read;
}

std::uint64_t next_cut(int descriptor, std::uint64_t at, const SplitRule& rule,
                       const SpecialTokens& specials) {
  if (at == 0) return 0;
  constexpr std::size_t kWindow = std::size_t{1} << 16;
  // What is read before and after a place, to see whether a special token reaches across it.
  const std::size_t margin = std::max<std::size_t>(specials.longest(), 1);
  std::vector<char> bytes(kWindow + 2 * margin);
  for (;; at += kWindow) {
    const std::size_t n_before = static_cast<std::size_t>(std::min<std::uint64_t>(at, margin));
    const std::size_t n_bytes =
        read_at(descriptor, at - n_before, bytes.data(), n_before + kWindow + margin);
    const std::string_view text(bytes.data(), n_bytes);
    const std::size_t stop = std::min(n_bytes, n_before + kWindow);
    for (std::size_t i = n_before; i < stop; ++i) {
      if (always_cut_between(rule, text[i - 1], text[i]) && !specials.may_cover(text, i)) {
        return at - n_before + i;
      }
    }
    if (n_bytes < n_before + kWindow) return at - n_before + n_bytes;
  }
}

}  // namespace modelwright
