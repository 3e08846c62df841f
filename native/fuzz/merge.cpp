// The short and the long way of merging give what the definition says, as does what an encoder
// remembers.

#include "../encode.hpp"
#include "fuzz.hpp"

using namespace modelwright;
using namespace modelwright::fuzz;

namespace {

template <class Id>
std::vector<std::uint32_t> ids_of(IdBuffer<Id>& ids) {
  return {ids.data(), ids.data() + ids.size()};
}

template <class Id>
void check_encoder(const SplitRule& rule, const MergeTable& table, const Text& text,
                   std::size_t slice_bytes, const std::vector<std::uint32_t>& expected) {
  Encoder<Id> encoder(rule, table);
  const std::string_view view = text.view();
  // The second time most pieces are remembered.
  for (int time = 0; time < 2; ++time) {
    IdBuffer<Id> ids;
    for (std::size_t from = 0; from < view.size();) {
      const std::size_t next = encoder.encode_some(view, from, slice_bytes, view.size(), ids);
      require(next > from, "a slice is not empty");
      from = next;
    }
    require(ids_of(ids) == expected, "an encoder's ids are those of the pieces");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const SplitRule rule = rule_from(input);
  const Vocabulary vocabulary(input, 60);
  const auto slice_bytes = input.ConsumeIntegralInRange<std::size_t>(1, 2000);
  const bool is_in_alphabet = input.ConsumeBool();
  std::string bytes = text_from(input, 600);
  if (bytes.size() > 700) bytes.resize(700);  // the slow twin is quadratic
  if (is_in_alphabet) {
    for (char& byte : bytes) {
      byte = Vocabulary::kAlphabet[static_cast<std::uint8_t>(byte) % Vocabulary::kAlphabet.size()];
    }
  }
  const Text text(bytes);
  if (bytes.empty()) return 0;

  const MergeTable table(vocabulary.byte_ids, vocabulary.rules);
  Merger merger(table);
  const auto check_piece = [&](std::string_view piece) {
    const std::vector<std::uint32_t> slow = vocabulary.merge_slowly(piece);
    const auto fast = merger.merge(piece);
    require(std::ranges::equal(slow, fast), "the merges are those of the definition");
    return slow;
  };
  check_piece(text.view());
  check_piece(text.view().substr(0, 129));  // both sides of where the long way begins
  check_piece(text.view().substr(0, 128));
  check_piece(text.view().substr(0, 16));

  std::vector<std::uint32_t> ids;
  std::size_t start = 0;
  for (const std::size_t end : ends_one_by_one(rule, text.view())) {
    const auto merged = vocabulary.merge_slowly(text.view().substr(start, end - start));
    ids.insert(ids.end(), merged.begin(), merged.end());
    start = end;
  }
  check_encoder<std::uint16_t>(rule, table, text, slice_bytes, ids);
  check_encoder<std::uint32_t>(rule, table, text, slice_bytes, ids);
  return 0;
}
