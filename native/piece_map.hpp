// A hash table from pieces of any length to values, which keeps their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "piece_key.hpp"

namespace modelwright {

template <class Value>
class PieceMap {
 public:
  PieceMap() : slots_(kFirstSlots) {}

  // The value of `piece`, inserted as Value{} if it is new. Valid until the next insertion.
  Value& operator[](std::string_view piece) {
    const std::uint64_t hash = hash_of(piece);
    Slot& slot = find_slot(piece, hash);
    if (slot.entry != kEmpty) return entries_[slot.entry].value;
    return insert(slot, piece, hash);
  }

  // The value of `piece`, or null. Valid until the next insertion.
  Value* find(std::string_view piece) {
    const Slot& slot = find_slot(piece, hash_of(piece));
    return slot.entry == kEmpty ? nullptr : &entries_[slot.entry].value;
  }

  std::size_t size() const { return entries_.size(); }
  std::size_t n_key_bytes() const { return bytes_.size(); }
  std::string_view piece(std::size_t index) const {
    return {bytes_.data() + entries_[index].start, entries_[index].n_bytes};
  }
  const Value& value(std::size_t index) const { return entries_[index].value; }

  void clear() { *this = PieceMap(); }

 private:
  static constexpr std::uint32_t kEmpty = 0xFFFFFFFF;
  static constexpr std::size_t kFirstSlots = 256;  // a power of two, as are all later sizes

  struct Slot {
    std::uint32_t tag = 0;  // the upper half of the hash
    std::uint32_t entry = kEmpty;
  };
  struct Entry {
    std::size_t start;  // in bytes_
    std::uint32_t n_bytes;
    std::uint32_t tag;
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
    if (entries_.size() >= kEmpty) throw std::length_error("the text holds over 4 billion pieces");
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    slot = {tag, static_cast<std::uint32_t>(entries_.size())};
    entries_.push_back({bytes_.size(), static_cast<std::uint32_t>(piece.size()), tag, Value{}});
    bytes_.insert(bytes_.end(), piece.begin(), piece.end());
    if (entries_.size() * 2 > slots_.size()) grow();
    return entries_.back().value;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, Slot{});
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t index = 0; index < entries_.size(); ++index) {
      std::size_t at = hash_of(piece(index)) & mask;
      while (slots_[at].entry != kEmpty) at = (at + 1) & mask;
      slots_[at] = {entries_[index].tag, static_cast<std::uint32_t>(index)};
    }
  }

  std::vector<Slot> slots_;
  std::vector<Entry> entries_;  // in order of insertion
  std::vector<char> bytes_;     // the keys, end to end
};

}  // namespace modelwright
