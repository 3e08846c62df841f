#include "decode.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace modelwright {

Decoder::Decoder(std::vector<std::string> tokens)
    : tokens_(std::move(tokens)), slots_(tokens_.size()) {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& token = tokens_[id];
    std::copy_n(token.data(), std::min(token.size(), kSlotBytes), slots_[id].data());
    n_bytes_.push_back(static_cast<std::uint32_t>(token.size()));
  }
}

template <class Id>
Decoder::Measure Decoder::measure(const Id* ids, std::size_t n_ids) const {
  const std::size_t n_tokens = tokens_.size();
  std::size_t n_bytes = 0;
  for (std::size_t i = 0; i < n_ids; ++i) {
    // A negative id becomes a huge one.
    const auto id = static_cast<std::uint64_t>(ids[i]);
    if (id >= n_tokens) [[unlikely]] return {n_bytes, i};
    n_bytes += n_bytes_[id];
  }
  return {n_bytes, n_ids};
}

template <class Id>
void Decoder::decode(const Id* ids, std::size_t n_ids, char* out, std::size_t n_bytes) const {
  const char* const end = out + n_bytes;
  for (std::size_t i = 0; i < n_ids; ++i) {
    const auto id = static_cast<std::size_t>(ids[i]);
    const std::size_t n_bytes_here = n_bytes_[id];
    if (n_bytes_here <= kSlotBytes && end - out >= static_cast<std::ptrdiff_t>(kSlotBytes)) [[likely]] {
      std::memcpy(out, slots_[id].data(), kSlotBytes);
    } else {
      std::memcpy(out, tokens_[id].data(), n_bytes_here);
    }
    out += n_bytes_here;
  }
}

#define MODELWRIGHT_FOR_IDS(Id)                                              \
  template Decoder::Measure Decoder::measure(const Id*, std::size_t) const; \
  template void Decoder::decode(const Id*, std::size_t, char*, std::size_t) const;
MODELWRIGHT_FOR_IDS(std::uint16_t)
MODELWRIGHT_FOR_IDS(std::uint32_t)
MODELWRIGHT_FOR_IDS(std::uint64_t)
MODELWRIGHT_FOR_IDS(std::int16_t)
MODELWRIGHT_FOR_IDS(std::int32_t)
MODELWRIGHT_FOR_IDS(std::int64_t)
#undef MODELWRIGHT_FOR_IDS

}  // namespace modelwright
