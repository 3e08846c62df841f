// A hash table from pairs of token ids to 32-bit numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace modelwright {

class PairMap {
 public:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;

  PairMap() : slots_(kFirstSlots) {}

  void clear() { *this = PairMap(); }

  // The number of the pair, or kAbsent.
  std::uint32_t find(std::uint32_t left, std::uint32_t right) const {
    return slots_[slot_of(key_of(left, right))].value;
  }

  // The number of the pair; it becomes `value` if the pair is new.
  std::uint32_t find_or_insert(std::uint32_t left, std::uint32_t right, std::uint32_t value) {
    const std::uint64_t key = key_of(left, right);
    Slot& slot = slots_[slot_of(key)];
    if (slot.value != kAbsent) return slot.value;
    slot = {key, value};
    if (++n_pairs_ * 2 > slots_.size()) grow();
    return value;
  }

 private:
  static constexpr std::size_t kFirstSlots = 1024;  // a power of two, as are all later sizes
  static constexpr std::uint64_t kSpread = 0x9E3779B97F4A7C15;

  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t value = kAbsent;
  };

  static std::uint64_t key_of(std::uint32_t left, std::uint32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | right;
  }

  std::size_t slot_of(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t spread = (key ^ key >> 29) * kSpread;
    std::size_t at = (spread >> 32) & mask;
    while (slots_[at].value != kAbsent && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.value != kAbsent) slots_[slot_of(slot.key)] = slot;
    }
  }

  std::vector<Slot> slots_;
  std::size_t n_pairs_ = 0;
};

}  // namespace modelwright
