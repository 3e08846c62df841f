// Counts how often each distinct piece of text occurs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "piece_key.hpp"
#include "piece_map.hpp"
#include "split.hpp"

namespace modelwright {

// Memory grows with the distinct pieces, not with the text: 32 to 64 bytes for a short one.
class PieceCounter {
 public:
  explicit PieceCounter(SplitRule rule);

  const SplitRule& rule() const { return splitter_.rule(); }

  // Counts pieces from the boundary `from` on, until one ends after `settled` or about `n_bytes` are
  // done. Returns the boundary it came to.
  std::size_t count_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                         std::size_t settled);

  // Counts pieces that were cut elsewhere.
  void count_piece(std::string_view piece, std::int64_t times);

  // Adds what another one counted.
  void absorb(const PieceCounter& other);

  // Forgets every piece that was counted fewer than `least` times; their later counts start anew.
  void prune(std::int64_t least);

  std::size_t n_distinct() const { return n_short_ + long_.size(); }
  std::size_t n_distinct_bytes() const;

  // Calls `visit(piece, count)` for each piece, in no particular order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    char bytes[16];
    for (const Slot& slot : slots_) {
      if (slot.count == 0) continue;
      write_key(slot.key, bytes);
      visit(std::string_view(bytes, slot.key.n_bytes()), slot.count);
    }
    for (std::size_t i = 0; i < long_.size(); ++i) visit(long_.piece(i), long_.value(i));
  }

  // Gives the memory back.
  void clear();

 private:
  static constexpr std::size_t kFirstSlots = std::size_t{1} << 12;

  struct alignas(32) Slot {
    PieceKey key{};
    std::int64_t count = 0;  // none means that the slot is empty
  };

  void count_batch(const char* start, const std::uint32_t* bounds, std::size_t n_pieces,
                   const char* text_end);
  Slot& slot_for(const PieceKey& key, std::size_t home);
  void make_room(std::size_t n_more);
  void resize(std::size_t n_slots);

  Splitter splitter_;
  std::vector<Slot> slots_;
  std::size_t n_short_ = 0;
  PieceMap<std::int64_t> long_;
};

}  // namespace modelwright
