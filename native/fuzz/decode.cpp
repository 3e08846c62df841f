// Ids decode to their tokens, end to end, in whatever type they come; those outside are named.

#include <limits>

#include "../decode.hpp"
#include "fuzz.hpp"

using namespace modelwright;
using namespace modelwright::fuzz;

namespace {

template <class Id>
void check(const Decoder& decoder, const std::vector<std::int64_t>& wanted) {
  // In memory that ends with the last id.
  const auto ids = std::make_unique<Id[]>(wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) ids[i] = static_cast<Id>(wanted[i]);
  std::string text;
  std::size_t n_known = 0;
  for (; n_known < wanted.size(); ++n_known) {
    const auto id = static_cast<std::uint64_t>(ids[n_known]);
    if (id >= decoder.n_tokens()) break;
    text += decoder.token(id);
  }
  const Decoder::Measure measure = decoder.measure(ids.get(), wanted.size());
  require(measure.first_unknown == n_known, "the first id that is no token is found");
  require(measure.n_bytes == text.size(), "the text is as long as measured");
  const auto out = std::make_unique<char[]>(text.size());
  decoder.decode(ids.get(), n_known, out.get(), text.size());
  require(std::string_view(out.get(), text.size()) == text, "the tokens stand end to end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const auto n_tokens = input.ConsumeIntegralInRange<std::size_t>(1, 60);
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < n_tokens; ++i) {
    const auto n_bytes = input.ConsumeIntegralInRange<std::size_t>(1, 40);
    std::string token = input.ConsumeBytesAsString(n_bytes);
    if (token.empty()) token = "x";
    tokens.push_back(token);
  }
  const Decoder decoder(tokens);
  const bool may_be_outside = input.ConsumeBool();
  std::vector<std::int64_t> ids;
  while (input.remaining_bytes() > 0 && ids.size() < 2000) {
    const auto n_ids = static_cast<std::int64_t>(n_tokens);
    ids.push_back(may_be_outside ? input.ConsumeIntegral<std::int64_t>() % (n_ids + 2)
                                 : input.ConsumeIntegral<std::uint8_t>() % n_ids);
  }
  check<std::uint16_t>(decoder, ids);
  check<std::uint32_t>(decoder, ids);
  check<std::uint64_t>(decoder, ids);
  check<std::int16_t>(decoder, ids);
  check<std::int32_t>(decoder, ids);
  check<std::int64_t>(decoder, ids);
  return 0;
}
