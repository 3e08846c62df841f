#include "count.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace modelwright {

PieceCounter::PieceCounter(SplitRule rule) : splitter_(rule), slots_(kFirstSlots) {}

std::size_t PieceCounter::count_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                                     std::size_t settled) {
  const char* const text_end = text.data() + text.size();
  return splitter_.in_batches(
      text, from, n_bytes, settled,
      [&](const char* start, const std::uint32_t* bounds, std::size_t n_pieces) {
        count_batch(start, bounds, n_pieces, text_end);
      });
}

void PieceCounter::count_batch(const char* start, const std::uint32_t* bounds, std::size_t n_pieces,
                               const char* text_end) {
  make_room(n_pieces);
  std::array<PieceKey, Splitter::kMostInBatch> keys;
  std::array<std::size_t, Splitter::kMostInBatch> homes;
  std::size_t n_keys = 0;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < n_pieces; ++i) {
    const std::size_t n_bytes = bounds[i + 1] - bounds[i];
    if (n_bytes > kLongestShortPiece) {
      ++long_[{start + bounds[i], n_bytes}];
      continue;
    }
    const PieceKey key = key_of(start + bounds[i], n_bytes, text_end);
    const std::size_t home = hash_of(key) & mask;
    __builtin_prefetch(&slots_[home], 1);
    keys[n_keys] = key;
    homes[n_keys++] = home;
  }
  for (std::size_t i = 0; i < n_keys; ++i) ++slot_for(keys[i], homes[i]).count;
}

inline PieceCounter::Slot& PieceCounter::slot_for(const PieceKey& key, std::size_t home) {
  const std::size_t mask = slots_.size() - 1;
  for (;; home = (home + 1) & mask) {
    Slot& slot = slots_[home];
    if (slot.key == key) return slot;
    if (slot.count == 0) {
      slot.key = key;
      ++n_short_;
      return slot;
    }
  }
}

void PieceCounter::count_piece(std::string_view piece, std::int64_t times) {
  if (piece.size() > kLongestShortPiece) {
    long_[piece] += times;
    return;
  }
  make_room(1);
  const PieceKey key = key_of(piece.data(), piece.size(), piece.data() + piece.size());
  slot_for(key, hash_of(key) & (slots_.size() - 1)).count += times;
}

void PieceCounter::absorb(const PieceCounter& other) {
  other.for_each([this](std::string_view piece, std::int64_t count) { count_piece(piece, count); });
}

void PieceCounter::prune(std::int64_t least) {
  PieceCounter kept(rule());
  for_each([&](std::string_view piece, std::int64_t count) {
    if (count >= least) kept.count_piece(piece, count);
  });
  *this = std::move(kept);
}

std::size_t PieceCounter::n_distinct_bytes() const {
  std::size_t n_bytes = long_.n_key_bytes();
  for (const Slot& slot : slots_) {
    if (slot.count != 0) n_bytes += slot.key.n_bytes();
  }
  return n_bytes;
}

void PieceCounter::clear() { *this = PieceCounter(rule()); }

void PieceCounter::make_room(std::size_t n_more) {
  // Up to three quarters full; the loop is for a small table and a large batch.
  std::size_t n_slots = slots_.size();
  while ((n_short_ + n_more) * 4 > n_slots * 3) n_slots *= 2;
  if (n_slots != slots_.size()) resize(n_slots);
}

void PieceCounter::resize(std::size_t n_slots) {
  std::vector<Slot> old(n_slots);
  old.swap(slots_);
  n_short_ = 0;
  for (const Slot& slot : old) {
    if (slot.count == 0) continue;
    slot_for(slot.key, hash_of(slot.key) & (n_slots - 1)) = slot;
  }
}

}  // namespace modelwright
