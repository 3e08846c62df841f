#include "encode.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "memory.hpp"

namespace modelwright {
namespace {

// Longer pieces are rarely met again.
constexpr std::size_t kLongestRemembered = 256;
// Those that are remembered outside the lines are forgotten when they fill this much.
constexpr std::size_t kMostLongBytes = std::size_t{1} << 22;

}  // namespace

template <class Id>
Id* IdBuffer<Id>::room(std::size_t n) {
  if (size_ + n > capacity_) {
    const std::size_t capacity = std::max<std::size_t>({64, size_ + n, capacity_ + capacity_ / 2});
    void* const grown = std::realloc(data_, capacity * sizeof(Id));
    if (grown == nullptr) throw std::bad_alloc();
    data_ = static_cast<Id*>(grown);

    capacity_ = capacity;
  }
  return data_ + size_;
}

template <class Id>
Id* IdBuffer<Id>::release() {
  void* const fitted = std::realloc(data_, std::max<std::size_t>(size_, 1) * sizeof(Id));
  if (fitted == nullptr) throw std::bad_alloc();
  data_ = nullptr;
  size_ = capacity_ = 0;
  return static_cast<Id*>(fitted);
}

template <class Id>
Encoder<Id>::Encoder(SplitRule rule, const MergeTable& table)
    : splitter_(rule), merger_(table), slots_(empty_slots(kFirstSlots)) {}

template <class Id>
typename Encoder<Id>::Slots Encoder<Id>::empty_slots(std::size_t n_slots) {
  constexpr std::size_t kCacheLine = 64;
  const std::size_t n_bytes = n_slots * sizeof(Slot);
  const std::size_t alignment = n_bytes >= kHugePage ? kHugePage : kCacheLine;
  void* const memory = std::aligned_alloc(alignment, n_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  use_huge_pages(memory, n_bytes);
  std::memset(memory, 0, n_bytes);
  return Slots(static_cast<Slot*>(memory));
}

// What came first keeps its home, since common pieces come early: a newcomer takes the neighbour,
// unless one whose home that is not stands at the newcomer's.
template <class Id>
void Encoder<Id>::remember(const Slot& slot, std::size_t home) {
  const Slot& there = slots_[home];
  const bool is_taken = there.key.high != 0 && (hash_of(there.key) & (n_slots_ - 1)) == home;
  slots_[is_taken ? home ^ 1 : home] = slot;
  ++n_remembered_;
}

template <class Id>
void Encoder<Id>::grow() {
  const std::size_t n_old = std::exchange(n_slots_, n_slots_ * 4);
  const Slots old = std::exchange(slots_, empty_slots(n_slots_));
  n_remembered_ = 0;
  for (std::size_t i = 0; i < n_old; ++i) {
    if (old[i].key.high != 0) remember(old[i], hash_of(old[i].key) & (n_slots_ - 1));
  }
}

template <class Id>
std::size_t Encoder<Id>::encode_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                                     std::size_t settled, IdBuffer<Id>& ids) {
  const char* const text_end = text.data() + text.size();
  return splitter_.in_batches(
      text, from, n_bytes, settled,
      [&](const char* start, const std::uint32_t* bounds, std::size_t n_pieces) {
        encode_batch(start, bounds, n_pieces, text_end, ids);
      });
}

template <class Id>
void Encoder<Id>::encode_batch(const char* start, const std::uint32_t* bounds, std::size_t n_pieces,
                               const char* text_end, IdBuffer<Id>& ids) {
  if (n_remembered_ > n_slots_ / 2 && n_slots_ < kMostSlots) grow();
  forget_if_full();
  std::array<PieceKey, Splitter::kMostInBatch> keys;
  std::array<std::uint32_t, Splitter::kMostInBatch> homes;
  for (std::size_t i = 0; i < n_pieces; ++i) {
    const std::size_t n_bytes = bounds[i + 1] - bounds[i];
    if (n_bytes > kLongestShortPiece) {
      keys[i] = {0, 0};
      continue;
    }
    keys[i] = key_of(start + bounds[i], n_bytes, text_end);
    homes[i] = static_cast<std::uint32_t>(hash_of(keys[i]) & (n_slots_ - 1));
    __builtin_prefetch(&slots_[homes[i]]);
  }
  // No piece has more ids than bytes; the rest is for writing a whole slot at a time.
  Id* out = ids.room(bounds[n_pieces] - bounds[0] + kIdsInSlot + 1);
  for (std::size_t i = 0; i < n_pieces; ++i) {
    const PieceKey& key = keys[i];
    if (key.high == 0) [[unlikely]] {
      out = encode_long({start + bounds[i], bounds[i + 1] - bounds[i]}, out);
      continue;
    }
    const Slot* slot = &slots_[homes[i]];
    if (slot->key != key) [[unlikely]] {
      slot = &slots_[homes[i] ^ 1];
      if (slot->key != key) {
        out = encode_unknown(key, homes[i], out);
        continue;
      }
    }
    std::memcpy(out, slot->ids.data(), sizeof slot->ids);
    if (slot->ids[kIdsInSlot] == kElsewhere) [[unlikely]] {
      out = copy_from_elsewhere(*slot, out);
      continue;
    }
    out += slot->ids[kIdsInSlot];
  }
  ids.end_at(out);
}

template <class Id>
Id* Encoder<Id>::copy_from_elsewhere(const Slot& slot, Id* out) const {
  std::uint32_t place[2];
  std::memcpy(place, slot.ids.data(), sizeof place);
  return std::copy_n(long_ids_.data() + place[0], place[1], out);
}

template <class Id>
Id* Encoder<Id>::encode_unknown(const PieceKey& key, std::size_t home, Id* out) {
  std::array<char, 16> bytes;
  write_key(key, bytes.data());
  const std::span<const std::uint32_t> ids = merger_.merge({bytes.data(), key.n_bytes()});
  Slot slot{key, {}};
  if (ids.size() <= kIdsInSlot) {
    for (std::size_t i = 0; i < ids.size(); ++i) slot.ids[i] = static_cast<Id>(ids[i]);
    slot.ids[kIdsInSlot] = static_cast<Id>(ids.size());
  } else {
    const std::array<std::uint32_t, 2> place{keep_elsewhere(ids),
                                             static_cast<std::uint32_t>(ids.size())};
    std::memcpy(slot.ids.data(), place.data(), sizeof place);
    slot.ids[kIdsInSlot] = kElsewhere;
  }
  remember(slot, home);
  for (const std::uint32_t id : ids) *out++ = static_cast<Id>(id);
  return out;
}

template <class Id>
std::uint32_t Encoder<Id>::keep_elsewhere(std::span<const std::uint32_t> ids) {
  const auto start = static_cast<std::uint32_t>(long_ids_.size());
  for (const std::uint32_t id : ids) long_ids_.push_back(static_cast<Id>(id));
  return start;
}

// What points into long_ids_ has to go with it.
template <class Id>
void Encoder<Id>::forget_if_full() {
  if (long_.n_key_bytes() <= kMostLongBytes && long_ids_.size() <= kMostLongBytes) return;
  long_.clear();
  long_ids_.clear();
  std::memset(static_cast<void*>(slots_.get()), 0, n_slots_ * sizeof(Slot));
  n_remembered_ = 0;
}

template <class Id>
Id* Encoder<Id>::encode_long(std::string_view piece, Id* out) {
  const bool is_remembered = piece.size() <= kLongestRemembered;
  if (is_remembered) {
    if (const LongIds* const known = long_.find(piece)) {
      return std::copy_n(long_ids_.data() + known->start, known->n_ids, out);
    }
  }
  const std::span<const std::uint32_t> ids = merger_.merge(piece);
  if (is_remembered) {
    long_[piece] = {keep_elsewhere(ids), static_cast<std::uint32_t>(ids.size())};
  }
  for (const std::uint32_t id : ids) *out++ = static_cast<Id>(id);
  return out;
}

template <class Id>
void Encoder<Id>::encode_piece(std::string_view piece, IdBuffer<Id>& ids) {
  const std::array<std::uint32_t, 2> bounds{0, static_cast<std::uint32_t>(piece.size())};
  encode_batch(piece.data(), bounds.data(), 1, piece.data() + piece.size(), ids);
}

template class IdBuffer<std::uint16_t>;
template class IdBuffer<std::uint32_t>;
template class Encoder<std::uint16_t>;
template class Encoder<std::uint32_t>;

}  // namespace modelwright
