// A hash table from pieces (short byte strings) to values, which keeps their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace modelwright {

inline constexpr std::size_t kLongestPiece = 0xFFFFFFFE;  // positions inside a piece are 32-bit

inline void check_piece_length(std::size_t n_bytes) {
  if (n_bytes > kLongestPiece) {
    throw std::length_error("the text holds a run of over 4 GiB without a break");
  }
}

namespace hashing {

inline std::uint64_t load_64(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

inline std::uint64_t load_32(const char* at) {
  std::uint32_t word;
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

// Two words that between them hold every byte of a string of up to sixteen.
inline std::uint64_t hash_short(const char* at, std::size_t n_bytes, std::uint64_t seed) {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  if (n_bytes >= 8) {
    low = load_64(at);
    high = load_64(at + n_bytes - 8);
  } else if (n_bytes >= 4) {
    low = load_32(at);
    high = load_32(at + n_bytes - 4);
  } else if (n_bytes > 0) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(at);
    low = bytes[0] | bytes[n_bytes / 2] << 8 | bytes[n_bytes - 1] << 16;
  }
  return mix(low ^ kFirstOdd ^ seed, high ^ kSecondOdd ^ n_bytes);
}

inline std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = bytes.size();
  const char* at = bytes.data();
  std::size_t n_left = bytes.size();
  for (; n_left > 16; at += 8, n_left -= 8) hash = mix(load_64(at) ^ hash, kFirstOdd);
  return hash_short(at, n_left, hash);
}

}  // namespace hashing

template <class Value>
class PieceMap {
 public:
  PieceMap() : slots_(kFirstSlots) {}

  // The value of `piece`, inserted as Value{} if it is new. Valid until the next insertion.
  Value& operator[](std::string_view piece) {
    const std::uint64_t hash = hashing::hash_bytes(piece);
    Slot& slot = find_slot(piece, hash);
    if (slot.entry != kEmpty) return entries_[slot.entry].value;
    return insert(slot, piece, hash);
  }

  // The value of `piece`, or null. Valid until the next insertion.
  const Value* find(std::string_view piece) {
    const Slot& slot = find_slot(piece, hashing::hash_bytes(piece));
    return slot.entry == kEmpty ? nullptr : &entries_[slot.entry].value;
  }

  std::size_t size() const { return entries_.size(); }
  std::string_view piece(std::size_t index) const {
    return {bytes_.data() + entries_[index].start, entries_[index].n_bytes};
  }
  const Value& value(std::size_t index) const { return entries_[index].value; }

  void clear() { *this = PieceMap(); }

 private:
  static constexpr std::uint32_t kEmpty = 0xFFFFFFFF;
  static constexpr std::size_t kFirstSlots = 1024;  // a power of two, as are all later sizes

  struct Slot {
    std::uint32_t tag = 0;  // the upper half of the hash
    std::uint32_t entry = kEmpty;
  };
  struct Entry {
    std::size_t start;  // in bytes_
    std::uint32_t n_bytes;
    Value value;
  };

  Slot& find_slot(std::string_view wanted, std::uint64_t hash) {
    const std::size_t mask = slots_.size() - 1;
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
      Slot& slot = slots_[at];
      if (slot.entry == kEmpty || (slot.tag == tag && piece(slot.entry) == wanted)) return slot;
    }
  }

  Value& insert(Slot& slot, std::string_view piece, std::uint64_t hash) {
    check_piece_length(piece.size());
    if (entries_.size() >= kEmpty) throw std::length_error("the text holds over 4 billion pieces");
    slot.tag = static_cast<std::uint32_t>(hash >> 32);
    slot.entry = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back({bytes_.size(), static_cast<std::uint32_t>(piece.size()), Value{}});
    bytes_.insert(bytes_.end(), piece.begin(), piece.end());
    if (entries_.size() * 2 > slots_.size()) grow();
    return entries_.back().value;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, Slot{});
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t index = 0; index < entries_.size(); ++index) {
      const std::uint64_t hash = hashing::hash_bytes(piece(index));
      std::size_t at = hash & mask;
      while (slots_[at].entry != kEmpty) at = (at + 1) & mask;
      slots_[at] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(index)};
    }
  }

  std::vector<Slot> slots_;
  std::vector<Entry> entries_;  // in order of insertion
  std::vector<char> bytes_;     // the keys, end to end
};

}  // namespace modelwright
