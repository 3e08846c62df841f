// Short pieces as two words, which compare and hash in a few instructions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace modelwright {

inline constexpr std::size_t kLongestShortPiece = 15;

// Up to fifteen bytes, zeros after them, and their number in the last byte.
struct PieceKey {
  std::uint64_t low;
  std::uint64_t high;

  // Without a branch between the halves.
  bool operator==(const PieceKey& other) const {
    return ((low ^ other.low) | (high ^ other.high)) == 0;
  }
  std::size_t n_bytes() const { return high >> 56; }
};

namespace hashing {

inline std::uint64_t load_64(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Both halves of the 128-bit product, folded: every input bit reaches every output bit.
inline std::uint64_t mix(std::uint64_t left, std::uint64_t right) {
  const auto product = static_cast<unsigned __int128>(left) * right;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline constexpr std::uint64_t kFirstOdd = 0x9E3779B97F4A7C15;   // 2^64 / golden ratio
inline constexpr std::uint64_t kSecondOdd = 0xD1B54A32D192ED03;  // 2^64 / plastic number squared

struct Masks {
  std::uint64_t low;
  std::uint64_t high;
};

inline constexpr std::array<Masks, kLongestShortPiece + 1> kMasks = [] {
  std::array<Masks, kLongestShortPiece + 1> masks{};
  for (std::size_t n_bytes = 0; n_bytes <= kLongestShortPiece; ++n_bytes) {
    for (std::size_t byte = 0; byte < n_bytes; ++byte) {
      (byte < 8 ? masks[n_bytes].low : masks[n_bytes].high) |= std::uint64_t{0xFF} << 8 * (byte % 8);
    }
  }
  return masks;
}();

}  // namespace hashing

// The key of the `n_bytes` at `at`. Reads past them where the text goes on, up to `text_end`.
inline PieceKey key_of(const char* at, std::size_t n_bytes, const char* text_end) {
  PieceKey key;
  if (text_end - at >= 16) [[likely]] {
    key = {hashing::load_64(at), hashing::load_64(at + 8)};
    key.low &= hashing::kMasks[n_bytes].low;
    key.high &= hashing::kMasks[n_bytes].high;
  } else {
    std::array<char, 16> padded{};
    std::memcpy(padded.data(), at, n_bytes);
    key = {hashing::load_64(padded.data()), hashing::load_64(padded.data() + 8)};
  }
  key.high |= static_cast<std::uint64_t>(n_bytes) << 56;
  return key;
}

// Writes the bytes of a key: sixteen of them, of which only the first `key.n_bytes()` count.
inline void write_key(const PieceKey& key, char* out) {
  std::memcpy(out, &key.low, 8);
  std::memcpy(out + 8, &key.high, 8);
}

inline std::uint64_t hash_of(const PieceKey& key) {
  return hashing::mix(key.low ^ hashing::kFirstOdd, key.high ^ hashing::kSecondOdd);
}

inline std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t hash = bytes.size();
  const char* at = bytes.data();
  std::size_t n_left = bytes.size();
  for (; n_left > kLongestShortPiece; at += 8, n_left -= 8) {
    hash = hashing::mix(hashing::load_64(at) ^ hash, hashing::kFirstOdd);
  }
  const PieceKey rest = key_of(at, n_left, at + n_left);
  return hashing::mix(rest.low ^ hash ^ hashing::kFirstOdd, rest.high ^ hashing::kSecondOdd);
}

}  // namespace modelwright
